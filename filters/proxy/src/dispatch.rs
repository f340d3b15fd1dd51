//! The life of a call: route, try, respond.

use meltemi_codecs::{Codec, Depth, Edit, Error, Failure, Frame, Kind, Outcome};

use crate::calls::{Call, CallId, Cause, Stage, Tries, Try, pause};
use crate::client::{ClientId, STUCK};
use crate::clock::Instant;
use crate::deadlines::Timed;
use crate::matching::Matching;
use crate::net::HIGH_WATERMARK;
use crate::plan::{AttachmentEdit, Destination, OnNoMatch};
use crate::policy::{Verdict, admit_later};
use crate::pool::{EndpointId, PoolId};
use crate::telemetry::Metric;
use crate::upstream::ConnectionId;
use crate::worker::Worker;

/// Which connection takes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Take(ConnectionId),
    /// One that is being opened, to another endpoint than the one that just failed.
    Hold,
    /// None has room.
    Full,
}

impl Choice {
    fn connection(self) -> Option<ConnectionId> {
        match self {
            Self::Take(connection) => Some(connection),
            Self::Hold | Self::Full => None,
        }
    }
}

impl Worker {
    /// A request was read: routes it and makes the first try.
    pub(crate) fn start_call(&mut self, client_key: ClientId, bytes: &[u8], frame: Frame) {
        let Some(client) = self.clients.get(client_key) else { return };
        let service = client.service.clone();
        let read = service.codec.head(bytes, service.depth, &mut self.head);
        if read.is_err() {
            self.telemetry.add_global(Metric::DecodeErrors, 1);
        }
        if service.asks_source {
            client.source.tell(&mut self.head);
        }
        if let Err(error) = read
            && service.depth == Depth::Verified
        {
            let why = format!("denied: {error}");
            self.reject(client_key, bytes, frame, None, Failure::Denied, &why);
            return;
        }
        if let Some(name) = service.unread(&self.head) {
            let why = format!("denied: the attribute {name} is too long");
            self.reject(client_key, bytes, frame, None, Failure::Denied, &why);
            return;
        }
        let route = match (service.route(&self.head), service.on_no_match) {
            (Some(route), _) => route.clone(),
            (None, OnNoMatch::Default) => service.default_route.clone(),
            (None, OnNoMatch::Reject) => {
                self.answer_unrouted(client_key, bytes, frame, "no route matches");
                return;
            }
        };
        if let Destination::Reject(why) = &route.destination {
            self.reject(client_key, bytes, frame, Some(&route), Failure::Denied, why);
            return;
        }
        let mut held = None;
        if service.local_rate_limit.is_some() || route.fault.is_some() {
            match self.policies.admit(&service, &route, &self.head, self.now, &mut self.random) {
                Verdict::Go => {}
                Verdict::Wait(delay) => held = Some(self.now.after(delay)),
                Verdict::Answer(failure, text) => {
                    self.reject(client_key, bytes, frame, Some(&route), failure, &text);
                    return;
                }
            }
        }
        let Some(cluster) = route.destination.pick(self.random.u32(..), client.cluster.as_deref()) else {
            let why = "the default route has no cluster";
            self.answer_unrouted(client_key, bytes, frame, why);
            return;
        };
        let (names, source, most) = (service.codec.operation(), client.source_id, self.plan.max_operations);
        let operation = self.telemetry.operation_of_call(
            self.head.get(names.service).unwrap_or_default(),
            self.head.get(names.method).unwrap_or_default(),
            route.names_operation,
            most,
        );
        let pool_key = self.pools.find(client.pool, &service, cluster, client.destination.as_ref(), self.now);
        let chosen = match held.is_some() || self.is_awaited(pool_key) {
            false => self.choose(pool_key, None).connection(),
            true => None,
        };
        let is_whole = route.retry.is_some() || chosen.is_none();
        let kept = if is_whole { bytes } else { bytes.get(..frame.head).unwrap_or(bytes) };
        let call = Call {
            client: client_key,
            position: 0,
            request_id: frame.id,
            is_one_way: frame.kind == Kind::OneWay,
            deadline: route.timeout.map(|timeout| held.unwrap_or(self.now).after(timeout)),
            service,
            route,
            operation,
            source,
            pool: pool_key,
            frame: self.buffers.copy(kept),
            is_whole,
            started: self.now,
            tried: 0,
            retries: 0,
            avoid: None,
            stage: Stage::Settled,
            tries: Tries::default(),
        };
        let kept = call.frame.capacity();
        let id = self.calls.insert(call);
        if let Some(client) = self.clients.get_mut(client_key) {
            client.pool = Some(pool_key);
            client.held = client.held.saturating_add(kept);
            self.held = self.held.saturating_add(kept);
            let position = client.calls.len();
            client.calls.push(id);
            if let Some(call) = self.calls.get_mut(id) {
                call.position = position;
            }
        }
        if let Some(pool) = self.pools.get_mut(pool_key) {
            pool.active = pool.active.saturating_add(1);
            pool.last_call = self.now;
        }
        self.telemetry.begin(operation, source, most);
        match chosen {
            Some(connection) => self.send(id, connection, Some(bytes)),
            None => match held {
                Some(until) => self.hold(id, until),
                None => self.wait(id),
            },
        }
        self.list_pool(pool_key);
    }

