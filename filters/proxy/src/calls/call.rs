//! One call: from the request that a client sent to the answer that it got.

use core::time::Duration;
use std::rc::Rc;

use super::{Record, Tries};
use crate::arena::Id;
use crate::client::ClientId;
use crate::clock::{Instant, earliest};
use crate::endpoints::EndpointId;
use crate::plan::{Backoff, Retry, Route};
use crate::pool::PoolId;
use crate::queue::Place;

/// Names a call.
pub(crate) type CallId = Id<Call>;

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) origin: Origin,
    pub(crate) route: Rc<Route>,
    /// The pool that serves it.
    pub(crate) pool: PoolId,
    /// The request's first bytes, or all of it while a (further) try is possible.
    pub(crate) frame: Vec<u8>,
    pub(crate) is_whole: bool,
    pub(crate) deadline: Option<Instant>,
    /// The endpoint that failed last: the next try prefers another.
    pub(crate) avoid: Option<EndpointId>,
    pub(crate) stage: Stage,
    pub(crate) tries: Tries,
    pub(crate) record: Record,
}

/// Whose call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// That of a client, which gets the answer; with the call's place in the client's list.
    Client { id: ClientId, position: u32 },
    /// The proxy's own: the answer goes nowhere.
    Proxy,
}

/// What the next try of a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// None is to come: the call has just been read, or was sent.
    Settled,
    /// An upstream connection: the call is in that place of its pool's queue.
    Waiting(Place),
    /// A policy holds the call back until then, before its first try.
    Held { until: Instant },
    /// The pause between two tries.
    Backoff { until: Instant },
}

/// What ended a try, in the words of a route's retry policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The request was never written: no connection could be opened.
    ConnectFailure,
    /// The connection was lost, or useless, before the answer.
    Reset,
    /// No answer within the route's time for one try.
    PerTryTimeout,
    /// The answer had this status.
    Status(u32),
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
    pub(super) fn move_to(&mut self, to: usize) {
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
            avoid: None,
            stage: Stage::Settled,
            tries: Tries::default(),
            record,
        }
    }

    /// The retry policy, if it allows another try after `cause`.
    pub(crate) fn retry(&self, cause: Cause) -> Option<&Retry> {
        let retry = self.route.retry.as_ref()?;
        let is_listed = match cause {
            Cause::ConnectFailure => retry.on.connect_failure,
            Cause::Reset => retry.on.reset,
            Cause::PerTryTimeout => retry.on.per_try_timeout,
            Cause::Status(status) => retry.on.status && retry.statuses.contains(&status),
        };
        // A one-way call that was written may have been carried out, and nobody would ever know.
        let is_safe = !self.record.is_one_way || cause == Cause::ConnectFailure;
        (is_listed && is_safe && self.is_whole && self.record.retries < retry.attempts).then_some(retry)
    }

    /// How long each try may take.
    pub(crate) fn per_try_timeout(&self) -> Option<Duration> {
        self.route.retry.as_ref()?.per_try_timeout
    }

    /// When this call next needs attention by time alone.
    pub(crate) fn due(&self) -> Option<Instant> {
        let tries = self.per_try_timeout().and_then(|time| self.tries.due(time));
        let stage = match self.stage {
            Stage::Held { until } | Stage::Backoff { until } => Some(until),
            Stage::Settled | Stage::Waiting(_) => None,
        };
        earliest(earliest(tries, stage), self.deadline)
    }
}

/// How long to wait before the next try, after `retries` of them: a random share of a span that doubles each time.
pub(crate) fn pause(backoff: &Backoff, retries: u32, random: f64) -> Duration {
    let span = backoff.base.saturating_mul(2_u32.saturating_pow(retries)).min(backoff.max);
    span.mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
pub(super) mod tests {
    use meltemi_codecs::{Frame, Kind};

    use super::*;
    use crate::calls::Try;

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    /// A call of a route with this retry policy.
    pub(in crate::calls) fn call(retry: &str) -> Call {
        let plan = format!(
            r#"{{"services": {{"demo": {{"protocol": "dubbo", "defaultRoute": {{"retry": {retry}}}}}}}}}"#
        );
        let plan = crate::plan::Plan::parse(plan.as_bytes(), &meltemi_codecs::Codecs::all()).unwrap();
        let service = plan.service("demo").unwrap().clone();
        let route = service.default_route.clone();
        let frame = Frame { len: 64, head: 16, kind: Kind::Request, id: 7 };
        let operation = crate::telemetry::Telemetry::default().operation("", "", true, 1);
        let record = Record::new(service, None, operation, frame, at(0));
        Call { is_whole: true, ..Call::new(Origin::Proxy, route, Id::new(0, 1), record) }
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
        *call.tries.room().unwrap() = Some(sent);
        assert_eq!(call.due(), Some(at(20)));
        call.stage = Stage::Backoff { until: at(15) };
        assert_eq!(call.due(), Some(at(15)));
        assert_eq!(call.tries.pop(), Some(sent));
        call.stage = Stage::Backoff { until: at(30) };
        assert_eq!(call.due(), Some(at(30)));
        call.stage = Stage::Backoff { until: at(60) };
        assert_eq!(call.due(), Some(at(50)));
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
