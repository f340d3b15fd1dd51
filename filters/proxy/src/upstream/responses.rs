//! What servers send: answers, and what else they say on the connections of the pools.

use meltemi_codecs::{Codec, Failure, Frame, Kind, Outcome, Peer, Step};
use meltemi_sockets::SocketId;

use super::{ConnectionId, Stage};
use crate::inbox::Progress;
use crate::net::HIGH_WATERMARK;
use crate::slots::Answered;
use crate::telemetry::Metric;
use crate::worker::Worker;

impl Worker {
    pub(crate) fn connection_data(&mut self, key: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.intake_mut().came(bytes.len());
        let (socket, pool) = (connection.socket(), connection.pool());
        if connection.intake().inbox().is_empty() {
            if let Some(progress) = self.read_responses(key, socket, bytes)
                && let Some(connection) = self.connections.get_mut(key)
            {
                connection
                    .intake_mut()
                    .inbox_mut()
                    .keep(bytes.get(progress.used..).unwrap_or_default(), progress.need);
                self.settle(key);
            }
        } else {
            connection.intake_mut().inbox_mut().push(bytes);
            let Some(taken) = connection.intake_mut().inbox_mut().take() else { return self.settle(key) };
            if let Some(progress) = self.read_responses(key, socket, taken.unread())
                && let Some(connection) = self.connections.get_mut(key)
            {
                connection.intake_mut().inbox_mut().restore(taken, progress.used, progress.need);
                self.settle(key);
            }
        }
        self.list_pool(pool);
    }

    /// Handles the complete frames at the front of `input`. `None` once the connection of that socket is gone: another
    /// may have its key by then.
    fn read_responses(&mut self, key: ConnectionId, socket: SocketId, input: &[u8]) -> Option<Progress> {
        let mut progress = Progress::default();
        while let Some(rest) = input.get(progress.used..).filter(|rest| !rest.is_empty()) {
            let connection = self.connections.get(key).filter(|connection| connection.socket() == socket)?;
            if let Some(download) = connection.download() {
                let passed = self.pass_download(key, download, rest);
                progress.used = progress.used.saturating_add(passed);
                continue;
            }
            let pool = self.pools.get(connection.pool())?;
            let service = pool.service();
            match service.codec.split(Peer::Server, rest, service.limits.max_frame_bytes) {
                Ok(Step::NeedMore { at_least }) => {
                    let Progress { used, need } = self.begin_download(key, rest, at_least);
                    progress = Progress { used: progress.used.saturating_add(used), need };
                    if used == 0 {
                        break;
                    }
                }
                Ok(Step::Frame(frame)) => {
                    let len = frame.len.clamp(1, rest.len());
                    let ended = if pool.is_watched() { self.look_at_end(key, &frame) } else { None };
                    self.read_upstream_frame(key, rest.get(..len).unwrap_or_default(), frame);
                    progress.used = progress.used.saturating_add(len);
                    if let Some(ended) = ended {
                        self.note_end(ended);
                    }
                }
                Err(error) => {
                    self.telemetry.add_global(Metric::DecodeErrors, 1);
                    self.connection_failed(key, Failure::BadResponse, &format!("bad response: {error}"));
                    return None;
                }
            }
        }
        Some(progress)
    }

    fn read_upstream_frame(&mut self, key: ConnectionId, bytes: &[u8], frame: Frame) {
        match frame.kind {
            // One place for both, which the compiler puts in line.
            Kind::Response(outcome) | Kind::Last(outcome) => {
                if matches!(frame.kind, Kind::Last(_)) && !self.leave_pinned(key) {
                    self.retire(key);
                }
                self.read_response(key, bytes, frame, outcome);
            }
            Kind::Continued | Kind::Ended(_) | Kind::Reset(_) => self.follow_server(key, bytes, frame),
            Kind::HeartbeatRequest => {
                self.telemetry.add_global(Metric::Heartbeats, 1);
                self.answer_upstream(key, |codec, out| codec.heartbeat_reply(bytes, out));
            }
            // A call back: which client it is for, a shared connection does not say.
            Kind::Request | Kind::Opened | Kind::Refused(_) => self.answer_upstream(key, |codec, out| {
                let text = "meltemi: calls from a server to its clients are not supported";
                codec.error_reply(bytes, Failure::NoRoute, text, out);
            }),
            Kind::Drain => {
                if self.leave_pinned(key) {
                    return;
                }
                // Once for each connection, however often the server says it.
                if let Some(connection) = self.connections.get(key)
                    && connection.stage() != Stage::Retiring
                {
                    if let Some(pool) = self.pools.get_mut(connection.pool()) {
                        pool.eject(connection.endpoint(), self.now);
                        self.alarms.wake_at(Some(pool.lost(connection.endpoint(), self.now)));
                    }
                    self.pass_drain_on(key);
                }
                self.retire(key);
            }
            _ => {}
        }
    }

    /// A server takes no more calls. The clients that address just this one are notified: another proxy, or client, may
    /// know of other servers.
    fn pass_drain_on(&mut self, key: ConnectionId) {
        let Some(connection) = self.connections.get(key) else { return };
        let Some(pool) = self.pools.get(connection.pool()) else { return };
        let Some(server) = pool.endpoints().address(connection.endpoint()) else { return };
        for (_, client) in self.clients.iter_mut() {
            if client.destination() == Some(server)
                && client.service().has_protocol_of(pool.service())
                && client.unsent(&self.net) < HIGH_WATERMARK
                && let Some(out) = client.write(&mut self.net)
            {
                pool.service().codec.drain_notice(out);
            }
        }
    }

    /// Writes a frame of the proxy's own to an upstream, unless that does not read, or has another in part.
    fn answer_upstream(&mut self, key: ConnectionId, write: impl FnOnce(&dyn Codec, &mut Vec<u8>)) {
        if let Some(connection) = self.connections.get(key)
            && connection.can_write()
            && let Some(pool) = self.pools.get(connection.pool())
            && self.net.queued(connection.socket()) < HIGH_WATERMARK
            && let Some(out) = self.net.write(connection.socket())
        {
            write(&*pool.service().codec, out);
        }
    }

    fn read_response(&mut self, key: ConnectionId, bytes: &[u8], frame: Frame, outcome: Outcome) {
        // It is gone where it was retired just now, and no call waited.
        let answered = match self.connections.get_mut(key) {
            Some(connection) => connection.slots_mut().answer(frame.id),
            None => Answered::Unknown,
        };
        match answered {
            Answered::Call(call) => self.respond(call, key, bytes, outcome),
            answered => {
                self.telemetry.add_global(Metric::UnmatchedResponses, 1);
                if answered == Answered::Broken {
                    self.connection_failed(key, Failure::BadResponse, "an answer that nobody waits for");
                }
            }
        }
    }
}
