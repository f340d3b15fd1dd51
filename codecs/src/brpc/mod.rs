//! brpc's own protocol, `baidu_std`: [the protocol](https://github.com/apache/brpc/blob/master/docs/en/baidu_std.md) of
//! Apache brpc and brpc-java. A frame is twelve bytes, a `RpcMeta` message, the payload and the attachment; the last two
//! are passed on as they are, compressed or not.
//!
//! Attributes of a request:
//!
//! | attribute | from | depth |
//! |---|---|---|
//! | `service`, `method` | `service_name`, such as `example.EchoService`, and `method_name` | head |
//! | `logId`, `traceId`, `spanId`, `parentSpanId` | the numbers of these names | head |
//! | `requestId` | `request_id`, which corresponds to HTTP's `x-request-id` | head |
//! | `timeoutMs` | `timeout_ms`, the client's time-out | head |
//! | any other | the entry of that name in `user_fields`, or in brpc-java's `ext_fields` | attachments |
//!
//! Attachments here are those entries, not the bytes that brpc calls so. They are set and removed in requests, where the
//! request has others of its kind (`ext_fields`, else `user_fields`), and in `user_fields` of responses.
//!
//! A request is [verified](Depth::Verified) when nothing that should be there once is there twice, there are no more entries
//! than are kept, no `request_id` that brpc-java could read as an entry is read otherwise, all names are text, the
//! service's has a dot (without one, servers look for a service of that name in any package) and the method's has none
//! (servers look for both as one string).
//!
//! A streaming RPC is refused: its frames are of another protocol (`STRM`), on the connection on which it began.
use core::time::Duration;

use crate::{
    Codec, Deadlines, Depth, Edit, Error, Failure, Frame, Head, Kind, Operation, Peer, Sharing, Step,
};

mod edit;
mod meta;
/// The error codes of responses.
pub mod status;

use meta::{Header, Meta};

/// The codec of brpc's `baidu_std`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Brpc;

impl Brpc {
    /// Reads what a response says, into `head` (cleared first): `error`, its text, and the entries of `user_fields`.
    ///
    /// # Errors
    ///
    /// The frame's ends are known, but what is between them cannot be read. What was read so far is in `head`.
    pub fn response_head(&self, response: &[u8], head: &mut Head) -> Result<(), Error> {
        head.clear();
        meta::read_response(Header::of(response)?.meta(response), head)
    }
}

impl Codec for Brpc {
    fn name(&self) -> &str {
        "brpc"
    }

    fn sharing(&self) -> Sharing {
        Sharing::Shared
    }

    fn max_id(&self) -> u64 {
        i64::MAX.cast_unsigned()
    }

    fn operation(&self) -> Operation<'_> {
        Operation { service: "service", method: "method" }
    }

    fn depth(&self, name: &str) -> Depth {
        if meta::is_front(name) { Depth::Head } else { Depth::Attachments }
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
        meta::read_request(Header::of(request)?.meta(request), depth, head)
    }

    fn deadlines(&self) -> Deadlines {
        Deadlines::Asked
    }

    fn time(&self, request: &[u8]) -> Option<Duration> {
        meta::time(Header::of(request).ok()?.meta(request))
    }

    /// All that is read is in the meta.
    fn front(&self, from: Peer, input: &[u8], max_len: usize, head: &mut Head) -> Option<Frame> {
        let header = Header::parse(input).ok()??;
        let len = header.checked_len(max_len).ok()?;
        if len <= input.len() || header.meta_bytes(input).len() < header.meta {
            return None;
        }
        if from == Peer::Client {
            self.head(input, Depth::Head, head).ok()?;
        }
        describe(&header, from, input, len).ok()
    }

    fn rewrite(&self, frame: &[u8], edit: &Edit<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let header = Header::of(frame)?;
        let start = out.len();
        let written = edit::rewrite(&header, frame, edit, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn error_reply(&self, request: &[u8], failure: Failure, text: &str, out: &mut Vec<u8>) {
        if let Ok(header) = Header::of(request)
            && let Some(id) = header.id(request)
        {
            edit::write_error(id, status::of(failure), text, out);
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

/// What the meta says of a frame, of which it may be all that is there.
fn describe(header: &Header, from: Peer, input: &[u8], len: usize) -> Result<Frame, Error> {
    let meta = Meta::read(header.meta(input))?;
    let kind = match (from, meta.outcome) {
        (_, Some(outcome)) => Kind::Response(outcome),
        (Peer::Server, None) if !meta.is_request => Kind::Response(crate::Outcome::Success),
        _ if meta.is_stream => Kind::Refused("streaming RPC is not supported"),
        _ => Kind::Request,
    };
    Ok(Frame { len, head: Header::LEN.saturating_add(meta.front), kind, id: meta.id })
}
