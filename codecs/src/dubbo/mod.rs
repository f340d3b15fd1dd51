//! Dubbo 2 over TCP: [the protocol](https://dubbo.apache.org/en/overview/reference/protocols/tcp/) of Apache Dubbo up to
//! and beyond version 3, with Hessian 2 bodies read and edited, and bodies in other serializations passed on.
//!
//! Attributes of a request:
//!
//! | attribute | from | depth |
//! |---|---|---|
//! | `serialization` | the header: `hessian2`, `fastjson2`, ... or a number | head |
//! | `dubboVersion` | the version of the protocol that the client speaks, such as `2.0.2` | head |
//! | `interface`, `path` | the service's path, which is its interface unless it was exported otherwise | head |
//! | `version` | the service's version | head |
//! | `method` | the method; `$invoke` for a generic call | head |
//! | `genericMethod` | the method that a generic call names in its first argument | head |
//! | `parameterTypes` | the JVM descriptor of the parameters | head |
//! | any other | the attachment of that name: strings, numbers and truth values | attachments |
//!
//! All of these are known in Hessian 2 and fastjson2 (binary). The serializations that write one JSON text a line
//! (`fastjson`, `gson`, `protobuf-json`) report all but the attachments; the others report `serialization` only.
//!
//! A request is [verified](Depth::Verified) in Hessian 2 and fastjson2 when the front states service and method, all
//! attachments can be read, none occurs twice, and `path` and `version` among them, which servers follow, say what the
//! front says; when path, version and group hold none of `:/*`, by which servers put them together; and in Hessian 2, when
//! all references hold, all text is proper, a generic call names its method so that no letters of it may be those of its
//! types, and a server that fails to read an argument finds no attachments behind that place that name another service,
//! version or group.
//!
//! Attachments are set and removed in requests in Hessian 2, and in responses with status OK that have some. Entries that
//! stay keep their bytes; what is set follows them. [`Error::Unsupported`] is given for other frames (a response
//! without attachments gets none, since not every client could read them), and for the removal of an attachment that
//! holds an object or a class to which a later attachment refers by number.
use core::time::Duration;

use crate::{
    Codec, Deadlines, Depth, Edit, Error, Failure, Frame, Head, Kind, Operation, Peer, Placed, Search,
    Sharing, Step,
};

mod descriptor;
mod edit;
mod event;
mod fastjson2;
mod front;
mod generic;
/// The fixed part at the front of every frame.
pub mod header;
#[cfg(feature = "inspect")]
mod inspect;
mod json;
pub mod message;
mod misread;
mod request;
mod response;
/// The statuses of responses.
pub mod status;
mod verify;

pub use header::Header;

use header::HESSIAN2;

/// The Dubbo 2 codec.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dubbo;

/// The attributes that [`Depth::Head`] reports.
const FRONT: [&str; 8] = [
    "interface",
    "method",
    "version",
    "path",
    "parameterTypes",
    "dubboVersion",
    "serialization",
    "genericMethod",
];

impl Dubbo {
    /// Reads what a response says, into `head` (cleared first): the attribute `serialization`; `result`, one of
    /// `value`, `null` and `exception`; for an exception `exception`, its class, and `message`; for a status other than
    /// OK `error`, its text; and the attachments. An attribute that this frame does not have is left out.
    ///
    /// # Errors
    ///
    /// The frame's ends are known, but what is between them cannot be read. What was read so far is in `head`.
    pub fn response_head(&self, response: &[u8], head: &mut Head) -> Result<(), Error> {
        head.clear();
        match Header::parse(response)? {
            Some(header) => response::read(&header, response, head),
            None => Err(truncated(response)),
        }
    }
}

impl Codec for Dubbo {
    fn name(&self) -> &str {
        "dubbo"
    }

    fn sharing(&self) -> Sharing {
        Sharing::Shared
    }

    fn max_id(&self) -> u64 {
        u64::MAX
    }

