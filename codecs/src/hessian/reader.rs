use std::borrow::Cow;

use super::number::{byte, bytes, double, int, long, short};
use super::text::{check_text, is_text, skip_text, text};
use super::{END, Fault, MAP, NULL, Parsed};

/// How deeply values may be nested.
const DEPTH: usize = 128;
/// The number of values left at a level that ends with `Z`.
const OPEN: u32 = u32::MAX;

/// How many of the things that later bytes may refer to by number precede a place in the body. The numbers go on
/// through the whole body: an attachment may refer to a class that an argument defined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    objects: usize,
    classes: usize,
    types: usize,
}

impl Marks {
    /// Whether every count is at most that of `other`.
    pub(crate) fn within(self, other: Self) -> bool {
        self.objects <= other.objects && self.classes <= other.classes && self.types <= other.types
    }
}

/// A value, as far as attachments need it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// A binary.
    Bytes(Cow<'a, [u8]>),
    /// An integer of 32 or 64 bits.
    Integer(i64),
    /// A double.
    Double(f64),
    /// A truth value.
    Bool(bool),
    /// Null.
    Null,
    /// Anything else, not built.
    Other,
}

impl<'a> Value<'a> {
    /// The value as text: strings, numbers and truth values have one.
    pub(crate) fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Integer(value) => Some(Cow::Owned(value.to_string())),
            // Not by `core::fmt`, which takes five times as much of the module.
            Self::Double(value) => Some(Cow::Owned(ryu::Buffer::new().format(value).to_owned())),
            Self::Bool(value) => Some(Cow::Borrowed(if value { "true" } else { "false" })),
            Self::Bytes(_) | Self::Null | Self::Other => None,
        }
    }
}

/// What was asked of an object.
#[derive(Debug, Default)]
pub(crate) struct Object<'a> {
    /// The name of its class.
    pub class: Option<Cow<'a, str>>,
    /// The text of the field that was asked for.
    pub field: Option<Cow<'a, str>>,
}

/// Reads the values of one body in order, and keeps what later values refer to.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The number of fields of each class defined so far.
    fields: Vec<u32>,
    objects: usize,
    types: usize,
    uses: Marks,
    /// Whether everything must be as the specification has it, and refer only to what precedes it.
    is_strict: bool,
}

/// What follows a tag and its own bytes.
enum After {
    Nothing,
    /// So many values, or [`OPEN`].
    Values(u32),
}

impl Reader {
    /// A reader that gives up where other readers may make something else of the bytes, or nothing: references to what was
    /// not defined, and text that is not proper.
    pub(crate) fn strict() -> Self {
        Self { is_strict: true, ..Self::default() }
    }

    /// What was defined so far.
    pub(crate) fn marks(&self) -> Marks {
        Marks { objects: self.objects, classes: self.fields.len(), types: self.types }
    }

    /// What must have been defined for the references read since the last call to hold.
    pub(crate) fn take_uses(&mut self) -> Marks {
        std::mem::take(&mut self.uses)
    }

    /// Whether what was read since those marks, with these uses, has no value of a class or type of its own, and no reference.
    pub(crate) fn is_plain_since(&self, before: Marks, uses: Marks) -> bool {
        uses == Marks::default() && self.fields.len() == before.classes && self.types == before.types
    }

    /// Counts a map whose start the caller read.
    pub(super) fn open_map(&mut self) {
        self.objects = self.objects.saturating_add(1);
    }

