//! One call: from the request that a client sent to the answer that it got.

mod second;
mod streaming;
mod trying;

use core::time::Duration;
use std::rc::Rc;

use super::{Cause, Record, Stage, Stream, Tries, Try};
use crate::arena::Id;
use crate::client::ClientId;
use crate::clock::{Instant, earliest};
use crate::endpoints::EndpointId;
use crate::inquiries::InquiryId;
use crate::plan::Route;
use crate::policy::Bucket;
use crate::pool::PoolId;
use crate::queue::Place;

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

    /// Whether it has taken too long as a whole; counts it if so.
    pub(crate) fn timed_out(&mut self, now: Instant) -> bool {
        let has = self.deadline.is_some_and(|deadline| deadline <= now);
        self.record.timeouts = self.record.timeouts.saturating_add(u16::from(has));
        has
    }

    /// Its request is sent, and what follows the part that is kept is not kept.
    pub(crate) fn cut(&mut self) {
        self.is_whole = false;
        self.note_sent(None);
    }

    /// Notes when all of its request was sent, if it was.
    pub(crate) fn note_sent(&mut self, at: Option<Instant>) {
        if let Some(said) = &mut self.record.said {
            said.sent = at;
        }
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

    pub(super) fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    /// A call of a route with this retry policy.
    pub(super) fn call(retry: &str) -> Call {
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
    fn a_call_has_one_time_for_all_its_tries() {
        let call = || call("null").keep(vec![1, 2], false, Some(at(50)));
        assert_eq!((call().timed_out(at(49)), call().due()), (false, Some(at(50))));
        let mut late = call();
        assert!(late.timed_out(at(50)));
        assert_eq!((late.record.timeouts, late.frame().as_slice()), (1, &[1, 2][..]));
    }
}
