//! Dubbo 2 with Hessian 2, as far as simulated peers need it.

use std::rc::Rc;

use meltemi_codecs::{Codec, Dubbo};

use crate::wire::{Message, Request, Response, Wire, array};

/// Dubbo frames.
pub struct DubboWire;

/// The interface of all calls.
pub const INTERFACE: &str = "org.meltemi.Demo";

/// Statuses of `org.apache.dubbo.remoting.exchange.Response`.
pub const SERVER_TIMEOUT: u32 = 31;
pub const BAD_REQUEST: u32 = 40;
pub const BAD_RESPONSE: u32 = 50;
pub const SERVICE_NOT_FOUND: u32 = 60;
pub const SERVICE_ERROR: u32 = 70;
pub const SERVER_ERROR: u32 = 80;
pub const THREADPOOL_EXHAUSTED: u32 = 100;

const OK: u8 = 20;
const REQUEST: u8 = 0x80;
const TWO_WAY: u8 = 0x40;
const EVENT: u8 = 0x20;
const HESSIAN: u8 = 2;
const VALUE: u8 = 0x91;
const VALUE_WITH_ATTACHMENTS: u8 = 0x94;
const NULL: u8 = b'N';

impl Wire for DubboWire {
    fn codec(&self) -> Rc<dyn Codec> {
        Rc::new(Dubbo)
    }

    fn put(&self, message: &Message, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        let (flags, status, id) = match message {
            Message::Request(request) => {
                for text in ["2.0.2", INTERFACE, "1.0.0", &request.method, "[B"] {
                    put_string(text, &mut body);
                }
                put_binary(&request.payload, &mut body);
                put_map(&request.attachments, &mut body);
                let two_way = if request.is_two_way { TWO_WAY } else { 0 };
                (REQUEST | two_way | HESSIAN, 0, request.id)
            }
            Message::Response(response) => match response.error {
                Some(status) => {
                    put_string(&String::from_utf8_lossy(&response.payload), &mut body);
                    (HESSIAN, status as u8, response.id)
                }
                None => {
                    let has_attachments = !response.attachments.is_empty();
                    body.push(if has_attachments { VALUE_WITH_ATTACHMENTS } else { VALUE });
                    put_binary(&response.payload, &mut body);
                    if has_attachments {
                        put_map(&response.attachments, &mut body);
                    }
                    (HESSIAN, OK, response.id)
                }
            },
            Message::Heartbeat { id } => {
                body.push(NULL);
                (REQUEST | TWO_WAY | EVENT | HESSIAN, 0, *id)
            }
            Message::HeartbeatAnswer { id } => {
                body.push(NULL);
                (EVENT | HESSIAN, OK, *id)
            }
            Message::ReadOnly => {
                put_string("R", &mut body);
                (REQUEST | EVENT | HESSIAN, 0, 0)
            }
        };
        out.extend_from_slice(&[0xda, 0xbb, flags, status]);
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&(body.len() as u32).to_be_bytes());
        out.extend_from_slice(&body);
    }

    fn take(&self, input: &[u8]) -> Option<(usize, Message)> {
        let mut rest = input.get(..16)?;
        let [m0, m1, flags, status] = array(&mut rest);
        assert_eq!([m0, m1], [0xda, 0xbb], "no Dubbo frame: {input:02x?}");
        let id = u64::from_be_bytes(array(&mut rest));
        let len = 16 + u32::from_be_bytes(array(&mut rest)) as usize;
        let mut body = input.get(16..len)?;
        let message = match (flags & REQUEST != 0, flags & EVENT != 0) {
            (true, true) if body == [1, b'R'] => Message::ReadOnly,
            (true, true) => Message::Heartbeat { id },
            (false, true) => Message::HeartbeatAnswer { id },
            (true, false) => {
                let [_, _, _, method, _] = core::array::from_fn(|_| take_string(&mut body));
                let payload = take_binary(&mut body);
                let attachments = take_map(&mut body);
                let is_two_way = flags & TWO_WAY != 0;
                Message::Request(Request { id, is_two_way, method, attachments, payload })
            }
            (false, false) if status == OK => {
                let [form] = array(&mut body);
                let payload = take_binary(&mut body);
                let attachments = match form {
                    VALUE => Vec::new(),
                    VALUE_WITH_ATTACHMENTS => take_map(&mut body),
                    form => panic!("a response of form {form:#x}"),
                };
                Message::Response(Response { id, error: None, attachments, payload })
            }
            (false, false) => {
                let payload = take_string(&mut body).into_bytes();
                let error = Some(u32::from(status));
                Message::Response(Response { id, error, attachments: Vec::new(), payload })
            }
        };
        assert!(
            body.is_empty()
                || matches!(
                    message,
                    Message::Heartbeat { .. } | Message::HeartbeatAnswer { .. } | Message::ReadOnly
                )
        );
        Some((len, message))
    }
}

fn put_string(text: &str, out: &mut Vec<u8>) {
    let len = text.chars().count();
    match len {
        0..=31 => out.push(len as u8),
        32..=1023 => out.extend([0x30 + (len >> 8) as u8, len as u8]),
        _ => {
            out.push(b'S');
            out.extend((len as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

fn take_string(input: &mut &[u8]) -> String {
    let [tag] = array(input);
    let len = match tag {
        0..=31 => usize::from(tag),
        0x30..=0x33 => usize::from(tag - 0x30) << 8 | usize::from(array::<1>(input)[0]),
        b'S' => usize::from(u16::from_be_bytes(array(input))),
        tag => panic!("no string: {tag:#x}"),
    };
    let valid = match core::str::from_utf8(input) {
        Ok(_) => input.len(),
        Err(error) => error.valid_up_to(),
    };
    let text = core::str::from_utf8(&input[..valid]).expect("the valid part");
    let end = text.char_indices().nth(len).map_or(text.len(), |(end, _)| end);
    *input = &input[end..];
    text[..end].to_owned()
}

fn put_binary(bytes: &[u8], out: &mut Vec<u8>) {
    let mut chunks = bytes.chunks(0xffff).peekable();
    loop {
        let chunk = chunks.next().unwrap_or_default();
        out.push(if chunks.peek().is_some() { b'A' } else { b'B' });
        out.extend((chunk.len() as u16).to_be_bytes());
        out.extend_from_slice(chunk);
        if chunks.peek().is_none() {
            return;
        }
    }
}

fn take_binary(input: &mut &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let [tag] = array(input);
        let len = usize::from(u16::from_be_bytes(array(input)));
        let (chunk, rest) = input.split_at(len);
        bytes.extend_from_slice(chunk);
        *input = rest;
        match tag {
            b'A' => {}
            b'B' => return bytes,
            tag => panic!("no binary: {tag:#x}"),
        }
    }
}

fn put_map(entries: &[(String, String)], out: &mut Vec<u8>) {
    out.push(b'H');
    for (name, value) in entries {
        put_string(name, out);
        put_string(value, out);
    }
    out.push(b'Z');
}

fn take_map(input: &mut &[u8]) -> Vec<(String, String)> {
    let [b'H'] = array(input) else { panic!("no map: {input:02x?}") };
    let mut entries = Vec::new();
    while input.first() != Some(&b'Z') {
        entries.push((take_string(input), take_string(input)));
    }
    *input = &input[1..];
    entries
}

/// The first `count` bytes of an answer of `length`.
pub fn part_of_answer(id: u64, length: usize, count: usize) -> Vec<u8> {
    let mut frame = vec![0xda, 0xbb, HESSIAN, OK];
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(&(length as u32 - 16).to_be_bytes());
    frame.push(VALUE);
    frame.resize(count, 0);
    frame
}
