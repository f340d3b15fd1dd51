//! The life of a call: try, respond, try again.

use meltemi_codecs::{Codec, Edit, Error, Failure, Outcome};

use crate::calls::{self, CallId, Cause, End, Origin, Stage, Try, pause};
use crate::deadlines::Timed;
use crate::endpoints::EndpointId;
use crate::matching::Matching;
use crate::plan::Span;
use crate::policy::Sent;
use crate::pool::{Pool, PoolId};
use crate::telemetry::Metric;
use crate::upstream::{Connection, ConnectionId};
use crate::worker::Worker;

/// Which connection takes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Take(ConnectionId),
    /// One that is being opened: to another endpoint than the one that just failed, or to that of its key. Or that of its key
    /// has no room.
    Hold,
    /// None has room.
    Full,
}

impl Choice {
    pub(crate) fn connection(self) -> Option<ConnectionId> {
        match self {
            Self::Take(connection) => Some(connection),
            Self::Hold | Self::Full => None,
        }
    }
}

impl Worker {
    /// The open connection that should take the next call of a pool: the least loaded, of another endpoint than
    /// `avoid` if there is one. If its request is there `in_part`, one without streams, which would wait for the rest.
    pub(crate) fn choose(&mut self, pool_key: PoolId, avoid: Option<EndpointId>, in_part: bool) -> Choice {
        let Self { pools, connections, net, calls, .. } = self;
        let streams = (in_part && calls.has_streams()).then_some(&*calls);
        let Some(pool) = pools.get_mut(pool_key) else { return Choice::Full };
        let most = Matching::new(pool.service().sharing).connection_limit(pool.options());
        let load = |key| connections.get(key)?.room(most, net, streams);
        if avoid.is_some() {
            let other = pool.choose(&|key| {
                load(key).filter(|_| connections.get(key).is_some_and(|c| c.endpoint() != avoid))
            });
            if let Some(other) = other {
                return Choice::Take(other);
            }
            if pool.connecting() > 0 && pool.endpoints().living(avoid).is_some() && !pool.has_weights() {
                return Choice::Hold;
            }
        }
        match pool.choose(&load) {
            Some(connection) => Choice::Take(connection),
            None => self.choose_by_weight(pool_key, avoid, in_part),
        }
    }

    /// The same by the weights of endpoints, where the plan has them kept. Now and then Envoy is asked for what it chooses.
    #[cold]
    #[inline(never)]
    fn choose_by_weight(&mut self, pool_key: PoolId, avoid: Option<EndpointId>, in_part: bool) -> Choice {
        let Self { pools, connections, net, calls, .. } = self;
        let streams = (in_part && calls.has_streams()).then_some(&*calls);
        let Some(pool) = pools.get_mut(pool_key).filter(|pool| pool.has_weights()) else {
            return Choice::Full;
        };
        let most = Matching::new(pool.service().sharing).connection_limit(pool.options());
        let load = |key| {
            let connection: &Connection = connections.get(key)?;
            Some((connection.room(most, net, streams)?, connection.endpoint()))
        };
        let is_other = |(_, endpoint): &(usize, Option<EndpointId>)| *endpoint != avoid;
        let mut chosen = None;
        if avoid.is_some() {
            chosen = pool.choose_by_weight(&|key| load(key).filter(is_other));
            if chosen.is_none() && pool.connecting() > 0 && pool.endpoints().living(avoid).is_some() {
                return Choice::Hold;
            }
        }
        let Some(chosen) = chosen.or_else(|| pool.choose_by_weight(&load)) else { return Choice::Full };
        if pool.is_to_ask(self.now) && self.net.is_open() {
            self.open(pool_key, None, None);
        }
        Choice::Take(chosen)
    }

