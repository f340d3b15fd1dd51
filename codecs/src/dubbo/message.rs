//! Whole Dubbo messages in Hessian 2, written and read: for sample servers and clients, load generators and tests. The
//! proxy itself passes frames on and makes only error replies.
use std::borrow::Cow;

use super::header::{HESSIAN2, Header, REQUEST, TWO_WAY};
use super::{descriptor, response, status};
use crate::Error;
use crate::hessian::{
    self, END, Fault, MAP, NULL, Reader, optional_text, write_bytes, write_int, write_text,
};

/// The version of the protocol that this module speaks.
const VERSION: &str = "2.0.2";

/// An argument or a result.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// A byte array.
    Bytes(Cow<'a, [u8]>),
    /// An `int`, or a `long` when read.
    Integer(i64),
    /// Null.
    Null,
    /// A value of another type, which is not built. Written as null.
    Other,
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(Cow::Borrowed(bytes))
    }
}

impl From<i32> for Value<'_> {
    fn from(number: i32) -> Self {
        Self::Integer(number.into())
    }
}

impl Value<'_> {
    /// The JVM descriptor of a parameter that takes this value.
    fn descriptor(&self) -> &'static str {
        match self {
            Self::Text(_) => "Ljava/lang/String;",
            Self::Bytes(_) => "[B",
            Self::Integer(_) => "I",
            Self::Null | Self::Other => "Ljava/lang/Object;",
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => write_text(out, text),
            Self::Bytes(bytes) => write_bytes(out, bytes),
            Self::Integer(number) => match i32::try_from(*number) {
                Ok(number) => write_int(out, number),
                Err(_) => {
                    out.push(b'L');
                    out.extend_from_slice(&number.to_be_bytes());
                }
            },
            Self::Null | Self::Other => out.push(NULL),
        }
    }
}

impl<'a> From<hessian::Value<'a>> for Value<'a> {
    fn from(value: hessian::Value<'a>) -> Self {
        match value {
            hessian::Value::Text(text) => Self::Text(text),
            hessian::Value::Bytes(bytes) => Self::Bytes(bytes),
            hessian::Value::Integer(number) => Self::Integer(number),
            hessian::Value::Null => Self::Null,
            hessian::Value::Double(_) | hessian::Value::Bool(_) | hessian::Value::Other => Self::Other,
        }
    }
}

/// A call.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// The request id.
    pub id: u64,
    /// Whether the call is one that is not answered.
    pub one_way: bool,
    /// The service's interface, which is its path too.
    pub interface: &'a str,
    /// The service's version; empty for none.
    pub version: &'a str,
    /// The method.
    pub method: &'a str,
    /// The arguments. The parameter types are made of them: `String`, `byte[]`, `int`, and `Object` for null.
    pub arguments: &'a [Value<'a>],
    /// Attachments beside `path`, `interface` and `version`.
    pub attachments: &'a [(&'a str, &'a str)],
}

impl Request<'_> {
    /// Appends the frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        let flags = if self.one_way { REQUEST } else { REQUEST | TWO_WAY };
        write_frame(flags | HESSIAN2, 0, self.id, out, |out| {
            write_text(out, VERSION);
            write_text(out, self.interface);
            write_text(out, self.version);
            write_text(out, self.method);
            write_text(out, &self.arguments.iter().map(Value::descriptor).collect::<String>());
            for argument in self.arguments {
                argument.write(out);
            }
            let own = [("path", self.interface), ("interface", self.interface), ("version", self.version)];
            write_map(own.into_iter().chain(self.attachments.iter().copied()), out);
        });
    }
}

/// What a service gives back.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Answer<'a> {
    /// The call's result.
    Value(Value<'a>),
    /// An exception of the service's own.
    Exception {
        /// Its Java class; empty when the server sent a plain string.
        class: Cow<'a, str>,
        /// Its message.
        message: Cow<'a, str>,
    },
    /// A status other than OK.
    Error {
        /// The status, one of [`status`].
        status: u8,
        /// The error's text.
        text: Cow<'a, str>,
    },
}

impl Answer<'_> {
    /// Appends the frame that answers the request `id`, with `attachments` unless it is an error.
    pub fn write(&self, id: u64, attachments: &[(&str, &str)], out: &mut Vec<u8>) {
        self.write_with(id, Some(attachments), out);
    }

    /// Appends the frame that answers the request `id` for clients that know no attachments of responses.
    pub fn write_without_attachments(&self, id: u64, out: &mut Vec<u8>) {
        self.write_with(id, None, out);
    }

    fn write_with(&self, id: u64, attachments: Option<&[(&str, &str)]>, out: &mut Vec<u8>) {
        // What the response is of says whether attachments follow.
        let kind = |bare: i32| if attachments.is_some() { bare.saturating_add(3) } else { bare };
        if let Self::Error { status, text } = self {
            return write_error(id, *status, text, out);
        }
        write_frame(HESSIAN2, status::OK, id, out, |out| {
            match self {
                Self::Value(Value::Null) => write_int(out, kind(2)),
                Self::Value(value) => {
                    write_int(out, kind(1));
                    value.write(out);
                }
                Self::Exception { class, message } => {
                    write_int(out, kind(0));
                    // A class with one field, and an object of it (section 4.8 of the Hessian specification).
                    out.push(b'C');
                    write_text(out, class);
                    write_int(out, 1);
                    write_text(out, "detailMessage");
                    out.push(0x60);
                    write_text(out, message);
                }
                Self::Error { .. } => {}
            }
            if let Some(attachments) = attachments {
                write_map(attachments.iter().copied(), out);
            }
        });
    }
}

