//! What the other end sends: frames are taken apart, and held to the rules.

use super::{
    ACK, Block, CONTINUATION, Connection, DATA, DEFAULT_WINDOW, END_HEADERS, END_STREAM, Event, GOAWAY,
    HEADERS, MAX_FRAME, PING, PREFACE, RST_STREAM, Role, SETTINGS, WINDOW_UPDATE,
};

impl Connection {
    /// Takes what the other end sent.
    ///
    /// # Panics
    ///
    /// The other end broke a rule of HTTP/2, or tripped one of Envoy's flood guards.
    pub fn receive(&mut self, bytes: &[u8]) -> Vec<Event> {
        self.input.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut at = 0;
        if self.awaits_preface {
            let Some(preface) = self.input.get(..PREFACE.len()) else { return events };
            assert_eq!(preface, PREFACE);
            self.awaits_preface = false;
            at = PREFACE.len();
        }
        while let Some(head) = self.input.get(at..at + 9) {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            assert!(length <= MAX_FRAME, "a frame of {length} bytes");
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let Some(payload) = self.input.get(at + 9..at + 9 + length) else { break };
            let payload = payload.to_vec();
            at += 9 + length;
            self.read_frame(kind, flags, stream, payload, &mut events);
        }
        self.input.drain(..at);
        events
    }

    fn read_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: Vec<u8>, events: &mut Vec<Event>) {
        if let Some(block) = &self.block {
            assert!(kind == CONTINUATION && stream == block.stream, "a frame within a header block");
        }
        match kind {
            DATA => self.read_data(flags, stream, payload, events),
            HEADERS => {
                assert!(flags & !(END_STREAM | END_HEADERS) == 0);
                self.block = Some(Block { stream, is_end: flags & END_STREAM != 0, bytes: payload });
                self.read_block(flags, events);
            }
            CONTINUATION => {
                self.block.as_mut().expect("a CONTINUATION after HEADERS").bytes.extend(payload);
                self.read_block(flags, events);
            }
            RST_STREAM => {
                self.check_known(stream);
                self.guards.resets += 1;
                let code = u32::from_be_bytes(payload.try_into().expect("four bytes"));
                if self.streams.remove(&stream).is_some() {
                    events.push(Event::Reset { stream, code });
                }
            }
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks(6) {
                    let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
                    if setting[..2] == [0, 4] {
                        let change = i64::from(value) - self.peer_window;
                        self.peer_window = i64::from(value);
                        for stream in self.streams.values_mut() {
                            stream.send_window += change;
                        }
                    }
                }
                self.frame(SETTINGS, ACK, 0, &[]);
            }
            PING if flags & ACK == 0 => {
                self.guards.pings += 1;
                self.frame(PING, ACK, 0, &payload);
            }
            SETTINGS => {
                self.is_acknowledged = true;
                let excess = i64::from(DEFAULT_WINDOW.saturating_sub(self.habits.window));
                self.streams.values_mut().for_each(|stream| stream.receive_window -= excess);
            }
            PING => {}
            GOAWAY => events.push(Event::GoAway {
                last: u32::from_be_bytes(payload[..4].try_into().expect("four bytes")),
                code: u32::from_be_bytes(payload[4..8].try_into().expect("four bytes")),
            }),
            WINDOW_UPDATE => self.read_window_update(stream, payload),
            kind => panic!("a frame of kind {kind}"),
        }
    }

    fn read_data(&mut self, flags: u8, id: u32, payload: Vec<u8>, events: &mut Vec<Event>) {
        assert!(flags & !END_STREAM == 0, "DATA flags {flags:#x}");
        self.check_known(id);
        let is_end = flags & END_STREAM != 0;
        let length = payload.len() as u32;
        self.guards.bytes_received += u64::from(length);
        self.receive_window -= i64::from(length);
        assert!(self.receive_window >= 0, "the connection window is overrun");
        // The connection's window is no brake in Envoy's configuration: streams are read by their own.
        if length > 0 {
            self.receive_window += i64::from(length);
            self.frame(WINDOW_UPDATE, 0, 0, &length.to_be_bytes());
        }
        match length {
            0 if !is_end => self.guards.empty_data += 1,
            _ => self.guards.empty_data = 0,
        }
        assert!(self.guards.empty_data <= 1, "DATA frames without payload");
        let Some(stream) = self.streams.get_mut(&id) else { return };
        assert!(!stream.has_peer_ended, "DATA after END_STREAM on {id}");
        stream.receive_window -= i64::from(length);
        assert!(stream.receive_window >= 0 || !self.is_acknowledged, "the window of {id} is overrun");
        stream.unread += length;
        if length > 0 {
            events.push(Event::Data { stream: id, bytes: payload });
        }
        self.grant(id);
        if is_end {
            self.peer_ended(id, events);
        }
    }

    fn read_block(&mut self, flags: u8, events: &mut Vec<Event>) {
        if flags & END_HEADERS == 0 {
            return;
        }
        let Some(Block { stream, is_end, bytes }) = self.block.take() else { return };
        let fields = self.decoder.decode(&bytes).expect("a header block");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        let fields = fields.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        if self.role == Role::Server && !self.streams.contains_key(&stream) && stream > self.last_peer_stream
        {
            assert_eq!(stream % 2, 1);
            self.last_peer_stream = stream;
            self.guards.opened += 1;
            self.streams.insert(stream, self.new_stream());
        }
        self.check_known(stream);
        if self.streams.contains_key(&stream) {
            events.push(Event::Head { stream, fields });
            if is_end {
                self.peer_ended(stream, events);
            }
        }
    }

    fn peer_ended(&mut self, id: u32, events: &mut Vec<Event>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.has_peer_ended = true;
        events.push(Event::End { stream: id });
        if stream.has_sent_end {
            self.streams.remove(&id);
        }
    }

    fn read_window_update(&mut self, stream: u32, payload: Vec<u8>) {
        let increment = i64::from(u32::from_be_bytes(payload.try_into().expect("four bytes")));
        assert!(increment > 0, "a WINDOW_UPDATE of nothing");
        self.guards.window_updates += 1;
        // Envoy: max_inbound_window_update_frames_per_data_frame_sent is 10.
        let limit = 5 + 2 * (u64::from(self.guards.opened) + 10 * self.guards.data_sent);
        assert!(self.guards.window_updates <= limit, "a flood of WINDOW_UPDATE");
        let window = match stream {
            0 => &mut self.send_window,
            id => {
                self.check_known(id);
                let Some(stream) = self.streams.get_mut(&id) else { return };
                &mut stream.send_window
            }
        };
        *window += increment;
        assert!(*window < 1 << 31, "a window over 2^31-1");
    }
}
