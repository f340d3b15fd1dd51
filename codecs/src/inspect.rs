//! What people see of a frame: for tools alone, the filter is built without it.

use core::ops::Range;

use crate::{Codec, Depth, Error, Frame, Head, Kind, Outcome, Peer, Step};

/// What a frame says, in the order in which it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// What the frame is: `request`, `response`, `one-way`, `stream-open`, `stream-frame`, `stream-end`, `stream-reset`,
    /// `heartbeat-request`, `heartbeat-response`, or `event`.
    pub kind: &'static str,
    /// The request id.
    pub id: u64,
    /// How a response ends its call: `success`, `exception`, or `error`.
    pub outcome: Option<&'static str>,
    /// The response's status.
    pub status: Option<Value>,
    /// Length of the whole frame in bytes.
    pub length: usize,
    /// What else is in its header, such as how the body is written.
    pub fields: Vec<(&'static str, Value)>,
    /// What the protocol says of the call.
    pub attributes: Vec<(String, String)>,
    /// What the caller, or who answers, added to it.
    pub attachments: Vec<(String, String)>,
    /// The arguments of a request, or what is answered, where they can be shown as text.
    pub body: Option<String>,
}

/// A value of a header: by its name if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The name.
    Name(String),
    /// The number.
    Number(u64),
}

impl Value {
    /// The value `number`, which may have a `name`.
    pub fn new(name: Option<&str>, number: impl Into<u64>) -> Self {
        name.map_or_else(|| Self::Number(number.into()), |name| Self::Name(name.to_owned()))
    }
}

/// A piece of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What it holds; nothing if the protocol does not say.
    pub name: String,
    /// Its bytes, counted from the frame's start.
    pub bytes: Range<usize>,
}

impl Reading {
    /// What is known of a frame without reading further.
    pub fn new(codec: &(impl Codec + ?Sized), frame: &Frame) -> Self {
        let (outcome, status) = match frame.kind {
            Kind::Response(outcome) | Kind::Last(outcome) | Kind::Ended(outcome) | Kind::Reset(outcome) => {
                match outcome {
                    Outcome::Success => (Some("success"), None),
                    Outcome::Exception => (Some("exception"), None),
                    Outcome::Error(status) => {
                        (Some("error"), Some(Value::new(codec.status_name(status), status)))
                    }
                }
            }
            _ => (None, None),
        };
        let kind = match frame.kind {
            Kind::Request | Kind::Refused(_) => "request",
            Kind::OneWay => "one-way",
            Kind::Response(_) | Kind::Last(_) => "response",
            Kind::Opened => "stream-open",
            Kind::Continued => "stream-frame",
            Kind::Ended(_) => "stream-end",
            Kind::Reset(_) => "stream-reset",
            Kind::HeartbeatRequest => "heartbeat-request",
            Kind::HeartbeatResponse => "heartbeat-response",
            _ => "event",
        };
        Self { kind, id: frame.id, outcome, status, length: frame.len, ..Self::default() }
    }

    /// Adds what a head says.
    pub fn add(&mut self, head: &Head) {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        self.attributes.extend(head.attributes().map(owned));
        self.attachments.extend(head.attachments().map(owned));
    }
}

/// What a proxy with this codec knows of a frame: [`Codec::inspect`] where a protocol has no more to show.
pub(crate) fn plain(codec: &(impl Codec + ?Sized), frame: &Frame, bytes: &[u8]) -> (Reading, Option<Error>) {
    let mut reading = Reading::new(codec, frame);
    if !matches!(frame.kind, Kind::Request | Kind::OneWay | Kind::Opened | Kind::Refused(_)) {
        return (reading, None);
    }
    let mut head = Head::new();
    let outcome = codec.head(bytes, Depth::Attachments, &mut head);
    reading.add(&head);
    (reading, outcome.err())
}

/// The same, with what an answer says, as `read` reads it.
pub(crate) fn with_answers(
    codec: &(impl Codec + ?Sized),
    frame: &Frame,
    bytes: &[u8],
    read: impl FnOnce(&mut Head) -> Result<(), Error>,
) -> (Reading, Option<Error>) {
    if !matches!(frame.kind, Kind::Response(_) | Kind::Last(_)) {
        return plain(codec, frame, bytes);
    }
    let mut reading = Reading::new(codec, frame);
    let mut head = Head::new();
    let outcome = read(&mut head);
    reading.add(&head);
    (reading, outcome.err())
}

/// Whose frame is at the front of `input`, if it says so by its kind: a client's as long as nothing tells against it.
pub(crate) fn sender(codec: &(impl Codec + ?Sized), input: &[u8]) -> Peer {
    let is_clients = |step| match step {
        Step::NeedMore { .. } => true,
        Step::Frame(frame) => {
            matches!(frame.kind, Kind::Request | Kind::OneWay | Kind::Opened | Kind::HeartbeatRequest)
        }
    };
    let is_clients = codec.split(Peer::Client, input, usize::MAX).is_ok_and(is_clients);
    if is_clients { Peer::Client } else { Peer::Server }
}