    /// Reads a value, and passes over it when it is none that [`Value`] shows.
    pub(crate) fn value<'a>(&mut self, input: &'a [u8]) -> Parsed<'a, Value<'a>> {
        let (rest, tag) = byte(input)?;
        match tag {
            tag if is_text(tag) => {
                if self.is_strict {
                    check_text(input)?;
                }
                text(input).map(|(rest, text)| (rest, Value::Text(text)))
            }
            NULL => Ok((rest, Value::Null)),
            b'T' => Ok((rest, Value::Bool(true))),
            b'F' => Ok((rest, Value::Bool(false))),
            b'I' | 0x80..=0xd7 => int(input).map(|(rest, value)| (rest, Value::Integer(value.into()))),
            b'L' | 0x59 | 0x38..=0x3f | 0xd8..=0xff => {
                long(input).map(|(rest, value)| (rest, Value::Integer(value)))
            }
            b'D' | 0x5b..=0x5f => double(input).map(|(rest, value)| (rest, Value::Double(value))),
            0x20..=0x2f | 0x34..=0x37 | b'A' | b'B' => {
                binary(input).map(|(rest, bytes)| (rest, Value::Bytes(bytes)))
            }
            _ => self.skip(input).map(|(rest, ())| (rest, Value::Other)),
        }
    }

    /// Passes over a value of any kind. Takes time linear in its bytes, and no more memory than its class definitions.
    pub(crate) fn skip<'a>(&mut self, input: &'a [u8]) -> Parsed<'a, ()> {
        if let Some(rest) = after_piece(input) {
            return Ok((rest, ()));
        }
        match self.start(input)? {
            (rest, After::Nothing) => Ok((rest, ())),
            (rest, After::Values(count)) => self.skip_values(rest, count),
        }
    }

    /// Reads an object whose class is defined right before it: the name of the class, and the field `name` when it holds
    /// a string.
    pub(crate) fn object<'a>(&mut self, input: &'a [u8], name: &str) -> Parsed<'a, Object<'a>> {
        let (rest, tag) = byte(input)?;
        if tag != b'C' {
            return Fault::unsupported(input, "object");
        }
        let (names, class) = text(rest)?;
        let (rest, ()) = self.class(rest)?;
        let (mut names, count) = count(names)?;
        let (mut rest, _) = self.start(rest)?;
        let mut field = None;
        for _ in 0..count {
            let (after, key) = text(names)?;
            names = after;
            let (after, value) = self.value(rest)?;
            rest = after;
            if key == name {
                field = value.into_text();
            }
        }
        Ok((rest, Object { class: Some(class), field }))
    }

    /// Passes over `count` values and all that is in them, without recursion.
    fn skip_values<'a>(&mut self, input: &'a [u8], count: u32) -> Parsed<'a, ()> {
        let mut outer = [0; DEPTH];
        let mut depth = 0_usize;
        let mut left = count;
        let mut rest = input;
        loop {
            match (left, rest.split_first()) {
                (0, _) => match depth.checked_sub(1) {
                    None => return Ok((rest, ())),
                    Some(below) => {
                        depth = below;
                        left = outer.get(depth).copied().unwrap_or_default();
                        continue;
                    }
                },
                (OPEN, Some((&END, after))) => {
                    (rest, left) = (after, 0);
                    continue;
                }
                (OPEN, _) => {}
                _ => left = left.saturating_sub(1),
            }
            let (after, follows) = self.start(rest)?;
            if let After::Values(count) = follows {
                // There is no need to come back to a level with nothing left, as in a list linked by its last field.
                if left > 0 {
                    match outer.get_mut(depth) {
                        Some(slot) => *slot = left,
                        None => return Fault::unsupported(rest, "depth of values"),
                    }
                    depth = depth.saturating_add(1);
                }
                left = count;
            }
            rest = after;
        }
    }

    /// Reads a value's tag and its own bytes, not the values in it.
    fn start<'a>(&mut self, input: &'a [u8]) -> Parsed<'a, After> {
        let mut input = input;
        let (rest, tag) = loop {
            let (rest, tag) = byte(input)?;
            if tag != b'C' {
                break (rest, tag);
            }
            // A definition precedes a value and is none itself.
            (input, ()) = self.class(rest)?;
        };
        let plain = |count| bytes(rest, count).map(|(rest, _)| (rest, After::Nothing));
        match tag {
            tag if is_text(tag) => self.skip_text(input).map(|(rest, ())| (rest, After::Nothing)),
            NULL | b'T' | b'F' | 0x5b | 0x5c | 0x80..=0xbf | 0xd8..=0xef => plain(0),
            0x5d | 0xc0..=0xcf | 0xf0..=0xff => plain(1),
            0x5e | 0x38..=0x3f | 0xd0..=0xd7 => plain(2),
            b'I' | 0x59 | 0x5f | 0x4b => plain(4),
            b'L' | b'D' | 0x4a => plain(8),
            0x20..=0x2f | 0x34..=0x37 | b'A' | b'B' => {
                skip_binary(input).map(|(rest, ())| (rest, After::Nothing))
            }
            0x51 => self.reference(rest),
            MAP => self.container(rest, OPEN),
            b'M' => {
                let (rest, ()) = self.type_name(rest)?;
                self.container(rest, OPEN)
            }
            0x57 => self.container(rest, OPEN),
            0x55 => {
                let (rest, ()) = self.type_name(rest)?;
                self.container(rest, OPEN)
            }
            0x58 => {
                let (rest, count) = count(rest)?;
                self.container(rest, count)
            }
            b'V' => {
                let (rest, ()) = self.type_name(rest)?;
                let (rest, count) = count(rest)?;
                self.container(rest, count)
            }
            0x70..=0x77 => {
                let (rest, ()) = self.type_name(rest)?;
                self.container(rest, u32::from(tag & 7))
            }
            0x78..=0x7f => self.container(rest, u32::from(tag & 7)),
            0x60..=0x6f => self.instance(input, rest, usize::from(tag & 0x0f)),
            b'O' => {
                let (rest, class) = index(rest)?;
                self.instance(input, rest, class)
            }
            _ => Fault::malformed(input, "value"),
        }
    }

    /// Reads what precedes the values that are in one: definitions, tag, type and number.
    pub(crate) fn opening<'a>(&mut self, input: &'a [u8]) -> Parsed<'a, ()> {
        self.start(input).map(|(rest, _)| (rest, ()))
    }

    /// Passes over a string.
    fn skip_text<'a>(&self, input: &'a [u8]) -> Parsed<'a, ()> {
        if self.is_strict { check_text(input) } else { skip_text(input) }
    }

    fn container<'a>(&mut self, rest: &'a [u8], count: u32) -> Parsed<'a, After> {
        self.objects = self.objects.saturating_add(1);
        Ok((rest, After::Values(count)))
    }

    fn instance<'a>(&mut self, input: &'a [u8], rest: &'a [u8], class: usize) -> Parsed<'a, After> {
        let Some(&fields) = self.fields.get(class) else {
            return Fault::malformed(input, "class of object");
        };
        self.uses.classes = self.uses.classes.max(class.saturating_add(1));
        self.container(rest, fields)
    }

    fn reference<'a>(&mut self, input: &'a [u8]) -> Parsed<'a, After> {
        let (rest, object) = index(input)?;
        if self.is_strict && object >= self.objects {
            return Fault::unsupported(input, "reference to nothing");
        }
        self.uses.objects = self.uses.objects.max(object.saturating_add(1));
        Ok((rest, After::Nothing))
    }

    /// Reads a class definition after its tag (section 4.8.1).
    fn class<'a>(&mut self, input: &'a [u8]) -> Parsed<'a, ()> {
        let (rest, ()) = self.skip_text(input)?;
        let (mut rest, count) = count(rest)?;
        for _ in 0..count {
            (rest, ()) = self.skip_text(rest)?;
        }
        self.fields.push(count);
        Ok((rest, ()))
    }

    /// Reads the type of a list or map: a name, or the number of an earlier one (section 4.13).
    pub(super) fn type_name<'a>(&mut self, input: &'a [u8]) -> Parsed<'a, ()> {
        if input.first().is_some_and(|&tag| is_text(tag)) {
            self.types = self.types.saturating_add(1);
            return self.skip_text(input);
        }
        let (rest, number) = index(input)?;
        if self.is_strict && number >= self.types {
            return Fault::unsupported(input, "number of no type");
        }
        self.uses.types = self.uses.types.max(number.saturating_add(1));
        Ok((rest, ()))
    }
}

