//! The tries of a call: how each ends, and whether another follows.

use core::time::Duration;

use super::{Call, Cause, Stage, Try};
use crate::calls::{TryEnd, TryFailure};
use crate::clock::Instant;
use crate::endpoints::EndpointId;
use crate::plan::Retry;
use crate::tracing::TracedTry;
use crate::upstream::ConnectionId;

impl Call {
    /// Whether it can have one more try at the same time.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.tries.have_room()
    }

    /// A try was made on a connection to that endpoint: `open` if it has an answer.
    #[inline]
    pub(crate) fn tried(&mut self, endpoint: Option<EndpointId>, open: Option<Try>) {
        self.tries.open(open);
        self.stage = Stage::Settled;
        if let (Some(said), Some(open)) = (&mut self.record.said, open) {
            said.sent.get_or_insert(open.sent_at);
        }
        self.record.tries = self.record.tries.saturating_add(1);
        self.record.endpoint = endpoint;
        if let Some(trace) = self.record.trace.as_deref_mut().filter(|trace| trace.is_reported()) {
            let connection = open.map(|open| open.connection);
            let started = open.map_or(self.record.started, |open| open.sent_at);
            trace.tried(TracedTry { number: self.record.tries, connection, endpoint, started, end: None });
        }
    }

    /// The one place where a try ends: where it failed, the next prefers another endpoint.
    #[inline]
    fn end_try(&mut self, ended: Try, how: TryEnd) -> Try {
        if let Some(trace) = self.record.trace.as_deref_mut().filter(|trace| trace.is_reported()) {
            trace.try_ended(ended.connection, how);
        }
        match how {
            TryEnd::Answered => {
                self.record.endpoint = ended.endpoint;
                return ended;
            }
            TryEnd::GivenUp => return ended,
            TryEnd::Failed(TryFailure::Refused(_), _) => {}
            TryEnd::Failed(TryFailure::Lost, _) => {
                self.record.resets = self.record.resets.saturating_add(1);
            }
            TryEnd::Failed(TryFailure::TimedOut, _) => {
                self.record.timeouts = self.record.timeouts.saturating_add(1);
            }
        }
        self.avoid = ended.endpoint;
        ended
    }

    /// The try on that connection was answered. Where an answer of that status is `refused`, another try follows. Whether
    /// there was one.
    #[inline]
    pub(crate) fn answered(&mut self, connection: ConnectionId, refused: Option<u32>, now: Instant) -> bool {
        let failed = |status| TryEnd::Failed(TryFailure::Refused(status), now);
        let how = refused.map_or(TryEnd::Answered, failed);
        let answered = self.tries.close(connection);
        answered.map(|answered| self.end_try(answered, how)).is_some()
    }

    /// Takes out the try on that connection: it came to nothing.
    pub(crate) fn take_try(&mut self, connection: ConnectionId) -> Option<Try> {
        self.tries.close(connection).map(|open| self.end_try(open, TryEnd::GivenUp))
    }

    /// The try on that connection was lost with it.
    pub(crate) fn lost(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(lost) = self.tries.close(connection) {
            self.end_try(lost, TryEnd::Failed(TryFailure::Lost, now));
        }
    }

    /// Takes out a try that took too long, if one did.
    pub(crate) fn try_timed_out(&mut self, now: Instant) -> Option<Try> {
        let expired = self.tries.expire(now, self.per_try_timeout()?)?;
        Some(self.end_try(expired, TryEnd::Failed(TryFailure::TimedOut, now)))
    }

    /// Whether tries are open.
    #[inline]
    pub(crate) fn has_tries(&self) -> bool {
        self.tries.are_open()
    }

    /// When its try on that connection was sent; of a stream that says nothing.
    pub(crate) fn sent_on(&self, connection: ConnectionId) -> Option<Instant> {
        self.tries.sent_on(connection).filter(|_| self.stream.is_none())
    }

    /// The try that is open; of two the earlier, since a third follows when both are over.
    #[inline]
    pub(crate) fn open_try(&self) -> Option<Try> {
        self.tries.first()
    }

    /// Takes out the tries that are open: nobody waits for their answers any more.
    #[inline]
    pub(crate) fn take_tries(&mut self) -> [Option<Try>; 2] {
        [self.tries.pop(), self.tries.pop()].map(|open| open.map(|open| self.end_try(open, TryEnd::GivenUp)))
    }

    /// The retry policy, if it allows another try after `cause`.
    pub(crate) fn retry(&self, cause: Cause) -> Option<&Retry> {
        let retry = self.route.retry.as_ref()?;
        let is_listed = match cause {
            Cause::ConnectFailure => retry.on.connect_failure,
            Cause::Reset => retry.on.reset,
            Cause::PerTryTimeout => retry.on.per_try_timeout,
            Cause::Status(status) => retry.on.status && retry.statuses.contains(&status),
            Cause::Slow => retry.hedge.is_some(),
        };
        // A one-way call that was written may have been carried out, and nobody would ever know. A stream that was opened
        // has begun.
        let is_safe = !(self.record.is_one_way || self.record.is_stream) || cause == Cause::ConnectFailure;
        (is_listed && is_safe && self.is_whole && self.record.retries < retry.attempts).then_some(retry)
    }

    /// How long each try may take.
    pub(crate) fn per_try_timeout(&self) -> Option<Duration> {
        self.route.retry.as_ref().filter(|_| self.stream.is_none())?.per_try_timeout
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, call};
    use super::*;
    use crate::arena::Id;

    #[test]
    fn only_what_the_route_lists_is_tried_again() {
        let causes = [Cause::ConnectFailure, Cause::Reset, Cause::PerTryTimeout, Cause::Status(80)];
        let retried = |retry| causes.map(|cause| call(retry).retry(cause).is_some());
        assert_eq!(retried(r#"{"on": ["connect-failure"]}"#), [true, false, false, false]);
        assert_eq!(retried(r#"{"on": ["reset"]}"#), [false, true, false, false]);
        assert_eq!(
            retried(r#"{"on": ["per-try-timeout"], "perTryTimeout": "1s"}"#),
            [false, false, true, false]
        );
        assert_eq!(retried(r#"{"on": ["status"], "statuses": [80]}"#), [false, false, false, true]);
        assert_eq!(retried(r#"{"on": ["status"], "statuses": [100]}"#), [false; 4]);
        assert_eq!(causes.map(|cause| call("null").retry(cause).is_some()), [false; 4]);
    }

    #[test]
    fn a_one_way_call_is_tried_again_only_if_it_was_not_sent() {
        let mut call = call(r#"{"on": ["connect-failure", "reset"]}"#);
        call.record.is_one_way = true;
        assert!(call.retry(Cause::ConnectFailure).is_some());
        assert!(call.retry(Cause::Reset).is_none());
    }

    #[test]
    fn tries_are_counted_and_need_the_whole_request() {
        let mut call = call(r#"{"on": ["reset"], "attempts": 2}"#);
        call.record.retries = 1;
        assert!(call.retry(Cause::Reset).is_some());
        call.is_whole = false;
        assert!(call.retry(Cause::Reset).is_none());
        call.is_whole = true;
        call.record.retries = 2;
        assert!(call.retry(Cause::Reset).is_none());
    }

    #[test]
    fn a_try_that_fails_is_made_again_elsewhere() {
        let mut call = call(r#"{"on": ["per-try-timeout"], "perTryTimeout": "10ms"}"#);
        let [first, second] = [1, 2].map(|n| {
            let endpoint = Some(Id::new(n, 1));
            Try { connection: Id::new(n, 1), slot: 0, endpoint, sent_at: at(u64::from(n)) }
        });
        assert!(call.has_room() && !call.has_tries());
        for open in [first, second] {
            call.tried(open.endpoint, Some(open));
        }
        assert_eq!((call.has_room(), call.record.tries, call.record.endpoint), (false, 2, second.endpoint));
        assert_eq!(call.try_timed_out(at(10)), None);
        assert_eq!(call.try_timed_out(at(11)), Some(first));
        assert_eq!((call.avoid(), call.record.timeouts), (first.endpoint, 1));
        call.lost(first.connection, at(12));
        assert_eq!((call.avoid(), call.record.resets), (first.endpoint, 0), "it was gone");
        call.lost(second.connection, at(12));
        assert_eq!((call.avoid(), call.record.resets, call.has_tries()), (second.endpoint, 1, false));
        call.tried(first.endpoint, Some(first));
        let refused = Some(100);
        assert!(call.answered(first.connection, refused, at(13)));
        assert!(!call.answered(first.connection, refused, at(13)));
        assert_eq!((call.avoid(), call.take_tries()), (first.endpoint, [None, None]));
        call.tried(second.endpoint, Some(second));
        assert!(call.answered(second.connection, None, at(13)));
        call.tried(second.endpoint, Some(second));
        assert_eq!(call.take_tries(), [Some(second), None]);
        assert_eq!(call.avoid(), first.endpoint, "neither failed");
    }
}
