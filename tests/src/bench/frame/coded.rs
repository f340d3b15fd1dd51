//! The frames of the other protocols, written and read by their codecs: small ones, which are read whole.

use meltemi_codecs::protobuf::{enclose, write_bytes, write_number};
use meltemi_codecs::thrift::{Content, Message, Protocol as Encoding, Transport};
use meltemi_codecs::{Edit, Kind, Outcome, Peer, Step};

use super::{Seen, Template, Token, Unknown};
use crate::bench::Protocol;

/// The longest frame that is read.
const LIMIT: usize = 1 << 20;
const METHOD: &str = "Echo";
const SERVICE: &str = "example.EchoService";
/// Callee and function of a tRPC call.
const CALLEE: &str = "trpc.example.bench.Echo";
const FUNCTION: &str = "/trpc.example.bench.Echo/Echo";
/// Length of brpc's header, and of tRPC's.
const BRPC_HEADER: usize = 12;
const TRPC_HEADER: usize = 16;

/// A call with a text of `body` bytes, or its answer.
pub(super) fn template(protocol: Protocol, from: Peer, body: usize) -> Template {
    let text = "x".repeat(body);
    let frame = match protocol {
        Protocol::Brpc => brpc(from, &text),
        Protocol::Trpc => trpc(from, &text),
        _ => thrift(from, &text),
    };
    let (len, payload) = (frame.len(), payload(protocol, &frame));
    let token = len - trailer(protocol) - size_of::<Token>();
    Template::new(protocol, frame, Some(token), len, payload)
}

/// What follows the text in a frame: in Thrift's, the end of its struct.
fn trailer(protocol: Protocol) -> usize {
    usize::from(protocol == Protocol::Thrift)
}

/// Appends the frame with that id, and the token at the end of its text.
pub(super) fn write(protocol: Protocol, frame: &[u8], id: u64, token: &Token, out: &mut Vec<u8>) {
    let edit = Edit { id: Some(id), ..Edit::default() };
    protocol.codec().rewrite(frame, &edit, out).expect("an id can be written");
    let at = out.len() - trailer(protocol) - token.len();
    out[at..at + token.len()].copy_from_slice(token);
}

/// As that of Dubbo, of a frame that is complete.
pub(super) fn look(
    protocol: Protocol,
    from: Peer,
    bytes: &[u8],
) -> Result<Option<(Seen, usize, usize)>, Unknown> {
    let Step::Frame(frame) =
        protocol.codec().split(from, bytes, LIMIT).map_err(|_| Unknown(protocol.name()))?
    else {
        return Ok(None);
    };
    let bytes = &bytes[..frame.len];
    let end = frame.len - trailer(protocol);
    let token = end.checked_sub(size_of::<Token>()).and_then(|at| bytes[at..end].try_into().ok());
    let seen = Seen {
        request: frame.kind == Kind::Request,
        event: !matches!(frame.kind, Kind::Request | Kind::Response(_)),
        two_way: frame.kind == Kind::Request,
        ok: frame.kind == Kind::Response(Outcome::Success),
        id: frame.id,
        token: token.unwrap_or_default(),
        body_len: payload(protocol, bytes),
    };
    Ok(Some((seen, frame.len, frame.len)))
}

/// Length of what does not change with the id.
fn payload(protocol: Protocol, frame: &[u8]) -> usize {
    let u16_at = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    match protocol {
        Protocol::Brpc => frame.len() - BRPC_HEADER - (u16_at(8) << 16) - u16_at(10),
        Protocol::Trpc => frame.len() - TRPC_HEADER - u16_at(8),
        _ => frame.len(),
    }
}

fn thrift(from: Peer, text: &str) -> Vec<u8> {
    let text = text.as_bytes().into();
    let content = if from == Peer::Client { Content::Call(text) } else { Content::Value(text) };
    let mut frame = Vec::new();
    let message = Message::new(Transport::Framed, Encoding::Binary, 1, METHOD, content);
    message.write(&mut frame).expect("a plain message");
    frame
}

fn brpc(from: Peer, text: &str) -> Vec<u8> {
    let mut meta = Vec::new();
    if from == Peer::Client {
        write_bytes(1, SERVICE.as_bytes(), &mut meta);
        write_bytes(2, METHOD.as_bytes(), &mut meta);
        enclose(1, 0, &mut meta);
    } else {
        // Success is written out, as Apache brpc does.
        write_number(1, 0, &mut meta);
        enclose(2, 0, &mut meta);
    }
    write_number(4, 1, &mut meta);
    let mut body = Vec::new();
    write_bytes(1, text.as_bytes(), &mut body);
    let size = |len: usize| u32::try_from(len).expect("a short frame").to_be_bytes();
    [b"PRPC", &size(meta.len() + body.len())[..], &size(meta.len()), &meta, &body].concat()
}

fn trpc(from: Peer, text: &str) -> Vec<u8> {
    let mut head = Vec::new();
    write_number(3, 1, &mut head);
    if from == Peer::Client {
        write_bytes(5, b"trpc.example.bench.client", &mut head);
        write_bytes(6, CALLEE.as_bytes(), &mut head);
        write_bytes(7, FUNCTION.as_bytes(), &mut head);
    }
    let mut body = Vec::new();
    write_bytes(1, text.as_bytes(), &mut body);
    let total = u32::try_from(TRPC_HEADER + head.len() + body.len()).expect("a short frame");
    let head_len = u16::try_from(head.len()).expect("a short head");
    let header = [&[9, 0x30, 0, 0][..], &total.to_be_bytes(), &head_len.to_be_bytes(), &[0; 4], &[1, 0]];
    [&header.concat()[..], &head, &body].concat()
}
