use core::time::Duration;

use crate::clock::{Instant, earliest};
use crate::endpoints::EndpointId;
use crate::plan::Backoff;
use crate::upstream::ConnectionId;

/// A request that was written to an upstream connection and is not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Try {
    pub(crate) connection: ConnectionId,
    /// The slot of the connection that its answer will free.
    pub(crate) slot: usize,
    pub(crate) endpoint: Option<EndpointId>,
    pub(crate) sent_at: Instant,
}

/// How a try ended that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TryEnd {
    /// By an answer that was passed on.
    Answered,
    /// At that time.
    Failed(TryFailure, Instant),
    /// Nobody waits for its answer any more.
    GivenUp,
}

/// Why a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TryFailure {
    /// By an answer of that status, which was not passed on.
    Refused(u32),
    /// It was lost with its connection.
    Lost,
    TimedOut,
}

/// The tries of one call that are open: one, or two where a second is not to wait for the end of the first. No two of
/// them are on the same connection.
#[derive(Debug, Default)]
pub(crate) struct Tries([Option<Try>; 2]);

impl Tries {
    /// Whether there is room for one more.
    #[inline]
    pub(crate) fn have_room(&self) -> bool {
        self.0.iter().any(Option::is_none)
    }

    /// Adds one, as far as there is room.
    #[inline]
    pub(crate) fn open(&mut self, new: Option<Try>) {
        if let Some(place) = self.0.iter_mut().find(|place| place.is_none()) {
            *place = new;
        }
    }

    /// Takes out the one on that connection.
    pub(crate) fn close(&mut self, connection: ConnectionId) -> Option<Try> {
        self.take(|open| open.connection == connection)
    }

    /// Takes out one that was sent `time` ago.
    pub(crate) fn expire(&mut self, now: Instant, time: Duration) -> Option<Try> {
        self.take(|open| open.sent_at.after(time) <= now)
    }

    /// When the one on that connection was sent.
    pub(crate) fn sent_on(&self, connection: ConnectionId) -> Option<Instant> {
        self.0.iter().flatten().find(|open| open.connection == connection).map(|open| open.sent_at)
    }

    /// Any of them; of two the earlier, if there was none when that was added.
    #[inline]
    pub(crate) fn first(&self) -> Option<Try> {
        self.0.iter().flatten().next().copied()
    }

    /// The other, if there are two.
    pub(crate) fn second(&self) -> Option<Try> {
        self.0.iter().flatten().nth(1).copied()
    }

    /// Whether there are any.
    #[inline]
    pub(crate) fn are_open(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }

    /// Takes out any.
    pub(crate) fn pop(&mut self) -> Option<Try> {
        self.take(|_| true)
    }

    /// When the first of them has been open for `time`.
    pub(crate) fn due(&self, time: Duration) -> Option<Instant> {
        let [first, second] = self.0.map(|open| open.map(|open| open.sent_at.after(time)));
        earliest(first, second)
    }

    fn take(&mut self, is_meant: impl Fn(&Try) -> bool) -> Option<Try> {
        self.0.iter_mut().find_map(|place| place.take_if(|open| is_meant(open)))
    }
}

/// How long to wait before the next try, after `retries` of them: a random share of a span that doubles each time.
pub(crate) fn pause(backoff: &Backoff, retries: u32, random: f64) -> Duration {
    let span = backoff.base.saturating_mul(2_u32.saturating_pow(retries)).min(backoff.max);
    span.mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Id;

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u32) -> Instant {
        Instant::default().after(MS.saturating_mul(millis))
    }

    /// A try on the connection of that number, sent so many milliseconds after the start.
    fn sent(number: u32) -> Try {
        Try { connection: Id::new(number, 1), slot: 0, endpoint: None, sent_at: at(number) }
    }

    fn open(numbers: [u32; 2]) -> Tries {
        let mut tries = Tries::default();
        for number in numbers {
            tries.open(Some(sent(number)));
        }
        tries
    }

    #[test]
    fn there_are_two_at_most_and_each_ends_by_itself() {
        let mut tries = open([1, 2]);
        assert!(!tries.have_room());
        assert_eq!((tries.first(), tries.second()), (Some(sent(1)), Some(sent(2))));
        assert_eq!(tries.close(Id::new(3, 1)), None);
        assert_eq!(tries.close(Id::new(1, 2)), None, "another connection in its place");
        assert_eq!(tries.close(Id::new(1, 1)), Some(sent(1)));
        assert_eq!(tries.close(Id::new(1, 1)), None);
        assert!(tries.have_room());
        assert_eq!((tries.first(), tries.second()), (Some(sent(2)), None));
        tries.open(Some(sent(5)));
        tries.open(Some(sent(6)));
        assert!(!tries.have_room());
        let left = [tries.pop(), tries.pop(), tries.pop()];
        assert_eq!(left, [Some(sent(5)), Some(sent(2)), None]);
    }

    #[test]
    fn each_has_its_own_time() {
        let mut tries = open([20, 10]);
        assert_eq!(tries.due(30 * MS), Some(at(40)));
        assert_eq!(tries.expire(at(39), 30 * MS), None);
        assert_eq!(tries.expire(at(40), 30 * MS), Some(sent(10)));
        assert_eq!(tries.due(30 * MS), Some(at(50)));
        assert_eq!(tries.expire(at(50), 30 * MS), Some(sent(20)));
        assert_eq!(tries.due(30 * MS), None);
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff { base: 25 * MS, max: 250 * MS };
        let longest = [0, 1, 2, 3, 4, 10, u32::MAX].map(|retries| pause(&backoff, retries, 1.0));
        assert_eq!(longest, [25, 50, 100, 200, 250, 250, 250].map(|n| n * MS));
        assert_eq!(pause(&backoff, 2, 0.5), 50 * MS);
        assert_eq!(pause(&backoff, 2, 0.0), Duration::ZERO);
    }
}
