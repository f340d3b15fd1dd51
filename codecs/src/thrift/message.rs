//! Whole Thrift messages with one text each, written and read: for sample servers and clients, load generators and
//! tests. The proxy itself passes messages on and makes only error replies.
use std::borrow::Cow;

use super::cursor::{Cursor, Read, Stop, length};
use super::edit::{self, set_lengths};
use super::protocol::{Begin, CALL, EXCEPTION, ONE_WAY, Protocol, REPLY, write_begin};
use super::transport::{Envelope, Transport};
use super::walk::{Shape, field, write_field, write_int, write_text};
use super::{frame, info, reply, zlib};
use crate::{Change, Edit, Error};

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// What is around it.
    pub transport: Transport,
    /// How it is written.
    pub protocol: Protocol,
    /// Whether it is compressed by zlib, in THeader. Written, it is only stored.
    pub is_compressed: bool,
    /// The sequence id.
    pub id: u32,
    /// The method; `Service:method` where that is multiplexed.
    pub name: Cow<'a, str>,
    /// The headers, where the transport has any.
    pub headers: Vec<(String, String)>,
    /// What it says.
    pub content: Content<'a>,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content<'a> {
    /// A call with this text for its first argument.
    Call(Cow<'a, [u8]>),
    /// Such a call that is not answered.
    OneWay(Cow<'a, [u8]>),
    /// An answer.
    Value(Cow<'a, [u8]>),
    /// An answer without a value.
    Void,
    /// The first exception that the method declares, with this text for its first field.
    Exception(Cow<'a, [u8]>),
    /// A `TApplicationException`.
    Error {
        /// Its type.
        status: u32,
        /// Its text.
        text: Cow<'a, str>,
    },
}

impl<'a> Message<'a> {
    /// A message without headers.
    pub fn new(
        transport: Transport,
        protocol: Protocol,
        id: u32,
        name: &'a str,
        content: Content<'a>,
    ) -> Self {
        let (name, headers) = (Cow::Borrowed(name), Vec::new());
        Self { transport, protocol, is_compressed: false, id, name, headers, content }
    }

    /// Appends the frame.
    ///
    /// # Errors
    ///
    /// It cannot be written: the transport has no headers, or something is too long.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let mut frame = Vec::new();
        reply::write_envelope(self.transport, self.protocol, self.id, None, self.is_compressed, &mut frame);
        let payload = frame.len();
        let message = if self.is_compressed { &mut Vec::new() } else { &mut frame };
        self.write_message(message);
        if self.is_compressed {
            let message = core::mem::take(message);
            zlib::store(&message, &mut frame);
        }
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| Change::set(name, value)).collect();
        let written = set_lengths(self.transport, 0, payload, &mut frame)
            .and_then(|()| edit::rewrite(&frame, &Edit { changes: &headers, ..Edit::default() }, out));
        frame::read(written, &frame)
    }

    fn write_message(&self, out: &mut Vec<u8>) {
        let protocol = self.protocol;
        let kind = match &self.content {
            Content::Call(_) => CALL,
            Content::OneWay(_) => ONE_WAY,
            Content::Value(_) | Content::Void | Content::Exception(_) => REPLY,
            Content::Error { .. } => EXCEPTION,
        };
        write_begin(out, protocol, kind, self.name.as_bytes(), self.id);
        match &self.content {
            Content::Call(text) | Content::OneWay(text) => write_text(out, protocol, 1, 0, text),
            Content::Value(text) => write_text(out, protocol, 0, 0, text),
            Content::Void => {}
            Content::Exception(text) => {
                write_field(out, protocol, [12, 12], 1, 0);
                write_text(out, protocol, 1, 0, text);
                out.push(0);
            }
            Content::Error { status, text } => {
                write_text(out, protocol, 1, 0, text.as_bytes());
                write_int(out, protocol, 2, 1, *status);
            }
        }
        out.push(0);
    }

    /// Reads a whole frame. Of its struct only what [`Content`] has is read; text that is not there is empty.
    ///
    /// # Errors
    ///
    /// It is no such frame.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        frame::read(Self::read_frame(bytes), bytes)
    }

    fn read_frame(bytes: &'a [u8]) -> Read<Self> {
        let envelope = Envelope::read(bytes)?;
        let mut headers = Vec::new();
        if envelope.has_headers() {
            info::each(envelope.headers(bytes), envelope.transport, &mut |info| {
                let value = String::from_utf8_lossy(info.value).into_owned();
                info.key.with_name(&mut |name| headers.push((name.to_owned(), value.clone())));
            })?;
        }
        let (begin, read_from) = if envelope.is_compressed {
            let compressed = bytes.get(envelope.payload..).unwrap_or_default();
            let inflated = zlib::inflate(compressed, usize::MAX, envelope.payload).map_err(Stop::Bad)?;
            (envelope.inflated_message(&inflated)?, Cow::Owned(inflated))
        } else {
            envelope.message(bytes)?
        };
        let name =
            String::from_utf8_lossy(read_from.get(begin.name.clone()).unwrap_or_default()).into_owned();
        let content = read_content(&begin, &read_from)?;
        let (transport, protocol) = (envelope.transport, begin.protocol);
        let (is_compressed, id) = (envelope.is_compressed, begin.id);
        Ok(Self { transport, protocol, is_compressed, id, name: name.into(), headers, content })
    }
}

fn read_content<'a>(begin: &Begin, bytes: &[u8]) -> Read<Content<'a>> {
    let mut cursor = Cursor::new(bytes).within(begin.body, bytes.len(), "struct");
    let mut id = 0;
    let mut next = |cursor: &mut Cursor<'_>| -> Read<Option<Cow<'a, [u8]>>> {
        let shape =
            field(cursor, begin.protocol, &mut id)?.and_then(|code| Shape::of(begin.protocol, code, true));
        text_of(cursor, begin.protocol, shape)
    };
    let text = |text: Option<Cow<'a, [u8]>>| text.unwrap_or_default();
    Ok(match begin.kind {
        CALL => Content::Call(text(next(&mut cursor)?)),
        ONE_WAY => Content::OneWay(text(next(&mut cursor)?)),
        REPLY => {
            let mut id = 0;
            match field(&mut cursor, begin.protocol, &mut id)? {
                None => Content::Void,
                Some(code) if id == 0 => {
                    let shape = Shape::of(begin.protocol, code, true);
                    Content::Value(text(text_of(&mut cursor, begin.protocol, shape)?))
                }
                Some(_) => Content::Exception(text(next(&mut cursor)?)),
            }
        }
        _ => {
            let text = String::from_utf8_lossy(&text(next(&mut cursor)?)).into_owned().into();
            let crate::Outcome::Error(status) = super::outcome::of(begin, bytes) else {
                return Ok(Content::Void);
            };
            Content::Error { status, text }
        }
    })
}

fn text_of<'a>(
    cursor: &mut Cursor<'_>,
    protocol: Protocol,
    shape: Option<Shape>,
) -> Read<Option<Cow<'a, [u8]>>> {
    if shape != Some(Shape::Text) {
        return Ok(None);
    }
    let size = if protocol == Protocol::Compact { cursor.varint()? } else { cursor.u32()? };
    Ok(Some(cursor.take(length(size))?.to_vec().into()))
}