/// Appends a response with a status other than OK, which every version of Dubbo reads whatever it asked in.
pub fn write_error(id: u64, status: u8, text: &str, out: &mut Vec<u8>) {
    write_frame(HESSIAN2, status, id, out, |out| write_text(out, text));
}

/// Reads the version of Dubbo that the client of a request in Hessian 2 says it is of.
///
/// # Errors
///
/// [`Error::Unsupported`] in other serializations, [`Error::Malformed`] when the body cannot be read.
pub fn read_version(request: &[u8]) -> Result<Option<Cow<'_, str>>, Error> {
    let (header, body) = hessian_body(request)?;
    optional_text(body).map(|(_, version)| version).map_err(|error| at(error, &header))
}

/// Reads the arguments of a request in Hessian 2.
///
/// # Errors
///
/// [`Error::Unsupported`] in other serializations, [`Error::Malformed`] when the body cannot be read.
pub fn read_arguments(request: &[u8]) -> Result<Vec<Value<'_>>, Error> {
    let (header, body) = hessian_body(request)?;
    let read = || {
        let mut rest = body;
        let mut types = None;
        for _ in 0..5 {
            (rest, types) = optional_text(rest)?;
        }
        let count = descriptor::count(types.as_deref().unwrap_or_default().as_bytes()).unwrap_or_default();
        let mut reader = Reader::default();
        let mut arguments = Vec::new();
        for _ in 0..count {
            let (after, value) = reader.value(rest)?;
            rest = after;
            arguments.push(value.into());
        }
        Ok(arguments)
    };
    read().map_err(|error| at(error, &header))
}

/// Reads a response in Hessian 2. Its attachments are [`Dubbo::response_head`](super::Dubbo::response_head)'s.
///
/// # Errors
///
/// [`Error::Unsupported`] in other serializations, [`Error::Malformed`] when the body cannot be read.
pub fn read_answer(response: &[u8]) -> Result<Answer<'_>, Error> {
    let (header, body) = hessian_body(response)?;
    if header.status != status::OK {
        let text = Cow::Owned(response::error_text(body).unwrap_or_default());
        return Ok(Answer::Error { status: header.status, text });
    }
    let read = || {
        let mut reader = Reader::default();
        let rest = body.get(1..).unwrap_or_default();
        match response::Content::read(HESSIAN2, body).map(|content| content.answer) {
            Some(response::Answer::Value) => Ok(Answer::Value(reader.value(rest)?.1.into())),
            Some(response::Answer::Null) => Ok(Answer::Value(Value::Null)),
            Some(response::Answer::Exception) => {
                let exception = response::exception(&mut reader, rest)?.1;
                Ok(Answer::Exception {
                    class: exception.class.unwrap_or_default(),
                    message: exception.field.unwrap_or_default(),
                })
            }
            None => Ok(Answer::Value(reader.value(body)?.1.into())),
        }
    };
    read().map_err(|error| at(error, &header))
}

fn hessian_body(frame: &[u8]) -> Result<(Header, &[u8]), Error> {
    match Header::parse(frame)? {
        None => Err(super::truncated(frame)),
        Some(header) if header.serialization() != HESSIAN2 => {
            Err(Error::Unsupported { what: "serialization", offset: 2 })
        }
        Some(header) => Ok((header, header.body(frame))),
    }
}

fn at(error: nom::Err<Fault>, header: &Header) -> Error {
    Fault::at(error, usize::try_from(header.frame_len()).unwrap_or(usize::MAX))
}

/// Appends a frame whose body `write` appends.
fn write_frame(flags: u8, status: u8, id: u64, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    Header { flags, status, id, length: 0 }.write(out);
    let body = out.len();
    write(out);
    let length = u32::try_from(out.len().saturating_sub(body)).unwrap_or(u32::MAX);
    if let Some(room) = out.get_mut(start..body).and_then(|header| header.last_chunk_mut()) {
        *room = length.to_be_bytes();
    }
}

fn write_map<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>, out: &mut Vec<u8>) {
    out.push(MAP);
    for (name, value) in entries {
        write_text(out, name);
        write_text(out, value);
    }
    out.push(END);
}
