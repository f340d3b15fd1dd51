use meltemi_codecs::layout::{Attribute, Form, Part, Source};

use super::names;
use super::numbers::{coding, field_path, fixed, header_number, offset, part_named};
use crate::error::{Path, Result, fail};
use crate::{Table, raw, source};

/// The most attributes of a layout.
const MOST: usize = 64;

pub(super) fn attributes(
    path: &Path<'_>,
    raw: &Table<raw::Attribute>,
    parts: &[Part],
) -> Result<Vec<Attribute>> {
    if raw.iter().count() > MOST {
        return fail(path, format!("more than {MOST} attributes; declare those that routes test"));
    }
    raw.iter().map(|(name, raw)| attribute(&path.key(name), name, raw, parts)).collect()
}

fn attribute(path: &Path<'_>, name: &str, raw: &raw::Attribute, parts: &[Part]) -> Result<Attribute> {
    if name.is_empty() || name.starts_with(source::PREFIX) {
        return fail(
            path,
            format!("{name:?} is no name for it: names are not empty, and \"source.\" is the connection's"),
        );
    }
    if parts.iter().any(|part| part.form == Form::Text && part.name == name) {
        return fail(path, "a part of that name is text, and so this attribute already; remove it");
    }
    let source = match (raw.at, raw.part.as_deref()) {
        (Some(at), None) => {
            if raw.path.is_some() {
                return fail(
                    &path.key("path"),
                    "paths lead through parts; write \"in\" in place of \"at\", or remove it",
                );
            }
            match (raw.coding.as_deref(), raw.bytes) {
                (Some(text), None) => {
                    let coding = fixed(&path.key("as"), text)?;
                    Source::Number(header_number(&path.key("at"), at, coding)?)
                }
                (None, Some(bytes)) => {
                    Source::Text { at: offset(&path.key("at"), at)?, len: offset(&path.key("bytes"), bytes)? }
                }
                _ => return fail(path, "write \"as\" for a number, or \"bytes\" for text, and not both"),
            }
        }
        (None, Some(part)) => in_part(path, name, part, raw, parts)?,
        _ => return fail(path, "no place; write \"at\" for the header, or \"in\" for a part, and not both"),
    };
    Ok(Attribute {
        name: name.to_owned(),
        source,
        mask: raw.mask.map_or(u64::MAX, u64::from),
        names: names(&path.key("names"), &raw.names)?,
    })
}

fn in_part(path: &Path<'_>, name: &str, part: &str, raw: &raw::Attribute, parts: &[Part]) -> Result<Source> {
    let (part, found) = part_named(&path.key("in"), part, parts)?;
    if raw.bytes.is_some() {
        return fail(&path.key("bytes"), "is the length of text in the header; remove it");
    }
    if raw.coding.is_some() && !matches!(found.form, Form::Tlv { .. }) {
        return fail(&path.key("as"), "is for numbers in the header and in \"tlv\"; remove it");
    }
    match &found.form {
        Form::Bytes | Form::Text => {
            let message = "the part's form has nothing in it to be found; write json, protobuf, pairs, map or tlv for it";
            fail(&path.key("in"), message)
        }
        Form::Protobuf { .. } => match &raw.path {
            Some(text) => Ok(Source::Protobuf { part, path: field_path(&path.key("path"), text)? }),
            None => fail(path, "no path; write the numbers of the fields that lead to it, such as \"1.2\""),
        },
        Form::Tlv { .. } => match raw.path.as_deref().map(str::parse) {
            Some(Ok(tag)) => {
                let number = raw.coding.as_deref().map(|text| coding(&path.key("as"), text)).transpose()?;
                Ok(Source::Tagged { part, tag, number })
            }
            _ => fail(&path.key("path"), "is no tag; write its number, such as \"5\""),
        },
        Form::Json | Form::Pairs { .. } | Form::Map { .. } => {
            Ok(Source::Entry { part, key: raw.path.clone().unwrap_or_else(|| name.to_owned()) })
        }
    }
}

/// Where in the header an attribute ends.
pub(super) fn end(attribute: &Attribute) -> usize {
    match &attribute.source {
        Source::Number(number) => number.end(),
        Source::Text { at, len } => at.saturating_add(*len),
        _ => 0,
    }
}
