//! What a part holds, told by what all of them can be read as.

use std::collections::BTreeSet;

use meltemi_codecs::layout::Coding;
use meltemi_codecs::protobuf::{Fields, Value};
use meltemi_proxy::plan::raw::Form;

/// A form, and how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// What it holds.
    pub form: Form,
    /// Of pairs: what is between two.
    pub separator: Option<&'static str>,
    /// Of maps and tags: how lengths are written.
    pub size: Option<Coding>,
}

/// Text that a part has under a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// What leads to it: a key, a tag, or the numbers of fields.
    pub path: String,
    /// What it says; of what is no text, nothing.
    pub text: Option<String>,
    /// Its bytes, if they are written as they are.
    pub bytes: Vec<u8>,
}

/// How many fields or entries of a part are looked at.
const MOST_ENTRIES: usize = 256;
/// The most messages around a field.
const DEEPEST: usize = 3;

/// What all of some parts are. Empty ones say nothing.
pub fn of(parts: &[&[u8]]) -> Option<Shape> {
    let full: Vec<&[u8]> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    if full.len() < 3 || full.len() * 4 < parts.len() * 3 {
        return None;
    }
    let all = |is: &dyn Fn(&[u8]) -> bool| full.iter().all(|part| is(part));
    let plain = |form| Some(Shape { form, separator: None, size: None });
    if all(&|part| part.starts_with(b"{") && serde_json::from_slice::<serde_json::Value>(part).is_ok()) {
        return plain(Form::Json);
    }
    if all(&is_text) {
        let separator = ["&", ";", ",", "\n", "|"].into_iter().find(|separator| {
            all(&|part| pairs(part, separator).is_some())
                && full.iter().any(|part| pairs(part, separator).is_some_and(|pairs| pairs.len() > 1))
        });
        return match separator {
            Some(separator) => Some(Shape { form: Form::Pairs, separator: Some(separator), size: None }),
            None => full
                .iter()
                .all(|part| part.iter().any(u8::is_ascii_alphanumeric))
                .then(|| plain(Form::Text))?,
        };
    }
    if all(&|part| message(part).is_some()) {
        return plain(Form::Protobuf);
    }
    for size in [Coding::Big(4), Coding::Little(4), Coding::Big(2), Coding::Little(2), Coding::Big(1)] {
        if all(&|part| map(part, size).is_some()) {
            return Some(Shape { form: Form::Map, separator: None, size: Some(size) });
        }
    }
    for size in [Coding::Big(1), Coding::Big(2), Coding::Little(2)] {
        if all(&|part| tags(part, size).is_some()) {
            return Some(Shape { form: Form::Tlv, separator: None, size: Some(size) });
        }
    }
    None
}

/// Whether bytes are text without control characters.
pub fn is_text(bytes: &[u8]) -> bool {
    core::str::from_utf8(bytes).is_ok_and(|text| !text.chars().any(char::is_control))
}

impl Shape {
    /// What a part holds under names.
    pub fn entries(&self, part: &[u8]) -> Vec<Entry> {
        let text = |bytes: &[u8]| is_text(bytes).then(|| String::from_utf8_lossy(bytes).into_owned());
        let entry = |path: String, bytes: &[u8]| Entry { path, text: text(bytes), bytes: bytes.to_vec() };
        match self.form {
            Form::Json => {
                let Ok(serde_json::Value::Object(members)) = serde_json::from_slice(part) else {
                    return Vec::new();
                };
                let texts = members.into_iter().map(|(path, value)| Entry {
                    path,
                    text: value.as_str().map(str::to_owned),
                    bytes: Vec::new(),
                });
                texts.take(MOST_ENTRIES).collect()
            }
            Form::Pairs => {
                let pairs = pairs(part, self.separator.unwrap_or("&")).unwrap_or_default();
                pairs.into_iter().map(|(key, value)| entry(key.to_owned(), value.as_bytes())).collect()
            }
            Form::Map => {
                let entries = map(part, self.size.unwrap_or(Coding::Big(4))).unwrap_or_default();
                entries.into_iter().map(|(key, value)| entry(key.to_owned(), value)).collect()
            }
            Form::Tlv => {
                let entries = tags(part, self.size.unwrap_or(Coding::Big(1))).unwrap_or_default();
                entries.into_iter().map(|(tag, value)| entry(tag.to_string(), value)).collect()
            }
            Form::Protobuf => {
                let mut entries = Vec::new();
                walk(part, &mut Vec::new(), &mut |path, value| {
                    if let Value::Bytes(bytes) = value {
                        entries.push(entry(dotted(path), bytes));
                    }
                });
                entries
            }
            Form::Text | Form::Bytes => Vec::new(),
        }
    }
}

