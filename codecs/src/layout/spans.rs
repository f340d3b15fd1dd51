use core::ops::Range;

use super::entry::Key;
use super::split::varint_base;
use super::{Attribute, Form, FrameKind, Layout, Number, Part, Place, Shape, Size, Source};
use crate::inspect::Span;
use crate::protobuf::{Fields, Value};

/// Fields as they are found: they may lie in one another, and in the same place.
#[derive(Default)]
struct Found(Vec<(String, Range<usize>)>);

impl Found {
    fn note(&mut self, name: impl Into<String>, bytes: Range<usize>) {
        self.0.push((name.into(), bytes));
    }

    fn number(&mut self, name: impl Into<String>, number: Number, base: usize) {
        self.note(name, number.at().saturating_add(base)..number.end().saturating_add(base));
    }

    /// The fields of `len` bytes in their order. Where one lies in another, its bytes are its own.
    fn spans(self, len: usize) -> Vec<Span> {
        let mut ends: Vec<usize> = self.0.iter().flat_map(|(_, bytes)| [bytes.start, bytes.end]).collect();
        ends.retain(|end| *end < len);
        ends.extend([0, len]);
        ends.sort_unstable();
        ends.dedup();
        let mut spans: Vec<Span> = Vec::new();
        for (start, end) in ends.iter().copied().zip(ends.iter().copied().skip(1)) {
            let over = self.0.iter().filter(|(_, bytes)| bytes.start <= start && end <= bytes.end);
            let least = over.clone().map(|(_, bytes)| bytes.len()).min();
            let names: Vec<&str> =
                over.filter(|(_, bytes)| Some(bytes.len()) == least).map(|(name, _)| &**name).collect();
            let name = names.join(", ");
            match spans.last_mut().filter(|last| last.name == name) {
                Some(last) => last.bytes.end = end,
                None => spans.push(Span { name, bytes: start..end }),
            }
        }
        spans
    }
}

impl Layout {
    /// What is where at the front of `input`, as far as it is there.
    pub(super) fn spans_of(&self, input: &[u8]) -> Vec<Span> {
        let mut found = Found::default();
        if let Some((number, _)) = self.magic {
            found.number("magic", number, 0);
        }
        let (base, size) = match self.varint {
            None => (0, None),
            Some((at, plus)) => match varint_base(input, at, plus) {
                Ok(Some((base, size))) => {
                    found.note("length", at..base);
                    (base, Some(size.saturating_add(base as u64)))
                }
                _ => return found.spans(input.len()),
            },
        };
        let rest = input.get(base..).unwrap_or_default();
        let shape = self.shape_of(rest).unwrap_or(&self.shape);
        let of_frame = shape.length.and_then(|length| length.of(length.number.read(rest)?));
        let size = size.or(of_frame).and_then(|size| usize::try_from(size).ok());
        let len = size.map_or(input.len(), |size| size.min(input.len()));
        self.note_all(shape, input.get(base..len).unwrap_or_default(), base, &mut found);
        found.spans(len)
    }

    /// Notes the fields of `frame`, which starts at `base`.
    fn note_all(&self, shape: &Shape, frame: &[u8], base: usize, found: &mut Found) {
        let parts = places(shape, frame, base, found);
        let place = |name: &str, place: &Place, found: &mut Found| match place {
            Place::Header(number) => found.number(name, *number, base),
            Place::Protobuf { part, path } => {
                let deep = parts.get(*part).and_then(|(_, bytes, at)| deep(bytes, path, *at));
                deep.into_iter().for_each(|bytes| found.note(name, bytes));
            }
        };
        if let Some(length) = shape.length {
            found.number("length", length.number, base);
        }
        self.ids.iter().for_each(|id| place("id", id, found));
        if let Some(kinds) = &self.kinds {
            place("kind", &kinds.place, found);
        }
        let is_answer = self.is_answer(shape, frame);
        if is_answer != Some(false) {
            self.statuses.place.iter().for_each(|status| place("status", status, found));
            self.statuses.service.iter().for_each(|status| place("status of the service", status, found));
        }
        if is_answer != Some(true) {
            self.attributes.iter().for_each(|attribute| note(attribute, &parts, base, found));
        }
    }

