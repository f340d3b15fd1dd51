use core::time::Duration;

use crate::{Action, Change, Error, Head, Placed, Search};

/// Who sent the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The side that calls.
    Client,
    /// The side that serves.
    Server,
}

/// What [`Codec::split`] found at the front of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The frame is not complete. Call again once the input has at least `at_least` bytes (always more than it has now).
    NeedMore {
        /// Total length the input must reach before another call can find more.
        at_least: usize,
    },
    /// A complete frame is at the front of the input.
    Frame(Frame),
}

/// A complete frame: bytes with a length, and what the proxy must know of them without reading further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Length of the frame in bytes, header included. Never zero, never more than the input that was given.
    pub len: usize,
    /// How many bytes from the frame's start [`Codec::error_reply`] needs to answer it. At most `len`, and small: the
    /// proxy keeps them with the call when it does not keep the whole frame.
    pub head: usize,
    /// What the frame is.
    pub kind: Kind,
    /// The request id on the wire; 0 in protocols without ids.
    pub id: u64,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A call that is answered. From a server it is a call back to the client, which the proxy cannot serve.
    Request,
    /// A call that is not answered. It is delivered, and never retried.
    OneWay,
    /// A call that this codec cannot carry, for this reason. It is answered with an error.
    Refused(&'static str),
    /// The answer to a request.
    Response(Outcome),
    /// The answer to a request, after which the server wants no more on this connection, or is about to close it.
    Last(Outcome),
    /// A client opens a stream: a call of many frames both ways, which follow it by its id. It is read and routed as a
    /// request is, and never retried.
    Opened,
    /// A frame of a stream, from either side.
    Continued,
    /// The last frame of one side of a stream. A server's says how the call ended.
    Ended(Outcome),
    /// The stream is over for both sides, or was never opened.
    Reset(Outcome),
    /// A sign of life that is answered by [`Codec::heartbeat_reply`].
    HeartbeatRequest,
    /// The answer to a heartbeat, or a sign of life that wants no answer.
    HeartbeatResponse,
    /// The server asks that no new calls be sent on this connection (Dubbo's READONLY event).
    Drain,
    /// Any other event, to be passed over.
    Event,
}

/// How a response ends a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The call succeeded.
    Success,
    /// The service answered with an exception of its own; the RPC framework did its part.
    Exception,
    /// The framework failed, with the protocol's own status.
    Error(u32),
}

/// How far a request must be read to know an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Depth {
    /// What names the call: the attributes of [`Codec::operation`]. A codec may read as far as [`Depth::Head`] for it.
    Operation,
    /// The cheap front part, which that is in.
    #[default]
    Head,
    /// Everything, attachments included.
    Attachments,
    /// Everything, to deny calls by: an error unless a server can only understand the request as the head reports it.
    /// Where a protocol says something twice, both must agree; nothing may be left out.
    Verified,
}

/// How calls may share an upstream connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Any number of calls at once; request ids are rewritten, and answers come in any order.
    Shared,
    /// Any number of calls at once on an upstream connection, which the server answers in their order; where the protocol
    /// has ids, an answer with another one gives the connection up. A client gets its answers in the order of its requests,
    /// whichever connections they came by.
    InOrder,
    /// One call at a time, on an upstream connection and on a client's: the next request of a client is routed when the
    /// one before it is answered, so that calls run and are answered in order. For protocols without ids.
    Exclusive,
}

/// Whether the time that a request's client waits bounds the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadlines {
    /// Requests do not tell it.
    None,
    /// Where a route asks for it, since it takes reading on.
    Asked,
    /// Unless a route wants it otherwise.
    Always,
}

/// The attributes that name what is called, for metrics and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation<'a> {
    /// Name of the attribute that holds the service, such as `interface`.
    pub service: &'a str,
    /// Name of the attribute that holds the method.
    pub method: &'a str,
}