/// A path as layouts write it.
pub fn dotted(path: &[u32]) -> String {
    path.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

/// The paths of numbers in a message, each once.
pub fn numbers(message: &[u8]) -> Vec<Vec<u32>> {
    let mut paths = BTreeSet::new();
    walk(message, &mut Vec::new(), &mut |path, value| {
        if !matches!(value, Value::Bytes(_)) {
            paths.insert(path.to_vec());
        }
    });
    paths.into_iter().collect()
}

/// The number at a path of a message; of several, the last one.
pub fn number(message: &[u8], path: &[u32]) -> Option<u64> {
    let (field, deeper) = path.split_first()?;
    let fields = Fields::new(message).filter_map(Result::ok).take(MOST_ENTRIES);
    let last = fields.filter(|found| found.number == *field).last()?;
    match (last.value, deeper) {
        (Value::Varint(value) | Value::Fixed64(value), []) => Some(value),
        (Value::Fixed32(value), []) => Some(value.into()),
        (Value::Bytes(message), [_, ..]) => number(message, deeper),
        _ => None,
    }
}

/// The fields of bytes that are a message.
fn message(bytes: &[u8]) -> Option<()> {
    for (count, field) in Fields::new(bytes).enumerate() {
        // Numbers of fields are small; those of bytes by chance are not.
        field.ok().filter(|field| field.number < 1024 && count < MOST_ENTRIES)?;
    }
    Some(())
}

/// Visits the fields of a message that are no messages themselves.
fn walk<'m>(bytes: &'m [u8], path: &mut Vec<u32>, visit: &mut impl FnMut(&[u32], Value<'m>)) {
    for field in Fields::new(bytes).filter_map(Result::ok).take(MOST_ENTRIES) {
        path.push(field.number);
        match field.value {
            Value::Bytes(inner)
                if !inner.is_empty()
                    && path.len() < DEEPEST
                    && !is_text(inner)
                    && message(inner).is_some() =>
            {
                walk(inner, path, visit);
            }
            value => visit(path, value),
        }
        path.pop();
    }
}

fn pairs<'p>(part: &'p [u8], separator: &str) -> Option<Vec<(&'p str, &'p str)>> {
    let text = core::str::from_utf8(part).ok()?;
    let pairs = text.split(separator).filter(|pair| !pair.is_empty());
    pairs.take(MOST_ENTRIES).map(|pair| pair.split_once('=').filter(|(key, _)| is_key(key))).collect()
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|char| char.is_ascii_alphanumeric() || "._-$".contains(char))
}

fn map(part: &[u8], size: Coding) -> Option<Vec<(&str, &[u8])>> {
    let (mut rest, mut entries) = (part, Vec::new());
    while !rest.is_empty() && entries.len() < MOST_ENTRIES {
        let (key, after) = sized(rest, size)?;
        let (value, after) = sized(after, size)?;
        entries.push((core::str::from_utf8(key).ok().filter(|key| is_key(key))?, value));
        rest = after;
    }
    Some(entries)
}

fn tags(part: &[u8], size: Coding) -> Option<Vec<(u8, &[u8])>> {
    let (mut rest, mut entries) = (part, Vec::new());
    while let Some((tag, after)) = rest.split_first().filter(|_| entries.len() < MOST_ENTRIES) {
        let (value, after) = sized(after, size)?;
        entries.push((*tag, value));
        rest = after;
    }
    Some(entries)
}

fn sized(bytes: &[u8], size: Coding) -> Option<(&[u8], &[u8])> {
    let (len, width) = size.read(bytes)?;
    bytes.get(width..)?.split_at_checked(usize::try_from(len).ok()?)
}
