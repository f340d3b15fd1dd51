//! Finds the end of a struct by walking it, where no length says so.

use super::cursor::{Cursor, Read, Stop, length, malformed, unsupported, write_varint};
use super::protocol::Protocol;
use crate::Error;

/// How deep values may lie in each other.
const MOST_LEVELS: usize = 64;

/// The most values of a message whose end nothing else says. It is walked from its start whenever more of it has come:
/// this bounds what that costs, however small the pieces.
const MOST_VALUES: u32 = 1 << 18;

/// What a value is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Fixed(u8),
    Varint,
    Text,
    Struct,
    List,
    Map,
}

impl Shape {
    /// The shape of the values of that type; `is_field` unless it is one of a collection.
    pub(super) fn of(protocol: Protocol, code: u8, is_field: bool) -> Option<Self> {
        Some(match (protocol, code) {
            (Protocol::Compact, 1 | 2) => Self::Fixed(u8::from(!is_field)),
            (Protocol::Compact, 4..=6) => Self::Varint,
            (_, 3) => Self::Fixed(1),
            (Protocol::Compact, 7) => Self::Fixed(8),
            (Protocol::Compact, 8) => Self::Text,
            (Protocol::Compact, 9 | 10) => Self::List,
            (Protocol::Compact, 11) => Self::Map,
            (Protocol::Compact, 13) => Self::Fixed(16),
            (_, 12) => Self::Struct,
            (Protocol::Compact, _) => return None,
            (_, 2) => Self::Fixed(1),
            (_, 6) => Self::Fixed(2),
            (_, 8) => Self::Fixed(4),
            (_, 4 | 10) => Self::Fixed(8),
            (_, 16) => Self::Fixed(16),
            (_, 11) => Self::Text,
            (_, 14 | 15) => Self::List,
            (_, 13) => Self::Map,
            _ => return None,
        })
    }

    /// The least bytes that such a value takes.
    fn least(self, protocol: Protocol) -> usize {
        match (self, protocol) {
            (Self::Fixed(size), _) => size.into(),
            (Self::Varint | Self::Struct, _) | (_, Protocol::Compact) => 1,
            (Self::Text, _) => 4,
            (Self::List, _) => 5,
            (Self::Map, _) => 6,
        }
    }
}

/// A value that is open: a struct without an end so far, or a collection with so many values left, of types that take
/// turns.
#[derive(Debug, Clone, Copy)]
enum Level {
    Struct,
    Values { left: u64, shapes: [Shape; 2] },
}

struct Walk<'a> {
    cursor: Cursor<'a>,
    protocol: Protocol,
    levels: [Level; MOST_LEVELS],
    depth: usize,
    /// The least bytes that what is open still takes.
    owed: usize,
    most: usize,
}

/// Where the struct that begins at `start` of `input` ends, of which more may come. It may end at `most`, at most.
pub(super) fn find_end(protocol: Protocol, input: &[u8], start: usize, most: usize) -> Read<usize> {
    end(protocol, input, start, most, MOST_VALUES)
}

/// Makes sure that the struct that begins at `start` of `input` ends where `input` does. Many servers and clients take
/// what is left of a frame for the next message: one that the proxy never saw.
pub(super) fn check_end(protocol: Protocol, input: &[u8], start: usize) -> Read<()> {
    match end(protocol, input, start, input.len(), u32::MAX) {
        Ok(end) if end == input.len() => Ok(()),
        Ok(end) => malformed("end of message", end),
        Err(Stop::Need(_) | Stop::Bad(Error::TooLarge { .. })) => malformed("end of frame", input.len()),
        Err(bad) => Err(bad),
    }
}

fn end(protocol: Protocol, input: &[u8], start: usize, most: usize, values: u32) -> Read<usize> {
    let cursor = Cursor::new(input).within(start, usize::MAX, "");
    let levels = [Level::Struct; MOST_LEVELS];
    let mut walk = Walk { cursor, protocol, levels, depth: 0, owed: 0, most };
    match walk.run(values) {
        Err(Stop::Need(length)) => {
            let needed = length.saturating_add(walk.owed);
            walk.check(needed)?;
            Err(Stop::Need(needed))
        }
        Ok(()) => walk.check(walk.cursor.at()).map(|()| walk.cursor.at()),
        Err(bad) => Err(bad),
    }
}

