//! Dubbo frames as raw peers send and read them.

use std::io::{self, Read};

use crate::hessian::{put_binary, put_string, take_binary, take_string};

/// The interface that test requests call.
pub const INTERFACE: &str = "org.meltemi.demo.Greeter";

/// Status of a response that is an answer of the service.
pub const OK: u8 = 20;

const MAGIC: [u8; 2] = [0xda, 0xbb];
const REQUEST: u8 = 0x80;
const TWO_WAY: u8 = 0x40;
const EVENT: u8 = 0x20;
const HESSIAN: u8 = 2;
const WITH_VALUE: u8 = 0x91;
const WITH_VALUE_AND_ATTACHMENTS: u8 = 0x94;
const NULL: u8 = b'N';

/// A frame: its header's fields, and the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The header's flag byte.
    pub flag: u8,
    /// The header's status byte.
    pub status: u8,
    /// The request id.
    pub id: u64,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// What a request of [`Frame::request`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method's name.
    pub method: String,
    /// The method's one argument.
    pub argument: Argument,
    /// The attachments, in order.
    pub attachments: Vec<(String, String)>,
}

/// The one argument of a test request, and the value of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// A string.
    Text(String),
    /// A byte array.
    Bytes(Vec<u8>),
}

impl From<&str> for Argument {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Argument {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u8>> for Argument {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl Argument {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => put_string(text, out),
            Self::Bytes(bytes) => put_binary(bytes, out),
        }
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        match input.first()? {
            0x41 | 0x42 => take_binary(input).map(Self::Bytes),
            _ => take_string(input).map(Self::Text),
        }
    }
}

impl Frame {
    /// A two-way call of `method` with one argument.
    pub fn request(id: u64, method: &str, argument: impl Into<Argument>) -> Self {
        Self::request_with(id, method, argument, &[])
    }

    /// A two-way call that carries `attachments` as well.
    pub fn request_with(
        id: u64,
        method: &str,
        argument: impl Into<Argument>,
        attachments: &[(&str, &str)],
    ) -> Self {
        Self::request_of(INTERFACE, id, method, argument, attachments)
    }

    /// The same of another interface.
    pub fn request_of(
        interface: &str,
        id: u64,
        method: &str,
        argument: impl Into<Argument>,
        attachments: &[(&str, &str)],
    ) -> Self {
        let argument = argument.into();
        let mut body = Vec::new();
        let descriptor = match argument {
            Argument::Text(_) => "Ljava/lang/String;",
            Argument::Bytes(_) => "[B",
        };
        for text in ["2.0.2", interface, "1.0.0", method, descriptor] {
            put_string(text, &mut body);
        }
        argument.put(&mut body);
        let own = [("path", interface), ("interface", interface), ("version", "1.0.0")];
        put_attachments(own.iter().chain(attachments), &mut body);
        Self { flag: REQUEST | TWO_WAY | HESSIAN, status: 0, id, body }
    }

    /// The same call as one-way.
    pub fn one_way(self) -> Self {
        Self { flag: self.flag & !TWO_WAY, ..self }
    }

    /// The answer to the call `id` with a value.
    pub fn response(id: u64, value: &Argument) -> Self {
        let mut body = vec![WITH_VALUE];
        value.put(&mut body);
        Self { flag: HESSIAN, status: OK, id, body }
    }

    /// The same with attachments.
    pub fn response_with(id: u64, value: &Argument, attachments: &[(&str, &str)]) -> Self {
        let mut body = vec![WITH_VALUE_AND_ATTACHMENTS];
        value.put(&mut body);
        put_attachments(attachments, &mut body);
        Self { flag: HESSIAN, status: OK, id, body }
    }

    /// The answer to the call `id` with a status of the framework and its message.
    pub fn error(id: u64, status: u8, message: &str) -> Self {
        let mut body = Vec::new();
        put_string(message, &mut body);
        Self { flag: HESSIAN, status, id, body }
    }

    /// A heartbeat that wants an answer.
    pub fn heartbeat(id: u64) -> Self {
        Self { flag: REQUEST | TWO_WAY | EVENT | HESSIAN, status: 0, id, body: vec![NULL] }
    }

