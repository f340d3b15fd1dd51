//! What each frame does, RFC 9113 section 6.

use crate::drain::Drain;
use crate::frame::{self, Head, MAX_31, MAX_FRAME_SIZE, MIN_FRAME_SIZE, flag, kind, setting};
use crate::notice::Notice;
use crate::peer::Peer;
use crate::reader::{Fault, Piece};
use crate::socket::Kind;
use crate::{Code, Event, Side};

/// Frames of one header block. Each costs its sender nothing when it is empty.
const MAX_BLOCK_FRAMES: u32 = 256;

/// Capacity that the buffer for header blocks keeps between them.
const KEPT_BLOCK: usize = 4096;

impl Peer<'_> {
    /// Acts on one piece of input. Only DATA is an event at once; all others become notices.
    pub(crate) fn piece<'a>(&mut self, piece: Piece<'a>) -> Result<Option<Event<'a>>, Fault> {
        match piece {
            Piece::Data(bytes) => return Ok(self.data(bytes)),
            Piece::DataBegin { head, overhead } => self.data_begin(head, overhead)?,
            Piece::DataEnd { stream } => {
                if let Some(&index) = self.link.streams.get(&stream) {
                    self.ended(index);
                }
            }
            Piece::Frame(head, payload) => {
                self.frame(head, payload.bytes())?;
                self.link.reader.recycle(payload);
                self.link.check_flood()?;
            }
        }
        Ok(None)
    }

    /// Whether no frame can have named a stream yet.
    pub(crate) fn is_idle(&self, stream: u32) -> bool {
        match self.side {
            Side::Downstream => stream & 1 == 0 || stream > self.link.last_peer_stream,
            Side::Upstream => stream & 1 == 0 || stream >= self.link.next_stream,
        }
    }

    pub(crate) fn data_begin(&mut self, head: Head, overhead: u32) -> Result<(), Fault> {
        self.link.arrived(head.length)?;
        self.link.target = None;
        let Some(&index) = self.link.streams.get(&head.stream) else {
            if self.is_idle(head.stream) {
                return Err(Fault(Code::ProtocolError, "DATA on a stream that was not opened"));
            }
            return Ok(());
        };
        let Some(socket) = self.slab.at_mut(index) else { return Ok(()) };
        let length = i64::from(head.length);
        let error = if socket.remote_ended {
            Some(Code::StreamClosed)
        } else if socket.awaits_head() {
            Some(Code::ProtocolError)
        } else if length > socket.receive_window {
            Some(Code::FlowControlError)
        } else {
            None
        };
        if let Some(code) = error {
            self.stream_error(index, code);
            return self.link.check_flood();
        }
        socket.receive_window = socket.receive_window.saturating_sub(length);
        if socket.released {
            socket.swallowed = socket.swallowed.saturating_add(head.length);
            self.check_swallowed(index);
            return Ok(());
        }
        self.link.target = Some((index, head.stream));
        if overhead > 0 {
            self.grant(index, overhead);
        }
        Ok(())
    }

    fn data<'a>(&mut self, bytes: &'a [u8]) -> Option<Event<'a>> {
        let (index, stream) = self.link.target?;
        let id = self.slab.id(index);
        let side = self.side;
        // It may have been closed since the frame began.
        let socket = self
            .slab
            .at_mut(index)
            .filter(|socket| socket.stream == stream && socket.side == side && !socket.released)?;
        let (kept, limit) = match &mut socket.kind {
            Kind::Accepted | Kind::Connected => {
                socket.unconsumed = socket.unconsumed.saturating_add(bytes.len());
                return Some(Event::Data { id, bytes });
            }
            Kind::Refusing(refusal) => (&mut refusal.reason, self.options.max_reason),
            Kind::Unary(answer) => (&mut answer.body, self.options.max_response_body),
            Kind::Connecting | Kind::Alarm | Kind::Gone => (&mut Vec::new(), 0),
        };
        let room = limit.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
        self.grant(index, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        None
    }

    fn frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        match head.kind {
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::PRIORITY => self.priority(head),
            kind::RST_STREAM => self.rst_stream(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            kind::PUSH_PROMISE => Err(Fault(Code::ProtocolError, "a push was promised that was not allowed")),
            kind::PING => self.ping_frame(head, payload),
            kind::GOAWAY => self.goaway(head, payload),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            _ => Ok(()),
        }
    }

    fn headers(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        on_stream(head)?;
        let mut fragment = payload;
        if head.has(flag::PADDED) {
            let (&padding, rest) = fragment
                .split_first()
                .ok_or(Fault(Code::FrameSizeError, "a padded frame has no pad length"))?;
            let length = rest
                .len()
                .checked_sub(usize::from(padding))
                .ok_or(Fault(Code::ProtocolError, "padding is longer than its frame"))?;
            fragment = rest.get(..length).unwrap_or_default();
        }
        if head.has(flag::PRIORITY) {
            fragment = fragment
                .get(5..)
                .ok_or(Fault(Code::FrameSizeError, "HEADERS is too short for its priority"))?;
        }
        let end_stream = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            self.check_block(fragment.len())?;
            return self.header_block(head.stream, end_stream, fragment);
        }
        self.check_block(fragment.len())?;
        self.link.block.bytes.extend_from_slice(fragment);
        self.link.block.frames = 1;
        self.link.block.end_stream = end_stream;
        self.link.reader.continued = Some(head.stream);
        Ok(())
    }

    fn continuation(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        self.check_block(self.link.block.bytes.len().saturating_add(payload.len()))?;
        let block = &mut self.link.block;
        block.frames = block.frames.saturating_add(1);
        if block.frames > MAX_BLOCK_FRAMES {
            return Err(Fault(Code::EnhanceYourCalm, "a header block has too many frames"));
        }
        block.bytes.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            self.link.reader.continued = None;
            let mut bytes = std::mem::take(&mut self.link.block.bytes);
            self.header_block(head.stream, self.link.block.end_stream, &bytes)?;
            bytes.clear();
            bytes.shrink_to(KEPT_BLOCK);
            self.link.block.bytes = bytes;
        }
        Ok(())
    }

    fn check_block(&self, length: usize) -> Result<(), Fault> {
        if length > self.options.max_header_block {
            return Err(Fault(Code::EnhanceYourCalm, "a header block is too large"));
        }
        Ok(())
    }

    fn header_block(&mut self, stream: u32, end_stream: bool, block: &[u8]) -> Result<(), Fault> {
        let link = &mut *self.link;
        let list = link
            .decoder
            .decode(block, self.options.max_header_list, &mut link.fields)
            .map_err(|_| Fault(Code::CompressionError, "a header block is not HPACK"))?;
        match self.side {
            Side::Downstream => self.request_head(stream, end_stream, list),
            Side::Upstream => self.response_head(stream, end_stream, list),
        }
    }

    /// Priorities are read over, section 5.3.2.
    fn priority(&mut self, head: Head) -> Result<(), Fault> {
        on_stream(head)?;
        if head.length != 5 {
            return Err(Fault(Code::FrameSizeError, "PRIORITY has a wrong length"));
        }
        Ok(())
    }

    fn rst_stream(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        on_stream(head)?;
        let code = exactly(head, payload, 4, "RST_STREAM has a wrong length")?;
        match self.link.streams.get(&head.stream) {
            Some(&index) => self.lost(index, code),
            None if self.is_idle(head.stream) => {
                return Err(Fault(Code::ProtocolError, "RST_STREAM on a stream that was not opened"));
            }
            None => {}
        }
        Ok(())
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        on_connection(head)?;
        if head.has(flag::ACK) {
            if head.length != 0 {
                return Err(Fault(Code::FrameSizeError, "an acknowledgement of SETTINGS has a payload"));
            }
            let excess = i64::from(self.link.settings_acknowledged()?);
            if excess > 0 {
                self.each_stream(|socket| {
                    socket.receive_window = socket.receive_window.saturating_sub(excess);
                });
            }
            return Ok(());
        }
        let (entries, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Fault(Code::FrameSizeError, "SETTINGS has a wrong length"));
        }
        let mut window = self.link.peer.initial_window;
        for &[n0, n1, v0, v1, v2, v3] in entries {
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            match u16::from_be_bytes([n0, n1]) {
                setting::HEADER_TABLE_SIZE => {
                    self.link.encoder.resize(usize::try_from(value).unwrap_or(usize::MAX));
                }
                setting::ENABLE_PUSH if value > 1 || (value == 1 && self.side == Side::Upstream) => {
                    return Err(Fault(Code::ProtocolError, "SETTINGS_ENABLE_PUSH is out of range"));
                }
                setting::MAX_CONCURRENT_STREAMS => self.link.peer.max_concurrent_streams = value,
                setting::INITIAL_WINDOW_SIZE if value > MAX_31 => {
                    return Err(Fault(
                        Code::FlowControlError,
                        "SETTINGS_INITIAL_WINDOW_SIZE is out of range",
                    ));
                }
                setting::INITIAL_WINDOW_SIZE => window = value,
                setting::MAX_FRAME_SIZE if !(MIN_FRAME_SIZE..=MAX_FRAME_SIZE).contains(&value) => {
                    return Err(Fault(Code::ProtocolError, "SETTINGS_MAX_FRAME_SIZE is out of range"));
                }
                setting::MAX_FRAME_SIZE => {
                    self.link.peer.max_frame_size = usize::try_from(value).unwrap_or(usize::MAX);
                }
                _ => {}
            }
        }
        frame::put_settings_ack(self.link.answer());
        self.resize_windows(window)
    }

    /// SETTINGS_INITIAL_WINDOW_SIZE also changes the windows of streams that are open, section 6.9.2.
    fn resize_windows(&mut self, window: u32) -> Result<(), Fault> {
        let before = std::mem::replace(&mut self.link.peer.initial_window, window);
        let difference = i64::from(window).saturating_sub(i64::from(before));
        if difference == 0 {
            return Ok(());
        }
        let mut overflow = false;
        self.each_stream(|socket| {
            socket.send_window = socket.send_window.saturating_add(difference);
            overflow |= socket.send_window > i64::from(MAX_31);
        });
        if overflow {
            return Err(Fault(Code::FlowControlError, "SETTINGS make a stream's window overflow"));
        }
        if difference > 0 {
            for index in self.slab.indices() {
                if self.socket(index).is_some_and(|socket| socket.sendable() > 0) {
                    self.enqueue(index);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn each_stream(&mut self, mut change: impl FnMut(&mut crate::socket::Socket)) {
        for index in self.slab.indices() {
            if let Some(socket) = self.socket(index)
                && socket.stream != 0
            {
                change(socket);
            }
        }
    }

    fn ping_frame(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        on_connection(head)?;
        let (Some(&opaque), 8) = (payload.first_chunk::<8>(), payload.len()) else {
            return Err(Fault(Code::FrameSizeError, "PING has a wrong length"));
        };
        if !head.has(flag::ACK) {
            frame::put_ping(self.link.answer(), flag::ACK, opaque);
        } else if self.link.ping == Some(opaque) {
            self.link.ping = None;
            if self.side == Side::Downstream && *self.drain == Drain::Probing {
                let last_stream = self.link.last_peer_stream;
                frame::put_goaway(&mut self.link.control, last_stream, Code::NoError);
                *self.drain = Drain::Done { last_stream };
            }
        }
        Ok(())
    }

    fn goaway(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        on_connection(head)?;
        let (8.., Some(last_stream)) = (payload.len(), frame::number(payload)) else {
            return Err(Fault(Code::FrameSizeError, "GOAWAY is too short"));
        };
        if self.side == Side::Upstream {
            self.no_more_streams(last_stream & MAX_31);
        }
        if !std::mem::replace(&mut self.link.going_away, true) {
            self.notices.push_back(Notice::Plain(Event::GoingAway { side: self.side }));
        }
        Ok(())
    }

    /// The connection manager serves no stream after `last_stream`. Clients that come now must get another connection.
    ///
    /// The notice that Envoy sends first names the largest id (RFC 9113 section 6.8). Until it names another, some seconds
    /// later, it serves what is opened: connections that retries need, and alarms by which time is kept.
    fn no_more_streams(&mut self, last_stream: u32) {
        if *self.drain == Drain::Not {
            *self.drain = Drain::Due;
        }
        self.link.last_served = self.link.last_served.min(last_stream);
        if last_stream == MAX_31 {
            return;
        }
        self.link.waiting.clear();
        for index in self.slab.indices() {
            if self.socket(index).is_some_and(|socket| {
                (socket.stream == 0 || socket.stream > last_stream) && !socket.is_over()
            }) {
                self.lost(index, Code::RefusedStream.number());
            }
        }
    }

    fn window_update(&mut self, head: Head, payload: &[u8]) -> Result<(), Fault> {
        let increment = exactly(head, payload, 4, "WINDOW_UPDATE has a wrong length")? & MAX_31;
        let limit = i64::from(MAX_31);
        if head.stream == 0 {
            if increment == 0 {
                return Err(Fault(Code::ProtocolError, "WINDOW_UPDATE of nothing"));
            }
            self.link.send_window = self.link.send_window.saturating_add(i64::from(increment));
            if self.link.send_window > limit {
                return Err(Fault(Code::FlowControlError, "the connection window overflows"));
            }
            return Ok(());
        }
        let Some(&index) = self.link.streams.get(&head.stream) else {
            if self.is_idle(head.stream) {
                return Err(Fault(Code::ProtocolError, "WINDOW_UPDATE on a stream that was not opened"));
            }
            return Ok(());
        };
        let Some(socket) = self.slab.at_mut(index) else { return Ok(()) };
        if increment == 0 {
            self.stream_error(index, Code::ProtocolError);
            return Ok(());
        }
        socket.send_window = socket.send_window.saturating_add(i64::from(increment));
        if socket.send_window > limit {
            self.stream_error(index, Code::FlowControlError);
        } else if socket.sendable() > 0 {
            self.enqueue(index);
        }
        Ok(())
    }
}

fn on_stream(head: Head) -> Result<(), Fault> {
    if head.stream == 0 { Err(Fault(Code::ProtocolError, "a frame of a stream names none")) } else { Ok(()) }
}

fn on_connection(head: Head) -> Result<(), Fault> {
    if head.stream == 0 {
        Ok(())
    } else {
        Err(Fault(Code::ProtocolError, "a frame of the connection names a stream"))
    }
}

/// The number that the payload of a frame of fixed length begins with.
fn exactly(head: Head, payload: &[u8], length: u32, what: &'static str) -> Result<u32, Fault> {
    frame::number(payload).filter(|_| head.length == length).ok_or(Fault(Code::FrameSizeError, what))
}
