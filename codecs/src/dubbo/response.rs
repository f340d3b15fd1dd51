use super::header::{self, FASTJSON2, HESSIAN2, Header};
use super::{fastjson2, json, request, status};
use crate::hessian::{Fault, Object, Parsed, Reader, Value, text};
use crate::{Error, Head, Outcome};

/// What a response with status OK holds: its first number (`DubboCodec.RESPONSE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// What the call gave.
    pub answer: Answer,
    /// Whether attachments follow.
    pub attachments: bool,
}

/// What a call gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Exception,
    Value,
    Null,
}

impl Content {
    /// Reads the front of the body of a response with status OK.
    pub(super) fn read(serialization: u8, body: &[u8]) -> Option<Self> {
        let number = match serialization {
            HESSIAN2 => body.first()?.checked_sub(0x90)?,
            FASTJSON2 => fastjson2::Fields::new(body).small()?,
            id if json::is_lines(id) => body.first()?.checked_sub(b'0')?,
            _ => return None,
        };
        let (answer, attachments) = match number {
            0 => (Answer::Exception, false),
            1 => (Answer::Value, false),
            2 => (Answer::Null, false),
            3 => (Answer::Exception, true),
            4 => (Answer::Value, true),
            5 => (Answer::Null, true),
            _ => return None,
        };
        Some(Self { answer, attachments })
    }
}

/// So many bytes of a body always tell how a response ends its call.
pub(super) const FRONT: usize = 16;

/// How a response ends its call.
pub(super) fn outcome(header: &Header, body: &[u8]) -> Outcome {
    if header.status != status::OK {
        return Outcome::Error(header.status.into());
    }
    match Content::read(header.serialization(), body) {
        Some(Content { answer: Answer::Exception, .. }) => Outcome::Exception,
        _ => Outcome::Success,
    }
}

/// Reads what a response says.
pub(super) fn read(header: &Header, frame: &[u8], head: &mut Head) -> Result<(), Error> {
    let id = header.serialization();
    match header::serialization_name(id) {
        Some(name) => head.push("serialization", name),
        None => head.push("serialization", &id.to_string()),
    }
    let body = header.body(frame);
    let end = Header::LEN.saturating_add(body.len());
    if header.is_event() {
        return Ok(());
    }
    if header.status != status::OK {
        if let (HESSIAN2, Some(error)) = (id, error_text(body)) {
            head.push("error", &error);
        }
        return Ok(());
    }
    let Some(content) = Content::read(id, body) else {
        return Ok(());
    };
    head.push(
        "result",
        match content.answer {
            Answer::Exception => "exception",
            Answer::Value => "value",
            Answer::Null => "null",
        },
    );
    match id {
        HESSIAN2 => hessian(body, content, head).map_err(|error| Fault::at(error, end)),
        _ => Ok(()),
    }
}

fn hessian(body: &[u8], content: Content, head: &mut Head) -> Result<(), nom::Err<Fault>> {
    let mut reader = Reader::default();
    let rest = body.get(1..).unwrap_or_default();
    let rest = match content.answer {
        Answer::Null => rest,
        Answer::Value => reader.skip(rest)?.0,
        Answer::Exception => {
            let (rest, exception) = exception(&mut reader, rest)?;
            if let Some(class) = exception.class {
                head.push("exception", &class);
            }
            if let Some(message) = exception.field {
                head.push("message", &message);
            }
            rest
        }
    };
    if content.attachments { request::push_attachments(&mut reader, rest, None, head, 0) } else { Ok(()) }
}

/// Reads an exception: its class and its message.
pub(super) fn exception<'a>(reader: &mut Reader, input: &'a [u8]) -> Parsed<'a, Object<'a>> {
    if input.first() == Some(&b'C') {
        return reader.object(input, "detailMessage");
    }
    // Other implementations than Java's throw plain strings.
    let (rest, value) = reader.value(input)?;
    match value {
        Value::Text(message) => Ok((rest, Object { class: None, field: Some(message) })),
        _ => Ok((rest, Object::default())),
    }
}

/// Finds the attachments of a response with status OK in Hessian 2 that has some.
pub(super) fn attachments<'a>(answer: Answer, reader: &mut Reader, body: &'a [u8]) -> Parsed<'a, ()> {
    let rest = body.get(1..).unwrap_or_default();
    match answer {
        Answer::Null => Ok((rest, ())),
        Answer::Value | Answer::Exception => reader.skip(rest),
    }
}

/// The text of a response with a status other than OK. Envoy writes a number before it.
pub(super) fn error_text(body: &[u8]) -> Option<String> {
    let (_, error) = text(body).or_else(|_| text(body.get(1..).unwrap_or_default())).ok()?;
    Some(error.into_owned())
}
