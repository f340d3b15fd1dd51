//! Where calls begin: a request is read, routed, and sent for the first time.

use std::rc::Rc;

use meltemi_codecs::{Depth, Error, Failure, Frame, Head};

use crate::calls::{Call, CallId, Origin, Record};
use crate::client::ClientId;
use crate::clock::{Instant, earliest};
use crate::lines::Said;
use crate::matching::Matching;
use crate::plan::{Destination, OnNoMatch, Route, Service};
use crate::policy::{Bucket, Verdict, admit_later};
use crate::pool::PoolId;
use crate::telemetry::{Metric, OperationId};
use crate::tracing::Traces;
use crate::worker::Worker;

/// A request, and where it goes.
pub(crate) struct Routed<'a> {
    pub(crate) route: Rc<Route>,
    pub(crate) pool: PoolId,
    pub(crate) bytes: &'a [u8],
    /// Length of its first bytes, which are kept to answer it.
    pub(crate) head: usize,
    /// That of its key, if it is hashed.
    pub(crate) bucket: Option<Bucket>,
}

/// When the first try of a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Now,
    /// A policy holds the call back until then.
    At(Instant),
    /// When the service lets it pass that is asked about it next.
    Asked,
}

impl Worker {
    /// A request was read: routes it and makes the first try. Or the front of one, and its head: `false` if that cannot be
    /// passed on while the rest comes.
    pub(crate) fn start_call(&mut self, client_key: ClientId, bytes: &[u8], frame: Frame) -> bool {
        let Some(mut client) = self.clients.get(client_key) else { return true };
        let service = client.service().clone();
        let mut denied = None;
        if service.dry_run.is_some() {
            denied = self.try_out(client_key, bytes, frame);
            let Some(same) = self.clients.get(client_key) else { return true };
            client = same;
        }
        let is_whole = bytes.len() >= frame.len;
        // That of a part is read already.
        let read = if is_whole { read(&service, bytes, &mut self.traces, &mut self.head) } else { Ok(()) };
        if read.is_err() {
            self.telemetry.add_global(Metric::DecodeErrors, 1);
        }
        if service.asks_source {
            client.source().tell(&mut self.head);
        }
        let tracing = service.tracing.as_ref();
        self.trace = tracing.map(|tracing| self.traces.read(&self.head, tracing, &mut self.random));
        if let Some(denied) = denied {
            let (operation, mut line) = *denied;
            line.trace_id = self.trace.as_ref().map(|trace| trace.id().to_owned());
            self.telemetry.would_deny(operation, line, self.now);
        }
        if let Err(error) = read
            && service.depth == Depth::Verified
        {
            let why = format!("denied: {error}");
            self.reject(client_key, bytes, frame, None, Failure::Denied, &why);
            return true;
        }
        if let Some(doubt) = service.doubt(&self.head) {
            let why = format!("denied: {doubt}");
            self.reject(client_key, bytes, frame, None, Failure::Denied, &why);
            return true;
        }
        let route = match (service.route(&self.head), service.on_no_match) {
            (Some(route), _) => route.clone(),
            (None, OnNoMatch::Default) => service.default_route.clone(),
            (None, OnNoMatch::Reject) => {
                self.answer_unrouted(client_key, bytes, frame, "no route matches");
                return true;
            }
        };
        if let Destination::Reject(why) = &route.destination {
            self.reject(client_key, bytes, frame, Some(&route), Failure::Denied, why);
            return true;
        }
        if !is_whole && !route.passes_requests_through(service.codec.deadlines()) {
            return false;
        }
        let (mut start, mut question) = (Start::Now, None);
        if service.is_limited || route.fault.is_some() {
            match self.policies.admit(&service, &route, &self.head, self.now, &mut self.random) {
                Verdict::Go => {}
                Verdict::Wait(delay) => start = Start::At(self.now.after(delay)),
                Verdict::Ask(asked) => (start, question) = (Start::Asked, Some(asked)),
                Verdict::Answer(failure, text) => {
                    self.reject(client_key, bytes, frame, Some(&route), failure, &text);
                    return true;
                }
                Verdict::Known(text) => {
                    self.count_known(&service, &route);
                    self.reject(client_key, bytes, frame, Some(&route), Failure::RateLimited, &text);
                    return true;
                }
            }
        }
        let Some(cluster) = route.destination.pick(self.random.u32(..), client.cluster()) else {
            let why = "the default route has no cluster";
            self.answer_unrouted(client_key, bytes, frame, why);
            return true;
        };
        let (likely_pool, likely) = client.likely();
        let pool = self.pools.find(
            likely_pool,
            &service,
            cluster,
            client.destination(),
            service.is_pinned.then_some(client_key),
            self.now,
        );
        let mut bucket = None;
        if service.asks_cluster {
            if let Some(why) = self.overflow(pool) {
                self.reject(client_key, bytes, frame, Some(&route), Failure::Overloaded, &why);
                return true;
            }
            bucket = self.bucket(&route, pool);
            let Some(same) = self.clients.get(client_key) else { return true };
            client = same;
        }
        let origin = Origin::of(client_key);
        let source = Some(client.source().clone());
        let operation = self.operation_of(likely, &service, &route);
        // A copy may read the head in its own way.
        let may_log = service.may_log(Some(&self.head));
        let said = Said::of(&service, may_log, &self.head);
        let is_tapped = service.taps.is_some() && self.tap(&service, Some(&route), true);
        // Before its copies: what they name is forgotten with the last of them.
        let source_id = source.as_ref().and_then(|source| source.id);
        self.telemetry.begin(operation, source_id, self.plan.max_operations);
        if !route.mirrors.is_empty() && start == Start::Now {
            self.mirror(&service, &route, source.as_ref(), operation, bytes, frame);
        }
        let is_traced = service.tracing.is_some();
        let mut record = Record::new(service, source, operation, frame, self.now);
        if is_traced {
            record.trace = self.trace.take();
        }
        (record.may_log, record.said) = (may_log, said);
        let call = self.begin(origin, record, Routed { route, pool, bytes, head: frame.head, bucket }, start);
        if is_tapped {
            self.taps.last = None;
        }
        if let (Some(call), Some(question)) = (call, question) {
            self.ask(call, question);
        }
        true
    }

