//! Protocols whose frames say all that the worker asks in a head at their front.

use std::rc::Rc;

use meltemi_codecs::protobuf::{Fields, enclose, write_bytes, write_number};
use meltemi_codecs::{Brpc, Codec, Trpc};
use serde_json::{Value, json};

use crate::wire::{Message, Request, Response, Wire, array};

/// The protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadFirst {
    Brpc,
    Trpc,
    /// A layout: magic, flags, an id of four bytes, a status, a length of four bytes, a method with its length, the payload.
    Declared,
}

impl HeadFirst {
    pub const ALL: [Self; 3] = [Self::Brpc, Self::Trpc, Self::Declared];

    /// A plan for the service `demo`.
    pub fn plan(self, mut service: Value) -> Value {
        let protocol = match self {
            Self::Brpc => "brpc",
            Self::Trpc => "trpc",
            Self::Declared => "declared",
        };
        service["protocol"] = json!(protocol);
        let layout = json!({
            "magic": "4c", "length": {"at": 7, "as": "u32", "plus": 11}, "id": {"at": 2, "as": "u32"},
            "kind": {"at": 1, "as": "u8", "request": 0, "response": 1, "oneWay": 2},
            "status": {"at": 6, "as": "u8"}, "parts": [{"name": "method", "prefix": "u8", "form": "text"}],
            "service": "method", "method": "method",
            "errorReply": {"frame": "4c 01 {id:u32} {status:u8} {rest:u32} {text}", "status": 9},
        });
        json!({"services": {"demo": service}, "protocols": {"declared": layout}})
    }
}

impl Wire for HeadFirst {
    fn codec(&self) -> Rc<dyn Codec> {
        match self {
            Self::Trpc => Rc::new(Trpc),
            // The plan declares the other.
            Self::Brpc | Self::Declared => Rc::new(Brpc),
        }
    }

    fn put(&self, message: &Message, out: &mut Vec<u8>) {
        match self {
            Self::Brpc => put_brpc(message, out),
            Self::Trpc => put_trpc(message, out),
            Self::Declared => put_declared(message, out),
        }
    }

    fn take(&self, input: &[u8]) -> Option<(usize, Message)> {
        match self {
            Self::Brpc => take_brpc(input),
            Self::Trpc => take_trpc(input),
            Self::Declared => take_declared(input),
        }
    }
}

fn put_brpc(message: &Message, out: &mut Vec<u8>) {
    let mut meta = Vec::new();
    let (id, payload) = match message {
        Message::Request(request) => {
            write_bytes(1, b"demo.Service", &mut meta);
            write_bytes(2, request.method.as_bytes(), &mut meta);
            enclose(1, 0, &mut meta);
            (request.id, &request.payload[..])
        }
        Message::Response(response) => {
            if let Some(error) = response.error {
                write_number(1, error.into(), &mut meta);
                write_bytes(2, &response.payload, &mut meta);
            }
            enclose(2, 0, &mut meta);
            (response.id, if response.error.is_some() { &[][..] } else { &response.payload })
        }
        other => panic!("{other:?}"),
    };
    write_number(4, id, &mut meta);
    out.extend_from_slice(b"PRPC");
    out.extend_from_slice(&((meta.len() + payload.len()) as u32).to_be_bytes());
    out.extend_from_slice(&(meta.len() as u32).to_be_bytes());
    out.extend_from_slice(&meta);
    out.extend_from_slice(payload);
}

fn take_brpc(input: &[u8]) -> Option<(usize, Message)> {
    let mut rest = input.get(..12)?;
    assert_eq!(array(&mut rest), *b"PRPC");
    let [body, meta] = [(); 2].map(|()| u32::from_be_bytes(array(&mut rest)) as usize);
    let (meta, payload) = input.get(12..12 + body)?.split_at(meta);
    let field = |message, number| last(message, number);
    let id = field(meta, 4).expect("an id").0;
    let message = match (field(meta, 1), field(meta, 2)) {
        (Some((_, request)), None) => {
            let method = text(field(request, 2).expect("a method").1);
            request_of(id, method, true, payload)
        }
        (None, Some((_, response))) => match field(response, 1) {
            Some((error, _)) if error != 0 => {
                response_of(id, error, field(response, 2).unwrap_or_default().1)
            }
            _ => response_of(id, 0, payload),
        },
        other => panic!("{other:?}"),
    };
    Some((12 + body, message))
}

