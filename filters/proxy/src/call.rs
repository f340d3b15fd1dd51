//! One call: from the request that a client sent to the answer that it got.

use core::time::Duration;
use std::rc::Rc;

use crate::clock::Instant;
use crate::plan::{Backoff, Retry, Route, Service};
use crate::pool::EndpointId;
use crate::telemetry::OperationId;

/// Number of a call in the worker's table, safe against reuse: a stale one finds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallId {
    pub(crate) index: usize,
    pub(crate) serial: u64,
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) serial: u64,
    /// Key of the client that sent it, and its place in that client's list of calls.
    pub(crate) client: usize,
    pub(crate) position: usize,
    /// The request id that the client chose.
    pub(crate) request_id: u64,
    pub(crate) is_one_way: bool,
    pub(crate) service: Rc<Service>,
    pub(crate) route: Rc<Route>,
    pub(crate) operation: OperationId,
    /// Key of the pool that serves it.
    pub(crate) pool: usize,
    /// The request's first bytes, or all of it while a (further) try is possible.
    pub(crate) frame: Vec<u8>,
    pub(crate) is_whole: bool,
    pub(crate) started: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) try_deadline: Option<Instant>,
    /// Retries made.
    pub(crate) retries: u32,
    /// The endpoint that failed last: the next try prefers another.
    pub(crate) avoid: Option<EndpointId>,
    pub(crate) stage: Stage,
}

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Waits for an upstream connection.
    Waiting,
    /// Was written to the upstream connection of that key, in that slot.
    Sent { connection: usize, slot: usize },
    /// Waits until the next try.
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

impl Call {
    /// The retry policy, if it allows another try after `cause`.
    pub(crate) fn retry(&self, cause: Cause) -> Option<&Retry> {
        let retry = self.route.retry.as_ref()?;
        let is_listed = match cause {
            Cause::ConnectFailure => retry.on.connect_failure,
            Cause::Reset => retry.on.reset,
            Cause::PerTryTimeout => retry.on.per_try_timeout,
            Cause::Status(status) => retry.on.status && retry.statuses.contains(&status),
        };
        // A one-way call that was written may have been carried out, and nobody would ever tell.
        let is_safe = !self.is_one_way || cause == Cause::ConnectFailure;
        (is_listed && is_safe && self.is_whole && self.retries < retry.attempts).then_some(retry)
    }

    /// When this call next needs attention by time alone.
    pub(crate) fn due(&self) -> Option<Instant> {
        let stage = match self.stage {
            Stage::Backoff { until } => Some(until),
            Stage::Sent { .. } => self.try_deadline,
            Stage::Waiting => None,
        };
        crate::clock::earliest(stage, self.deadline)
    }
}

/// How long to wait before the next try, after `retries` of them: a random share of a span that doubles each time.
pub(crate) fn pause(backoff: &Backoff, retries: u32, random: f64) -> Duration {
    let span = backoff.base.saturating_mul(2_u32.saturating_pow(retries)).min(backoff.max);
    span.mul_f64(random.clamp(0.0, 1.0))
}