    /// The answer to the heartbeat `id`.
    pub fn heartbeat_answer(id: u64) -> Self {
        Self { flag: EVENT | HESSIAN, status: OK, id, body: vec![NULL] }
    }

    /// The event by which a server asks for no new calls.
    pub fn read_only() -> Self {
        Self { flag: REQUEST | EVENT | HESSIAN, status: 0, id: 0, body: vec![1, b'R'] }
    }

    /// Whether the sender wants an answer.
    pub fn is_two_way(&self) -> bool {
        self.flag & (REQUEST | TWO_WAY) == REQUEST | TWO_WAY
    }

    /// Whether this is a heartbeat or another event, or the answer to one.
    pub fn is_event(&self) -> bool {
        self.flag & EVENT != 0
    }

    /// Whether this is a request (or an event), not an answer.
    pub fn is_request(&self) -> bool {
        self.flag & REQUEST != 0
    }

    /// The call that a request of [`Frame::request`] makes.
    pub fn call(&self) -> Option<Call> {
        let mut input = self.body.as_slice();
        let head: Option<Vec<_>> = (0..5).map(|_| take_string(&mut input)).collect();
        let method = head?.swap_remove(3);
        let argument = Argument::take(&mut input)?;
        Some(Call { method, argument, attachments: take_attachments(input)? })
    }

    /// The value in an answer of [`Frame::response`].
    pub fn value(&self) -> Option<Argument> {
        let (_, mut rest) = self.body.split_first().filter(|(tag, _)| **tag == WITH_VALUE)?;
        Argument::take(&mut rest).filter(|_| self.status == OK)
    }

    /// The attachments in an answer of [`Frame::response_with`], in order.
    pub fn attachments(&self) -> Option<Vec<(String, String)>> {
        let (_, mut rest) = self.body.split_first().filter(|(tag, _)| **tag == WITH_VALUE_AND_ATTACHMENTS)?;
        Argument::take(&mut rest).filter(|_| self.status == OK)?;
        take_attachments(rest)
    }

    /// The text in an answer of [`Frame::response`].
    pub fn text(&self) -> Option<String> {
        match self.value()? {
            Argument::Text(text) => Some(text),
            Argument::Bytes(_) => None,
        }
    }

    /// The message of an answer whose status is not [`OK`].
    pub fn message(&self) -> Option<String> {
        take_string(&mut self.body.as_slice()).filter(|_| self.status != OK)
    }

    /// The frame's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.body.len());
        out.extend(MAGIC);
        out.extend([self.flag, self.status]);
        out.extend(self.id.to_be_bytes());
        out.extend((self.body.len() as u32).to_be_bytes());
        out.extend(&self.body);
        out
    }

    /// Reads the next frame; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// The stream's own, `UnexpectedEof` within a frame, and `InvalidData` for what is no frame.
    pub fn read(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let mut header = [0; 16];
        if stream.read(&mut header[..1])? == 0 {
            return Ok(None);
        }
        stream.read_exact(&mut header[1..])?;
        let [m0, m1, flag, status, id @ .., l0, l1, l2, l3] = header;
        if [m0, m1] != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("no Dubbo frame: {header:02x?}")));
        }
        let mut body = vec![0; u32::from_be_bytes([l0, l1, l2, l3]) as usize];
        stream.read_exact(&mut body)?;
        Ok(Some(Self { flag, status, id: u64::from_be_bytes(id), body }))
    }
}

fn put_attachments<'a>(attachments: impl IntoIterator<Item = &'a (&'a str, &'a str)>, out: &mut Vec<u8>) {
    out.push(b'H');
    for (name, value) in attachments {
        put_string(name, out);
        put_string(value, out);
    }
    out.push(b'Z');
}

/// Those that `input` is, all of it.
fn take_attachments(input: &[u8]) -> Option<Vec<(String, String)>> {
    let mut attachments = Vec::new();
    let (_, mut rest) = input.split_first().filter(|(tag, _)| **tag == b'H')?;
    while rest != b"Z" {
        attachments.push((take_string(&mut rest)?, take_string(&mut rest)?));
    }
    Some(attachments)
}