    /// Holds a call back.
    #[inline(never)]
    fn hold(&mut self, id: CallId, until: Instant) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.stage = Stage::Held { until };
        self.telemetry.add(call.operation, Metric::Delays, 1);
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
        match admit_later(&call.route, &mut self.random) {
            Verdict::Answer(failure, text) => self.answer(id, failure, &text),
            Verdict::Go | Verdict::Wait(_) => self.wait(id),
        }
    }

    /// Whether calls wait for a connection of that pool: none that comes later is served before them.
    fn is_awaited(&self, pool_key: PoolId) -> bool {
        self.pools.get(pool_key).is_some_and(|pool| !pool.waiting.is_empty())
    }

    /// The open connection that should take the next call of a pool: the least loaded, of another endpoint than
    /// `avoid` if there is one.
    pub(crate) fn choose(&mut self, pool_key: PoolId, avoid: Option<EndpointId>) -> Choice {
        let Self { pools, connections, net, .. } = self;
        let Some(pool) = pools.get_mut(pool_key) else { return Choice::Full };
        let most = Matching::new(pool.service.sharing).connection_limit(pool.options());
        let load = |key: ConnectionId| {
            let connection = connections.get(key)?;
            let in_flight = connection.slots.in_flight();
            let has_room = in_flight < most && connection.slots.has_room(!connection.inbox.is_empty());
            (has_room && net.queued(connection.socket) < HIGH_WATERMARK).then_some(in_flight)
        };
        if avoid.is_some() {
            let other = pool.choose(|key| {
                load(key).filter(|_| connections.get(key).is_some_and(|c| c.endpoint != avoid))
            });
            if let Some(other) = other {
                return Choice::Take(other);
            }
            if pool.connecting > 0 && pool.living(avoid).is_some() {
                return Choice::Hold;
            }
        }
        pool.choose(load).map_or(Choice::Full, Choice::Take)
    }

    /// Writes a call's request to a connection: `fresh` from the client, or as the call kept it.
    pub(crate) fn send(&mut self, id: CallId, connection_key: ConnectionId, fresh: Option<&[u8]>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let Some(connection) = self.connections.get_mut(connection_key) else { return };
        let Some(room) = call.tries.room() else { return };
        let request_id = if call.is_one_way {
            connection.slots.one_way_id()
        } else if let Some((slot, request_id)) = connection.slots.take(id) {
            let endpoint = connection.endpoint;
            *room = Some(Try { connection: connection_key, slot, endpoint, sent_at: self.now });
            request_id
        } else {
            self.try_failed(
                id,
                Cause::ConnectFailure,
                Failure::Overloaded,
                "the connection has no request id left",
            );
            return;
        };
        call.stage = Stage::Settled;
        call.tried = call.tried.saturating_add(1);
        let Some(out) = self.net.write(connection.socket) else {
            self.abandon_tries(id);
            self.try_failed(id, Cause::Reset, Failure::ConnectionLost, "the upstream connection is closing");
            return;
        };
        let request = fresh.unwrap_or(&call.frame);
        let most = call.service.limits.max_request_bytes;
        match rewrite(&*call.service.codec, request, request_id, &call.route.request_edit, most, out) {
            Ok(true) => {}
            Ok(false) => self.telemetry.add_global(Metric::EditsSkipped, 1),
            Err(_) => {
                self.answer(id, Failure::BadRequest, "the request cannot be rewritten");
                return;
            }
        }
        if call.is_one_way {
            self.finish(id);
            return;
        }
        if let Some(due) = call.due() {
            self.deadlines.push(due, Timed::Call(id));
        }
    }

    /// A try ended without an answer to pass on: makes the next one if the route allows it, or answers the client.
    pub(crate) fn try_failed(&mut self, id: CallId, cause: Cause, failure: Failure, detail: &str) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let Some(pool) = self.pools.get_mut(call.pool) else { return };
        let Some(retry) = call.retry(cause).filter(|_| self.net.is_open() || !pool.open.is_empty()) else {
            self.answer(id, failure, detail);
            return;
        };
        let is_first = call.retries == 0;
        if is_first && !pool.has_retry_budget() {
            self.answer(id, failure, &format!("{detail}; retry budget exhausted"));
            return;
        }
        let pause = pause(&retry.backoff, call.retries, self.random.f64());
        let until = self.now.after(pause);
        call.retries = call.retries.saturating_add(1);
        call.tried = call.tried.saturating_add(u32::from(cause == Cause::ConnectFailure));
        if is_first {
            pool.retrying = pool.retrying.saturating_add(1);
        }
        call.stage = Stage::Backoff { until };
        self.telemetry.add(call.operation, Metric::Retries, 1);
        if !self.net.is_open() {
            // No alarm would end the pause.
            self.wait(id);
        } else {
            self.time_call(id);
        }
    }

    /// Makes the next try of a call whose pause is over.
    pub(crate) fn try_again(&mut self, id: CallId) {
        let Some(call) = self.calls.get(id) else { return };
        let (pool_key, avoid) = (call.pool, call.avoid);
        self.connect_elsewhere(pool_key, avoid);
        self.wait(id);
    }

    /// Opens a connection to an endpoint other than `avoid`, if one is known and none is open or being opened.
    fn connect_elsewhere(&mut self, pool_key: PoolId, avoid: Option<EndpointId>) {
        let Some(pool) = self.pools.get(pool_key) else { return };
        let is_avoided =
            |key: &ConnectionId| self.connections.get(*key).is_some_and(|open| open.endpoint == avoid);
        if self.net.is_open()
            && pool.connecting == 0
            && pool.open.iter().all(is_avoided)
            && let Some(address) = pool.living(avoid)
        {
            self.open_connection(pool_key, Some(&address));
        }
    }

    /// A response has come: passes it to the client, unless its status is one to retry.
    pub(crate) fn respond(&mut self, id: CallId, connection: ConnectionId, bytes: &[u8], outcome: Outcome) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let Some(answered) = call.tries.close(connection) else { return };
        if outcome == Outcome::Success {
            self.telemetry.make_known(call.operation, self.plan.max_operations);
        }
        if let Some(destination) = self.connections.get(connection).and_then(|open| open.destination) {
            self.telemetry.add_destination(call.operation, destination, self.plan.max_operations);
        }
        let Some(client) = self.clients.get_mut(call.client) else { return };
        if let Outcome::Error(status) = outcome
            && call.retry(Cause::Status(status)).is_some()
            && (call.retries > 0 || self.pools.get(call.pool).is_some_and(|pool| pool.has_retry_budget()))
        {
            call.avoid = answered.endpoint;
            self.try_failed(
                id,
                Cause::Status(status),
                Failure::ConnectionLost,
                "the upstream answered with an error",
            );
            return;
        }
        if let Some(out) = self.net.write(client.socket) {
            let most = call.service.limits.max_frame_bytes;
            match rewrite(&*call.service.codec, bytes, call.request_id, &call.route.response_edit, most, out)
            {
                Ok(true) => {}
                Ok(false) => self.telemetry.add_global(Metric::EditsSkipped, 1),
                Err(_) => {
                    self.answer(id, Failure::BadResponse, "the response cannot be rewritten");
                    return;
                }
            }
        }
        self.telemetry.answered(call.operation, outcome, self.now.since(call.started));
        let (client, queued) = (call.client, self.net.queued(client.socket));
        self.watch_answers(client, queued);
        if queued > STUCK {
            self.block(client, connection);
        }
        self.finish(id);
    }

    /// The client has left: gives up its call.
    pub(crate) fn cancel_call(&mut self, id: CallId) {
        let Some(call) = self.calls.get(id) else { return };
        self.telemetry.add(call.operation, Metric::Cancelled, 1);
        self.forget(id);
    }

    /// Gives up what is open of a call's tries.
    fn abandon_tries(&mut self, id: CallId) {
        while let Some(open) = self.calls.get_mut(id).and_then(|call| call.tries.pop()) {
            self.abandon(open);
        }
    }

    /// A call or its try has run out of time.
    pub(crate) fn expire(&mut self, id: CallId) {
        let now = self.now;
        let Some(call) = self.calls.get_mut(id) else { return };
        let (pool, timeout, per_try_timeout) = (call.pool, call.route.timeout, call.per_try_timeout());
        if call.deadline.is_some_and(|deadline| deadline <= now) {
            self.telemetry.add(call.operation, Metric::Timeouts, 1);
            let detail = format!("no answer within {:?}", timeout.unwrap_or_default());
            self.abandon_tries(id);
            self.answer(id, Failure::Timeout, &detail);
            self.list_pool(pool);
        } else if let Some(time) = per_try_timeout
            && let Some(expired) = call.tries.expire(now, time)
        {
            self.telemetry.add(call.operation, Metric::Timeouts, 1);
            call.avoid = expired.endpoint;
            self.abandon(expired);
            let detail = format!("try timed out after {time:?}");
            self.try_failed(id, Cause::PerTryTimeout, Failure::Timeout, &detail);
            self.list_pool(pool);
        } else {
            match call.stage {
                Stage::Backoff { until } if until <= now => self.try_again(id),
                Stage::Held { until } if until <= now => self.release_call(id),
                _ => {}
            }
        }
    }

    /// Ends a call that was answered, and lets its client go on.
    pub(crate) fn finish(&mut self, id: CallId) {
        if let Some(client) = self.forget(id) {
            self.list_client(client);
        }
    }

    /// Takes a call out of every table; says whose it was.
    fn forget(&mut self, id: CallId) -> Option<ClientId> {
        let mut call = self.calls.remove(id)?;
        self.telemetry.end(call.operation, call.source, self.plan.max_operations);
        self.held = self.held.saturating_sub(call.frame.capacity());
        if let Some(pool) = self.pools.get_mut(call.pool) {
            pool.active = pool.active.saturating_sub(1);
            self.alarms.wake_at(pool.forget_at());
            if call.retries > 0 {
                pool.retrying = pool.retrying.saturating_sub(1);
            }
            if let Stage::Waiting(place) = call.stage {
                pool.waiting.remove(call.client, place);
            }
        }
        if let Some(client) = self.clients.get_mut(call.client) {
            client.last_active = self.now;
            client.held = client.held.saturating_sub(call.frame.capacity());
            if call.position < client.calls.len() {
                client.calls.swap_remove(call.position);
            }
            if let Some(&moved) = client.calls.get(call.position)
                && let Some(moved) = self.calls.get_mut(moved)
            {
                moved.position = call.position;
            }
            if client.calls.is_empty() {
                self.time_client(call.client);
            }
        }
        self.buffers.give(call.frame);
        while let Some(open) = call.tries.pop() {
            self.abandon(open);
            self.list_pool(call.pool);
        }
        Some(call.client)
    }
}

/// Appends `frame` with another id, edited unless that cannot be or would make more than `most` bytes of it: whether it is.
///
/// # Errors
///
/// Not even the id can be changed.
fn rewrite(
    codec: &dyn Codec,
    frame: &[u8],
    id: u64,
    edits: &AttachmentEdit,
    most: usize,
    out: &mut Vec<u8>,
) -> Result<bool, Error> {
    let start = out.len();
    let edit = Edit { id: Some(id), set: &edits.set, remove: &edits.remove };
    if codec.rewrite(frame, &edit, out).is_ok() && out.len() <= start.saturating_add(most) {
        return Ok(true);
    }
    out.truncate(start);
    codec.rewrite(frame, &Edit { id: Some(id), ..Edit::default() }, out)?;
    Ok(false)
}
