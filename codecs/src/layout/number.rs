use crate::protobuf;

/// How an unsigned integer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// In so many bytes, at most eight, the most significant first.
    Big(u8),
    /// In so many bytes, at most eight, the least significant first.
    Little(u8),
    /// In as many bytes as it needs, seven bits in each.
    Varint,
}

impl Coding {
    /// The number at the front of `bytes`, and how many bytes it takes; `None` if it does not end there.
    pub fn read(self, bytes: &[u8]) -> Option<(u64, usize)> {
        match self {
            Coding::Big(width) => {
                let width = usize::from(width);
                let value = bytes.get(..width)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
                Some((value, width))
            }
            Coding::Little(width) => {
                let width = usize::from(width);
                let bytes = bytes.get(..width)?.iter().rev();
                Some((bytes.fold(0, |value, byte| value << 8 | u64::from(*byte)), width))
            }
            Coding::Varint => {
                let (value, rest) = protobuf::read_varint(bytes)?;
                Some((value, bytes.len().saturating_sub(rest.len())))
            }
        }
    }

    /// Appends a number. Of one that is too large for the width, the lower bytes are written.
    pub(super) fn write(self, value: u64, out: &mut Vec<u8>) {
        let bytes = value.to_be_bytes();
        match self {
            Coding::Big(width) => {
                out.extend_from_slice(bytes.get(8_usize.saturating_sub(width.into())..).unwrap_or(&bytes));
            }
            Coding::Little(width) => {
                out.extend(bytes.iter().rev().take(width.into()));
            }
            Coding::Varint => protobuf::write_varint(value, out),
        }
    }

    /// The bytes that every such number takes; one at least if that differs.
    pub fn least_width(self) -> usize {
        match self {
            Coding::Big(width) | Coding::Little(width) => width.into(),
            Coding::Varint => 1,
        }
    }

    /// The largest number that can be written.
    pub fn max(self) -> u64 {
        match self {
            Coding::Big(width @ 1..8) | Coding::Little(width @ 1..8) => {
                !u64::MAX.wrapping_shl(u32::from(width).wrapping_mul(8))
            }
            Coding::Big(_) | Coding::Little(_) | Coding::Varint => u64::MAX,
        }
    }
}

/// An unsigned integer of fixed width in the header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    at: u32,
    width: u8,
    /// The bits of 64 that it leaves.
    unused: u8,
    is_little: bool,
}

impl Number {
    /// A number at `at`, counted from the frame's start, or from the end of a length that is a varint.
    pub fn new(at: u32, coding: Coding) -> Self {
        let width = u8::try_from(coding.least_width()).unwrap_or(8).clamp(1, 8);
        let unused = 64_u8.saturating_sub(width.saturating_mul(8));
        Self { at, width, unused, is_little: matches!(coding, Coding::Little(_)) }
    }

    /// The number in a header.
    #[inline(always)]
    pub(super) fn read(self, header: &[u8]) -> Option<u64> {
        match self.read_at_once(header) {
            Some(value) => Some(value),
            None => self.read_at_end(header),
        }
    }

    /// The same, where eight bytes follow its start.
    #[inline(always)]
    pub(super) fn read_at_once(self, header: &[u8]) -> Option<u64> {
        let at = self.at as usize;
        let bytes = header.get(at..at.wrapping_add(8))?.first_chunk()?;
        let value = match self.is_little {
            true => u64::from_le_bytes(*bytes).wrapping_shl(self.unused.into()),
            false => u64::from_be_bytes(*bytes),
        };
        Some(value.wrapping_shr(self.unused.into()))
    }

    #[inline(never)]
    fn read_at_end(self, header: &[u8]) -> Option<u64> {
        self.coding().read(header.get(self.at as usize..)?).map(|(value, _)| value)
    }

    /// Writes over the number in a header.
    #[inline(always)]
    pub(super) fn write(self, value: u64, header: &mut [u8]) {
        let at = self.at as usize;
        match header.get_mut(at..at.wrapping_add(8)).and_then(|bytes| bytes.first_chunk_mut()) {
            Some(bytes) if !self.is_little => {
                let unused = self.unused.into();
                let kept = u64::from_be_bytes(*bytes) & !u64::MAX.wrapping_shl(unused);
                *bytes = (value.wrapping_shl(unused) | kept).to_be_bytes();
            }
            _ => self.write_bytes(value, header),
        }
    }

    #[inline(never)]
    fn write_bytes(self, value: u64, header: &mut [u8]) {
        let mut bytes = Vec::new();
        self.coding().write(value, &mut bytes);
        let place = header.get_mut(self.at as usize..).unwrap_or_default();
        place.iter_mut().zip(&bytes).for_each(|(place, byte)| *place = *byte);
    }

    /// How it is written.
    pub(super) fn coding(self) -> Coding {
        if self.is_little { Coding::Little(self.width) } else { Coding::Big(self.width) }
    }

    /// The largest there can be.
    pub fn max(self) -> u64 {
        self.coding().max()
    }

    /// Its first byte.
    pub fn at(self) -> usize {
        self.at as usize
    }

    /// Where it ends.
    #[inline(always)]
    pub fn end(self) -> usize {
        (self.at as usize).saturating_add(self.width.into())
    }
}