    /// A call was read that cannot be carried: answers it.
    #[cold]
    pub(crate) fn refuse_call(
        &mut self,
        client_key: ClientId,
        bytes: &[u8],
        frame: Frame,
        failure: Failure,
        why: &str,
    ) {
        let Some(client) = self.clients.get(client_key) else { return };
        // For the names that are counted and logged.
        let _ = client.service().codec.head(bytes, Depth::Head, &mut self.head);
        // It may be that of a request which is stored before it goes on.
        self.trace = None;
        self.reject(client_key, bytes, frame, None, failure, why);
    }

    /// The operation that the head names.
    fn operation_of(&mut self, likely: Option<OperationId>, service: &Service, route: &Route) -> OperationId {
        let names = service.codec.operation();
        self.telemetry.likely_operation(
            likely,
            self.head.get(names.service).unwrap_or_default(),
            self.head.get(names.method).unwrap_or_default(),
            route.names_operation,
            self.plan.max_operations,
        )
    }

    /// Makes a call, and its first try if that is to be made now.
    #[inline]
    pub(crate) fn begin(
        &mut self,
        origin: Origin,
        record: Record,
        routed: Routed<'_>,
        start: Start,
    ) -> Option<CallId> {
        let Routed { route, pool: pool_key, bytes, head, bucket } = routed;
        let left = (record.request_bytes as usize).saturating_sub(bytes.len());
        let chosen = match bucket {
            _ if start != Start::Now => None,
            // Of those that wait, none waits for what a known bucket leads to.
            Some(bucket) => self.choose_hashed(pool_key, bucket, left > 0).connection(),
            None if self.is_awaited(pool_key) => None,
            None => self.choose(pool_key, None, left > 0).connection(),
        };
        let pool = self.pools.get_mut(pool_key)?;
        let operation = record.operation;
        let is_whole = (left == 0 && route.keeps_requests) || chosen.is_none();
        let kept = self.calls.copy(if is_whole { bytes } else { bytes.get(..head).unwrap_or(bytes) });
        let from = if let Start::At(until) = start { until } else { self.now };
        let deadline = route.timeout.map(|timeout| from.after(timeout));
        let time = if route.propagates_deadline { record.service.codec.time(bytes) } else { None };
        let deadline = earliest(deadline, time.map(|time| record.started.after(time)));
        let call =
            Call::new(origin, route, pool_key, record).keep(kept, is_whole, deadline).tell(time).hash(bucket);
        let client = origin.client().and_then(|client| self.clients.get_mut(client));
        let client = client.map(|client| client.begin_call(pool_key, operation));
        let has_turn = !call.record().is_one_way
            && call.stream().is_none()
            && Matching::new(call.record().service.sharing).has_turns();
        let id = self.calls.insert(call, client, pool.begin_call(self.now));
        if self.taps.last.is_some() {
            self.taps.begin(id, origin);
        }
        if has_turn && let Some(client) = origin.client().and_then(|key| self.clients.get_mut(key)) {
            client.turns_mut().begin(id);
        }
        if left > 0 {
            self.await_upload(origin, id, left);
        }
        match (chosen, start) {
            (Some(connection), _) => self.send(id, connection, Some(bytes)),
            (None, Start::Now) => self.wait(id),
            (None, Start::At(until)) => self.hold(id, until),
            (None, Start::Asked) => {}
        }
        self.list_pool(pool_key);
        Some(id)
    }

