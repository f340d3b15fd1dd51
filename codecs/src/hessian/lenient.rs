use super::number::{double, int, long};
use super::text::is_text;
use super::{END, NULL};

/// How deep values are followed.
const DEPTH: usize = 64;

/// Why reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The Java implementation goes no further, and gives up what it was reading.
    Broken,
    /// It may go on in more ways than are followed here.
    Unsure,
}

type Read<'a, T = ()> = Result<(&'a [u8], T), Stop>;

/// Reads values as Hessian's Java implementation does at a place where none was written: bytes in the middle of others,
/// of which it makes what it can. Where it takes more than the specification has, so does this.
#[derive(Debug, Default)]
pub(crate) struct Lenient {
    /// The number of fields of each class that may have been defined, in order.
    classes: Vec<usize>,
    /// How many more steps are taken before it is [`Stop::Unsure`].
    left: usize,
}

impl Lenient {
    /// A reader that takes `steps` steps at most: one for a value, and one for every 16 units of a string.
    pub(crate) fn new(steps: usize) -> Self {
        Self { classes: Vec::new(), left: steps }
    }

    /// Notes that a class with so many fields may be defined.
    pub(crate) fn define(&mut self, fields: usize) {
        self.classes.push(fields);
    }

    /// Counts steps that the caller takes.
    pub(crate) fn charge(&mut self, steps: usize) -> Result<(), Stop> {
        self.left = self.left.checked_sub(steps).ok_or(Stop::Unsure)?;
        Ok(())
    }

