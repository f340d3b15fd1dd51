//! A connection to a service that speaks gRPC.

use std::rc::Rc;

use meltemi_sockets::{Error, Event, Options, Request, Side, SocketId, Sockets};

use super::{Ask, InquiryId};
use crate::clock::Instant;
use crate::net::Net;
use crate::policy::NoAnswer;

/// A connection with HTTP/2 in it, of which we are the client.
pub(crate) struct Channel {
    cluster: Rc<str>,
    /// That of the connection.
    socket: SocketId,
    http2: Sockets,
    /// The question of the stream of that index, and which stream that is.
    asked: Vec<Option<(SocketId, InquiryId)>>,
    in_flight: usize,
    is_open: bool,
    opened_at: Instant,
    /// When it took the last question.
    used_at: Instant,
    /// Answers in a row that did not come in time.
    late: u32,
    is_leaving: bool,
}

/// What has come on a connection.
pub(super) enum Happening {
    /// The message of an answer, or why there is none, with what the service says of that.
    Answered(InquiryId, Result<Vec<u8>, NoAnswer>, String),
    Other,
}

/// An endpoint that does not answer so often in a row is left.
const MOST_LATE: u32 = 3;

/// Answers are short.
const LONGEST_ANSWER: usize = 16 << 10;

impl Channel {
    pub(super) fn new(cluster: Rc<str>, socket: SocketId, now: Instant) -> Self {
        let options = Options {
            receive_window_upstream: 64 << 10,
            max_response_body: LONGEST_ANSWER,
            ..Options::default()
        };
        let mut http2 = Sockets::new(options);
        // There is nobody on the other side.
        http2.transmit(Side::Downstream, &mut Vec::new());
        Self {
            cluster,
            socket,
            http2,
            asked: Vec::new(),
            in_flight: 0,
            is_open: false,
            opened_at: now,
            used_at: now,
            late: 0,
            is_leaving: false,
        }
    }

    pub(super) fn cluster(&self) -> &Rc<str> {
        &self.cluster
    }

    pub(super) fn socket(&self) -> SocketId {
        self.socket
    }

    pub(super) fn opened_at(&self) -> Instant {
        self.opened_at
    }

    pub(super) fn used_at(&self) -> Instant {
        self.used_at
    }

