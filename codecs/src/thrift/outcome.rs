use super::cursor::{Cursor, Read, length};
use super::protocol::{Begin, EXCEPTION, Protocol};
use super::status;
use super::walk::{Shape, field};
use crate::Outcome;

/// How `message`, an answer, ends its call. `input` is what it was read from; its end is the message's.
pub(super) fn of(message: &Begin, input: &[u8]) -> Outcome {
    let mut cursor = Cursor::new(input).within(message.body, input.len(), "result");
    if message.kind == EXCEPTION {
        let code = exception(&mut cursor, message.protocol).unwrap_or_default();
        return Outcome::Error(code.unwrap_or(status::UNKNOWN));
    }
    let mut id = 0;
    match field(&mut cursor, message.protocol, &mut id) {
        // Field 0 is the result; others are the exceptions that the method declares.
        Ok(Some(_)) if id != 0 => Outcome::Exception,
        _ => Outcome::Success,
    }
}

/// The type that a `TApplicationException` says.
fn exception(cursor: &mut Cursor<'_>, protocol: Protocol) -> Read<Option<u32>> {
    let mut id = 0;
    // Two are known. More are not looked at.
    for _ in 0..4 {
        let Some(code) = field(cursor, protocol, &mut id)? else { break };
        match (id, Shape::of(protocol, code, true)) {
            (2, Some(Shape::Fixed(4))) => return cursor.u32().map(Some),
            (2, Some(Shape::Varint)) => {
                let zigzag = cursor.varint()?;
                return Ok(Some((zigzag >> 1) ^ (zigzag & 1).wrapping_neg()));
            }
            (_, Some(Shape::Text)) => {
                let size = if protocol == Protocol::Compact { cursor.varint()? } else { cursor.u32()? };
                cursor.take(length(size))?;
            }
            (_, Some(Shape::Fixed(size))) => drop(cursor.take(size.into())?),
            (_, Some(Shape::Varint)) => cursor.skip_varint()?,
            _ => break,
        }
    }
    Ok(None)
}
