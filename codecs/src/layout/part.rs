use core::ops::Range;

use super::entry::{Key, Visit};
use super::{Coding, Number, json};
use crate::Error;

/// A length in the header: what it says, and what is to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    /// Where it is.
    pub number: Number,
    /// What is to be added, perhaps less than zero.
    pub plus: i64,
}

impl Length {
    /// The length that a number says.
    #[inline]
    pub(super) fn of(self, value: u64) -> Option<u64> {
        value.checked_add_signed(self.plus)
    }

    /// The number that says a length.
    pub(super) fn number_for(self, length: usize) -> u64 {
        i64::try_from(length).unwrap_or(i64::MAX).saturating_sub(self.plus).try_into().unwrap_or(0)
    }
}

/// How long a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Always as long.
    Bytes(usize),
    /// As the header says.
    Header(Length),
    /// As a number before it says.
    Prefix(Coding),
    /// To the end of the frame.
    Rest,
}

/// What a part holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// Bytes that are not read.
    Bytes,
    /// Text, which is an attribute of the part's name.
    Text,
    /// A JSON object. The keys of objects in it follow a dot: `user.name`.
    Json,
    /// A message of protobuf, and in it perhaps a field that is a map from text.
    Protobuf {
        /// The number of the map's field.
        map: Option<u32>,
    },
    /// Keys and values as text.
    Pairs {
        /// What is between two pairs.
        separator: String,
        /// What is between a key and its value.
        equals: String,
    },
    /// Keys and values, each after its length.
    Map {
        /// How the lengths are written.
        size: Coding,
    },
    /// Values, each after its tag and its length.
    Tlv {
        /// How tags are written.
        tag: Coding,
        /// How lengths are written.
        size: Coding,
    },
}

/// A part of a frame. The first follows the header, and every other the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// How long it is.
    pub size: Size,
    /// What it holds.
    pub form: Form,
}

impl Part {
    /// Where the part is that starts at `start`, without its prefix; `None` if `frame` ends before it is known. It may
    /// end after `frame` does. All is counted from the header's start.
    #[inline]
    pub(super) fn range(&self, frame: &[u8], start: usize) -> Option<Range<usize>> {
        let (start, len) = match self.size {
            Size::Bytes(len) => (start, len),
            Size::Header(length) => {
                let len = length.of(length.number.read(frame)?).unwrap_or(u64::MAX);
                (start, usize::try_from(len).unwrap_or(usize::MAX))
            }
            Size::Prefix(coding) => {
                let (len, width) = coding.read(frame.get(start..)?)?;
                (start.saturating_add(width), usize::try_from(len).unwrap_or(usize::MAX))
            }
            Size::Rest => return Some(start..frame.len()),
        };
        Some(start..start.saturating_add(len))
    }

    /// The part that starts at `start` of a whole frame, and where it starts without its prefix. All is counted from the header's start.
    #[inline]
    pub(super) fn find<'a>(&self, frame: &'a [u8], start: usize) -> Result<(&'a [u8], usize), Error> {
        let range = self.range(frame, start);
        let part = range.and_then(|range| Some((frame.get(range.clone())?, range.start)));
        part.ok_or(Error::Malformed { what: "length of a part", offset: start })
    }

    /// Calls `visit` for every entry of the part, which starts at `offset` of the frame.
    pub(super) fn entries(&self, part: &[u8], offset: usize, visit: &mut Visit<'_>) -> Result<(), Error> {
        match &self.form {
            Form::Bytes | Form::Text | Form::Protobuf { .. } => Ok(()),
            Form::Json => json::entries(part, offset, visit),
            Form::Pairs { separator, equals } => {
                let mut rest = text(part, offset)?;
                while !rest.is_empty() {
                    let (pair, after) = rest.split_once(&**separator).unwrap_or((rest, ""));
                    let (key, value) = pair.split_once(&**equals).unwrap_or((pair, ""));
                    let behind = rest.len().saturating_sub(pair.len()).saturating_add(value.len());
                    let at = offset.saturating_add(part.len()).saturating_sub(behind);
                    if !pair.is_empty() {
                        visit(Key::Text(key), value.as_bytes(), at)?;
                    }
                    rest = after;
                }
                Ok(())
            }
            Form::Map { size } => {
                let mut rest = part;
                while !rest.is_empty() {
                    let at = offset.saturating_add(part.len()).saturating_sub(rest.len());
                    let (key, after) = sized(*size, rest, at)?;
                    let key = text(key, at)?;
                    let (value, after) = sized(*size, after, at)?;
                    rest = after;
                    let end = offset.saturating_add(part.len()).saturating_sub(rest.len());
                    visit(Key::Text(key), value, end.saturating_sub(value.len()))?;
                }
                Ok(())
            }
            Form::Tlv { tag, size } => {
                let mut rest = part;
                while !rest.is_empty() {
                    let at = offset.saturating_add(part.len()).saturating_sub(rest.len());
                    let malformed = Error::Malformed { what: "tag", offset: at };
                    let (key, width) = tag.read(rest).ok_or(malformed)?;
                    let (value, after) = sized(*size, rest.get(width..).unwrap_or_default(), at)?;
                    rest = after;
                    let end = offset.saturating_add(part.len()).saturating_sub(rest.len());
                    visit(Key::Tag(key), value, end.saturating_sub(value.len()))?;
                }
                Ok(())
            }
        }
    }
}

/// What follows its length, and what follows that.
fn sized(size: Coding, bytes: &[u8], offset: usize) -> Result<(&[u8], &[u8]), Error> {
    let found = size
        .read(bytes)
        .and_then(|(len, width)| bytes.get(width..)?.split_at_checked(usize::try_from(len).ok()?));
    found.ok_or(Error::Malformed { what: "length of an entry", offset })
}

/// Bytes as text.
pub(super) fn text(bytes: &[u8], offset: usize) -> Result<&str, Error> {
    core::str::from_utf8(bytes).map_err(|error| Error::Malformed {
        what: "text",
        offset: offset.saturating_add(error.valid_up_to()),
    })
}

/// What all frames of some kinds have: a header, and parts after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The length of the header in bytes.
    pub header: usize,
    /// What says how long the frame is; without it, it ends with its last part.
    pub length: Option<Length>,
    /// The parts.
    pub parts: Vec<Part>,
}

impl Shape {
    /// A part of a frame, and where it starts, counted from the header's start as `frame` is.
    pub(super) fn part<'a>(&self, number: usize, frame: &'a [u8]) -> Result<(&'a [u8], usize), Error> {
        let mut start = self.header;
        for (place, part) in self.parts.iter().enumerate() {
            let (bytes, at) = part.find(frame, start)?;
            if place == number {
                return Ok((bytes, at));
            }
            start = at.saturating_add(bytes.len());
        }
        Err(Error::Malformed { what: "length of a part", offset: frame.len() })
    }
}