/// Reads the number of values or names that follow. Each takes at least one byte, so that none can be more than those.
fn count(input: &[u8]) -> Parsed<'_, u32> {
    let (rest, count) = index(input)?;
    match u32::try_from(count) {
        Ok(narrow) if count <= rest.len() => Ok((rest, narrow)),
        _ => Fault::malformed(input, "count"),
    }
}

fn index(input: &[u8]) -> Parsed<'_, usize> {
    let (rest, number) = int(input)?;
    match usize::try_from(number) {
        Ok(number) => Ok((rest, number)),
        Err(_) => Fault::malformed(input, "negative number"),
    }
}

/// What follows a binary in one piece, as the arguments of generated code are.
fn after_piece(input: &[u8]) -> Option<&[u8]> {
    let (count, rest) = match input {
        [tag @ 0x20..=0x2f, rest @ ..] => (u16::from(tag & 0x0f), rest),
        [tag @ 0x34..=0x37, low, rest @ ..] => (u16::from_be_bytes([tag & 3, *low]), rest),
        [b'B', high, low, rest @ ..] => (u16::from_be_bytes([*high, *low]), rest),
        _ => return None,
    };
    rest.get(count.into()..)
}

/// Reads one piece of a binary: its bytes, and whether it is the last (section 4.2).
fn binary_piece(input: &[u8]) -> Parsed<'_, (&[u8], bool)> {
    let (rest, tag) = byte(input)?;
    let (rest, count) = match tag {
        0x20..=0x2f => (rest, u16::from(tag & 0x0f)),
        0x34..=0x37 => {
            let (rest, low) = byte(rest)?;
            (rest, u16::from_be_bytes([tag & 3, low]))
        }
        b'A' | b'B' => short(rest)?,
        _ => return Fault::malformed(input, "binary"),
    };
    let (rest, bytes) = bytes(rest, count.into())?;
    Ok((rest, (bytes, tag != b'A')))
}

