//! Answers that the proxy gives in an upstream's stead: every failure has one that the protocol's own client understands,
//! a count by reason and a log line.

use meltemi_codecs::{Failure, Frame, Kind};

use crate::calls::CallId;
use crate::client::ClientId;
use crate::plan::Route;
use crate::telemetry::{Label, LocalReply, Metric, OperationId, Telemetry, reason};
use crate::worker::Worker;

/// A request that is answered before it has become a call.
struct Early<'a> {
    /// Its bytes, if it is one to answer.
    request: Option<&'a [u8]>,
    request_id: u64,
    operation: OperationId,
    /// What it names, even if there is no such operation.
    label: Label,
    route: Option<&'a str>,
}

impl Worker {
    /// Answers a call in the upstream's stead.
    pub(crate) fn answer(&mut self, id: CallId, failure: Failure, detail: &str) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let client = self.clients.get(call.client);
        let reply = LocalReply {
            reason: reason(failure),
            detail: detail.to_owned(),
            authority: call.service.name.as_str().into(),
            operation: self.telemetry.label(call.operation),
            route: Some(call.route.name.clone()),
            cluster: self.pools.get(call.pool).map(|pool| pool.cluster.to_string()),
            request_id: call.request_id,
            peer: client.and_then(|client| client.peer.clone()),
            principal: client.and_then(|client| client.source.principal.clone()),
            tries: call.tried,
            elapsed: self.now.since(call.started),
            suppressed: 0,
        };
        let (client, operation, is_one_way) = (call.client, call.operation, call.is_one_way);
        let frame = core::mem::take(&mut call.frame);
        if !is_one_way {
            self.write_reply(client, &frame, failure, &reply);
            self.telemetry.latency(operation, reply.elapsed);
        }
        if let Some(call) = self.calls.get_mut(id) {
            call.frame = frame;
        }
        self.telemetry.add(operation, Metric::LocalReplies(reply.reason), 1);
        self.telemetry.reply(reply, self.now);
        self.finish(id);
    }

    /// Answers a request that no route or cluster serves.
    #[cold]
    pub(crate) fn answer_unrouted(&mut self, client_key: ClientId, bytes: &[u8], frame: Frame, why: &str) {
        let Some(early) = self.early(client_key, bytes, frame, None) else { return };
        let Some(client) = self.clients.get(client_key) else { return };
        let Label { service, method } = &early.label;
        let detail = format!("{why}: {service}.{method} at {}", client.service.name);
        self.answer_early(client_key, early, Failure::NoRoute, detail);
    }

    /// Answers a request that its route or a policy does not let pass, or that no route is looked for.
    #[cold]
    pub(crate) fn reject(
        &mut self,
        client_key: ClientId,
        bytes: &[u8],
        frame: Frame,
        route: Option<&Route>,
        failure: Failure,
        why: &str,
    ) {
        if let Some(early) = self.early(client_key, bytes, frame, route) {
            self.answer_early(client_key, early, failure, why.to_owned());
        }
    }

    /// Counts the request that was read last, which becomes no call.
    fn early<'a>(
        &mut self,
        client_key: ClientId,
        bytes: &'a [u8],
        frame: Frame,
        route: Option<&'a Route>,
    ) -> Option<Early<'a>> {
        let client = self.clients.get(client_key)?;
        let names = client.service.codec.operation();
        let [service, method] =
            [names.service, names.method].map(|name| self.head.get(name).unwrap_or_default());
        let most = self.plan.max_operations;
        let is_named = route.is_some_and(|route| route.names_operation);
        let operation = self.telemetry.operation(service, method, is_named, most);
        self.telemetry.request(operation, client.source_id, most);
        Some(Early {
            request: (frame.kind != Kind::OneWay).then_some(bytes),
            request_id: frame.id,
            operation,
            label: Telemetry::label_of(service, method),
            route: route.map(|route| &*route.name),
        })
    }

    /// Answers a client why a request of it is not read, where what has come of it (`request`) says which it is.
    pub(crate) fn reply_unread(
        &mut self,
        client_key: ClientId,
        request: Option<&[u8]>,
        failure: Failure,
        detail: &str,
    ) {
        let operation = self.telemetry.operation("", "", true, self.plan.max_operations);
        let label = self.telemetry.label(operation);
        let early = Early { request, request_id: 0, operation, label, route: None };
        self.answer_early(client_key, early, failure, detail.to_owned());
    }

    fn answer_early(&mut self, client_key: ClientId, early: Early<'_>, failure: Failure, detail: String) {
        let Early { request, request_id, operation, label, route } = early;
        let Some(client) = self.clients.get(client_key) else { return };
        let reply = LocalReply {
            reason: reason(failure),
            detail,
            authority: client.authority.clone(),
            operation: label,
            route: route.map(str::to_owned),
            cluster: None,
            request_id,
            peer: client.peer.clone(),
            principal: client.source.principal.clone(),
            tries: 0,
            elapsed: core::time::Duration::ZERO,
            suppressed: 0,
        };
        if let Some(request) = request {
            self.write_reply(client_key, request, failure, &reply);
        }
        self.telemetry.add(operation, Metric::LocalReplies(reply.reason), 1);
        self.telemetry.reply(reply, self.now);
    }

    fn write_reply(&mut self, client_key: ClientId, request: &[u8], failure: Failure, reply: &LocalReply) {
        if let Some(client) = self.clients.get(client_key)
            && let Some(out) = self.net.write(client.socket)
        {
            let text = format!("meltemi: {}", reply.detail);
            client.service.codec.error_reply(request, failure, &text, out);
            let queued = self.net.queued(client.socket);
            self.watch_answers(client_key, queued);
        }
    }
}
