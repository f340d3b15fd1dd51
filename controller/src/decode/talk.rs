use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::rc::Rc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use meltemi_codecs::inspect::Reading;
use meltemi_codecs::{Codec, Kind, Peer, Sharing, Step};
use serde::Serialize;

use super::fault;
use super::guess::{Guess, guess};
use super::record::Record;
use crate::capture::{Counts, End, Event, Listener, Pair};

/// What all connections of a capture share.
pub struct Shared<'a, W> {
    /// The protocols that a connection may speak.
    pub protocols: &'a [Rc<dyn Codec>],
    /// The longest frame.
    pub max_len: usize,
    /// Where the lines go, and whether that has failed.
    pub output: RefCell<(W, Option<io::Error>)>,
}

/// Follows one connection: frames, and the answers of calls.
pub struct Talk<'a, W> {
    shared: &'a Shared<'a, W>,
    pair: Pair,
    protocol: Guess,
    client: Side,
    server: Side,
    calls: u64,
}

/// What one side has said.
#[derive(Default)]
struct Side {
    buffer: Vec<u8>,
    /// Where in what the side sent the buffer starts.
    offset: u64,
    /// When the bytes up to there came.
    times: VecDeque<(u64, u64)>,
    /// It is not known where a frame starts.
    is_lost: bool,
    /// Calls without an answer so far.
    open: VecDeque<Open>,
}

struct Open {
    start: u64,
    reading: Reading,
}

/// One line of the output.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(flatten)]
    pair: Option<Pair>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'a str>,
    /// Who sent it, where the kind of the line does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    millis: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Record<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<Record<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Record<'a>>,
    /// Where in what that side sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<End>,
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<Counts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<Counts>,
}

fn name(peer: Peer) -> &'static str {
    match peer {
        Peer::Client => "client",
        Peer::Server => "server",
    }
}

fn time(nanoseconds: u64) -> Option<String> {
    let since = SignedDuration::from_nanos(i64::try_from(nanoseconds).ok()?);
    Timestamp::from_duration(since).ok().map(|time| format!("{time:.6}"))
}

impl<W: Write> Shared<'_, W> {
    fn write(&self, line: &Line<'_>) {
        let (output, failed) = &mut *self.output.borrow_mut();
        let mut write = || -> io::Result<()> {
            serde_json::to_writer(&mut *output, line)?;
            output.write_all(b"\n")?;
            // Whoever follows a live capture sees each call before the next one ends.
            output.flush()
        };
        if failed.is_none() {
            *failed = write().err();
        }
    }
}

impl<'a, W: Write> Talk<'a, W> {
    /// Starts to follow a connection, of which the start was captured or not.
    pub fn new(shared: &'a Shared<'a, W>, pair: Pair, has_start: bool) -> Self {
        let side = || Side { is_lost: !has_start, ..Side::default() };
        Self { shared, pair, protocol: Guess::Open, client: side(), server: side(), calls: 0 }
    }

    fn side(&mut self, peer: Peer) -> &mut Side {
        match peer {
            Peer::Client => &mut self.client,
            Peer::Server => &mut self.server,
        }
    }

