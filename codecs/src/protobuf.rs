//! Protobuf's [wire format](https://protobuf.dev/programming-guides/encoding/) without a schema: the fields of a message
//! in their order, and messages in which a field is changed.
//!
//! A message is read in one pass, whatever it claims, and never deeper than it is asked to. Where a field that should be
//! there once is there more often, readers take the last one, and put messages together.
use crate::Error;

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer, a truth value or an enumeration. Negative 32-bit ones have all 64 bits.
    Varint(u64),
    /// Eight bytes, as a little-endian number.
    Fixed64(u64),
    /// A string, bytes, a message, or numbers one after the other.
    Bytes(&'a [u8]),
    /// Four bytes, as a little-endian number.
    Fixed32(u32),
}

impl<'a> Value<'a> {
    /// The value of a varint.
    pub fn varint(self) -> Option<u64> {
        match self {
            Value::Varint(value) => Some(value),
            _ => None,
        }
    }

    /// What has a length.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Text: what has a length and is UTF-8.
    pub fn text(self) -> Option<&'a str> {
        core::str::from_utf8(self.bytes()?).ok()
    }
}

/// A field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its number, never 0.
    pub number: u32,
    /// What it says.
    pub value: Value<'a>,
    /// All of it, its tag included.
    pub bytes: &'a [u8],
    /// Where it starts, counted as [`Fields::at`] was told.
    pub offset: usize,
}

impl<'a> Field<'a> {
    /// Its fields, if it can be a message.
    pub fn fields(&self) -> Option<Fields<'a>> {
        let message = self.value.bytes()?;
        let end = self.offset.saturating_add(self.bytes.len());
        Some(Fields::at(message, end.saturating_sub(message.len())))
    }

    /// Its key and value, if it can be an entry of a map from text.
    pub fn entry(&self) -> Option<(&'a str, &'a [u8])> {
        let (mut key, mut value) = ("", &[][..]);
        for field in self.fields()? {
            let field = field.ok()?;
            match field.number {
                1 => key = field.value.text()?,
                2 => value = field.value.bytes()?,
                _ => {}
            }
        }
        Some((key, value))
    }
}