    /// Writes a call's request to a connection: `fresh` from the client, or as the call kept it.
    pub(crate) fn send(&mut self, id: CallId, connection_key: ConnectionId, fresh: Option<&[u8]>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let Some(connection) = self.connections.get_mut(connection_key) else { return };
        if !call.has_room() {
            return;
        }
        let (is_one_way, endpoint) = (call.record().is_one_way, connection.endpoint());
        let (request_id, open) = if is_one_way {
            (connection.slots_mut().one_way_id(), None)
        } else if let Some((slot, request_id)) = connection.slots_mut().take(id) {
            (request_id, Some(Try { connection: connection_key, slot, endpoint, sent_at: self.now }))
        } else {
            self.try_failed(
                id,
                Cause::ConnectFailure,
                Failure::Overloaded,
                "the connection has no request id left",
            );
            return;
        };
        call.tried(endpoint, open);
        let Some(out) = self.net.write(connection.socket()) else {
            let (pool, open) = (call.pool(), call.take_try(connection_key));
            self.abandon_try(id, pool, open);
            self.try_failed(id, Cause::Reset, Failure::ConnectionLost, "the upstream connection is closing");
            return;
        };
        let request = fresh.unwrap_or(call.frame());
        let service = &call.record().service;
        let most = service.limits.max_request_bytes;
        let (codec, number) = (&*service.codec, call.record().tries);
        let (edit, time) = (&call.route().request_edit, call.time_left(self.now));
        let trace = call.record().trace.as_deref().zip(service.tracing.as_deref());
        let trace = trace.filter(|_| edit.writes_trace && !edit.is_asked_for() && time.is_none());
        let is_written = trace.is_some_and(|(trace, tracing)| {
            trace.place(number, (codec, &tracing.entry), request, request_id, most, out)
        });
        if !is_written {
            let changes = if edit.has_values() {
                let sent = Sent { call, fresh, endpoint };
                self.policies.values.make(edit, &sent, &self.pools, &mut self.head)
            } else {
                &*edit.changes
            };
            let edit = Edit { id: Some(request_id), changes, time };
            match rewrite(codec, request, &edit, most, out) {
                Ok(true) => {}
                Ok(false) => self.telemetry.add_global(Metric::EditsSkipped, 1),
                Err(_) => {
                    self.answer(id, Failure::BadRequest, "the request cannot be rewritten");
                    return;
                }
            }
        }
        let left = (call.record().request_bytes as usize).saturating_sub(request.len());
        if left > 0 {
            call.cut();
        }
        if call.route().retry.as_ref().is_some_and(|retry| retry.hedge.is_some()) {
            call.expect_second(self.now);
        }
        let (due, origin, is_stream) = (call.due(), call.origin(), call.stream().is_some());
        if left > 0 {
            self.open_upload(origin, id, connection_key, left);
        }
        if is_one_way {
            self.finish(id, End::Sent);
            return;
        }
        if let Some(due) = due {
            self.deadlines.push(due, Timed::Call(id));
        }
        if is_stream && let Some(client) = origin.client() {
            // More of it may have come by now.
            self.list_client(client);
        }
    }

    /// A try ended without an answer to pass on: makes the next one if the route allows it, or answers the client. While
    /// another is open, that one goes on.
    pub(crate) fn try_failed(&mut self, id: CallId, cause: Cause, failure: Failure, detail: &str) {
        let Some(call) = self.calls.get_mut(id) else { return };
        if call.has_tries() {
            self.time_call(id);
            return;
        }
        let Some(pool) = self.pools.get_mut(call.pool()) else { return };
        let is_possible = (self.net.is_open() || !pool.open().is_empty()) && !pool.has_ended();
        let Some(retry) = call.retry(cause).filter(|_| is_possible) else {
            self.answer(id, failure, detail);
            return;
        };
        let (backoff, retries) = (retry.backoff, call.record().retries);
        let is_first = retries == 0;
        if is_first && !pool.has_retry_budget() {
            self.answer(id, failure, &format!("{detail}; retry budget exhausted"));
            return;
        }
        let pause = pause(&backoff, retries, self.random.f64());
        if let Stage::Sent { is_hedged: true, .. } = call.stage() {
            pool.calls_mut().unhedged();
        }
        call.back_off(self.now.after(pause));
        self.calls.retry(id, cause, pool.calls_mut());
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
        let (pool_key, avoid) = (call.pool(), call.avoid());
        self.connect_elsewhere(pool_key, avoid);
        self.wait(id);
    }

    /// Opens a connection to an endpoint other than `avoid`, if one is known and none is open or being opened.
    pub(crate) fn connect_elsewhere(&mut self, pool_key: PoolId, avoid: Option<EndpointId>) {
        let Some(pool) = self.pools.get(pool_key) else { return };
        let is_avoided =
            |key: &ConnectionId| self.connections.get(*key).is_some_and(|open| open.endpoint() == avoid);
        if self.net.is_open()
            && pool.owner().is_none()
            && pool.connecting() == 0
            && pool.open().iter().all(is_avoided)
            && let Some(address) = pool.endpoints().living(avoid).cloned()
        {
            self.open_connection(pool_key, Some(&address));
        }
    }