    /// Passes over a value.
    pub(crate) fn skip<'a>(&mut self, input: &'a [u8]) -> Read<'a> {
        self.value(input, 0)
    }

    /// Reads a string, and passes its UTF-16 units to `unit`. What is missing at the end of the input reads as
    /// something.
    pub(crate) fn text<'a>(&mut self, input: &'a [u8], mut unit: impl FnMut(u16)) -> Read<'a> {
        let mut rest = input;
        loop {
            let (after, (units, last)) = piece(rest)?;
            rest = after;
            self.charge(units.div_ceil(16).saturating_add(1))?;
            for _ in 0..units {
                let Some((&lead, after)) = rest.split_first() else {
                    unit(u16::MAX);
                    break;
                };
                let width = match lead {
                    0x00..=0x7f => 0,
                    0xc0..=0xdf => 1,
                    0xe0..=0xef => 2,
                    _ => return Err(Stop::Broken),
                };
                let (tail, after) = after.split_at_checked(width).unwrap_or((after, &[]));
                // Continuation bytes are taken for what they should be.
                let join = |code: u16, byte: &u8| code << 6 | u16::from(byte & 0x3f);
                let bits = if width == 0 { lead } else { lead & (0x3f >> width) };
                unit(tail.iter().fold(u16::from(bits), join));
                rest = after;
            }
            if last {
                return Ok((rest, ()));
            }
        }
    }

    /// Reads a class definition after its tag. Calls `name` with the place of each field's name, and returns their
    /// number.
    pub(crate) fn definition<'a>(
        &mut self,
        input: &'a [u8],
        mut name: impl FnMut(&'a [u8]),
    ) -> Read<'a, usize> {
        let (rest, ()) = self.name(input)?;
        let (mut rest, count) = integer(rest)?;
        let count = usize::try_from(count).ok().filter(|count| *count <= rest.len()).ok_or(Stop::Broken)?;
        for _ in 0..count {
            name(rest);
            (rest, ()) = self.name(rest)?;
        }
        Ok((rest, count))
    }

    /// Reads the number of an object's class after the tag at the front of `input`, if it may be one. What it gives are
    /// the classes that this may be: definitions that the server did not see do not count, so later ones, too.
    pub(crate) fn class<'a>(&self, input: &'a [u8]) -> Read<'a, usize> {
        let (rest, class) = match input.split_first() {
            Some((tag @ 0x60..=0x6f, rest)) => (rest, usize::from(tag & 0x0f)),
            Some((b'O', rest)) => {
                let (rest, class) = integer(rest)?;
                (rest, usize::try_from(class).map_err(|_| Stop::Broken)?)
            }
            _ => return Err(Stop::Broken),
        };
        if class < self.classes.len() { Ok((rest, class)) } else { Err(Stop::Broken) }
    }

    /// Reads the type of a list or map.
    pub(crate) fn type_name<'a>(&mut self, input: &'a [u8]) -> Read<'a> {
        match input.first() {
            Some(&tag) if is_text(tag) => self.text(input, |_| {}),
            _ => integer(input).map(|(rest, _)| (rest, ())),
        }
    }

    /// What the implementation reads where it wants a string: any scalar but a binary.
    fn name<'a>(&mut self, input: &'a [u8]) -> Read<'a> {
        match input.first() {
            Some(0x20..=0x2f | 0x34..=0x37 | b'A' | b'B' | 0x4a | 0x4b) | None => Err(Stop::Broken),
            Some(0x40..=0x43 | b'H' | b'M' | b'O' | b'Q' | b'U' | b'V' | b'W' | b'X' | 0x60..=0x7f) => {
                Err(Stop::Broken)
            }
            Some(_) => self.value(input, 0),
        }
    }

    fn value<'a>(&mut self, input: &'a [u8], depth: usize) -> Read<'a> {
        if depth > DEPTH {
            return Err(Stop::Unsure);
        }
        self.charge(1)?;
        let deeper = depth.saturating_add(1);
        let (&tag, rest) = input.split_first().ok_or(Stop::Broken)?;
        // A number that the input ends in reads as something.
        let plain = |count: usize| Ok((rest.get(count..).unwrap_or_default(), ()));
        match tag {
            tag if is_text(tag) => self.text(input, |_| {}),
            NULL | b'T' | b'F' | 0x5b | 0x5c | 0x80..=0xbf | 0xd8..=0xef => plain(0),
            0x5d | 0xc0..=0xcf | 0xf0..=0xff => plain(1),
            0x5e | 0x38..=0x3f | 0xd0..=0xd7 => plain(2),
            b'I' | 0x59 | 0x5f | 0x4b => plain(4),
            b'L' | b'D' | 0x4a => plain(8),
            0x20..=0x2f | 0x34..=0x37 | b'A' | b'B' => self.binary(input),
            b'Q' => integer(rest).map(|(rest, _)| (rest, ())),
            b'H' => self.entries(rest, deeper),
            b'M' => {
                let (rest, ()) = self.type_name(rest)?;
                self.entries(rest, deeper)
            }
            0x57 => self.list(rest, deeper),
            0x55 => {
                let (rest, ()) = self.type_name(rest)?;
                self.list(rest, deeper)
            }
            0x58 => {
                let (rest, count) = integer(rest)?;
                self.values(rest, count, deeper)
            }
            b'V' => {
                let (rest, ()) = self.type_name(rest)?;
                let (rest, count) = integer(rest)?;
                self.values(rest, count, deeper)
            }
            0x70..=0x77 => {
                let (rest, ()) = self.type_name(rest)?;
                self.values(rest, (tag & 7).into(), deeper)
            }
            0x78..=0x7f => self.values(rest, (tag & 7).into(), deeper),
            b'C' => {
                let (rest, _) = self.definition(rest, |_| {})?;
                self.value(rest, deeper)
            }
            0x60..=0x6f | b'O' => self.instance(input, deeper),
            _ => Err(Stop::Broken),
        }
    }

    fn entries<'a>(&mut self, input: &'a [u8], depth: usize) -> Read<'a> {
        let mut rest = input;
        loop {
            if let Some((&END, after)) = rest.split_first() {
                return Ok((after, ()));
            }
            (rest, ()) = self.value(rest, depth)?;
            (rest, ()) = self.value(rest, depth)?;
        }
    }

    fn list<'a>(&mut self, input: &'a [u8], depth: usize) -> Read<'a> {
        let mut rest = input;
        loop {
            if let Some((&END, after)) = rest.split_first() {
                return Ok((after, ()));
            }
            (rest, ()) = self.value(rest, depth)?;
        }
    }

    /// Passes over so many values; a negative number of them is none.
    fn values<'a>(&mut self, input: &'a [u8], count: i32, depth: usize) -> Read<'a> {
        let mut rest = input;
        for _ in 0..count {
            (rest, ()) = self.value(rest, depth)?;
        }
        Ok((rest, ()))
    }

    /// Passes over an object. Which class it is of may be in doubt; where it ends must not.
    fn instance<'a>(&mut self, input: &'a [u8], depth: usize) -> Read<'a> {
        let (rest, class) = self.class(input)?;
        let mut end = None;
        let mut tried = None;
        for at in class..self.classes.len() {
            let Some(&fields) = self.classes.get(at).filter(|fields| tried != Some(**fields)) else {
                continue;
            };
            self.charge(1)?;
            tried = Some(fields);
            match self.values(rest, i32::try_from(fields).unwrap_or(i32::MAX), depth) {
                Ok((after, ())) if end.is_none_or(|end: &[u8]| end.len() == after.len()) => end = Some(after),
                Ok(_) | Err(Stop::Unsure) => return Err(Stop::Unsure),
                Err(Stop::Broken) => {}
            }
        }
        end.map(|end| (end, ())).ok_or(Stop::Broken)
    }

    fn binary<'a>(&mut self, input: &'a [u8]) -> Read<'a> {
        let mut rest = input;
        loop {
            self.charge(1)?;
            let (after, count, last) = match rest {
                [tag @ 0x20..=0x2f, after @ ..] => (after, usize::from(tag & 0x0f), true),
                [tag @ 0x34..=0x37, low, after @ ..] => {
                    (after, usize::from(u16::from_be_bytes([tag & 3, *low])), true)
                }
                [tag @ (b'A' | b'B'), high, low, after @ ..] => {
                    (after, usize::from(u16::from_be_bytes([*high, *low])), *tag == b'B')
                }
                _ => return Err(Stop::Broken),
            };
            // What the input ends in reads as something.
            rest = after.get(count..).unwrap_or_default();
            if last {
                return Ok((rest, ()));
            }
        }
    }
}

