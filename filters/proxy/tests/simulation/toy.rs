//! A small protocol in three sizes of request ids: 32 bits, 8 bits, and none, with one call at a time or with several.

use std::rc::Rc;

use meltemi_codecs::{
    Codec, Depth, Edit, Error, Failure, Frame, Head, Kind, Operation, Outcome, Peer, Sharing, Step,
};

use crate::wire::{Message, Request, Response, Wire, array};

/// The protocol: a length of four bytes, a kind, a status, an id of four bytes, a method with its length, the payload.
#[derive(Debug, Clone, Copy)]
pub struct Toy {
    name: &'static str,
    sharing: Sharing,
    max_id: u64,
}

/// With ids of 32 bits.
pub static WIDE: Toy = Toy { name: "wide", sharing: Sharing::Shared, max_id: u32::MAX as u64 };
/// With ids of 8 bits.
pub static NARROW: Toy = Toy { name: "narrow", sharing: Sharing::Shared, max_id: 255 };
/// Without ids: answers come in the order of requests, and one call at a time is made.
pub static ORDERED: Toy = Toy { name: "ordered", sharing: Sharing::Exclusive, max_id: 0 };
/// Without ids: answers come in the order of requests, of which many may be under way.
pub static PIPELINED: Toy = Toy { name: "pipelined", sharing: Sharing::InOrder, max_id: 0 };

/// A method that the codec cannot carry.
pub const REFUSED: &str = "refused";

/// The status of a local reply of the worker.
pub const FAILED: u32 = 9;

const HEADER: usize = 11;
const REQUEST: u8 = 1;
const ONE_WAY: u8 = 2;
const RESPONSE: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ANSWER: u8 = 5;
const READ_ONLY: u8 = 6;
/// An answer that says that it is the last on its connection.
pub const LAST: u8 = 7;
/// Where a frame has its kind.
pub const KIND_AT: usize = 4;

fn outcome(status: u8) -> Outcome {
    if status == 0 { Outcome::Success } else { Outcome::Error(status.into()) }
}

impl Wire for &'static Toy {
    fn codec(&self) -> Rc<dyn Codec> {
        Rc::new(**self)
    }

    fn is_in_order(&self) -> bool {
        self.sharing == Sharing::InOrder
    }

    fn put(&self, message: &Message, out: &mut Vec<u8>) {
        let (kind, status, id, method, payload) = match message {
            Message::Request(request) => {
                let kind = if request.is_two_way { REQUEST } else { ONE_WAY };
                (kind, 0, request.id, request.method.as_str(), request.payload.as_slice())
            }
            Message::Response(response) => {
                (RESPONSE, response.error.unwrap_or_default(), response.id, "", response.payload.as_slice())
            }
            Message::Heartbeat { id } => (HEARTBEAT, 0, *id, "", &[][..]),
            Message::HeartbeatAnswer { id } => (HEARTBEAT_ANSWER, 0, *id, "", &[][..]),
            Message::ReadOnly => (READ_ONLY, 0, 0, "", &[][..]),
        };
        let id = if self.max_id == 0 { 0 } else { id };
        assert!(id <= self.max_id);
        out.extend_from_slice(&((HEADER + method.len() + payload.len()) as u32).to_be_bytes());
        out.extend_from_slice(&[kind, status as u8]);
        out.extend_from_slice(&(id as u32).to_be_bytes());
        out.push(method.len() as u8);
        out.extend_from_slice(method.as_bytes());
        out.extend_from_slice(payload);
    }

    fn take(&self, input: &[u8]) -> Option<(usize, Message)> {
        let mut rest = input.get(..HEADER)?;
        let len = u32::from_be_bytes(array(&mut rest)) as usize;
        let [kind, status] = array(&mut rest);
        let id = u64::from(u32::from_be_bytes(array(&mut rest)));
        assert!(id <= self.max_id, "id {id}");
        let (method, payload) = input.get(HEADER..len)?.split_at(usize::from(rest[0]));
        let method = String::from_utf8(method.to_vec()).expect("UTF-8");
        let payload = payload.to_vec();
        let message = match kind {
            REQUEST | ONE_WAY => {
                let is_two_way = kind == REQUEST;
                Message::Request(Request { id, is_two_way, method, attachments: Vec::new(), payload })
            }
            RESPONSE | LAST => {
                let error = (status != 0).then_some(u32::from(status));
                Message::Response(Response { id, error, attachments: Vec::new(), payload })
            }
            HEARTBEAT => Message::Heartbeat { id },
            HEARTBEAT_ANSWER => Message::HeartbeatAnswer { id },
            READ_ONLY => Message::ReadOnly,
            kind => panic!("a frame of kind {kind}"),
        };
        Some((len, message))
    }
}