    /// A response has come: passes it to the client, unless its status is one to retry.
    pub(crate) fn respond(&mut self, id: CallId, connection: ConnectionId, bytes: &[u8], outcome: Outcome) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let destination = self.connections.get(connection).and_then(Connection::destination);
        let refused = match outcome {
            Outcome::Error(status) => Some(status).filter(|&status| {
                let has_budget = || {
                    call.record().retries > 0
                        || self.pools.get(call.pool()).is_some_and(Pool::has_retry_budget)
                };
                call.is_refused(status) || call.retry(Cause::Status(status)).is_some() && has_budget()
            }),
            _ => None,
        };
        if !call.answered(connection, refused, self.now) {
            return;
        }
        if let Some(status) = refused {
            self.telemetry.answered_by(call.record().operation, destination, self.plan.max_operations);
            self.try_failed(
                id,
                Cause::Status(status),
                Failure::ConnectionLost,
                "the upstream answered with an error",
            );
            return;
        }
        let origin = call.origin();
        let record = call.record_mut();
        record.destination = destination;
        record.response_bytes = calls::bytes(bytes.len());
        if let Origin::Client { id: client_key, .. } = origin {
            let Some(client) = self.clients.get_mut(client_key) else { return };
            let (record, edit) = (call.record(), &call.route().response_edit);
            let most = record.service.limits.max_frame_bytes;
            let changes = if edit.has_values() {
                let endpoint = self.connections.get(connection).and_then(Connection::endpoint);
                let sent = Sent { call, fresh: None, endpoint };
                self.policies.values.make(edit, &sent, &self.pools, &mut self.head)
            } else {
                &*edit.changes
            };
            let edit = Edit { id: Some(record.request_id), changes, ..Edit::default() };
            let (mut done, mut written) = (Ok(true), 0);
            client.answer(&mut self.net, Some(id), |out| {
                let before = out.len();
                done = rewrite(&*record.service.codec, bytes, &edit, most, out);
                written = out.len().saturating_sub(before);
            });
            match done {
                Ok(true) => {}
                Ok(false) => self.telemetry.add_global(Metric::EditsSkipped, 1),
                Err(_) => {
                    self.answer(id, Failure::BadResponse, "the response cannot be rewritten");
                    return;
                }
            }
            call.record_mut().response_bytes = calls::bytes(written);
            let queued = client.unsent(&self.net);
            self.watch_answers(client_key, queued);
            if self.is_much(queued) {
                self.block(client_key, connection);
            }
        }
        self.finish(id, End::Answered(outcome));
    }

    /// Gives up what is open of a call's tries.
    pub(crate) fn abandon_tries(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let (pool, open) = (call.pool(), call.take_tries());
        for open in open {
            self.abandon_try(id, pool, open);
        }
    }

    fn abandon_try(&mut self, id: CallId, pool: PoolId, open: Option<Try>) {
        if let Some(open) = open {
            self.reset_upstream(id, open);
            self.abandon(open);
            self.list_pool(pool);
        }
    }

    /// A call or its try has run out of time.
    pub(crate) fn expire(&mut self, id: CallId) {
        if self.end_late_stream(id) {
            return;
        }
        let now = self.now;
        let Some(call) = self.calls.get_mut(id) else { return };
        let (pool, timeout) = (call.pool(), call.route().timeout);
        if let Some(outcome) = call.lingered(now) {
            self.end_stream(id, outcome);
        } else if call.timed_out(now) {
            let waited = now.since(call.record().started);
            let detail = match timeout.filter(|timeout| *timeout <= waited) {
                Some(timeout) => format!("no answer within {}", Span::from(timeout)),
                None => "no answer within the time that the client gave".to_owned(),
            };
            let (open, second, longest) = (call.open_try(), call.second_try(), call.longest());
            let is_stream = call.stream().is_some();
            self.answer(id, Failure::Timeout, &detail);
            if let Some(open) = open {
                self.note_late(pool, open, is_stream);
            }
            if let Some(second) = second {
                self.judge_given_up(pool, second, longest);
            }
            self.list_pool(pool);
        } else if let Some(expired) = call.try_timed_out(now) {
            let time = call.per_try_timeout().unwrap_or_default();
            self.abandon(expired);
            self.note_late(pool, expired, false);
            let detail = format!("try timed out after {}", Span::from(time));
            self.try_failed(id, Cause::PerTryTimeout, Failure::Timeout, &detail);
            self.list_pool(pool);
        } else {
            match call.stage() {
                Stage::Backoff { until } if until <= now => self.try_again(id),
                Stage::Hedging { sent, until } if until <= now => self.hedge(id, sent),
                Stage::Held { until } if until <= now => self.release_call(id),
                Stage::Asking { until, .. } if until <= now => self.answer_is_late(id),
                _ => {}
            }
        }
    }
}

/// Appends `frame` with another id, and with all of `edit` unless that cannot be or would make more than `most` bytes of it:
/// whether it is.
///
/// # Errors
///
/// Not even the id can be changed.
fn rewrite(
    codec: &dyn Codec,
    frame: &[u8],
    edit: &Edit<'_>,
    most: usize,
    out: &mut Vec<u8>,
) -> Result<bool, Error> {
    let start = out.len();
    if codec.rewrite(frame, edit, out).is_ok() && out.len() <= start.saturating_add(most) {
        return Ok(true);
    }
    out.truncate(start);
    codec.rewrite(frame, &Edit { id: edit.id, ..Edit::default() }, out)?;
    Ok(false)
}
