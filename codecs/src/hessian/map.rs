use std::borrow::Cow;

use super::number::byte;
use super::text::{is_text, short_text, skip_text};
use super::{END, Fault, MAP, Marks, NULL, Parsed, Reader, Value};
use crate::Search;

/// The entries of the map at the front of the input, one after the other.
#[derive(Debug)]
pub(crate) struct Map<'a> {
    rest: &'a [u8],
}

/// One entry of a map.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// The key, when it is a string.
    pub key: Option<Cow<'a, str>>,
    /// The value.
    pub value: Value<'a>,
    /// Key and value as they are on the wire.
    pub bytes: &'a [u8],
    /// What was defined before the entry.
    pub before: Marks,
    /// What must be defined for the references in it to hold.
    pub uses: Marks,
}

impl<'a> Map<'a> {
    /// Reads the start of a map, typed or not; `None` for null.
    pub(crate) fn open(reader: &mut Reader, input: &'a [u8]) -> Parsed<'a, Option<Self>> {
        let (rest, tag) = byte(input)?;
        let rest = match tag {
            NULL => return Ok((rest, None)),
            MAP => rest,
            b'M' => reader.type_name(rest)?.0,
            _ => return Fault::unsupported(input, "attachments"),
        };
        reader.open_map();
        reader.take_uses();
        Ok((rest, Some(Self { rest })))
    }

    /// The next entry, or `None` after the last.
    pub(crate) fn next(&mut self, reader: &mut Reader) -> Result<Option<Entry<'a>>, nom::Err<Fault>> {
        let start = self.rest;
        if let Some((&END, after)) = start.split_first() {
            self.rest = after;
            return Ok(None);
        }
        let before = reader.marks();
        let (rest, key) = reader.value(start)?;
        let (rest, value) = reader.value(rest)?;
        self.rest = rest;
        let length = start.len().saturating_sub(rest.len());
        Ok(Some(Entry {
            key: match key {
                Value::Text(key) => Some(key),
                _ => None,
            },
            value,
            bytes: start.get(..length).unwrap_or_default(),
            before,
            uses: reader.take_uses(),
        }))
    }

    /// Passes over the next entries as long as they are strings by other names than those that are looked for.
    pub(crate) fn pass(&mut self, search: &Search<'_>) {
        while let Some((key, value)) = short_text(self.rest)
            && !search.has(key)
            && value.first().is_some_and(|tag| is_text(*tag))
            && let Ok((rest, ())) = skip_text(value)
        {
            self.rest = rest;
        }
    }

    /// What follows the map, once [`next`](Self::next) has given `None`.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}
