//! Bodies in fastjson2, which Dubbo 3.2 and later may choose: each value is a four-byte length and that many bytes of
//! [JSONB](https://github.com/alibaba/fastjson2/wiki/jsonb_format_en). Arguments are passed over by their length;
//! what cannot be read is left out.
use std::borrow::Cow;

use super::front::front;
use super::verify::{Check, is_trimmed};
use crate::{Depth, Head};

const NULL: u8 = 0xaf;
const OBJECT: u8 = 0xa6;
const OBJECT_END: u8 = 0xa5;
/// A value with the name of its type before it.
const TYPED: u8 = 0x92;

/// The values of a body, one after the other.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// The bytes of the next value.
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (field, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(field)
    }

    /// The next value, when it is a string.
    pub(super) fn text(&mut self) -> Option<Cow<'a, str>> {
        Some(text(self.next()?)?.1)
    }

    /// The next value, when it is a Java `byte`.
    pub(super) fn small(&mut self) -> Option<u8> {
        match self.next()? {
            [0xbd, number] => Some(*number),
            _ => None,
        }
    }

    /// The next value: a string or null.
    fn nullable(&mut self) -> Result<Option<Cow<'a, str>>, Unread> {
        match self.next().ok_or(Unread::Value)? {
            [NULL] => Ok(None),
            field => text(field).map(|(_, text)| Some(text)).ok_or(Unread::Value),
        }
    }
}

/// Why a request is not read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// A value is none that is read here, or in doubt where that matters.
    Value,
    /// There are more attachments than a head holds.
    TooMany,
}

/// Reads the attributes of a request, as far as they can be read.
pub(super) fn read(body: &[u8], depth: Depth, head: &mut Head) -> Result<(), Unread> {
    let mut fields = Fields::new(body);
    let front = front(|| fields.nullable(), head)?;
    let mut arguments = Fields { rest: fields.rest };
    if front.is_generic() {
        match arguments.text() {
            Some(method) if depth != Depth::Verified || is_trimmed(&method) => {
                head.push("genericMethod", &method);
            }
            _ if depth == Depth::Verified => return Err(Unread::Value),
            _ => {}
        }
    }
    if depth <= Depth::Head {
        return Ok(());
    }
    for _ in 0..front.arguments().ok_or(Unread::Value)? {
        fields.next().ok_or(Unread::Value)?;
    }
    if depth != Depth::Verified {
        return push_attachments(fields.next().ok_or(Unread::Value)?, head);
    }
    let mut check = Check::new(&front).ok_or(Unread::Value)?;
    match fields.next() {
        None if fields.rest.is_empty() => {}
        None => return Err(Unread::Value),
        Some([NULL]) => {}
        Some(map) if has_odd_type(map) => return Err(Unread::Value),
        Some(map) => each_attachment(map, |name, value| check.admit(head, name, value).then_some(()))?,
    }
    check.is_sure().then_some(()).ok_or(Unread::Value)
}

/// Whether a map is of a type that may take a name for another. Java's own have short names or long ones.
fn has_odd_type(map: &[u8]) -> bool {
    match map.split_first() {
        Some((&TYPED, rest)) => {
            text(rest).is_none_or(|(_, name)| name.contains('.') && !name.starts_with("java.util."))
        }
        _ => false,
    }
}

/// Adds the entries of a map up to the first that cannot be read.
fn push_attachments(input: &[u8], head: &mut Head) -> Result<(), Unread> {
    each_attachment(input, |name, value| {
        if let Some(value) = value {
            head.push_attachment(name, value);
        }
        Some(())
    })
}

/// Reads the entries of a map up to the first that cannot be read, or that `take` does not.
fn each_attachment(
    input: &[u8],
    mut take: impl FnMut(&str, Option<&str>) -> Option<()>,
) -> Result<(), Unread> {
    let mut rest = entries(input).ok_or(Unread::Value)?;
    let mut left = Head::MOST_ATTACHMENTS;
    while *rest.first().ok_or(Unread::Value)? != OBJECT_END {
        left = left.checked_sub(1).ok_or(Unread::TooMany)?;
        let (after, (key, value)) = entry(rest).ok_or(Unread::Value)?;
        take(&key, value.as_deref()).ok_or(Unread::Value)?;
        rest = after;
    }
    Ok(())
}

/// What follows the start of a map.
fn entries(input: &[u8]) -> Option<&[u8]> {
    let input = match input.split_first()? {
        (&TYPED, rest) => integer(text(rest)?.0)?.0,
        _ => input,
    };
    input.split_first().filter(|(tag, _)| **tag == OBJECT).map(|(_, rest)| rest)
}

