//! What becomes of requests in the end: every failure has an answer that the protocol's own client understands, a count by
//! reason and a log line, and every call is reported by its record.

use std::rc::Rc;

use meltemi_codecs::{Failure, Frame, Kind, Outcome};

use crate::calls::{Call, CallId, End, Origin, Record, Stage, bytes};
use crate::client::{Client, ClientId};
use crate::lines::Said;
use crate::loggers::{Entry, Logged};
use crate::net::Net;
use crate::plan::Route;
use crate::pool::Pool;
use crate::spans::Told;
use crate::telemetry::{Label, LocalReply, Telemetry, outcome, reason};
use crate::worker::Worker;

/// A request that is answered before it has become a call.
struct Early<'a> {
    /// Its bytes, if it is one to answer.
    request: Option<&'a [u8]>,
    /// What it names, even if there is no such operation.
    label: Label,
    record: Record,
}

impl Worker {
    /// Answers a call in the upstream's stead.
    pub(crate) fn answer(&mut self, id: CallId, failure: Failure, detail: &str) {
        self.abandon_tries(id);
        let Some(call) = self.calls.get_mut(id) else { return };
        let client_key = call.origin().client().filter(|_| !call.record().is_one_way);
        if let Some((client_key, client)) = client_key.and_then(|key| Some((key, self.clients.get_mut(key)?)))
        {
            let written = write_reply(&mut self.net, client, Some((id, call)), call.frame(), failure, detail);
            call.record_mut().response_bytes = bytes(written);
            let queued = client.unsent(&self.net);
            self.watch_answers(client_key, queued);
        }
        let Some(call) = self.calls.get(id) else { return };
        if call.origin() != Origin::Proxy {
            let label = self.telemetry.label(call.record().operation);
            let reply = self.line("local_reply", call.record(), label, reason(failure), detail);
            self.telemetry.reply(call.record().operation, reply, self.now);
        }
        self.finish(id, End::Failed(failure));
    }

    /// Ends a call: reports it, takes it out of every table, and lets its client go on.
    pub(crate) fn finish(&mut self, id: CallId, end: End) {
        let Some(call) = self.calls.get(id) else { return };
        let is_settled = matches!(call.stage(), Stage::Settled);
        if call.has_tries() {
            if matches!(end, End::Answered(_)) {
                self.judge_loser(id);
            }
            self.abandon_tries(id);
        }
        if !is_settled {
            self.end_stage(id, end);
        }
        let Some(call) = self.calls.get_mut(id) else { return };
        call.record_mut().end = Some(end);
        let is_traced = call.record().trace.is_some();
        if self.plan.access_log.is_some() {
            self.log_call(id, end);
        }
        if self.taps.has_calls() {
            self.tell_tapped(id, end);
        }
        if is_traced {
            self.tell_call(id, end);
            self.keep_trace(id);
        }
        let Some(call) = self.calls.get(id) else { return };
        match call.origin() {
            Origin::Client { .. } => {
                self.telemetry.ended(call.record(), self.now, self.plan.max_operations);
                if let Some(rules) = &self.plan.istio {
                    self.reports.ended(call.record(), self.pools.get(call.pool()), self.now, rules);
                }
            }
            Origin::Proxy => self.telemetry.end_copy(call.record().operation, outcome(end)),
        }
        let client_key = call.origin().client();
        let mut pool = self.pools.get_mut(call.pool());
        let mut client = client_key.and_then(|key| self.clients.get_mut(key));
        let client_calls = client.as_deref_mut().map(Client::calls_mut);
        self.calls.remove(id, client_calls, pool.as_deref_mut().map(Pool::calls_mut));
        if let Some(pool) = pool {
            self.alarms.wake_at(pool.forget_at());
        }
        if let (Some(client), Some(client_key)) = (client, client_key) {
            let has_turns = client.turns().len() > 0;
            if client.end_call(self.now) {
                self.time_client(client_key);
            }
            self.list_client(client_key);
            self.end_upload_of(client_key, id);
            if has_turns {
                self.end_turn(client_key, id);
            }
        }
    }

    /// Keeps the memory of the trace of a call that has been told.
    #[inline(never)]
    fn keep_trace(&mut self, id: CallId) {
        if let Some(trace) = self.calls.get_mut(id).and_then(|call| call.record_mut().trace.take()) {
            self.traces.take(trace);
        }
    }

