//! One alarm for whatever is due next: Envoy answers a stream late.

use core::time::Duration;

use crate::clock::{Instant, earliest};

/// When to look at what has no deadline of its own, and the alarms that bring a callback in time.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    /// The earliest time that was asked for.
    due: Option<Instant>,
    /// Those that were set, the earliest last.
    set: Vec<Alarm>,
    /// None is set until then: the last ones rang at once.
    silent_until: Instant,
    /// How many in a row rang far too early.
    early: u32,
}

/// An alarm that Envoy was asked for.
#[derive(Debug, Clone, Copy)]
struct Alarm {
    set_at: Instant,
    rings_at: Instant,
}

/// Alarms closer together than this are rung as one.
const GRAIN: Duration = Duration::from_millis(5);

/// So many alarms in a row that ring in the first half of their time were not set: Envoy has no route for them. One or
/// two may be early, since Envoy counts from when it last looked at its clock.
const MOST_EARLY: u32 = 3;

/// An alarm that has not rung so long after its time is not waited for.
const LOST: Duration = Duration::from_secs(1);

impl Alarms {
    /// Makes sure that the worker looks around by `time`.
    #[inline]
    pub(crate) fn wake_at(&mut self, time: Option<Instant>) {
        self.due = earliest(self.due, time);
    }

    /// Whether the time that was asked for has come; it is forgotten then.
    #[inline]
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = None;
        }
        is_due
    }

    /// Has `set` set an alarm for the time that was asked for or for `other`, unless one rings by then.
    pub(crate) fn arm(&mut self, now: Instant, other: Option<Instant>, set: impl FnOnce(Duration) -> bool) {
        while self.set.last().is_some_and(|alarm| alarm.rings_at.after(LOST) <= now) {
            self.set.pop();
        }
        if let Some(due) = earliest(self.due, other)
            && self.silent_until <= now
            && self.set.last().is_none_or(|alarm| due.after(GRAIN) <= alarm.rings_at)
        {
            let delay = due.since(now).max(GRAIN);
            if set(delay) {
                self.set.push(Alarm { set_at: now, rings_at: now.after(delay) });
            }
        }
    }

    /// An alarm has rung.
    pub(crate) fn rang(&mut self, now: Instant) {
        let Some(alarm) = self.set.pop() else { return };
        if now.since(alarm.set_at) >= alarm.rings_at.since(now) {
            self.early = 0;
            return;
        }
        self.early = self.early.saturating_add(1);
        if self.early >= MOST_EARLY {
            // Asking again and again would only burn time.
            self.early = 0;
            self.silent_until = now.after(LOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    /// The delay of the alarm that is set, if one is.
    fn arm(alarms: &mut Alarms, now: Instant, other: Option<Instant>) -> Option<Duration> {
        let mut delay = None;
        alarms.arm(now, other, |time| delay.replace(time).is_none());
        delay
    }

    #[test]
    fn the_earliest_time_counts_and_is_due_once() {
        let mut alarms = Alarms::default();
        for time in [Some(at(50)), None, Some(at(20)), Some(at(30))] {
            alarms.wake_at(time);
        }
        assert!(!alarms.take_due(at(19)));
        assert!(alarms.take_due(at(20)) && !alarms.take_due(at(1000)));
    }

    #[test]
    fn an_alarm_is_set_unless_another_rings_by_then() {
        let mut alarms = Alarms::default();
        assert_eq!(arm(&mut alarms, at(0), None), None);
        assert_eq!(arm(&mut alarms, at(0), Some(at(100))), Some(100 * MS));
        assert_eq!(arm(&mut alarms, at(0), Some(at(100))), None);
        assert_eq!(arm(&mut alarms, at(0), Some(at(98))), None, "too little before it");
        alarms.wake_at(Some(at(60)));
        assert_eq!(arm(&mut alarms, at(10), Some(at(98))), Some(50 * MS));
        alarms.rang(at(60));
        assert!(alarms.take_due(at(60)));
        assert_eq!(arm(&mut alarms, at(60), Some(at(100))), None, "the first one rings by then");
        alarms.rang(at(100));
        assert_eq!(arm(&mut alarms, at(100), Some(at(101))), Some(5 * MS), "what is due soon waits a little");
    }

    #[test]
    fn an_alarm_that_could_not_be_set_is_not_waited_for() {
        let mut alarms = Alarms::default();
        alarms.arm(at(0), Some(at(100)), |_| false);
        assert_eq!(arm(&mut alarms, at(0), Some(at(100))), Some(100 * MS));
    }

    #[test]
    fn a_lost_alarm_is_not_waited_for() {
        let mut alarms = Alarms::default();
        arm(&mut alarms, at(0), Some(at(100)));
        assert_eq!(arm(&mut alarms, at(1099), Some(at(200))), None);
        assert_eq!(arm(&mut alarms, at(1100), Some(at(200))), Some(5 * MS));
    }

    #[test]
    fn alarms_that_ring_at_once_are_not_asked_for_again_and_again() {
        let mut alarms = Alarms::default();
        for millis in [0, 100, 101] {
            let asked = arm(&mut alarms, at(millis), Some(at(5000)));
            assert!(asked.is_some());
            alarms.rang(at(millis + 1));
        }
        assert_eq!(arm(&mut alarms, at(1101), Some(at(5000))), None);
        assert_eq!(arm(&mut alarms, at(1102), Some(at(5000))), Some(3898 * MS));
        // One that is in time begins the count anew.
        alarms.rang(at(5000));
        for millis in [6000, 6002] {
            assert!(arm(&mut alarms, at(millis), Some(at(9000))).is_some());
            alarms.rang(at(millis + 1));
        }
        assert!(arm(&mut alarms, at(6004), Some(at(9000))).is_some());
    }
}
