use std::time::Duration;

use super::Choices;
use crate::frame::{self, HEAD, Head, PREFACE, flag, kind};
use crate::{Event, Options, Request, Side, SocketId, Sockets, Target};

/// Feeds both sides whatever the bytes say, calls whatever they say in between, and looks at all that leaves: whole
/// frames within the limits, and at most one PING out a side.
pub fn fuzz_sockets(data: &[u8]) {
    let mut choices = Choices(data);
    let mut world = World::new(options(&mut choices));
    while !choices.is_empty() {
        world.step(&mut choices);
    }
    for side in [Side::Downstream, Side::Upstream] {
        world.transmit(side);
    }
}

/// Feeds one side the same bytes whole and in pieces; the events are the same.
pub fn fuzz_cuts(data: &[u8]) {
    let mut choices = Choices(data);
    let options = options(&mut choices);
    let side = side(&mut choices);
    let step = 1 + choices.below(40);
    let mut input = hello(side);
    while !choices.is_empty() {
        if choices.byte() < 8 {
            input.extend_from_slice(choices.bytes(4));
        } else {
            any_frame(&mut choices, &mut input);
        }
    }
    let whole = events(&options, side, input.chunks(input.len().max(1)));
    assert_eq!(whole, events(&options, side, input.chunks(step)));
}

/// All events as text, DATA of one socket joined.
fn events<'a>(options: &Options, side: Side, parts: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut sockets = Sockets::new(options.clone());
    let mut log = Vec::new();
    let mut data: Option<(SocketId, Vec<u8>)> = None;
    for part in parts {
        let mut rest = part;
        loop {
            match sockets.receive(side, &mut rest) {
                Ok(Some(Event::Data { id, bytes })) => match &mut data {
                    Some((of, all)) if *of == id => all.extend_from_slice(bytes),
                    _ => {
                        log.extend(data.take().map(|data| format!("{data:?}")));
                        data = Some((id, bytes.to_vec()));
                    }
                },
                Ok(Some(event)) => {
                    log.extend(data.take().map(|data| format!("{data:?}")));
                    log.push(format!("{event:?}"));
                }
                Ok(None) => break,
                Err(error) => {
                    log.extend(data.take().map(|data| format!("{data:?}")));
                    log.push(format!("{error:?}"));
                    return log;
                }
            }
        }
    }
    log.extend(data.map(|data| format!("{data:?}")));
    log
}

fn side(choices: &mut Choices<'_>) -> Side {
    if choices.byte() & 1 == 0 { Side::Downstream } else { Side::Upstream }
}

fn options(choices: &mut Choices<'_>) -> Options {
    Options {
        receive_window_downstream: 1 + 9 * u32::from(choices.byte()),
        receive_window_upstream: 1 + 999 * u32::from(choices.byte()),
        write_high: 500,
        write_low: 100,
        handover_stream_id: 20 + u32::from(choices.byte()),
        last_stream_id: 40 + u32::from(choices.byte()),
        max_sockets: 12,
        max_concurrent_streams: 9,
        max_header_block: 2000,
        max_header_list: 1000,
        max_answers: 300,
        max_response_body: 50,
        max_reason: 20,
        max_lingering: 3,
        ..Options::default()
    }
}

fn hello(side: Side) -> Vec<u8> {
    let mut out = match side {
        Side::Downstream => PREFACE.to_vec(),
        Side::Upstream => Vec::new(),
    };
    frame::put_settings(&mut out, &[]);
    out
}

/// A frame that is more likely to mean something than any bytes.
fn any_frame(choices: &mut Choices<'_>, out: &mut Vec<u8>) {
    let kind = choices.byte() % 11;
    let flags = choices.byte();
    let stream = u32::from(choices.byte() & 0x1f);
    let mut payload = choices.bytes(usize::from(choices.0.first().copied().unwrap_or(0) & 0x3f)).to_vec();
    match kind {
        // Fields of ours and Envoy's from the tables and as literals.
        kind::HEADERS if flags & 0x40 != 0 => {
            payload.clear();
            for part in [":status", "200", ":method", "CONNECT", ":authority", "a"]
                .chunks(2)
                .take(1 + usize::from(flags >> 7) * 2)
            {
                for text in part {
                    if text.starts_with(':') {
                        payload.push(0);
                    }
                    payload.push(u8::try_from(text.len()).unwrap_or(0));
                    payload.extend_from_slice(text.as_bytes());
                }
            }
            if flags & 0x80 != 0 {
                payload.drain(..13);
            }
        }
        kind::WINDOW_UPDATE | kind::RST_STREAM => payload.resize(4, 0),
        kind::PING | kind::GOAWAY => payload.resize(8, 0),
        kind::SETTINGS => payload.truncate(payload.len() / 6 * 6),
        _ => {}
    }
    let stream = match kind {
        kind::PING | kind::GOAWAY | kind::SETTINGS => 0,
        _ => stream,
    };
    let flags =
        if kind == kind::HEADERS && flags & 0x40 != 0 { flags & 1 | flag::END_HEADERS } else { flags };
    Head { length: u32::try_from(payload.len()).unwrap_or(0), kind, flags, stream }.put(out);
    out.extend_from_slice(&payload);
}