impl Walk<'_> {
    fn run(&mut self, values: u32) -> Read<()> {
        self.open(Level::Struct, 1)?;
        for _ in 0..values {
            let Some(level) = self.depth.checked_sub(1).and_then(|top| self.levels.get_mut(top)) else {
                return Ok(());
            };
            match level {
                Level::Struct => {
                    // What comes may be its end, which it owes.
                    self.owed = self.owed.saturating_sub(1);
                    match field(&mut self.cursor, self.protocol, &mut 0)? {
                        Some(code) => {
                            self.owed = self.owed.saturating_add(1);
                            self.value(Shape::of(self.protocol, code, true))?;
                        }
                        None => self.depth = self.depth.saturating_sub(1),
                    }
                }
                Level::Values { left: 0, .. } => self.depth = self.depth.saturating_sub(1),
                Level::Values { left, shapes } => {
                    let [first, second] = *shapes;
                    let shape = if *left & 1 == 0 { first } else { second };
                    *left = left.saturating_sub(1);
                    self.owed = self.owed.saturating_sub(shape.least(self.protocol));
                    self.value(Some(shape))?;
                }
            }
        }
        unsupported("number of values", self.cursor.at())
    }

    fn value(&mut self, shape: Option<Shape>) -> Read<()> {
        let Some(shape) = shape else { return malformed("type of value", self.cursor.at()) };
        match shape {
            Shape::Fixed(size) => self.take(size.into()),
            Shape::Varint => self.cursor.skip_varint(),
            Shape::Text => {
                let size = self.size()?;
                self.take(length(size))
            }
            Shape::Struct => self.open(Level::Struct, 1),
            Shape::List | Shape::Map => self.collection(shape == Shape::Map),
        }
    }

    /// The front of a collection, and all of it where its values have one size.
    fn collection(&mut self, is_map: bool) -> Read<()> {
        let start = self.cursor.at();
        let (count, codes) = match (self.protocol, is_map) {
            (Protocol::Compact, false) => {
                let front = self.cursor.byte()?;
                let count = if front >= 0xf0 { self.cursor.varint()? } else { u32::from(front >> 4) };
                (count, [front & 0xf; 2])
            }
            (Protocol::Compact, true) => {
                let count = self.cursor.varint()?;
                let codes = if count == 0 { 0 } else { self.cursor.byte()? };
                (count, [codes >> 4, codes & 0xf])
            }
            (_, false) => {
                let code = self.cursor.byte()?;
                (self.cursor.u32()?, [code; 2])
            }
            (_, true) => {
                let codes = self.cursor.u16()?.to_be_bytes();
                (self.cursor.u32()?, codes)
            }
        };
        if count == 0 {
            return Ok(());
        }
        let shapes = codes.map(|code| Shape::of(self.protocol, code, false));
        let [Some(first), Some(second)] = shapes else { return malformed("type of value", start) };
        let sizes = [first, second].map(|shape| shape.least(self.protocol));
        let each = if is_map { sizes[0].saturating_add(sizes[1]) } else { sizes[0] };
        let least = length(count).saturating_mul(each);
        if let [Shape::Fixed(_), Shape::Fixed(_)] = [first, second] {
            return self.take(least);
        }
        let left = u64::from(count) << u32::from(is_map);
        self.open(Level::Values { left, shapes: [first, second] }, least)
    }

    /// Opens a value that takes so many more bytes, at least.
    fn open(&mut self, level: Level, least: usize) -> Read<()> {
        let Some(room) = self.levels.get_mut(self.depth) else {
            return unsupported("depth of values", self.cursor.at());
        };
        *room = level;
        self.depth = self.depth.saturating_add(1);
        self.owed = self.owed.saturating_add(least);
        self.check(self.cursor.at().saturating_add(self.owed))
    }

    fn size(&mut self) -> Read<u32> {
        if self.protocol == Protocol::Compact { self.cursor.varint() } else { self.cursor.u32() }
    }

    fn take(&mut self, count: usize) -> Read<()> {
        self.check(self.cursor.at().saturating_add(count))?;
        self.cursor.take(count).map(|_| ())
    }

    fn check(&self, end: usize) -> Read<()> {
        if end > self.most {
            let size = u64::try_from(end).unwrap_or(u64::MAX);
            return Err(Stop::Bad(Error::TooLarge { what: "message", size, limit: self.most }));
        }
        Ok(())
    }
}

/// Reads the front of a field: its type, `None` at the end of the struct. `id` is that of the field before, and becomes
/// that of this one.
pub(super) fn field(cursor: &mut Cursor<'_>, protocol: Protocol, id: &mut i16) -> Read<Option<u8>> {
    let front = cursor.byte()?;
    if protocol != Protocol::Compact {
        if front != 0 {
            *id = cursor.u16()?.cast_signed();
        }
        return Ok((front != 0).then_some(front));
    }
    let code = front & 0xf;
    if code != 0 {
        *id = match front >> 4 {
            0 => {
                let zigzag = cursor.varint()? as u16;
                (zigzag >> 1).cast_signed() ^ (zigzag & 1).cast_signed().wrapping_neg()
            }
            more => id.wrapping_add(more.into()),
        };
    }
    Ok((code != 0).then_some(code))
}

/// Appends a field of text: number `id` (up to 15 more than that of the field `before`).
pub(super) fn write_text(out: &mut Vec<u8>, protocol: Protocol, id: u8, before: u8, text: &[u8]) {
    write_field(out, protocol, [11, 8], id, before);
    let size = u32::try_from(text.len()).unwrap_or(u32::MAX);
    match protocol {
        Protocol::Compact => write_varint(out, size),
        _ => out.extend_from_slice(&size.to_be_bytes()),
    }
    out.extend_from_slice(text);
}

/// Appends a field with an integer of 32 bits, likewise.
pub(super) fn write_int(out: &mut Vec<u8>, protocol: Protocol, id: u8, before: u8, number: u32) {
    write_field(out, protocol, [8, 5], id, before);
    match protocol {
        Protocol::Compact => write_varint(out, number << 1 ^ (number >> 31).wrapping_neg()),
        _ => out.extend_from_slice(&number.to_be_bytes()),
    }
}

/// Appends the front of a field whose type has these numbers in the binary and in the compact protocol.
pub(super) fn write_field(out: &mut Vec<u8>, protocol: Protocol, codes: [u8; 2], id: u8, before: u8) {
    match protocol {
        Protocol::Compact if id > before => out.push(id.wrapping_sub(before) << 4 | codes[1]),
        // Field 0.
        Protocol::Compact => out.extend_from_slice(&[codes[1], 0]),
        _ => out.extend_from_slice(&[codes[0], 0, id]),
    }
}
