//! Thrift, as [Apache](https://thrift.apache.org/) and [Kitex](https://www.cloudwego.io/docs/kitex/) speak it: the
//! transports framed, unframed, THeader and TTHeader, each with the protocols binary (with a version, and without as of
//! old) and compact. Each message tells which it is written in.
//!
//! Attributes of a request:
//!
//! | attribute | from | depth |
//! |---|---|---|
//! | `method` | the message's name; of `Service:method`, which is multiplexed, what follows the colon | head |
//! | `service` | what precedes the colon; else TTHeader's text header `isn`, or its integer header `toService` | head |
//! | any other | the header of that name in THeader or TTHeader | attachments |
//!
//! A header that is itself called `method` or `service` is none.
//!
//! TTHeader's integer headers are called as in Kitex, in lower camel case (`logId`, `fromService`, `rpcTimeout`), and
//! those that Kitex has no name for by their digits; its token is called `RPC_TRANSIT_gdpr-token`.
//!
//! A request is [verified](Depth::Verified) when no header is repeated, or no text, or said for all later messages of a
//! connection; when `toMethod` says the method of the message, and `isn` the service of a multiplexed one; and when that has
//! one colon, with something on both sides.
//!
//! In every frame the message must end where the frame does: most servers and clients take the rest for one more message.
//! So the [front](Codec::front) of none says what it is.
//!
//! Headers are set and removed in THeader and TTHeader; the other transports have none, which is
//! [`Error::Unsupported`]. A message that was compressed by zlib is inflated to be checked, and passed on as it came;
//! with another id it is passed on stored, that is to say as zlib writes what it cannot compress. Other transforms are
//! [`Error::Unsupported`]. TTHeader's `crc32c` covers the id too, and is left out when that changes.
use core::time::Duration;

use crate::{Codec, Deadlines, Depth, Edit, Error, Failure, Head, Operation, Peer, Sharing, Step};

mod cursor;
mod edit;
mod frame;
mod info;
pub mod message;
mod outcome;
mod protocol;
mod reply;
mod request;
/// The types of `TApplicationException`.
pub mod status;
mod transport;
mod walk;
mod zlib;

pub use message::{Content, Message};
pub use protocol::Protocol;
pub use transport::Transport;

use cursor::Stop;
use transport::Envelope;

/// The Thrift codec.
#[derive(Debug, Clone, Copy, Default)]
pub struct Thrift;

impl Codec for Thrift {
    fn name(&self) -> &str {
        "thrift"
    }

    /// Apache's servers answer in order.
    fn sharing(&self) -> Sharing {
        Sharing::InOrder
    }

    /// Of the signed 32 bits, the positive half: Kitex's servers count by them.
    fn max_id(&self) -> u64 {
        i32::MAX.unsigned_abs().into()
    }

    fn operation(&self) -> Operation<'_> {
        Operation { service: "service", method: "method" }
    }

    fn depth(&self, name: &str) -> Depth {
        if matches!(name, "method" | "service") { Depth::Head } else { Depth::Attachments }
    }

    fn split(&self, from: Peer, input: &[u8], max_len: usize) -> Result<Step, Error> {
        match frame::split(from, input, max_len) {
            Ok(frame) => Ok(Step::Frame(frame)),
            Err(Stop::Need(at_least)) => Ok(Step::NeedMore { at_least }),
            Err(Stop::Bad(error)) => Err(error),
        }
    }

    fn head(&self, request: &[u8], depth: Depth, head: &mut Head) -> Result<(), Error> {
        head.clear();
        frame::read(request::read(request, depth, head), request)
    }

    fn deadlines(&self) -> Deadlines {
        Deadlines::Asked
    }

    /// That of TTHeader's `rpcTimeout`.
    fn time(&self, request: &[u8]) -> Option<Duration> {
        let envelope = Envelope::read(request).ok()?;
        let millis = info::time(envelope.headers(request), envelope.transport)?;
        Some(Duration::from_millis(millis.into()))
    }

    fn rewrite(&self, frame: &[u8], edit: &Edit<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        let written = frame::read(edit::rewrite(frame, edit, out), frame);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    fn error_reply(&self, request: &[u8], failure: Failure, text: &str, out: &mut Vec<u8>) {
        reply::write(request, status::of(failure), text, out);
    }

    /// Thrift has no heartbeats.
    fn heartbeat_reply(&self, _heartbeat: &[u8], _out: &mut Vec<u8>) {}

    fn status_name(&self, status: u32) -> Option<&str> {
        status::name(status)
    }

    fn status_code(&self, name: &str) -> Option<u32> {
        status::code(name)
    }
}