struct World {
    sockets: Sockets,
    ids: Vec<SocketId>,
    /// PINGs that are out, of both sides.
    pings: [Option<[u8; 8]>; 2],
}

impl World {
    fn new(options: Options) -> Self {
        Self { sockets: Sockets::new(options), ids: Vec::new(), pings: [None; 2] }
    }

    fn id(&self, choices: &mut Choices<'_>) -> Option<SocketId> {
        let at = choices.below(self.ids.len());
        self.ids.get(at).copied()
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let choice = choices.byte() % 24;
        let side = if choice & 1 == 0 { Side::Downstream } else { Side::Upstream };
        match choice {
            0 | 1 => self.feed(side, &hello(side)),
            2 | 3 => {
                let count = choices.below(60);
                self.feed(side, choices.bytes(count));
            }
            4..=9 => {
                let mut input = Vec::new();
                any_frame(choices, &mut input);
                self.feed(side, &input);
            }
            10 | 11 => {
                if let Some(opaque) = self.pings[usize::from(side == Side::Upstream)].take() {
                    let mut ack = Vec::new();
                    frame::put_ping(&mut ack, flag::ACK, opaque);
                    self.feed(side, &ack);
                }
            }
            12 | 13 => self.transmit(side),
            14 => {
                let target =
                    Target { cluster: "v1", endpoint: Some("10.0.0.1:80"), headers: &[("x-a", "b")] };
                let id = self.sockets.connect(&target);
                self.ids.extend(id);
            }
            15 => {
                let body = choices.bytes(9);
                let request = Request {
                    method: "POST",
                    scheme: "http",
                    authority: "a",
                    path: "/",
                    body,
                    ..Request::default()
                };
                let id = self.sockets.request(&request);
                self.ids.extend(id);
            }
            16 => drop(self.sockets.alarm(Duration::from_millis(u64::from(choices.byte())))),
            17 => {
                if choices.byte() < 10 {
                    self.sockets.drain();
                }
            }
            _ => {
                let Some(id) = self.id(choices) else { return };
                match choices.byte() % 10 {
                    0 => self.sockets.accept(id),
                    1 => self.sockets.reject(id, u16::from(choices.byte()) * 3),
                    2..=4 => {
                        let length = usize::from(choices.byte()) * 10;
                        let queued = self.sockets.queued(id);
                        if let Some(buffer) = self.sockets.write(id) {
                            buffer.resize(buffer.len() + length, 7);
                            assert_eq!(self.sockets.queued(id), queued + length);
                        }
                    }
                    5 => self.sockets.finish(id),
                    6 => {
                        self.sockets.close(id);
                        assert!(self.sockets.write(id).is_none());
                    }
                    7 => {
                        self.sockets.reset(id);
                        assert!(self.sockets.write(id).is_none());
                    }
                    _ => self.sockets.consumed(id, usize::from(choices.byte()) * 10),
                }
            }
        }
        self.ids.drain(..self.ids.len().saturating_sub(30));
    }

    fn feed(&mut self, side: Side, input: &[u8]) {
        let mut rest = input;
        while let Ok(Some(event)) = self.sockets.receive(side, &mut rest) {
            match event {
                Event::Accepted { id, .. } => self.ids.push(id),
                Event::Data { bytes, .. } => assert!(!bytes.is_empty()),
                Event::Refused { id, reason, .. } => {
                    assert!(reason.len() <= 20 * 3);
                    assert!(self.sockets.write(id).is_none());
                }
                Event::Response { id, body, .. } => {
                    assert!(body.len() <= 50);
                    assert!(self.sockets.write(id).is_none());
                }
                Event::Reset { id, .. } => assert!(self.sockets.write(id).is_none()),
                _ => {}
            }
        }
        assert!(rest.is_empty());
    }

    fn transmit(&mut self, side: Side) {
        let mut out = Vec::new();
        self.sockets.transmit(side, &mut out);
        let mut rest = out.strip_prefix(PREFACE).unwrap_or(&out);
        while let Some((head, tail)) = rest.split_first_chunk::<HEAD>() {
            let head = Head::parse(*head);
            let (payload, tail) = tail.split_at(usize::try_from(head.length).unwrap_or(usize::MAX));
            rest = tail;
            if head.kind == kind::PING && !head.has(flag::ACK) {
                let ping = &mut self.pings[usize::from(side == Side::Upstream)];
                assert!(ping.is_none(), "two PINGs are out");
                *ping = payload.first_chunk().copied();
            }
        }
        assert!(rest.is_empty());
    }
}
