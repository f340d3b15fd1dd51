use crate::Error;

/// Why a read ends before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// The input must reach this length first.
    Need(usize),
    Bad(Error),
}

pub(super) type Read<T> = Result<T, Stop>;

pub(super) fn malformed<T>(what: &'static str, offset: usize) -> Read<T> {
    Err(Stop::Bad(Error::Malformed { what, offset }))
}

pub(super) fn unsupported<T>(what: &'static str, offset: usize) -> Read<T> {
    Err(Stop::Bad(Error::Unsupported { what, offset }))
}

/// Bytes read from front to back, of which more may come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
    /// Where what is read must end, and what that is.
    end: (usize, &'static str),
}

impl<'a> Cursor<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0, end: (usize::MAX, "") }
    }

    /// From `at` on, not past `end`, where `what` ends.
    pub(super) fn within(self, at: usize, end: usize, what: &'static str) -> Self {
        Self { at, end: (end, what), ..self }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn end(&self) -> usize {
        self.end.0
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let to = self.at.saturating_add(count);
        if to > self.end.0 {
            return malformed(self.end.1, self.end.0);
        }
        let bytes = self.input.get(self.at..to).ok_or(Stop::Need(to))?;
        self.at = to;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Read<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    /// The next byte, which stays the next.
    pub(super) fn peek(&self) -> Read<u8> {
        let mut ahead = *self;
        ahead.byte()
    }

    pub(super) fn u16(&mut self) -> Read<u16> {
        Ok(self.take(2)?.as_array().map_or(0, |bytes| u16::from_be_bytes(*bytes)))
    }

    pub(super) fn u32(&mut self) -> Read<u32> {
        Ok(self.take(4)?.as_array().map_or(0, |bytes| u32::from_be_bytes(*bytes)))
    }

    /// An unsigned LEB128 number of 32 bits.
    pub(super) fn varint(&mut self) -> Read<u32> {
        let start = self.at;
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(number).or_else(|_| malformed("number", start));
            }
        }
        malformed("number", start)
    }

    /// Passes over a LEB128 number of up to 64 bits.
    pub(super) fn skip_varint(&mut self) -> Read<()> {
        let start = self.at;
        for _ in 0..10 {
            if self.byte()? < 0x80 {
                return Ok(());
            }
        }
        malformed("number", start)
    }
}

/// A length on the wire as one in memory.
pub(super) fn length(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(super) fn write_varint(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