/// The key of an entry, and its value where that is not null.
type Entry<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

/// Reads one entry of a map.
fn entry(input: &[u8]) -> Option<(&[u8], Entry<'_>)> {
    let (after, key) = text(input)?;
    let (&tag, tail) = after.split_first()?;
    let (rest, value) = match tag {
        NULL => (tail, None),
        0xb0 => (tail, Some(Cow::Borrowed("false"))),
        0xb1 => (tail, Some(Cow::Borrowed("true"))),
        0xd8..=0xef => (tail, Some(Cow::Owned(i32::from(tag).wrapping_sub(0xe0).to_string()))),
        0xf0..=0xff | 0x00..=0x48 => {
            let (tail, number) = integer(after)?;
            (tail, Some(Cow::Owned(number.to_string())))
        }
        _ => text(after).map(|(tail, text)| (tail, Some(text)))?,
    };
    Some((rest, (key, value)))
}

/// Reads a string: its length is in the tag or follows it, in bytes.
fn text(input: &[u8]) -> Option<(&[u8], Cow<'_, str>)> {
    let (&tag, rest) = input.split_first()?;
    let (rest, length) = match tag {
        0x49..=0x78 => (rest, tag.wrapping_sub(0x49).into()),
        0x79 | 0x7a | 0x7c | 0x7d => integer(rest)?,
        _ => return None,
    };
    let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let (pairs, _) = bytes.as_chunks();
    let text = match tag {
        0x7a => Cow::Borrowed(str::from_utf8(bytes).ok()?),
        0x7c => Cow::Owned(utf16(pairs.iter().map(|pair| u16::from_le_bytes(*pair)))),
        0x7d => Cow::Owned(utf16(pairs.iter().map(|pair| u16::from_be_bytes(*pair)))),
        _ if bytes.is_ascii() => Cow::Borrowed(str::from_utf8(bytes).ok()?),
        // What the format calls ASCII is Latin-1.
        _ => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()),
    };
    Some((rest, text))
}

fn utf16(units: impl Iterator<Item = u16>) -> String {
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Reads a 32-bit integer in any of its forms.
fn integer(input: &[u8]) -> Option<(&[u8], i32)> {
    let (&tag, rest) = input.split_first()?;
    match (tag, rest) {
        (0xf0..=0xff | 0x00..=0x2f, _) => Some((rest, tag.cast_signed().into())),
        (0x30..=0x3f, [low, rest @ ..]) => {
            Some((rest, (i32::from(tag).wrapping_sub(0x38) << 8) | i32::from(*low)))
        }
        (0x40..=0x47, [middle, low, rest @ ..]) => {
            let low = i32::from(u16::from_be_bytes([*middle, *low]));
            Some((rest, (i32::from(tag).wrapping_sub(0x44) << 16) | low))
        }
        (0x48, [a, b, c, d, rest @ ..]) => Some((rest, i32::from_be_bytes([*a, *b, *c, *d]))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Fields, Unread, push_attachments};
    use crate::Head;

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// Written by Apache Dubbo 3.3.5 with fastjson2 2.0.56.
    #[test]
    fn strings_of_all_forms() {
        let long = format!("0000003f79383c{}", "78".repeat(60));
        for (hex, expected) in [
            ("000000095173617948656c6c6f", "sayHello"),
            ("0000000149", ""),
            ("000000067c04604f7d59", "你好"),
            ("000000024ae9", "é"),
            ("000000077a0561f09f9880", "a😀"),
            (&long, &"x".repeat(60)),
        ] {
            assert_eq!(Fields::new(&bytes(hex)).text().unwrap(), expected);
        }
        assert_eq!(Fields::new(&bytes("00000002bd05")).small(), Some(5));
    }

    #[test]
    fn maps_typed_and_not() {
        let mut head = Head::new();
        let typed = "924b4c4d00a64a6b4a764b6b324a767c02604f7c027d594a6e054a74b14a6ce5";
        // A double is not read: what precedes it is.
        let read = push_attachments(&bytes(&format!("{typed}4a64b53ff8000000000000a5")), &mut head);
        assert_eq!(read, Err(Unread::Value));
        let entries: Vec<_> = head.attachments().collect();
        assert_eq!(entries, [("k", "v"), ("k2", "v"), ("你", "好"), ("n", "5"), ("t", "true"), ("l", "5")]);
        head.clear();
        assert_eq!(push_attachments(&bytes("a64c7461674d67726179a5"), &mut head), Ok(()));
        assert_eq!(head.get("tag"), Some("gray"));
    }
}
