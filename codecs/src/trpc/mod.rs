//! tRPC's own protocol, [`trpc`](https://github.com/trpc-group/trpc/blob/main/trpc/trpc.proto): a header of sixteen bytes,
//! a protobuf message, the body and the attachment; the last two are passed on as they are, compressed or not.
//!
//! Attributes of a request:
//!
//! | attribute | from | depth |
//! |---|---|---|
//! | `caller`, `callee` | the services' names, such as `trpc.app.server.service` | head |
//! | `func` | what is called, such as `/trpc.helloworld.Greeter/Hello` | head |
//! | `service`, `method` | the two parts of `func` | head |
//! | `callType` | `unary`, `oneway` or `stream` | head |
//! | `messageType` | the sum of what the message is coloured by | head |
//! | `dyeing` | `true` where that has the bit of dyed messages, whose key is the entry `trpc-dyeing-key` | head |
//! | `timeout` | how long the client waits, in milliseconds | head |
//! | any other | the entry of that name in `trans_info` | attachments |
//!
//! Entries of `trans_info` are set and removed in requests, unary and those that open a stream, and in unary responses.
//!
//! A request is [verified](Depth::Verified) when nothing that should be there once is there twice, all names and entries are
//! text, and there are no more of these than are kept.
//! Servers find what is called by `func` alone: to deny by `callee` is to believe the client.
use core::time::Duration;

use crate::{Codec, Deadlines, Depth, Edit, Error, Failure, Frame, Head, Operation, Peer, Sharing, Step};

mod edit;
mod header;
mod message;
/// The return codes of responses.
pub mod status;

use header::{Header, Type};

/// The codec of tRPC.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trpc;

impl Trpc {
    /// Reads what a response says, into `head` (cleared first): `error`, its text; `funcRet`, the service's own code; and
    /// the entries of `trans_info`.
    ///
    /// # Errors
    ///
    /// The frame's ends are known, but what is between them cannot be read. What was read so far is in `head`.
    pub fn response_head(&self, response: &[u8], head: &mut Head) -> Result<(), Error> {
        head.clear();
        message::read_response(&Header::of(response)?, response, head)
    }
}

impl Codec for Trpc {
    fn name(&self) -> &str {
        "trpc"
    }

    fn sharing(&self) -> Sharing {
        Sharing::Shared
    }

    fn max_id(&self) -> u64 {
        u32::MAX.into()
    }

    fn operation(&self) -> Operation<'_> {
        Operation { service: "service", method: "method" }
    }

    fn depth(&self, name: &str) -> Depth {
        if message::FRONT.contains(&name) { Depth::Head } else { Depth::Attachments }
    }

    fn split(&self, from: Peer, input: &[u8], max_len: usize) -> Result<Step, Error> {
        let Some(header) = Header::parse(input)? else {
            return Ok(Step::NeedMore { at_least: Header::LEN });
        };
        let len = header.checked_len(max_len)?;
        if input.len() < len {
            return Ok(Step::NeedMore { at_least: len });
        }
        Ok(Step::Frame(describe(&header, from, input, len)?))
    }

    fn head(&self, request: &[u8], depth: Depth, head: &mut Head) -> Result<(), Error> {
        head.clear();
        message::read_request(&Header::of(request)?, request, depth, head)
    }

    fn time(&self, request: &[u8]) -> Option<Duration> {
        message::time(&Header::parse(request).ok()??, request)
    }

    fn deadlines(&self) -> Deadlines {
        Deadlines::Always
    }

    /// All that is read of a unary frame is in its message.
    fn front(&self, from: Peer, input: &[u8], max_len: usize, head: &mut Head) -> Option<Frame> {
        let header = Header::parse(input).ok()??;
        let len = header.checked_len(max_len).ok()?;
        let message = usize::from(header.message);
        if header.kind != Type::Unary || len <= input.len() || header.parts(input).0.len() < message {
            return None;
        }
        if from == Peer::Client {
            self.head(input, Depth::Head, head).ok()?;
        }
        describe(&header, from, input, len).ok()
    }

    fn rewrite(&self, frame: &[u8], edit: &Edit<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        let written = edit::rewrite(&Header::of(frame)?, frame, edit, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn error_reply(&self, request: &[u8], failure: Failure, text: &str, out: &mut Vec<u8>) {
        if let Ok(header) = Header::of(request) {
            let kind = if header.kind == Type::Unary { Type::Unary } else { Type::Init };
            edit::write_error(&header, kind, request, status::of(failure), text, out);
        }
    }

    fn reset(&self, request: &[u8], failure: Failure, text: &str, out: &mut Vec<u8>) {
        if let Ok(header) = Header::of(request) {
            edit::write_error(&header, Type::Close, request, status::of(failure), text, out);
        }
    }

    /// There are none.
    fn heartbeat_reply(&self, _: &[u8], _: &mut Vec<u8>) {}

    fn status_name(&self, status: u32) -> Option<&str> {
        status::name(status)
    }

    fn status_code(&self, name: &str) -> Option<u32> {
        status::code(name)
    }

    #[cfg(feature = "inspect")]
    fn inspect(&self, frame: &Frame, bytes: &[u8]) -> (crate::inspect::Reading, Option<Error>) {
        crate::inspect::with_answers(self, frame, bytes, |head| self.response_head(bytes, head))
    }
}

/// What a frame is, by its message: of a unary one, that may be all that is there.
fn describe(header: &Header, from: Peer, input: &[u8], len: usize) -> Result<Frame, Error> {
    let (kind, id, front) = message::kind(header, from, input)?;
    Ok(Frame { len, head: Header::LEN.saturating_add(front), kind, id })
}