    /// A call ends so, which waits for something, or was sent by a route that makes second tries.
    #[inline(never)]
    fn end_stage(&mut self, id: CallId, end: End) {
        let Some(call) = self.calls.get(id) else { return };
        let (stage, client, pool) = (call.stage(), call.origin().client(), self.pools.get_mut(call.pool()));
        if let (Stage::Hedging { sent, .. } | Stage::Sent { sent, .. }, End::Answered(_)) = (stage, end) {
            call.note_latency(self.now.since(sent));
        }
        match (stage, pool) {
            (Stage::Waiting(place), Some(pool)) => pool.waiting_mut().remove(client, place),
            (Stage::Sent { is_hedged: true, .. }, Some(pool)) => pool.calls_mut().unhedged(),
            (Stage::Asking { inquiry, .. }, _) => {
                self.inquiries.forget(inquiry, false, &mut self.net);
            }
            _ => {}
        }
    }

    /// Answers a request that no route or cluster serves.
    #[cold]
    pub(crate) fn answer_unrouted(&mut self, client_key: ClientId, bytes: &[u8], frame: Frame, why: &str) {
        let Some(early) = self.early(client_key, bytes, frame, None) else { return };
        let Label { service, method } = &early.label;
        let detail = format!("{why}: {service}.{method} at {}", early.record.service.name);
        self.answer_early(client_key, early, Failure::NoRoute, &detail);
    }

    /// Answers a request that its route or a policy does not let pass, or that no route is looked for.
    #[cold]
    pub(crate) fn reject(
        &mut self,
        client_key: ClientId,
        bytes: &[u8],
        frame: Frame,
        route: Option<&Rc<Route>>,
        failure: Failure,
        why: &str,
    ) {
        if let Some(early) = self.early(client_key, bytes, frame, route) {
            self.answer_early(client_key, early, failure, why);
        }
    }

