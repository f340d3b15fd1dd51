//! Protocols that are declared: a table that says where in a frame things are, and a codec that goes by it.
//!
//! Any table is safe: what contradicts itself makes frames that are refused. [`Layout::check`] finds what of it the frames
//! that it makes itself show.
mod check;
mod entry;
mod fast;
mod front;
mod head;
mod id;
mod json;
mod number;
mod part;
mod places;
#[cfg(feature = "inspect")]
mod spans;
mod split;
mod template;

pub use check::Fault;
pub use fast::Fast;
pub use number::{Coding, Number};
pub use part::{Form, Length, Part, Shape, Size};
pub use template::Piece;

use crate::{Codec, Depth, Edit, Error, Failure, Frame, Head, Operation, Peer, Sharing, Step};
use template::{Said, render};

/// Where a number is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the header.
    Header(Number),
    /// In a part that holds protobuf.
    Protobuf {
        /// Which part.
        part: usize,
        /// The number of the field, after those of the messages that it is in.
        path: Vec<u32>,
    },
}

/// What a frame is, where its direction does not say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds {
    /// What says it.
    pub place: Place,
    /// Which bits of it.
    pub mask: u64,
    /// What the values mean; of any other, `otherwise`.
    pub values: Vec<(u64, FrameKind)>,
    /// What a frame of any other value is; without it, what its direction says.
    pub otherwise: Option<FrameKind>,
}

/// What a frame can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A call that is answered.
    Request,
    /// A call that is not answered.
    OneWay,
    /// An answer.
    Response,
    /// A sign of life. It is answered if the layout says how; from a server, only if answers have a value of their own.
    Heartbeat,
    /// The answer to one.
    HeartbeatReply,
    /// A server's word that it wants no new calls.
    Drain,
    /// What is passed over.
    Event,
}

/// What an answer says of its call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statuses {
    /// The protocol's own status.
    pub place: Option<Place>,
    /// The statuses of calls that succeeded.
    pub success: Vec<u64>,
    /// The statuses of calls that the service itself refused.
    pub exceptions: Vec<u64>,
    /// A status of the service's own: any but 0 is an exception.
    pub service: Option<Place>,
    /// The names of statuses.
    pub names: Vec<(u32, String)>,
}

/// What routes can test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: String,
    /// Where its value is.
    pub source: Source,
    /// Which bits of a number.
    pub mask: u64,
    /// What numbers are called.
    pub names: Vec<(u64, String)>,
}

/// Where the value of an attribute is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A number in the header.
    Number(Number),
    /// Text in the header, which ends before a zero byte if it has one.
    Text {
        /// Its first byte.
        at: usize,
        /// Its length in bytes.
        len: usize,
    },
    /// A field of a message in a part.
    Protobuf {
        /// Which part.
        part: usize,
        /// The number of the field, after those of the messages that it is in.
        path: Vec<u32>,
    },
    /// The entry of a part that has this key.
    Entry {
        /// Which part.
        part: usize,
        /// The key.
        key: String,
    },
    /// The entry of a part that has this tag.
    Tagged {
        /// Which part.
        part: usize,
        /// The tag.
        tag: u64,
        /// How its value is written; text without it.
        number: Option<Coding>,
    },
}

/// A frame that answers a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    /// The frame.
    pub frame: Vec<Piece>,
    /// The statuses of failures.
    pub statuses: Vec<(Failure, u64)>,
    /// The status of all others.
    pub otherwise: u64,
}