impl Codec for Toy {
    fn name(&self) -> &str {
        self.name
    }

    fn sharing(&self) -> Sharing {
        self.sharing
    }

    fn max_id(&self) -> u64 {
        self.max_id
    }

    fn operation(&self) -> Operation<'_> {
        Operation { service: "service", method: "method" }
    }

    fn depth(&self, _: &str) -> Depth {
        Depth::Head
    }

    fn split(&self, _: Peer, input: &[u8], max_len: usize) -> Result<Step, Error> {
        let Some(header) = input.get(..HEADER) else { return Ok(Step::NeedMore { at_least: HEADER }) };
        let len = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if len > max_len {
            return Err(Error::TooLarge { what: "frame", size: len as u64, limit: max_len });
        }
        if len < HEADER + usize::from(header[10]) {
            return Err(Error::Malformed { what: "length", offset: 0 });
        }
        if input.len() < len {
            return Ok(Step::NeedMore { at_least: len });
        }
        let method = &input[HEADER..HEADER + usize::from(header[10])];
        let kind = match header[4] {
            REQUEST if method == REFUSED.as_bytes() => Kind::Refused("no such kind"),
            REQUEST => Kind::Request,
            ONE_WAY => Kind::OneWay,
            RESPONSE => Kind::Response(outcome(header[5])),
            LAST => Kind::Last(outcome(header[5])),
            HEARTBEAT => Kind::HeartbeatRequest,
            HEARTBEAT_ANSWER => Kind::HeartbeatResponse,
            READ_ONLY => Kind::Drain,
            _ => return Err(Error::Malformed { what: "kind", offset: 4 }),
        };
        let id = u64::from(u32::from_be_bytes([header[6], header[7], header[8], header[9]]));
        Ok(Step::Frame(Frame { len, head: HEADER, kind, id }))
    }

    fn head(&self, request: &[u8], _: Depth, head: &mut Head) -> Result<(), Error> {
        head.clear();
        let method = &request[HEADER..HEADER + usize::from(request[10])];
        head.push("service", "toy");
        head.push("method", &String::from_utf8_lossy(method));
        Ok(())
    }

    fn front(&self, from: Peer, input: &[u8], max_len: usize, head: &mut Head) -> Option<Frame> {
        let header = input.get(..HEADER)?;
        let len = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if len <= input.len() || len > max_len || input.len() < HEADER + usize::from(header[10]) {
            return None;
        }
        let kind = match (from, header[4], header[5]) {
            (Peer::Client, REQUEST, _) => Kind::Request,
            (Peer::Client, ONE_WAY, _) => Kind::OneWay,
            (Peer::Server, RESPONSE, status) => Kind::Response(outcome(status)),
            (Peer::Server, LAST, status) => Kind::Last(outcome(status)),
            _ => return None,
        };
        let id = u64::from(u32::from_be_bytes([header[6], header[7], header[8], header[9]]));
        self.head(input, Depth::Head, head).ok()?;
        Some(Frame { len, head: HEADER, kind, id })
    }

    fn rewrite(&self, frame: &[u8], edit: &Edit<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        if !edit.keeps_attachments() {
            return Err(Error::Unsupported { what: "attachments", offset: 0 });
        }
        let start = out.len();
        out.extend_from_slice(frame);
        if let Some(id) = edit.id {
            out[start + 6..start + 10].copy_from_slice(&(id as u32).to_be_bytes());
        }
        Ok(())
    }

    fn error_reply(&self, request: &[u8], _: Failure, text: &str, out: &mut Vec<u8>) {
        let id = u32::from_be_bytes(request[6..10].try_into().expect("four bytes"));
        let response =
            Response { id: id.into(), error: Some(FAILED), payload: text.into(), ..Response::default() };
        let wire: &'static Self =
            [&WIDE, &NARROW, &ORDERED, &PIPELINED].into_iter().find(|toy| toy.name == self.name).unwrap();
        wire.put(&Message::Response(response), out);
    }

    fn heartbeat_reply(&self, heartbeat: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(heartbeat);
        out[start + 4] = HEARTBEAT_ANSWER;
    }

    fn status_name(&self, status: u32) -> Option<&str> {
        (status < 10).then_some("TOY")
    }

    fn status_code(&self, _: &str) -> Option<u32> {
        None
    }
}
