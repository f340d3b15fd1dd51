//! The client role: what is opened towards the connection manager.

use std::mem;
use std::time::Duration;

use crate::drain::Drain;
use crate::headers::{self, ALARM_PATH, AUTHORITY, CLUSTER, DELAY, SESSION};
use crate::hpack::{Fields, List};
use crate::link::Opening;
use crate::notice::Notice;
use crate::peer::Peer;
use crate::reader::Fault;
use crate::socket::{Answer, Kind, LocalEnd, Refusal, Socket};
use crate::{Code, Event, Request, Side, SocketId, Target};

impl Peer<'_> {
    pub(crate) fn connect(&mut self, target: &Target<'_>) -> Option<SocketId> {
        let fields = self.new_fields();
        push(fields, ":method", "CONNECT");
        push(fields, ":authority", AUTHORITY);
        push(fields, CLUSTER, target.cluster);
        if let Some(endpoint) = target.endpoint {
            push(fields, SESSION, &headers::encode_endpoint(endpoint));
        }
        target.headers.iter().for_each(|(name, value)| push(fields, name, value));
        self.open(Kind::Connecting, false)
    }

    pub(crate) fn request(&mut self, request: &Request<'_>) -> Option<SocketId> {
        let fields = self.new_fields();
        push(fields, ":method", request.method);
        push(fields, ":scheme", request.scheme);
        push(fields, ":authority", request.authority);
        push(fields, ":path", request.path);
        if let Some(cluster) = request.cluster {
            push(fields, CLUSTER, cluster);
        }
        request.headers.iter().for_each(|(name, value)| push(fields, name, value));
        let id = self.open(Kind::Unary(Box::default()), request.body.is_empty())?;
        if let Some(socket) = self.slab.get_mut(id)
            && !request.body.is_empty()
        {
            socket.send.tail(self.spares).extend_from_slice(request.body);
            self.finish(id.index);
        }
        Some(id)
    }

    pub(crate) fn alarm(&mut self, delay: Duration) -> bool {
        let rest = u64::from(delay.subsec_nanos().div_ceil(1_000_000));
        let milliseconds = delay.as_secs().saturating_mul(1000).saturating_add(rest).max(1);
        let fields = self.new_fields();
        push(fields, ":method", "GET");
        push(fields, ":scheme", "http");
        push(fields, ":authority", AUTHORITY);
        push(fields, ":path", ALARM_PATH);
        push(fields, DELAY, &milliseconds.to_string());
        self.open(Kind::Alarm, true).is_some()
    }

    fn new_fields(&mut self) -> &mut Fields {
        self.link.fields.clear();
        &mut self.link.fields
    }

    /// Opens a stream with the head in `link.fields`, now or when the peer allows one more.
    fn open(&mut self, kind: Kind, end_stream: bool) -> Option<SocketId> {
        let link = &mut *self.link;
        let waiting = u32::try_from(link.waiting.len()).ok()?;
        let stream = link.next_stream.checked_add(waiting.checked_mul(2)?)?;
        if link.failure.is_some()
            || stream > self.options.last_stream_id.min(link.last_served)
            || self.slab.len() >= self.options.max_sockets
        {
            return None;
        }
        let mut socket = Socket::new(Side::Upstream, 0, kind);
        // A request's body need not wait for an answer; what is written to a connection must.
        socket.open = matches!(socket.kind, Kind::Unary(_) | Kind::Alarm);
        socket.local = if end_stream { LocalEnd::Sent } else { LocalEnd::Open };
        let id = self.slab.insert(socket)?;
        if waiting > 0 || !self.may_open() {
            let fields = mem::take(&mut self.link.fields);
            self.link.waiting.push_back(Opening { id, fields, end_stream });
        } else {
            self.begin(id, end_stream);
        }
        Some(id)
    }

    fn may_open(&self) -> bool {
        u32::try_from(self.link.streams.len()).is_ok_and(|open| open < self.link.peer.max_concurrent_streams)
    }

    /// Whether a stream that waited can be opened.
    pub(crate) fn may_open_waiting(&self) -> bool {
        !self.link.waiting.is_empty() && self.may_open()
    }

    pub(crate) fn open_waiting(&mut self) {
        while self.may_open()
            && let Some(Opening { id, fields, end_stream }) = self.link.waiting.pop_front()
        {
            if self.slab.get(id).is_some() {
                self.link.fields = fields;
                self.begin(id, end_stream);
            }
        }
    }

    /// Gives a socket its stream and queues the head in `link.fields`.
    fn begin(&mut self, id: SocketId, end_stream: bool) {
        let link = &mut *self.link;
        let stream = link.next_stream;
        link.next_stream = stream.saturating_add(2);
        if stream >= self.options.handover_stream_id && *self.drain == Drain::Not {
            *self.drain = Drain::Due;
        }
        link.streams.insert(stream, id.index);
        if let Some(socket) = self.slab.get_mut(id) {
            socket.stream = stream;
            socket.send_window = i64::from(link.peer.initial_window);
            socket.receive_window = link.new_receive_window();
        }
        self.put_head(stream, end_stream);
        self.enqueue(id.index);
    }

    /// A whole header list from the connection manager, in `link.fields`.
    pub(crate) fn response_head(&mut self, stream: u32, end_stream: bool, list: List) -> Result<(), Fault> {
        let Some(&index) = self.link.streams.get(&stream) else {
            return if self.is_idle(stream) {
                Err(Fault(Code::ProtocolError, "HEADERS on a stream that was not opened"))
            } else {
                Ok(())
            };
        };
        let Some(socket) = self.slab.at(index) else { return Ok(()) };
        if !socket.awaits_head() {
            self.trailers(index, end_stream);
            return Ok(());
        }
        if list == List::Cut {
            self.stream_error(index, Code::EnhanceYourCalm);
            return Ok(());
        }
        let head = headers::response(&self.link.fields);
        let id = self.slab.id(index);
        let Some(socket) = self.slab.at_mut(index) else { return Ok(()) };
        let Ok(head) = head else {
            self.stream_error(index, Code::ProtocolError);
            return Ok(());
        };
        match head.status {
            // Interim responses say nothing of the final one.
            100..200 if end_stream => {
                self.stream_error(index, Code::ProtocolError);
                return Ok(());
            }
            100..200 => return Ok(()),
            _ => {}
        }
        socket.answered = true;
        match &mut socket.kind {
            Kind::Connecting if head.status < 300 => {
                socket.kind = Kind::Connected;
                socket.open = true;
                let event = Event::Connected { id, endpoint: head.endpoint, headers: head.headers };
                if !socket.released {
                    self.notices.push_back(Notice::Live(id, event));
                }
                self.enqueue(index);
            }
            Kind::Connecting => {
                let refusal = Refusal { status: head.status, endpoint: head.endpoint, reason: Vec::new() };
                socket.kind = Kind::Refusing(Box::new(refusal));
            }
            Kind::Unary(answer) => {
                answer.status = head.status;
                answer.headers = head.headers;
            }
            Kind::Alarm | Kind::Accepted | Kind::Connected | Kind::Refusing(_) | Kind::Gone => {}
        }
        if end_stream {
            self.ended(index);
        }
        Ok(())
    }

    /// A header list after the head.
    pub(crate) fn trailers(&mut self, index: u32, end_stream: bool) {
        let Some(socket) = self.slab.at_mut(index) else { return };
        if socket.remote_ended {
            return self.stream_error(index, Code::StreamClosed);
        }
        let trailers = headers::trailers(&self.link.fields);
        let (true, Ok(trailers)) = (end_stream, trailers) else {
            return self.stream_error(index, Code::ProtocolError);
        };
        if let Kind::Unary(answer) = &mut socket.kind {
            answer.trailers = trailers;
        }
        self.ended(index);
    }
}

impl Refusal {
    pub(crate) fn event(self, id: SocketId) -> Event<'static> {
        let reason = headers::text(&self.reason);
        Event::Refused { id, status: self.status, endpoint: self.endpoint, reason }
    }
}

impl Answer {
    pub(crate) fn event(self, id: SocketId) -> Event<'static> {
        let Self { status, headers, body, trailers } = self;
        Event::Response { id, status, headers, body, trailers }
    }
}

fn push(fields: &mut Fields, name: &str, value: &str) {
    fields.push(name.as_bytes(), value.as_bytes());
}
