//! The server role: what tcp_proxy opens.

use crate::drain::Drain;
use crate::hpack::List;
use crate::notice::Notice;
use crate::peer::Peer;
use crate::reader::Fault;
use crate::socket::{Kind, LocalEnd, Socket};
use crate::{Code, Event, frame, headers};

impl Peer<'_> {
    /// A whole header list from tcp_proxy, in `link.fields`.
    pub(crate) fn request_head(&mut self, stream: u32, end_stream: bool, list: List) -> Result<(), Fault> {
        if let Some(&index) = self.link.streams.get(&stream) {
            self.trailers(index, end_stream);
            return Ok(());
        }
        if stream & 1 == 0 {
            return Err(Fault(Code::ProtocolError, "a client opened a stream with an even id"));
        }
        if stream <= self.link.last_peer_stream {
            // Of a stream that is closed here; the peer may not know yet.
            return Ok(());
        }
        self.link.last_peer_stream = stream;
        if matches!(*self.drain, Drain::Done { last_stream } if stream > last_stream) {
            return Ok(());
        }
        if stream >= self.options.handover_stream_id && *self.drain == Drain::Not {
            *self.drain = Drain::Due;
        }
        if list == List::Cut {
            return self.refuse(stream, Code::EnhanceYourCalm);
        }
        let streams = u32::try_from(self.link.streams.len()).unwrap_or(u32::MAX);
        if self.slab.len() >= self.options.max_sockets || streams >= self.options.max_concurrent_streams {
            return self.refuse(stream, Code::RefusedStream);
        }
        let Ok(head) = headers::request(&self.link.fields) else {
            return self.refuse(stream, Code::ProtocolError);
        };
        if !head.is_connect {
            self.put_status(stream, 405, true);
            // The rest of the request is of no use, RFC 9113 section 8.1.
            return if end_stream { Ok(()) } else { self.refuse(stream, Code::NoError) };
        }
        let mut socket = Socket::new(self.side, stream, Kind::Accepted);
        socket.send_window = i64::from(self.link.peer.initial_window);
        socket.receive_window = self.link.new_receive_window();
        let Some(id) = self.slab.insert(socket) else {
            return self.refuse(stream, Code::RefusedStream);
        };
        self.link.streams.insert(stream, id.index);
        self.notices.push_back(Notice::Live(id, Event::Accepted { id, accept: head.accept }));
        if end_stream {
            self.ended(id.index);
        }
        Ok(())
    }

    /// Answers a tunnel with 200.
    pub(crate) fn accept(&mut self, index: u32) {
        let Some(socket) = self.socket(index) else { return };
        if socket.open || socket.local == LocalEnd::Sent {
            return;
        }
        socket.open = true;
        let stream = socket.stream;
        self.put_status(stream, 200, false);
        self.enqueue(index);
    }

    /// Answers a tunnel with a status and the end.
    pub(crate) fn reject(&mut self, index: u32, status: u16) {
        let Some(socket) = self.socket(index) else { return };
        if socket.open || socket.local == LocalEnd::Sent {
            return;
        }
        socket.local = LocalEnd::Sent;
        let stream = socket.stream;
        self.put_status(stream, status, true);
        self.slab.release(index);
        self.settle(index);
    }

    /// A stream that never becomes a socket.
    fn refuse(&mut self, stream: u32, code: Code) -> Result<(), Fault> {
        frame::put_rst_stream(self.link.answer(), stream, code);
        self.link.check_flood()
    }

    fn put_status(&mut self, stream: u32, status: u16, end_stream: bool) {
        self.link.fields.clear();
        self.link.fields.push(b":status", status.clamp(200, 999).to_string().as_bytes());
        self.put_head(stream, end_stream);
    }

    /// Encodes `link.fields` as the head of a message.
    pub(crate) fn put_head(&mut self, stream: u32, end_stream: bool) {
        let link = &mut *self.link;
        link.scratch.clear();
        link.encoder.begin(&mut link.scratch);
        for (name, value) in link.fields.iter() {
            link.encoder.field(&mut link.scratch, name, value);
        }
        frame::put_headers(&mut link.control, stream, end_stream, &link.scratch, link.peer.max_frame_size);
    }
}