/// Reads the start of a piece of a string: its number of units, and whether it is the last.
fn piece(input: &[u8]) -> Read<'_, (usize, bool)> {
    match input {
        [tag @ 0x00..=0x1f, rest @ ..] => Ok((rest, (usize::from(*tag), true))),
        [tag @ 0x30..=0x33, low, rest @ ..] => {
            Ok((rest, (usize::from(u16::from_be_bytes([tag & 3, *low])), true)))
        }
        [tag @ (b'R' | b'S'), high, low, rest @ ..] => {
            Ok((rest, (usize::from(u16::from_be_bytes([*high, *low])), *tag == b'S')))
        }
        _ => Err(Stop::Broken),
    }
}

/// What the implementation reads where it wants a 32-bit integer: any number or truth value, or null.
fn integer(input: &[u8]) -> Read<'_, i32> {
    let (&tag, rest) = input.split_first().ok_or(Stop::Broken)?;
    // A number that the input ends in reads as something.
    let whole = |result: super::Parsed<'_, i32>| match result {
        Ok((rest, number)) => Ok((rest.len(), number)),
        Err(_) => Err(Stop::Unsure),
    };
    let (left, number) = match tag {
        NULL | b'F' => return Ok((rest, 0)),
        b'T' => return Ok((rest, 1)),
        0x80..=0xd7 | b'I' => whole(int(input))?,
        #[expect(clippy::cast_possible_truncation, reason = "as the implementation does")]
        0x38..=0x3f | 0xd8..=0xff | 0x59 | b'L' => {
            whole(long(input).map(|(rest, number)| (rest, number as i32)))?
        }
        #[expect(clippy::cast_possible_truncation, reason = "as the implementation does")]
        0x5b..=0x5f | b'D' => whole(double(input).map(|(rest, number)| (rest, number as i32)))?,
        _ => return Err(Stop::Broken),
    };
    let from = input.len().saturating_sub(left);
    Ok((input.get(from..).unwrap_or_default(), number))
}