/// The fields of a message, in their order. It ends after the first error.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Fields<'a> {
    /// The fields of a message.
    pub fn new(message: &'a [u8]) -> Self {
        Self::at(message, 0)
    }

    /// The fields of a message which starts at `offset` of what errors count from.
    pub fn at(message: &'a [u8], offset: usize) -> Self {
        Self { rest: message, offset }
    }

    fn read(&mut self) -> Result<Field<'a>, Error> {
        let start = self.rest;
        let Some((tag, rest)) = read_varint(start) else { return self.malformed("protobuf tag") };
        let number = match u32::try_from(tag) {
            Ok(tag) if tag >> 3 != 0 => tag >> 3,
            _ => return self.malformed("protobuf tag"),
        };
        let read = match tag & 7 {
            0 => read_varint(rest).map(|(value, rest)| (Value::Varint(value), rest)),
            1 => rest
                .split_first_chunk()
                .map(|(value, rest)| (Value::Fixed64(u64::from_le_bytes(*value)), rest)),
            2 => read_bytes(rest).map(|(value, rest)| (Value::Bytes(value), rest)),
            5 => rest
                .split_first_chunk()
                .map(|(value, rest)| (Value::Fixed32(u32::from_le_bytes(*value)), rest)),
            3 | 4 => return Err(Error::Unsupported { what: "protobuf group", offset: self.offset }),
            _ => None,
        };
        let Some((value, rest)) = read else { return self.malformed("protobuf field") };
        let (bytes, _) = start.split_at_checked(start.len().saturating_sub(rest.len())).unwrap_or_default();
        let offset = self.offset;
        self.rest = rest;
        self.offset = offset.saturating_add(bytes.len());
        Ok(Field { number, value, bytes, offset })
    }

    fn malformed<T>(&self, what: &'static str) -> Result<T, Error> {
        Err(Error::Malformed { what, offset: self.offset })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Reads a varint, and what follows it. Of more than 64 bits the first 64 are taken, as other readers do; more than ten
/// bytes are none.
pub fn read_varint(input: &[u8]) -> Option<(u64, &[u8])> {
    if let Some((byte, rest)) = input.split_first()
        && *byte < 0x80
    {
        return Some((u64::from(*byte), rest));
    }
    let mut value = 0;
    for (at, byte) in input.iter().enumerate().take(10) {
        let shift = u32::try_from(at).unwrap_or_default().saturating_mul(7);
        value |= u64::from(byte & 0x7f).wrapping_shl(shift);
        if *byte < 0x80 {
            return Some((value, input.get(at.saturating_add(1)..).unwrap_or_default()));
        }
    }
    None
}

fn read_bytes(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = read_varint(input)?;
    rest.split_at_checked(usize::try_from(len).ok()?)
}

/// Appends a varint.
pub fn write_varint(value: u64, out: &mut Vec<u8>) {
    let mut rest = value;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends a field that holds a number.
pub fn write_number(number: u32, value: u64, out: &mut Vec<u8>) {
    write_varint(u64::from(number) << 3, out);
    write_varint(value, out);
}

/// Appends a field that holds eight bytes, as a little-endian number.
pub fn write_fixed64(number: u32, value: u64, out: &mut Vec<u8>) {
    write_varint(u64::from(number) << 3 | 1, out);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a field that holds text, bytes or a message.
pub fn write_bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    write_varint(u64::from(number) << 3 | 2, out);
    write_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Appends an entry of a map from text to text or bytes.
pub fn write_entry(number: u32, key: &str, value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    write_bytes(1, key.as_bytes(), out);
    write_bytes(2, value, out);
    enclose(number, start, out);
}

/// Makes what `out` holds from `start` on a message in a field.
pub fn enclose(number: u32, start: usize, out: &mut Vec<u8>) {
    let end = out.len();
    write_varint(u64::from(number) << 3 | 2, out);
    write_varint(end.saturating_sub(start) as u64, out);
    let front = out.split_off(end);
    let place = start.saturating_add(front.len());
    out.extend_from_slice(&front);
    if end <= out.len() && start <= end {
        out.copy_within(start..end, place);
    }
    if let Some(room) = out.get_mut(start..place) {
        room.copy_from_slice(&front);
    }
}

/// Appends `message` with the number at `path` set: a field, in a message in a field for each step before the last.
/// What is missing on the way is added at the end.
///
/// # Errors
///
/// The message, or one on the way, cannot be read. `out` may have grown.
pub fn set_number(message: &[u8], path: &[u32], value: u64, out: &mut Vec<u8>) -> Result<(), Error> {
    let Some((number, deeper)) = path.split_first() else { return Ok(()) };
    let mut last = None;
    for field in Fields::new(message) {
        let field = field?;
        if field.number == *number && (deeper.is_empty() || field.value.bytes().is_some()) {
            last = Some(field);
        }
    }
    let at = last.map_or(message.len(), |field| field.offset);
    let (front, rest) = message.split_at_checked(at).unwrap_or((message, &[]));
    out.extend_from_slice(front);
    if deeper.is_empty() {
        write_number(*number, value, out);
    } else {
        let start = out.len();
        set_number(last.and_then(|field| field.value.bytes()).unwrap_or_default(), deeper, value, out)?;
        enclose(*number, start, out);
    }
    let replaced = last.map_or(0, |field| field.bytes.len());
    out.extend_from_slice(rest.get(replaced..).unwrap_or_default());
    Ok(())
}

/// Appends the fields as `write` writes each.
///
/// # Errors
///
/// A field cannot be read. `out` may have grown.
pub fn write_fields<'a>(
    fields: Fields<'a>,
    write: &mut dyn FnMut(&Field<'a>, &mut Vec<u8>),
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    for field in fields {
        write(&field?, out);
    }
    Ok(())
}