/// Why the proxy answers a request itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// The request cannot be read.
    BadRequest,
    /// No route matches, or the default route has no cluster.
    NoRoute,
    /// No endpoint could be reached.
    NoEndpoint,
    /// The connection was lost before the answer came.
    ConnectionLost,
    /// The upstream sent what cannot be read.
    BadResponse,
    /// No answer came in time.
    Timeout,
    /// A limit of the proxy is reached.
    Overloaded,
    /// There have been as many calls as a rate limit lets pass.
    RateLimited,
    /// Authorization denied the call.
    Denied,
    /// An injected fault.
    Fault,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::BadRequest,
        Self::NoRoute,
        Self::NoEndpoint,
        Self::ConnectionLost,
        Self::BadResponse,
        Self::Timeout,
        Self::Overloaded,
        Self::RateLimited,
        Self::Denied,
        Self::Fault,
    ];
}

/// A change to a frame on its way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Edit<'a> {
    /// The request id to write; `None` keeps the one on the wire.
    pub id: Option<u64>,
    /// What becomes of attachments.
    pub changes: &'a [Change],
    /// How long the caller still waits, to write in place of what [`Codec::time`] tells of a request; `None` keeps that.
    pub time: Option<Duration>,
}

impl Edit<'_> {
    /// Whether the attachments stay as they are.
    pub fn keeps_attachments(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether it adds nothing to a frame without attachments.
    pub fn only_removes(&self) -> bool {
        self.changes.iter().all(|change| change.action == Action::Remove)
    }

    /// The time to write in milliseconds: at least one, since none is often no limit.
    pub(crate) fn millis(&self) -> Option<u32> {
        self.time.map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1))
    }
}

/// A protocol.
///
/// A codec holds no state of connections: what it must know of a frame is in the bytes, and every method may be called
/// again with the same input and gives the same answer. It never panics, whatever the bytes.
pub trait Codec {
    /// The name that plans and metrics use, in lower case.
    fn name(&self) -> &str;

    /// How calls may share an upstream connection.
    fn sharing(&self) -> Sharing;

    /// The largest request id that the protocol can carry.
    fn max_id(&self) -> u64;

    /// The attributes that name what is called.
    fn operation(&self) -> Operation<'_>;

    /// How far a request must be read to know the attribute `name`.
    fn depth(&self, name: &str) -> Depth;

    /// Finds the frame at the front of `input`, which `from` sent.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] as soon as the header says that the frame is over `max_len` bytes; [`Error::Malformed`] or
    /// [`Error::Unsupported`] when no frame can be found, after which the connection is of no more use.
    fn split(&self, from: Peer, input: &[u8], max_len: usize) -> Result<Step, Error>;

    /// Reads the attributes of `request`, a complete frame of kind `Request`, `OneWay` or `Opened`, into `head` (cleared first).
    /// An attribute that this frame does not have is left out.
    ///
    /// # Errors
    ///
    /// The frame's ends are known, but what is between them cannot be read. Attributes read so far are in `head`.
    fn head(&self, request: &[u8], depth: Depth, head: &mut Head) -> Result<(), Error>;

    /// Whether [`find`](Codec::find) costs less than all attachments. As provided, it does not.
    fn finds(&self) -> bool {
        false
    }

    /// Adds to `head` the attributes of [`Depth::Operation`], and those attachments of `request` that are looked for, as
    /// [`head`](Codec::head) would; others may come with them. `head` is empty, or has been read of that request. A search is
    /// for requests of one protocol.
    ///
    /// # Errors
    ///
    /// Those of [`head`](Codec::head).
    fn find(&self, request: &[u8], _search: &mut Search<'_>, head: &mut Head) -> Result<(), Error> {
        self.head(request, Depth::Attachments, head)
    }

    /// How long the client of `request`, a complete frame, waits for the answer, if it says so. That costs what the
    /// attachments of the request do.
    fn time(&self, _request: &[u8]) -> Option<Duration> {
        None
    }

    /// Whether requests can tell their client's [time](Codec::time), and whether it counts.
    fn deadlines(&self) -> Deadlines {
        Deadlines::None
    }