    /// Whether a frame is an answer, if it says so.
    fn is_answer(&self, shape: &Shape, frame: &[u8]) -> Option<bool> {
        match self.kind_told(shape, frame).ok().flatten()? {
            FrameKind::Response => Some(true),
            FrameKind::Request | FrameKind::OneWay => Some(false),
            _ => None,
        }
    }
}

/// Notes the parts and their lengths: each that begins in the frame, its bytes, and where it starts.
fn places<'a>(
    shape: &'a Shape,
    frame: &'a [u8],
    base: usize,
    found: &mut Found,
) -> Vec<(&'a Part, &'a [u8], usize)> {
    let mut start = shape.header;
    let mut parts = Vec::new();
    for part in &shape.parts {
        let of_length = format!("length of {}", part.name);
        let Some(range) = part.range(frame, start) else { break };
        match part.size {
            Size::Header(length) => found.number(of_length, length.number, base),
            Size::Prefix(_) => {
                found.note(of_length, start.saturating_add(base)..range.start.saturating_add(base));
            }
            Size::Bytes(_) | Size::Rest => {}
        }
        found.note(&*part.name, range.start.saturating_add(base)..range.end.saturating_add(base));
        let Some(bytes) = frame.get(range.start..range.end.min(frame.len())) else { break };
        parts.push((part, bytes, range.start.saturating_add(base)));
        start = range.end;
    }
    parts
}

/// Notes where the value of an attribute is.
fn note(attribute: &Attribute, parts: &[(&Part, &[u8], usize)], base: usize, found: &mut Found) {
    match &attribute.source {
        Source::Number(number) => found.number(&*attribute.name, *number, base),
        Source::Text { at, len } => {
            let at = at.saturating_add(base);
            found.note(&*attribute.name, at..at.saturating_add(*len));
        }
        Source::Protobuf { part, path } => {
            let deep = parts.get(*part).and_then(|(_, bytes, at)| deep(bytes, path, *at));
            deep.into_iter().for_each(|bytes| found.note(&*attribute.name, bytes));
        }
        Source::Entry { part, .. } | Source::Tagged { part, .. } => {
            let Some((part, bytes, start)) = parts.get(*part) else { return };
            let mut place = None;
            // What cannot be read has no place.
            let _ = part.entries(bytes, *start, &mut |key, value, at| {
                let is_it = match (&attribute.source, key) {
                    (Source::Entry { key: wanted, .. }, Key::Text(key) | Key::Literal(key)) => key == wanted,
                    (Source::Tagged { tag: wanted, .. }, Key::Tag(tag)) => tag == *wanted,
                    _ => false,
                };
                if is_it && place.is_none() {
                    let rest = bytes.get(at.saturating_sub(*start)..).unwrap_or_default();
                    let len = if part.form == Form::Json { scalar(rest) } else { value.len() };
                    place = Some(at..at.saturating_add(len));
                }
                Ok(())
            });
            place.into_iter().for_each(|bytes| found.note(&*attribute.name, bytes));
        }
    }
}

/// Where the last field of a path in a message is.
fn deep(message: &[u8], path: &[u32], offset: usize) -> Option<Range<usize>> {
    let (number, deeper) = path.split_first()?;
    let found = Fields::at(message, offset).map_while(Result::ok).filter(|field| field.number == *number);
    let last = found.last()?;
    let end = last.offset.saturating_add(last.bytes.len());
    match last.value {
        _ if deeper.is_empty() => Some(last.offset..end),
        Value::Bytes(inner) => deep(inner, deeper, end.saturating_sub(inner.len())),
        _ => None,
    }
}

/// How many bytes a scalar of JSON has.
fn scalar(json: &[u8]) -> usize {
    let mut is_escaped = false;
    let is_string = json.first() == Some(&b'"');
    let end = json.iter().skip(1).position(|byte| {
        let ends = if is_string { *byte == b'"' && !is_escaped } else { b" \t\r\n,}]".contains(byte) };
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    });
    end.map_or(json.len(), |end| end.saturating_add(1).saturating_add(is_string.into()))
}