fn put_trpc(message: &Message, out: &mut Vec<u8>) {
    let mut head = Vec::new();
    let (id, payload) = match message {
        Message::Request(request) => {
            write_number(2, u64::from(!request.is_two_way), &mut head);
            write_number(3, request.id, &mut head);
            write_bytes(7, format!("/demo.Service/{}", request.method).as_bytes(), &mut head);
            (request.id, &request.payload[..])
        }
        Message::Response(response) => {
            write_number(3, response.id, &mut head);
            if let Some(error) = response.error {
                write_number(4, error.into(), &mut head);
                write_bytes(6, &response.payload, &mut head);
            }
            (response.id, if response.error.is_some() { &[][..] } else { &response.payload })
        }
        other => panic!("{other:?}"),
    };
    out.extend_from_slice(&[9, 0x30, 0, 0]);
    out.extend_from_slice(&((16 + head.len() + payload.len()) as u32).to_be_bytes());
    out.extend_from_slice(&(head.len() as u16).to_be_bytes());
    out.extend_from_slice(&u32::try_from(id).expect("an id of 32 bits").to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
}

fn take_trpc(input: &[u8]) -> Option<(usize, Message)> {
    let mut rest = input.get(..16)?;
    assert_eq!(array(&mut rest), [9, 0x30, 0, 0]);
    let len = u32::from_be_bytes(array(&mut rest)) as usize;
    let head = usize::from(u16::from_be_bytes(array(&mut rest)));
    let id = u64::from(u32::from_be_bytes(array(&mut rest)));
    let (head, payload) = input.get(16..len)?.split_at(head);
    assert_eq!(last(head, 3), Some((id, &[][..])), "both ids are one");
    let message = match (last(head, 7), last(head, 4)) {
        (Some((_, func)), _) => {
            let is_two_way = last(head, 2).is_none_or(|(kind, _)| kind == 0);
            request_of(id, text(func).replace("/demo.Service/", ""), is_two_way, payload)
        }
        (None, Some((error, _))) if error != 0 => response_of(id, error, last(head, 6).unwrap_or_default().1),
        (None, _) => response_of(id, 0, payload),
    };
    Some((len, message))
}

fn put_declared(message: &Message, out: &mut Vec<u8>) {
    let (flags, id, status, body) = match message {
        Message::Request(Request { id, is_two_way, method, payload, .. }) => {
            let body = [&[method.len() as u8], method.as_bytes(), payload].concat();
            (if *is_two_way { 0 } else { 2 }, *id, 0, body)
        }
        Message::Response(Response { id, error, payload, .. }) => {
            (1, *id, error.unwrap_or_default(), payload.clone())
        }
        other => panic!("{other:?}"),
    };
    out.extend_from_slice(&[0x4c, flags]);
    out.extend_from_slice(&u32::try_from(id).expect("an id of 32 bits").to_be_bytes());
    out.push(status as u8);
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(&body);
}

fn take_declared(input: &[u8]) -> Option<(usize, Message)> {
    let mut rest = input.get(..11)?;
    let [magic, flags] = array(&mut rest);
    assert_eq!(magic, 0x4c);
    let id = u64::from(u32::from_be_bytes(array(&mut rest)));
    let [status] = array(&mut rest);
    let len = 11 + u32::from_be_bytes(array(&mut rest)) as usize;
    let body = input.get(11..len)?;
    let message = match flags {
        1 => response_of(id, status.into(), body),
        _ => {
            let (method, payload) = body[1..].split_at(usize::from(body[0]));
            request_of(id, text(method), flags == 0, payload)
        }
    };
    Some((len, message))
}

fn request_of(id: u64, method: String, is_two_way: bool, payload: &[u8]) -> Message {
    Message::Request(Request { id, is_two_way, method, payload: payload.to_vec(), ..Request::default() })
}

fn response_of(id: u64, error: u64, payload: &[u8]) -> Message {
    let error = (error != 0).then_some(error as u32);
    Message::Response(Response { id, error, payload: payload.to_vec(), ..Response::default() })
}

/// The last field of that number: a number, or bytes.
fn last(message: &[u8], number: u32) -> Option<(u64, &[u8])> {
    let fields = Fields::new(message).map(|field| field.expect("a field"));
    let found = fields.filter(|field| field.number == number).last()?;
    Some((found.value.varint().unwrap_or_default(), found.value.bytes().unwrap_or_default()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}