    fn operation(&self) -> Operation<'_> {
        Operation { service: "interface", method: "method" }
    }

    fn depth(&self, name: &str) -> Depth {
        match name {
            "interface" | "method" => Depth::Operation,
            name if FRONT.contains(&name) => Depth::Head,
            _ => Depth::Attachments,
        }
    }

    fn split(&self, from: Peer, input: &[u8], max_len: usize) -> Result<Step, Error> {
        let Some(header) = Header::parse(input)? else {
            return Ok(Step::NeedMore { at_least: Header::LEN });
        };
        let size = header.frame_len();
        let len = match usize::try_from(size) {
            Ok(len) if len <= max_len => len,
            _ => return Err(Error::TooLarge { what: "frame", size, limit: max_len }),
        };
        if input.len() < len {
            return Ok(Step::NeedMore { at_least: len });
        }
        let body = header.body(input);
        let kind = match (header.is_event(), header.is_request()) {
            (true, true) => event::kind(&header, from, body),
            (true, false) => Kind::HeartbeatResponse,
            (false, true) => header.call(),
            (false, false) => Kind::Response(response::outcome(&header, body)),
        };
        Ok(Step::Frame(Frame { len, head: Header::LEN, kind, id: header.id }))
    }

    fn head(&self, request: &[u8], depth: Depth, head: &mut Head) -> Result<(), Error> {
        head.clear();
        match Header::parse(request)? {
            Some(header) => request::read(&header, request, depth, head),
            None => Err(truncated(request)),
        }
    }

    fn finds(&self) -> bool {
        true
    }

    fn find(&self, request: &[u8], search: &mut Search<'_>, head: &mut Head) -> Result<(), Error> {
        match Header::parse(request)? {
            Some(header) if header.serialization() == HESSIAN2 => {
                request::find(&header, request, search, head)
            }
            _ => self.head(request, Depth::Attachments, head),
        }
    }

    fn deadlines(&self) -> Deadlines {
        Deadlines::Asked
    }

    /// That of `_TO`, or else of `timeout`.
    fn time(&self, request: &[u8]) -> Option<Duration> {
        let mut head = Head::default();
        self.head(request, Depth::Attachments, &mut head).ok()?;
        let millis = edit::TIMES.iter().find_map(|name| head.get(name)?.parse::<u32>().ok());
        millis.filter(|millis| *millis > 0).map(|millis| Duration::from_millis(millis.into()))
    }

    fn front(&self, from: Peer, input: &[u8], max_len: usize, head: &mut Head) -> Option<Frame> {
        head.clear();
        let header = Header::parse(input).ok()??;
        let len = usize::try_from(header.frame_len()).ok()?;
        let body = header.body(input);
        if header.is_event() || len <= input.len() || len > max_len || body.len() < response::FRONT {
            return None;
        }
        let kind = match (from, header.is_request()) {
            (Peer::Server, false) => Kind::Response(response::outcome(&header, body)),
            (Peer::Client, true) if request::front_is_known(&header, body, head) => header.call(),
            _ => return None,
        };
        Some(Frame { len, head: Header::LEN, kind, id: header.id })
    }

    fn rewrite(&self, frame: &[u8], edit: &Edit<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        match Header::parse(frame)? {
            Some(header) => edit::rewrite(&header, frame, edit, out),
            None => Err(truncated(frame)),
        }
    }

    fn entry(&self, name: &str, len: usize) -> Vec<u8> {
        edit::entry(name, len)
    }

    fn place<'a>(
        &self,
        request: &[u8],
        id: u64,
        attachment: &Placed<'_>,
        out: &'a mut Vec<u8>,
    ) -> Option<&'a mut [u8]> {
        edit::place(request, id, attachment, out)
    }

    fn error_reply(&self, request: &[u8], failure: Failure, text: &str, out: &mut Vec<u8>) {
        if let Ok(Some(header)) = Header::parse(request) {
            message::write_error(header.id, status::of(failure), text, out);
        }
    }

    fn heartbeat_reply(&self, heartbeat: &[u8], out: &mut Vec<u8>) {
        if let Ok(Some(header)) = Header::parse(heartbeat) {
            event::write_reply(&header, heartbeat, out);
        }
    }

    fn drain_notice(&self, out: &mut Vec<u8>) {
        event::write_read_only(out);
    }

    fn status_name(&self, status: u32) -> Option<&str> {
        status::name(status)
    }

    fn status_code(&self, name: &str) -> Option<u32> {
        status::code(name)
    }

    #[cfg(feature = "inspect")]
    fn inspect(&self, frame: &Frame, bytes: &[u8]) -> (crate::inspect::Reading, Option<Error>) {
        inspect::read(frame, bytes)
    }

    #[cfg(feature = "inspect")]
    fn sender(&self, input: &[u8]) -> Peer {
        inspect::sender(input)
    }
}

fn truncated(frame: &[u8]) -> Error {
    Error::Malformed { what: "header", offset: frame.len() }
}
