//! One call: from the request that a client sent to the answer that it got.

mod second;
mod streaming;

use core::time::Duration;
use std::rc::Rc;

use super::{Cause, Record, Stage, Stream, Tries, Try, TryEnd, TryFailure};
use crate::arena::Id;
use crate::client::ClientId;
use crate::clock::{Instant, earliest};
use crate::endpoints::EndpointId;
use crate::inquiries::InquiryId;
use crate::plan::{Retry, Route};
use crate::policy::Bucket;
use crate::pool::PoolId;
use crate::queue::Place;
use crate::tracing::TracedTry;
use crate::upstream::ConnectionId;

/// Names a call.
pub(crate) type CallId = Id<Call>;

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Call {
    origin: Origin,
    route: Rc<Route>,
    /// The pool that serves it.
    pool: PoolId,
    /// The request's first bytes, or all of it while a (further) try is possible.
    frame: Vec<u8>,
    is_whole: bool,
    deadline: Option<Instant>,
    /// How long its client waits, where servers are told what is left of that.
    time: Option<Duration>,
    /// The endpoint that failed last: the next try prefers another.
    avoid: Option<EndpointId>,
    /// That of its key, if it is hashed.
    bucket: Option<Bucket>,
    stage: Stage,
    tries: Tries,
    /// What has become of it if it is a stream.
    stream: Option<Stream>,
    record: Record,
}

/// Whose call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// That of a client, which gets the answer; with the call's place in the client's list.
    Client { id: ClientId, position: u32 },
    /// The proxy's own: the answer goes nowhere.
    Proxy,
}

impl Origin {
    pub(crate) fn of(client: ClientId) -> Self {
        Self::Client { id: client, position: 0 }
    }

    pub(crate) fn client(self) -> Option<ClientId> {
        match self {
            Self::Client { id, .. } => Some(id),
            Self::Proxy => None,
        }
    }

    /// Notes another place in the client's list.
    fn move_to(&mut self, to: usize) {
        if let Self::Client { position, .. } = self {
            // No client has so many calls.
            *position = u32::try_from(to).unwrap_or(u32::MAX);
        }
    }
}

impl Call {
    /// A call that has not gone anywhere, and keeps nothing of its request.
    #[inline(always)]
    pub(crate) fn new(origin: Origin, route: Rc<Route>, pool: PoolId, mut record: Record) -> Self {
        record.route = Some(route.clone());
        record.pool = Some(pool);
        Self {
            origin,
            route,
            pool,
            frame: Vec::new(),
            is_whole: false,
            deadline: None,
            time: None,
            avoid: None,
            bucket: None,
            stage: Stage::Settled,
            tries: Tries::default(),
            stream: record.is_stream.then(Stream::default),
            record,
        }
    }

    /// Keeps the `frame` of its request, as far as it `is_whole`; its answer is due by then.
    #[inline]
    pub(crate) fn keep(mut self, frame: Vec<u8>, is_whole: bool, deadline: Option<Instant>) -> Self {
        (self.frame, self.is_whole, self.deadline) = (frame, is_whole, deadline);
        self
    }

    /// Its request says that its client waits for so long, and servers are to be told what is left of that.
    #[inline]
    pub(crate) fn tell(mut self, time: Option<Duration>) -> Self {
        self.time = time;
        self
    }

    /// It goes where its key leads.
    #[inline]
    pub(crate) fn hash(mut self, bucket: Option<Bucket>) -> Self {
        self.bucket = bucket;
        self
    }

    /// The bucket of its key, if it is hashed.
    #[inline]
    pub(crate) fn bucket(&self) -> Option<Bucket> {
        self.bucket
    }

    #[inline]
    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    #[inline]
    pub(crate) fn route(&self) -> &Rc<Route> {
        &self.route
    }

    /// The pool that serves it.
    #[inline]
    pub(crate) fn pool(&self) -> PoolId {
        self.pool
    }

    /// What it keeps of its request.
    #[inline]
    pub(crate) fn frame(&self) -> &Vec<u8> {
        &self.frame
    }

    /// The endpoint that failed last.
    #[inline]
    pub(crate) fn avoid(&self) -> Option<EndpointId> {
        self.avoid
    }

    #[inline]
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    #[inline]
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    #[inline]
    pub(crate) fn record_mut(&mut self) -> &mut Record {
        &mut self.record
    }

    /// It waits for a connection, in that place of its pool's queue.
    pub(crate) fn wait(&mut self, place: Place) {
        self.stage = Stage::Waiting(place);
    }

    /// It waits for the answer of a service, until then.
    pub(crate) fn ask(&mut self, inquiry: InquiryId, until: Instant) {
        self.stage = Stage::Asking { inquiry, until };
    }

    /// It waits for nothing any more.
    pub(crate) fn settle(&mut self) {
        self.stage = Stage::Settled;
    }

    /// It is held back until then, before its first try.
    pub(crate) fn hold(&mut self, until: Instant) {
        self.stage = Stage::Held { until };
        self.record.is_delayed = true;
    }

    /// It pauses until then, before its next try.
    pub(crate) fn back_off(&mut self, until: Instant) {
        self.stage = Stage::Backoff { until };
    }

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

