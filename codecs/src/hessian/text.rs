use std::borrow::Cow;

use super::number::{byte, bytes, short};
use super::{Fault, NULL, Parsed};
use crate::words::is_ascii;

/// Reads a string, chunked or not (section 4.12). What no Unicode text can hold, such as half a surrogate pair, reads as
/// U+FFFD.
pub(crate) fn text(input: &[u8]) -> Parsed<'_, Cow<'_, str>> {
    if let Some((bytes, rest)) = short_text(input)
        && let Ok(text) = str::from_utf8(bytes)
    {
        return Ok((rest, Cow::Borrowed(text)));
    }
    let (rest, (bytes, last)) = piece(input)?;
    if last {
        return Ok((rest, decode(bytes)));
    }
    let mut all = bytes.to_vec();
    let mut rest = rest;
    loop {
        let (after, (bytes, last)) = piece(rest)?;
        all.extend_from_slice(bytes);
        rest = after;
        if last {
            return Ok((rest, Cow::Owned(decode(&all).into_owned())));
        }
    }
}

/// Reads a string as nearly all are: short and ASCII, with as many bytes as units.
pub(crate) fn short_text(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = match input {
        [len @ 0x00..=0x1f, rest @ ..] => ([0, *len], rest),
        [tag @ 0x30..=0x33, len, rest @ ..] => ([tag & 3, *len], rest),
        _ => return None,
    };
    rest.split_at_checked(u16::from_be_bytes(len).into()).filter(|(bytes, _)| is_ascii(bytes))
}

/// Reads a string or null.
pub(crate) fn optional_text(input: &[u8]) -> Parsed<'_, Option<Cow<'_, str>>> {
    match input.split_first() {
        Some((&NULL, rest)) => Ok((rest, None)),
        _ => text(input).map(|(rest, text)| (rest, Some(text))),
    }
}

/// Passes over a string.
pub(super) fn skip_text(input: &[u8]) -> Parsed<'_, ()> {
    if let Some((_, rest)) = short_text(input) {
        return Ok((rest, ()));
    }
    let mut rest = input;
    loop {
        let (after, (_, last)) = piece(rest)?;
        rest = after;
        if last {
            return Ok((rest, ()));
        }
    }
}

/// Passes over a string or null.
pub(crate) fn skip_optional_text(input: &[u8]) -> Parsed<'_, ()> {
    match input.split_first() {
        Some((&NULL, rest)) => Ok((rest, ())),
        _ => skip_text(input),
    }
}

/// Passes over a string or null as [`skip_text`] does, if every reader sees the same text in it.
pub(crate) fn check_optional_text(input: &[u8]) -> Parsed<'_, ()> {
    match input.split_first() {
        Some((&NULL, rest)) => Ok((rest, ())),
        _ => check_text(input),
    }
}

/// Passes over a string, if every reader sees the same text in it.
pub(super) fn check_text(input: &[u8]) -> Parsed<'_, ()> {
    let mut rest = input;
    loop {
        let (after, (bytes, last)) = piece(rest)?;
        if !is_proper(bytes) {
            return Fault::unsupported(rest, "improper text");
        }
        rest = after;
        if last {
            return Ok((rest, ()));
        }
    }
}

/// Whether `bytes` are what the protocol makes of UTF-16 units: each in the shortest form that there is.
fn is_proper(bytes: &[u8]) -> bool {
    if is_ascii(bytes) {
        return true;
    }
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return true,
            [0x00..=0x7f, after @ ..]
            | [0xc2..=0xdf, 0x80..=0xbf, after @ ..]
            | [0xe0, 0xa0..=0xbf, 0x80..=0xbf, after @ ..]
            | [0xe1..=0xef, 0x80..=0xbf, 0x80..=0xbf, after @ ..] => after,
            _ => return false,
        };
    }
}

/// Whether a value that starts with `tag` is a string.
pub(crate) fn is_text(tag: u8) -> bool {
    matches!(tag, 0x00..=0x1f | 0x30..=0x33 | b'R' | b'S')
}

/// Reads one piece of a string: its bytes, and whether it is the last.
fn piece(input: &[u8]) -> Parsed<'_, (&[u8], bool)> {
    let (rest, tag) = byte(input)?;
    let (rest, units) = match tag {
        0x00..=0x1f => (rest, u16::from(tag)),
        0x30..=0x33 => {
            let (rest, low) = byte(rest)?;
            (rest, u16::from_be_bytes([tag & 3, low]))
        }
        b'R' | b'S' => short(rest)?,
        _ => return Fault::malformed(input, "string"),
    };
    // What is ASCII throughout has as many bytes as units.
    let width = match rest.get(..units.into()) {
        Some(bytes) if is_ascii(bytes) => units.into(),
        _ => extent(rest, units.into())?.1,
    };
    let (rest, bytes) = bytes(rest, width)?;
    Ok((rest, (bytes, tag != b'R')))
}

/// The number of bytes that hold the next `units` UTF-16 units. A sequence of four bytes, which the protocol does not
/// have but some programs write, stands for two units.
fn extent(input: &[u8], units: usize) -> Parsed<'_, usize> {
    let mut rest = input;
    let mut left = units;
    while left > 0 {
        let (width, units) = match rest.first() {
            None => return Fault::malformed(rest, "truncated value"),
            Some(0x00..=0x7f) => (1, 1),
            Some(0xc0..=0xdf) => (2, 1),
            Some(0xe0..=0xef) => (3, 1),
            Some(0xf0..=0xf7) => (4, 2),
            Some(_) => return Fault::malformed(rest, "character"),
        };
        rest = match rest.get(width..) {
            Some(after) => after,
            None => return Fault::malformed(rest, "truncated value"),
        };
        left = left.saturating_sub(units);
    }
    Ok((rest, input.len().saturating_sub(rest.len())))
}

fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(
            char::decode_utf16(Units { bytes: bytes.iter(), pending: None })
                .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
        ),
    }
}

/// The UTF-16 units of a string's bytes. Reads what is not proper UTF-8 by masks, as the Java implementation does, so
/// that the proxy and the server never see different text in the same bytes.
struct Units<'a> {
    bytes: std::slice::Iter<'a, u8>,
    pending: Option<u16>,
}

impl Units<'_> {
    fn tail(&mut self) -> u32 {
        self.bytes.next().map_or(0, |byte| u32::from(byte & 0x3f))
    }
}

impl Iterator for Units<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if let Some(low) = self.pending.take() {
            return Some(low);
        }
        let lead = u32::from(*self.bytes.next()?);
        let code = match lead {
            0xc0..=0xdf => (lead & 0x1f) << 6 | self.tail(),
            0xe0..=0xef => (lead & 0x0f) << 12 | self.tail() << 6 | self.tail(),
            0xf0..=0xf7 => (lead & 0x07) << 18 | self.tail() << 12 | self.tail() << 6 | self.tail(),
            _ => lead,
        };
        let mut units = [0; 2];
        let character = char::from_u32(code).filter(|character| character.len_utf16() == 2);
        match character.map(|character| character.encode_utf16(&mut units)) {
            Some([high, low]) => {
                self.pending = Some(*low);
                Some(*high)
            }
            _ => Some(u16::try_from(code).unwrap_or(0xfffd)),
        }
    }
}