/// A protocol that is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The name that plans and metrics use.
    pub name: String,
    /// How calls may share an upstream connection.
    pub sharing: Sharing,
    /// What every frame has: where it is, and the bytes as a number.
    pub magic: Option<(Number, u64)>,
    /// A length that is a varint: where it is, and what is to be added. All that has a place in the header is counted from its
    /// end.
    pub varint: Option<(usize, i64)>,
    /// Frames that no other shape is for.
    pub shape: Shape,
    /// Answers, if they differ. What a frame is must be in the header then.
    pub response: Option<Shape>,
    /// Where the request id is, in every place. Those in protobuf are all in one part.
    pub ids: Vec<Place>,
    /// What a frame is.
    pub kinds: Option<Kinds>,
    /// What an answer says.
    pub statuses: Statuses,
    /// What routes can test, apart from parts that are text.
    pub attributes: Vec<Attribute>,
    /// The attribute that names the service.
    pub service: String,
    /// The attribute that names the method.
    pub method: String,
    /// The answer to a request that failed on its way; without it, clients wait for their own time-outs.
    pub error_reply: Option<ErrorReply>,
    /// The answer to a heartbeat.
    pub heartbeat_reply: Vec<Piece>,
    /// The word that a connection is about to close.
    pub drain_notice: Vec<Piece>,
    /// What makes it fast, of the fields above: [`Layout::compiled`] makes it, and nothing else depends on it.
    pub fast: Option<Fast>,
}

impl Codec for Layout {
    fn name(&self) -> &str {
        &self.name
    }

    fn sharing(&self) -> Sharing {
        self.sharing
    }

    fn max_id(&self) -> u64 {
        let most = |place: &Place| match place {
            Place::Header(number) => number.max(),
            Place::Protobuf { .. } => u64::MAX,
        };
        self.ids.iter().map(most).min().unwrap_or(0)
    }

    fn operation(&self) -> Operation<'_> {
        Operation { service: &self.service, method: &self.method }
    }

    fn depth(&self, name: &str) -> Depth {
        let is_part = |part: &Part| part.form == Form::Text && part.name == name;
        let is_known = self.attributes.iter().any(|attribute| attribute.name == name)
            || self.shape.parts.iter().any(is_part);
        if is_known { Depth::Head } else { Depth::Attachments }
    }

    fn split(&self, from: Peer, input: &[u8], max_len: usize) -> Result<Step, Error> {
        match self.fast.as_ref().and_then(|fast| fast.split(from, input, max_len)) {
            Some(step) => Ok(step),
            None => self.find(from, input, max_len),
        }
    }

    fn head(&self, request: &[u8], depth: Depth, head: &mut Head) -> Result<(), Error> {
        head.clear();
        self.read(request, usize::MAX, depth, head)
    }

    fn front(&self, from: Peer, input: &[u8], max_len: usize, head: &mut Head) -> Option<Frame> {
        self.read_front(from, input, max_len, head)
    }

    fn rewrite(&self, frame: &[u8], edit: &Edit<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        if !edit.keeps_attachments() {
            return Err(Error::Unsupported { what: "attachments", offset: 0 });
        }
        match edit.id {
            Some(id) => self.set_id(frame, id, out),
            None => {
                out.extend_from_slice(frame);
                Ok(())
            }
        }
    }

    fn carries_attachments(&self) -> bool {
        false
    }

    /// What is declared.
    fn may_say(&self, name: &str) -> bool {
        self.depth(name) == Depth::Head
    }

    fn error_reply(&self, request: &[u8], failure: Failure, text: &str, out: &mut Vec<u8>) {
        let Some(reply) = &self.error_reply else { return };
        let own = reply.statuses.iter().find(|(known, _)| *known == failure);
        let status = own.map_or(reply.otherwise, |(_, status)| *status);
        render(&reply.frame, Said { id: self.id(request), status, text }, out);
    }

    fn heartbeat_reply(&self, heartbeat: &[u8], out: &mut Vec<u8>) {
        render(&self.heartbeat_reply, Said { id: self.id(heartbeat), status: 0, text: "" }, out);
    }

    fn drain_notice(&self, out: &mut Vec<u8>) {
        render(&self.drain_notice, Said { id: 0, status: 0, text: "" }, out);
    }

    fn status_name(&self, status: u32) -> Option<&str> {
        self.statuses.names.iter().find(|(number, _)| *number == status).map(|(_, name)| &**name)
    }

    fn status_code(&self, name: &str) -> Option<u32> {
        self.statuses.names.iter().find(|(_, known)| known == name).map(|(number, _)| *number)
    }

    #[cfg(feature = "inspect")]
    fn spans(&self, input: &[u8]) -> Vec<crate::inspect::Span> {
        self.spans_of(input)
    }
}