    /// Whether it has taken too long as a whole; counts it if so.
    pub(crate) fn timed_out(&mut self, now: Instant) -> bool {
        let has = self.deadline.is_some_and(|deadline| deadline <= now);
        self.record.timeouts = self.record.timeouts.saturating_add(u16::from(has));
        has
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

    /// Its request is sent, and what follows the part that is kept is not kept.
    pub(crate) fn cut(&mut self) {
        self.is_whole = false;
    }

    /// The try that is open; of two the earlier, since a third follows when both are over.
    #[inline]
    pub(crate) fn open_try(&self) -> Option<Try> {
        self.tries.first()
    }

    /// When its answer is due if the time-out of its route begins at `start`. The client's own time begins with the call.
    pub(crate) fn deadline_from(&self, start: Instant) -> Option<Instant> {
        let time = self.time.map(|time| self.record.started.after(time));
        earliest(self.route.timeout.map(|timeout| start.after(timeout)), time)
    }

    /// It is to end by then, if not before.
    pub(crate) fn bound(&mut self, until: Instant) {
        self.deadline = earliest(self.deadline, Some(until));
    }

    /// It is to end by then.
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// How long the answer to a try that is made now is of use, where the server is told that and its request says more.
    #[inline]
    pub(crate) fn time_left(&self, now: Instant) -> Option<Duration> {
        let said = self.time?;
        let left = self.deadline?.since(now);
        let left = self.per_try_timeout().map_or(left, |time| left.min(time));
        (left.as_millis() < said.as_millis()).then_some(left)
    }

    /// Takes out the tries that are open: nobody waits for their answers any more.
    #[inline]
    pub(crate) fn take_tries(&mut self) -> [Option<Try>; 2] {
        [self.tries.pop(), self.tries.pop()].map(|open| open.map(|open| self.end_try(open, TryEnd::GivenUp)))
    }

    /// Notes its place in the client's list.
    #[inline]
    pub(super) fn move_to(&mut self, position: usize) {
        self.origin.move_to(position);
    }

    /// Takes out what it keeps of its request.
    #[inline]
    pub(super) fn take_frame(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.frame)
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

    /// When this call next needs attention by time alone.
    pub(crate) fn due(&self) -> Option<Instant> {
        let tries = self.per_try_timeout().and_then(|time| self.tries.due(time));
        let stage = match self.stage {
            Stage::Asking { until, .. }
            | Stage::Held { until }
            | Stage::Backoff { until }
            | Stage::Hedging { until, .. } => Some(until),
            Stage::Settled | Stage::Sent { .. } | Stage::Waiting(_) => None,
        };
        earliest(earliest(tries, stage), self.deadline)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use meltemi_codecs::{Frame, Kind};

    use super::*;
    use crate::calls::Try;

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    /// A call of a route with this retry policy.
    fn call(retry: &str) -> Call {
        call_of(Origin::Proxy, retry)
    }

    pub(in crate::calls) fn call_of(origin: Origin, retry: &str) -> Call {
        let plan = format!(
            r#"{{"services": {{"demo": {{"protocol": "dubbo", "defaultRoute": {{"retry": {retry}}}}}}}}}"#
        );
        let plan = crate::plan::Plan::parse(plan.as_bytes(), &meltemi_codecs::Codecs::all()).unwrap();
        let service = plan.service("demo").unwrap().clone();
        let route = service.default_route.clone();
        let frame = Frame { len: 64, head: 16, kind: Kind::Request, id: 7 };
        let operation = crate::telemetry::Telemetry::default().operation("", "", true, 1);
        let record = Record::new(service, None, operation, frame, at(0));
        Call::new(origin, route, Id::new(0, 1), record).keep(Vec::new(), true, None)
    }

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
    fn a_call_is_due_by_what_ends_first_where_it_stands() {
        let mut call = call(r#"{"on": ["per-try-timeout"], "perTryTimeout": "10ms"}"#);
        assert_eq!(call.due(), None);
        call.deadline = Some(at(50));
        assert_eq!(call.due(), Some(at(50)), "nothing was sent that could take too long");
        let sent = Try { connection: Id::new(0, 1), slot: 0, endpoint: None, sent_at: at(10) };
        call.tried(None, Some(sent));
        assert_eq!(call.due(), Some(at(20)));
        call.back_off(at(15));
        assert_eq!(call.due(), Some(at(15)));
        assert_eq!(call.tries.pop(), Some(sent));
        call.back_off(at(30));
        assert_eq!(call.due(), Some(at(30)));
        call.back_off(at(60));
        assert_eq!(call.due(), Some(at(50)));
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

    #[test]
    fn a_call_has_one_time_for_all_its_tries() {
        let call = || call("null").keep(vec![1, 2], false, Some(at(50)));
        assert_eq!((call().timed_out(at(49)), call().due()), (false, Some(at(50))));
        let mut late = call();
        assert!(late.timed_out(at(50)));
        assert_eq!((late.record.timeouts, late.frame().as_slice()), (1, &[1, 2][..]));
    }
}