    fn line(&self, nanoseconds: u64) -> Line<'_> {
        let protocol = match &self.protocol {
            Guess::Is(codec) => Some(codec.name()),
            _ => None,
        };
        Line { time: time(nanoseconds), pair: Some(self.pair), protocol, ..Line::default() }
    }

    /// Says what is wrong with what one side sends, and looks for the next frame at the start of a segment.
    fn lose(&mut self, from: Peer, now: u64, offset: u64, error: String) {
        let line =
            Line { from: Some(name(from)), offset: Some(offset), error: Some(error), ..self.line(now) };
        self.shared.write(&line);
        let side = self.side(from);
        side.offset += side.buffer.len() as u64;
        side.buffer.clear();
        side.is_lost = true;
    }

    /// Finds the protocol, if it is not known yet.
    fn find_protocol(&mut self) {
        if let Guess::Open = self.protocol {
            let sides =
                [(Some(Peer::Client), &*self.client.buffer), (Some(Peer::Server), &*self.server.buffer)];
            self.protocol = guess(self.shared.protocols, self.shared.max_len, &sides);
            // The next segment may be the start of a frame.
            if let Guess::None = self.protocol
                && (self.client.is_lost || self.server.is_lost)
            {
                self.protocol = Guess::Open;
            }
            if let Guess::None = self.protocol {
                let error = "no known protocol".to_owned();
                self.shared.write(&Line { error: Some(error), ..self.line(self.client.first_time()) });
            }
        }
    }

    /// Reads the complete frames that a side has sent.
    fn read(&mut self, from: Peer) {
        let Guess::Is(codec) = &self.protocol else { return };
        let codec = codec.clone();
        let max_len = self.shared.max_len;
        loop {
            let side = self.side(from);
            if side.buffer.is_empty() {
                return;
            }
            let now = side.times.back().map_or(0, |(_, time)| *time);
            let step = codec.split(from, &side.buffer, max_len);
            match step {
                // A frame that starts with the segment.
                Ok(Step::Frame(frame)) => {
                    side.is_lost = false;
                    let bytes: Vec<u8> = side.buffer.drain(..frame.len).collect();
                    let (offset, start) = (side.offset, side.time(side.offset));
                    side.offset += frame.len as u64;
                    let end = side.time(side.offset.saturating_sub(1));
                    side.forget_times();
                    let (reading, error) = codec.inspect(&frame, &bytes);
                    self.tell(&*codec, from, frame.kind, (start, end), reading);
                    if let Some(error) = error {
                        // The frame's ends are known: what follows it can be read.
                        let (at, what) = fault(&error);
                        let line = Line {
                            from: Some(name(from)),
                            offset: Some(offset + at as u64),
                            error: Some(what),
                            ..self.line(now)
                        };
                        self.shared.write(&line);
                    }
                }
                Ok(Step::NeedMore { .. }) if !side.is_lost => return,
                Err(error) if !side.is_lost => {
                    let (at, what) = fault(&error);
                    let offset = side.offset + at as u64;
                    return self.lose(from, now, offset, what);
                }
                _ => {
                    side.offset += side.buffer.len() as u64;
                    side.buffer.clear();
                    return;
                }
            }
        }
    }

    /// Writes what a frame says: an answer with its request.
    fn tell(
        &mut self,
        codec: &dyn Codec,
        from: Peer,
        kind: Kind,
        (start, end): (u64, u64),
        reading: Reading,
    ) {
        let by_server = (from == Peer::Server).then_some("server");
        match kind {
            Kind::Request | Kind::HeartbeatRequest => self.side(from).open.push_back(Open { start, reading }),
            Kind::Response(_) | Kind::Last(_) | Kind::HeartbeatResponse => {
                let other = self.side(if from == Peer::Client { Peer::Server } else { Peer::Client });
                let is_answered =
                    |open: &Open| codec.sharing() == Sharing::Exclusive || open.reading.id == reading.id;
                let request = other.open.iter().position(is_answered).and_then(|at| other.open.remove(at));
                self.calls += u64::from(request.is_some() && kind != Kind::HeartbeatResponse);
                let line = match &request {
                    // A sign of life that wants no answer.
                    None if kind == Kind::HeartbeatResponse => {
                        let line = Line {
                            from: Some(name(from)),
                            event: Some(Record(&reading)),
                            ..self.line(start)
                        };
                        return self.shared.write(&line);
                    }
                    Some(open) => Line {
                        from: (from == Peer::Client).then_some("server"),
                        millis: Some((end.saturating_sub(open.start) / 1000) as f64 / 1000.0),
                        request: Some(Record(&open.reading)),
                        ..self.line(open.start)
                    },
                    None => Line { from: (from == Peer::Client).then_some("client"), ..self.line(start) },
                };
                self.shared.write(&Line { response: Some(Record(&reading)), ..line });
            }
            Kind::OneWay => {
                self.calls += 1;
                let line = Line { from: by_server, request: Some(Record(&reading)), ..self.line(start) };
                self.shared.write(&line);
            }
            _ => {
                let line = Line { from: Some(name(from)), event: Some(Record(&reading)), ..self.line(start) };
                self.shared.write(&line);
            }
        }
    }
}

impl<W: Write> Listener for Talk<'_, W> {
    fn hear(&mut self, from: Peer, time: u64, event: Event<'_>) {
        match event {
            Event::Bytes(bytes) => {
                if let Guess::None = self.protocol {
                    return;
                }
                let is_open = matches!(self.protocol, Guess::Open);
                let side = self.side(from);
                if side.is_lost && is_open {
                    side.offset += side.buffer.len() as u64;
                    side.buffer.clear();
                }
                side.buffer.extend_from_slice(bytes);
                side.times.push_back((side.offset + side.buffer.len() as u64, time));
                if let Guess::Is(_) = self.protocol {
                    return self.read(from);
                }
                self.find_protocol();
                self.read(Peer::Client);
                self.read(Peer::Server);
            }
            Event::Gap(missing) => {
                let side = self.side(from);
                let offset = side.offset + side.buffer.len() as u64;
                let error = format!("{missing} bytes were not captured");
                self.lose(from, time, offset, error);
                self.side(from).offset += missing;
            }
        }
    }

    fn end(&mut self, end: End, client: Counts, server: Counts) {
        for from in [Peer::Client, Peer::Server] {
            let side = self.side(from);
            let rest = side.buffer.len();
            let (offset, now) = (side.offset, side.times.back().map_or(0, |(_, time)| *time));
            if let Guess::Is(_) = self.protocol
                && rest > 0
            {
                let error = format!("the connection ends inside a frame, of which {rest} bytes were sent");
                self.lose(from, now, offset, error);
            }
            for Open { start, reading } in core::mem::take(&mut self.side(from).open) {
                let from = (from == Peer::Server).then_some("server");
                let line = Line { from, request: Some(Record(&reading)), ..self.line(start) };
                self.shared.write(&line);
            }
        }
        let (sent, received) = (Some(client), Some(server));
        let line =
            Line { ended: Some(end), calls: Some(self.calls), sent, received, time: None, ..self.line(0) };
        self.shared.write(&line);
    }
}

impl Side {
    /// When the byte at that offset came.
    fn time(&self, offset: u64) -> u64 {
        self.times.iter().find(|(end, _)| *end > offset).map_or(0, |(_, time)| *time)
    }

    fn first_time(&self) -> u64 {
        self.times.front().map_or(0, |(_, time)| *time)
    }

    fn forget_times(&mut self) {
        while self.times.len() > 1 && self.times.front().is_some_and(|(end, _)| *end <= self.offset) {
            self.times.pop_front();
        }
    }
}