fn binary(input: &[u8]) -> Parsed<'_, Cow<'_, [u8]>> {
    let (mut rest, (bytes, mut last)) = binary_piece(input)?;
    let mut all = Cow::Borrowed(bytes);
    while !last {
        let bytes;
        (rest, (bytes, last)) = binary_piece(rest)?;
        all.to_mut().extend_from_slice(bytes);
    }
    Ok((rest, all))
}

fn skip_binary(input: &[u8]) -> Parsed<'_, ()> {
    let mut rest = input;
    loop {
        let (after, (_, last)) = binary_piece(rest)?;
        rest = after;
        if last {
            return Ok((rest, ()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_as_text_is_the_shortest_that_reads_back() {
        let text = |value: f64| Value::Double(value).into_text().unwrap().into_owned();
        let known = [(0.0, "0.0"), (-1.0, "-1.0"), (2.5, "2.5"), (0.1, "0.1"), (1e15, "1000000000000000.0")];
        for (value, expected) in known.into_iter().chain([(1e16, "1e16"), (1.25e-7, "1.25e-7")]) {
            assert_eq!(text(value), expected);
        }
        assert_eq!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(text), ["NaN", "inf", "-inf"]);
        for step in 0..10_000_u64 {
            let value = f64::from_bits(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let text = text(value);
            assert!(value.is_nan() || text.parse() == Ok(value), "{value:?}");
            assert!(text.len() <= format!("{value:?}").len() + 2, "{value:?}");
        }
    }
}