    /// Counts the request that was read last, which becomes no call.
    fn early<'a>(
        &mut self,
        client_key: ClientId,
        bytes: &'a [u8],
        frame: Frame,
        route: Option<&Rc<Route>>,
    ) -> Option<Early<'a>> {
        let (label, record) = self.noted(client_key, frame, route)?;
        self.tap(&record.service, route, true);
        self.telemetry.request(&record, self.plan.max_operations);
        Some(Early { request: (!record.is_one_way).then_some(bytes), label, record })
    }

    /// What is known of the request that was read last, whether it becomes a call or not.
    pub(crate) fn noted(
        &mut self,
        client_key: ClientId,
        frame: Frame,
        route: Option<&Rc<Route>>,
    ) -> Option<(Label, Record)> {
        let client = self.clients.get(client_key)?;
        if client.service().asks_source {
            client.source().tell(&mut self.head);
        }
        let names = client.service().codec.operation();
        let [service, method] =
            [names.service, names.method].map(|name| self.head.get(name).unwrap_or_default());
        let most = self.plan.max_operations;
        let is_named = route.is_some_and(|route| route.names_operation);
        let operation = self.telemetry.operation(service, method, is_named, most);
        let label = Telemetry::label_of(service, method);
        let source = Some(client.source().clone());
        let mut record = Record::new(client.service().clone(), source, operation, frame, self.now);
        record.route = route.cloned();
        record.trace = self.trace.take();
        record.may_log = record.service.may_log(Some(&self.head));
        record.said = Said::of(&record.service, record.may_log, &self.head);
        Some((label, record))
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
        let Some(client) = self.clients.get(client_key) else { return };
        let frame = Frame { len: 0, head: 0, kind: Kind::Request, id: 0 };
        let source = Some(client.source().clone());
        let mut record = Record::new(client.service().clone(), source, operation, frame, self.now);
        record.may_log = record.service.may_log(None);
        self.tap(&record.service, None, false);
        self.answer_early(client_key, Early { request, label, record }, failure, detail);
    }

    fn answer_early(&mut self, client_key: ClientId, early: Early<'_>, failure: Failure, detail: &str) {
        let Early { request, label, mut record } = early;
        record.end = Some(End::Failed(failure));
        if let Some(request) = request
            && let Some(client) = self.clients.get_mut(client_key)
        {
            record.response_bytes = bytes(write_reply(&mut self.net, client, None, request, failure, detail));
            let queued = client.unsent(&self.net);
            self.watch_answers(client_key, queued);
        }
        if let Some(rules) = &self.plan.istio {
            self.reports.ended(&record, None, self.now, rules);
        }
        let (end, now, pools, reports) = (End::Failed(failure), self.now, &self.pools, &self.reports);
        let told = Told { record: &record, label: &label, end, is_copy: false, now, pools, reports };
        let added = self.spans.add(&told);
        self.spans_added(added);
        let random = self.random.u32(..);
        let logged = self.logged(&record, &label, End::Failed(failure), random);
        self.log(logged);
        if let Some(tapped) = self.taps.last.take() {
            let line = self.line("tap", &record, label.clone(), reason(failure), detail);
            self.tell_taps(tapped, line);
        }
        let reply = self.line("local_reply", &record, label, reason(failure), detail);
        self.telemetry.reply(record.operation, reply, self.now);
    }

    /// Logs a call that ends so, if that is to be.
    #[inline(never)]
    fn log_call(&mut self, id: CallId, end: End) {
        let Some(call) = self.calls.get(id).filter(|call| call.origin() != Origin::Proxy) else { return };
        let (record, random) = (call.record(), self.random.u32(..));
        let label = self.telemetry.label(record.operation);
        let logged = self.logged(record, &label, end, random);
        self.log(logged);
    }

    /// What is logged of a request that ends so, if anything is.
    #[inline(never)]
    fn logged(&self, record: &Record, label: &Label, end: End, random: u32) -> Option<Logged> {
        let rules = self.plan.access_log.as_ref().filter(|_| record.may_log)?;
        let failed = !matches!(end, End::Answered(Outcome::Success) | End::Sent);
        let is_logged = rules.has(failed, self.now.since(record.started), random);
        if !is_logged {
            return None;
        }
        // Of a call that began by another plan that one says what is told.
        let said = record.said.as_deref();
        let format = said.map(Said::format).or(rules.format.as_ref());
        let whole = || self.line("call", record, label.clone(), outcome(end), "");
        let (now, pools, reports) = (self.now, &self.pools, &self.reports);
        let told = Told { record, label, end, is_copy: false, now, pools, reports };
        let verdict = format.map(|_| told.verdict(self.plan.istio.map(|istio| istio.exception_status)));
        let known = format.zip(verdict.as_ref());
        let to_files = rules.has_files;
        let is_told = format.is_some_and(|format| !format.fields.is_empty());
        // That of a plan without loggers has its line, whoever is told now.
        let to_log = rules.has_lines || !is_told && !to_files;
        let is_read = to_files || format.is_some_and(|format| format.tells_line);
        let has_line = to_log || is_read;
        let line = has_line.then(|| match known.filter(|(format, _)| !format.parts.is_empty()) {
            None => {
                let line = whole();
                let text = is_read.then(|| line.line().into_owned());
                LocalReply { text, ..line }
            }
            Some((format, verdict)) => {
                let text = Some(told.text(&format.parts, verdict, ""));
                LocalReply { event: "call", text, ..LocalReply::default() }
            }
        });
        let text = line.as_ref().and_then(|line| line.text.as_deref()).unwrap_or_default();
        let entry = known.filter(|_| is_told);
        let entry = entry.map(|(format, verdict)| Entry::of(&told, format, verdict, text));
        let has_controls = format.is_some_and(|format| format.has_controls);
        Some(Logged { line, to_log, to_files, has_controls, entry })
    }

    /// A line of the log.
    pub(crate) fn line(
        &self,
        event: &'static str,
        record: &Record,
        operation: Label,
        reason: &'static str,
        detail: &str,
    ) -> LocalReply {
        let pool = record.pool.and_then(|pool| self.pools.get(pool));
        let endpoint = pool.and_then(|pool| pool.endpoints().address(record.endpoint));
        let source = record.source.as_deref();
        LocalReply {
            event,
            reason,
            detail: detail.to_owned(),
            authority: record.service.name.as_str().into(),
            operation,
            route: record.route.as_ref().map(|route| route.name.clone()),
            cluster: pool.map(|pool| pool.cluster().to_string()),
            endpoint: endpoint.map(|address| address.to_string()),
            request_id: record.request_id,
            peer: source.and_then(|source| source.peer.clone()),
            principal: source.and_then(|source| source.principal.clone()),
            trace_id: record.trace.as_ref().map(|trace| trace.id().to_owned()),
            tries: record.tries,
            request_bytes: record.request_bytes as usize,
            response_bytes: record.response_bytes as usize,
            elapsed: self.now.since(record.started),
            text: None,
            suppressed: 0,
            tapped: None,
        }
    }
}

/// Writes the answer to a request, which has become a `call` or not; its length. A stream whose server has answered is reset.
fn write_reply(
    net: &mut Net,
    client: &mut Client,
    call: Option<(CallId, &Call)>,
    request: &[u8],
    failure: Failure,
    detail: &str,
) -> usize {
    let codec = client.service().codec.clone();
    let stream = call.and_then(|(_, call)| call.stream());
    let is_open = stream.is_some_and(|stream| stream.active.is_some());
    let mut written = 0;
    client.answer(net, call.map(|(id, _)| id), |out| {
        let before = out.len();
        let text = format!("meltemi: {detail}");
        if is_open {
            codec.reset(request, failure, &text, out);
        } else {
            codec.error_reply(request, failure, &text, out);
        }
        written = out.len().saturating_sub(before);
    });
    written
}