    /// Holds a call back.
    #[inline(never)]
    pub(crate) fn hold(&mut self, id: CallId, until: Instant) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.hold(until);
        if self.net.is_open() {
            self.time_call(id);
        } else {
            // No alarm would let it go on.
            self.release_call(id);
        }
    }

    /// Lets a call go on that was held back, unless it is answered instead.
    #[inline(never)]
    pub(crate) fn release_call(&mut self, id: CallId) {
        let Some(call) = self.calls.get(id) else { return };
        let verdict = admit_later(call.route(), &mut self.random);
        self.let_go(id, verdict);
    }

    /// Lets a call go on that was held back or asked about, unless the last word of the policies is an answer.
    pub(crate) fn let_go(&mut self, id: CallId, verdict: Verdict) {
        if let Verdict::Answer(failure, text) = verdict {
            self.answer(id, failure, &text);
            return;
        }
        if self.calls.get(id).is_some_and(|call| !call.route().mirrors.is_empty()) {
            self.mirror_held(id);
        }
        self.wait(id);
    }

    /// Why a pool takes no more calls, where something limits them.
    #[inline(never)]
    pub(crate) fn overflow(&mut self, pool: PoolId) -> Option<String> {
        let most = self.plan.max_calls;
        if self.calls.len() >= most {
            return Some(format!("this worker has as many calls in flight as the plan allows: {most}"));
        }
        let (why, is_adaptive) = self.pools.get(pool).map(|pool| (pool.overflow(), pool.is_adaptive()))?;
        if is_adaptive && why.is_none() { self.excess(pool) } else { why }
    }

    /// Whether calls wait for a connection of that pool: none that comes later is served before them.
    fn is_awaited(&self, pool_key: PoolId) -> bool {
        self.pools.get(pool_key).is_some_and(|pool| !pool.waiting().is_empty())
    }
}

/// Reads of a request what the service asks for.
#[inline]
fn read(service: &Service, request: &[u8], traces: &mut Traces, head: &mut Head) -> Result<(), Error> {
    if !service.finds_trace {
        return service.codec.head(request, service.depth, head);
    }
    if service.depth == Depth::Operation {
        head.clear();
    } else {
        service.codec.head(request, service.depth, head)?;
    }
    service.codec.find(request, traces.search(), head)
}