    /// Envoy has connected it.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// It takes no more questions.
    pub(super) fn leave(&mut self) {
        self.is_leaving = true;
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Whether nothing is left for it to do.
    pub(super) fn is_done(&self) -> bool {
        self.is_leaving && self.in_flight == 0
    }

    /// Sends a request; its stream.
    pub(super) fn request(&mut self, ask: &Ask<'_>) -> Option<SocketId> {
        let message = ask.message;
        let mut body = Vec::with_capacity(message.len().saturating_add(PREFIX));
        body.push(0);
        body.extend_from_slice(&u32::try_from(message.len()).ok()?.to_be_bytes());
        body.extend_from_slice(message);
        let milliseconds = u64::try_from(ask.timeout.as_millis()).unwrap_or(u64::MAX);
        let milliseconds = milliseconds.clamp(1, MOST_MILLISECONDS);
        let timeout = [&milliseconds.to_string(), "m"].concat();
        let own = [
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("grpc-timeout", &timeout),
            ("user-agent", "meltemi"),
        ];
        self.http2.request(&Request {
            method: "POST",
            scheme: "http",
            authority: host(&self.cluster),
            path: ask.path,
            cluster: None,
            headers: &with(&own, ask.headers),
            body: &body,
        })
    }

    /// Notes whose stream that is.
    pub(super) fn note(&mut self, stream: SocketId, inquiry: InquiryId, now: Instant) {
        self.used_at = now;
        let index = stream.index();
        if index >= self.asked.len() {
            self.asked.resize(index.saturating_add(1), None);
        }
        if let Some(entry) = self.asked.get_mut(index) {
            *entry = Some((stream, inquiry));
            self.in_flight = self.in_flight.saturating_add(1);
        }
    }

    /// Takes out the question of a stream.
    fn take(&mut self, stream: SocketId) -> Option<InquiryId> {
        let entry = self.asked.get_mut(stream.index())?;
        let (_, inquiry) = entry.take_if(|(known, _)| *known == stream)?;
        self.in_flight = self.in_flight.saturating_sub(1);
        Some(inquiry)
    }

    /// The questions without an answer.
    pub(super) fn asked(&self) -> impl Iterator<Item = InquiryId> {
        self.asked.iter().flatten().map(|(_, inquiry)| *inquiry)
    }

    /// Cancels a stream, `is_late` if its answer did not come in time.
    pub(super) fn cancel(&mut self, stream: SocketId, is_late: bool) {
        if self.take(stream).is_none() {
            return;
        }
        self.http2.reset(stream);
        if is_late {
            self.late = self.late.saturating_add(1);
            self.is_leaving |= self.late >= MOST_LATE;
        }
    }

    /// Takes the next event out of what came.
    pub(super) fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Happening>, Error> {
        let happening = match self.http2.receive(Side::Upstream, input)? {
            None => return Ok(None),
            Some(Event::Response { id, status, headers, body, trailers }) => {
                let Some(inquiry) = self.take(id) else { return Ok(Some(Happening::Other)) };
                if status != 0 {
                    self.late = 0;
                }
                // An answer without a body has all in the head.
                let field = |name| field(&trailers, name).or_else(|| field(&headers, name));
                let code = field("grpc-status");
                let answer = message(status, code, &body);
                let said = match answer {
                    Err(NoAnswer::Error) => said(status, code, field("grpc-message").unwrap_or_default()),
                    _ => String::new(),
                };
                Happening::Answered(inquiry, answer, said)
            }
            Some(Event::GoingAway { .. }) => {
                self.is_leaving = true;
                // Nobody is on that side: news for it that stayed due would ask the service for a callback with each PING.
                self.http2.transmit(Side::Downstream, &mut Vec::new());
                Happening::Other
            }
            Some(_) => Happening::Other,
        };
        Ok(Some(happening))
    }

    /// Sends what is to be sent.
    pub(super) fn flush(&mut self, net: &mut Net) {
        if let Some(out) = net.write(self.socket) {
            self.http2.transmit(Side::Upstream, out);
        }
    }
}

impl core::fmt::Debug for Channel {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Channel").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A time-out has eight digits at most.
const MOST_MILLISECONDS: u64 = 99_999_999;

/// The message of a unary gRPC answer.
fn message(status: u16, code: Option<&str>, body: &[u8]) -> Result<Vec<u8>, NoAnswer> {
    if status == 0 {
        return Err(NoAnswer::Reset);
    }
    match body.split_first_chunk() {
        Some((&[0, a, b, c, d], message))
            if status == 200
                && code == Some("0")
                && u32::try_from(message.len()) == Ok(u32::from_be_bytes([a, b, c, d])) =>
        {
            Ok(message.to_vec())
        }
        _ => Err(NoAnswer::Error),
    }
}

/// What an answer without a message says of that, by its code of gRPC, or by its status of HTTP where it has none.
#[inline(never)]
pub(super) fn said(status: u16, code: Option<&str>, message: &str) -> String {
    let status = status.to_string();
    let (of, code) = code.map_or(("HTTP status ", &*status), |code| ("gRPC status ", code));
    [of, code, " ", message].concat()
}

/// Headers with those that the plan adds.
#[inline(never)]
pub(super) fn with<'a>(own: &[(&'a str, &'a str)], more: &'a [(String, String)]) -> Vec<(&'a str, &'a str)> {
    let more = more.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    own.iter().copied().chain(more).collect()
}

/// The authority of a cluster. Istio's have the host at their end, and the rest is not for an authority.
pub(super) fn host(cluster: &str) -> &str {
    cluster.rsplit('|').next().unwrap_or_default()
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}
