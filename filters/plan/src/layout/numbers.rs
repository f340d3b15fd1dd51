//! Numbers: how they are written and where they are.
use meltemi_codecs::layout::{Coding, Form, Number, Part, Place};

use crate::error::{Path, Result, fail};
use crate::raw;

/// The largest header.
const LONGEST_HEADER: u32 = 1024;

/// The most fields on the way to one.
const DEEPEST: usize = 8;

/// An offset or a length in the header.
pub(super) fn offset(path: &Path<'_>, given: u32) -> Result<usize> {
    crate::check::within(path, given, 0, LONGEST_HEADER)
}

/// A number in the header.
pub(super) fn header_number(path: &Path<'_>, at: u32, coding: Coding) -> Result<Number> {
    offset(path, at)?;
    Ok(Number::new(at, coding))
}

/// The bytes that a text in hexadecimal says.
pub(super) fn hex(path: &Path<'_>, text: &str) -> Result<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|char| !char.is_ascii_whitespace())
        .map(|char| char.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    match digits {
        Some(digits) if digits.len().is_multiple_of(2) => {
            Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
        }
        _ => fail(
            path,
            format!("{text:?} is not bytes in hexadecimal, such as \"dabb\"; write two digits for each"),
        ),
    }
}

/// How a number is written.
pub(super) fn coding(path: &Path<'_>, text: &str) -> Result<Coding> {
    if text == "varint" {
        return Ok(Coding::Varint);
    }
    let bits =
        text.strip_prefix('u').map(|rest| rest.strip_suffix("le").map_or((rest, false), |bits| (bits, true)));
    let width = bits.and_then(|(bits, little)| {
        let width = match bits {
            "8" => 1,
            "16" => 2,
            "24" => 3,
            "32" => 4,
            "40" => 5,
            "48" => 6,
            "56" => 7,
            "64" => 8,
            _ => return None,
        };
        Some(if little { Coding::Little(width) } else { Coding::Big(width) })
    });
    width.map_or_else(
        || fail(path, format!("{text:?} is no way to write a number; write u8, u16, u24, u32 to u64, one of these with \"le\", or varint")),
        Ok,
    )
}

/// How a number of fixed width is written.
pub(super) fn fixed(path: &Path<'_>, text: &str) -> Result<Coding> {
    match coding(path, text)? {
        Coding::Varint => fail(path, "only a length may be a varint in the header; write u8 to u64"),
        coding => Ok(coding),
    }
}

/// The number of a part.
pub(super) fn part_named<'p>(path: &Path<'_>, name: &str, parts: &'p [Part]) -> Result<(usize, &'p Part)> {
    let known = || parts.iter().map(|part| format!("{:?}", part.name)).collect::<Vec<_>>().join(", ");
    parts.iter().enumerate().find(|(_, part)| part.name == name).map_or_else(
        || match parts.is_empty() {
            true => fail(path, format!("there are no \"parts\"; declare one that is named {name:?}")),
            false => fail(path, format!("no part is named {name:?}; write one of {}", known())),
        },
        Ok,
    )
}

/// The numbers of the fields that lead to one.
pub(super) fn field_path(path: &Path<'_>, text: &str) -> Result<Vec<u32>> {
    let numbers: Option<Vec<u32>> = text
        .split('.')
        .map(|number| number.parse().ok().filter(|number| (1..1 << 29).contains(number)))
        .collect();
    match numbers {
        Some(numbers) if numbers.len() <= DEEPEST => Ok(numbers),
        _ => fail(
            path,
            format!(
                "{text:?} is no path in protobuf; write up to {DEEPEST} numbers of fields, such as \"2.1\""
            ),
        ),
    }
}

/// What is said of where a number is.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    at: Option<u32>,
    coding: Option<&'a str>,
    part: Option<&'a str>,
    path: Option<&'a str>,
}

macro_rules! given {
    ($($raw:ty)*) => {
        $(impl<'a> From<&'a $raw> for Given<'a> {
            fn from(raw: &'a $raw) -> Self {
                let (coding, part, path) = (raw.coding.as_deref(), raw.part.as_deref(), raw.path.as_deref());
                Self { at: raw.at, coding, part, path }
            }
        })*
    };
}

given!(raw::Place raw::Kind raw::ResponseStatus);

/// Where a number is.
pub(super) fn place(path: &Path<'_>, given: Given<'_>, parts: &[Part]) -> Result<Place> {
    match (given.at, given.coding, given.part, given.path) {
        (Some(at), Some(text), None, None) => {
            let coding = fixed(&path.key("as"), text)?;
            Ok(Place::Header(header_number(&path.key("at"), at, coding)?))
        }
        (None, None, Some(name), Some(fields)) => {
            let (part, found) = part_named(&path.key("in"), name, parts)?;
            if !matches!(found.form, Form::Protobuf { .. }) {
                return fail(
                    &path.key("in"),
                    format!(
                        "{name:?} is no protobuf, and other forms have attributes alone; name a place in the header or in protobuf"
                    ),
                );
            }
            Ok(Place::Protobuf { part, path: field_path(&path.key("path"), fields)? })
        }
        _ => fail(
            path,
            "no place; write \"at\" and \"as\" for the header, or \"in\" and \"path\" for a part, and not both",
        ),
    }
}