    /// Says of the frame at the front of `input`, which is not complete, what [`split`](Codec::split) will, so that it can
    /// be passed on as it comes; of a request, the attributes of [`Depth::Head`] are in `head` (cleared first). `None`, as
    /// provided, unless all that holds whatever follows, and [`rewrite`](Codec::rewrite) can change the id in `input` alone,
    /// and the time of a protocol with [`Deadlines::Always`]: what it appends must be the front of what it would make of the
    /// whole frame, whose rest stays as it is. Frames of streams have none.
    fn front(&self, _from: Peer, _input: &[u8], _max_len: usize, _head: &mut Head) -> Option<Frame> {
        None
    }

    /// Appends `frame`, changed as `edit` says, to `out`. Its length may change, with another id too.
    ///
    /// # Errors
    ///
    /// The attachments cannot be edited in this frame. Nothing was appended then; a change of the id alone never fails
    /// on a frame that [`split`](Codec::split) found.
    fn rewrite(&self, frame: &[u8], edit: &Edit<'_>, out: &mut Vec<u8>) -> Result<(), Error>;

    /// An attachment as requests have it, with a name in ASCII, and at its end room for a value of so many bytes: for
    /// [`place`](Codec::place).
    fn entry(&self, _name: &str, _len: usize) -> Vec<u8> {
        Vec::new()
    }

    /// Appends `request` with that id, and with an attachment where it goes, without reading on: the room for its value, which
    /// must become ASCII. Otherwise nothing was appended, as ever, as provided.
    fn place<'a>(
        &self,
        _request: &[u8],
        _id: u64,
        _attachment: &Placed<'_>,
        _out: &'a mut Vec<u8>,
    ) -> Option<&'a mut [u8]> {
        None
    }

    /// Whether [`rewrite`](Codec::rewrite) can set attachments of requests. As provided, it can.
    fn carries_attachments(&self) -> bool {
        true
    }

    /// Whether requests may say something by that name, which [`head`](Codec::head) reads. As provided, if they carry
    /// attachments.
    fn may_say(&self, _name: &str) -> bool {
        self.carries_attachments()
    }

    /// Appends an answer to `request` that the protocol's own client turns into its own exception. `request` is the
    /// frame's first [`Frame::head`] bytes, or more. To one that opens a stream it is a [reset](Kind::Reset) in the place of
    /// the server's first answer.
    fn error_reply(&self, request: &[u8], failure: Failure, text: &str, out: &mut Vec<u8>);

    /// Appends the [reset](Kind::Reset) of the stream that `request` has opened, for its server, or for a client that has had
    /// an answer of it.
    fn reset(&self, request: &[u8], failure: Failure, text: &str, out: &mut Vec<u8>) {
        self.error_reply(request, failure, text, out);
    }

    /// Appends the answer to `heartbeat`, a complete frame of kind `HeartbeatRequest`.
    fn heartbeat_reply(&self, heartbeat: &[u8], out: &mut Vec<u8>);

    /// Appends the frame that asks a client to send no new calls on its connection. Protocols without one append
    /// nothing.
    fn drain_notice(&self, _out: &mut Vec<u8>) {}

    /// The protocol's own name of a response status, such as `SERVER_TIMEOUT`.
    fn status_name(&self, status: u32) -> Option<&str>;

    /// The response status of that name.
    fn status_code(&self, name: &str) -> Option<u32>;

    /// Everything that `bytes` say, a complete frame, and what of it cannot be read: for people, and for tools alone.
    /// Unless the protocol has more to show, that is what the proxy sees: kind, id, outcome, and the head of a request.
    #[cfg(feature = "inspect")]
    fn inspect(&self, frame: &Frame, bytes: &[u8]) -> (crate::inspect::Reading, Option<Error>) {
        crate::inspect::plain(self, frame, bytes)
    }

    /// What is where in the frame at the front of `input`, as far as it is there and the protocol can tell: in order, and with
    /// no byte twice.
    #[cfg(feature = "inspect")]
    fn spans(&self, _input: &[u8]) -> Vec<crate::inspect::Span> {
        Vec::new()
    }

    /// Who sent the frame at the front of `input`, as far as the frame says it. Unless the protocol knows better: the client,
    /// if it is of a kind that clients send.
    #[cfg(feature = "inspect")]
    fn sender(&self, input: &[u8]) -> Peer {
        crate::inspect::sender(self, input)
    }
}
