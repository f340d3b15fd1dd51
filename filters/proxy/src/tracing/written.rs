//! What is written of a trace.

use core::str;

use super::{Digits, Format, Trace};
use crate::plan::TRACEPARENT_LEN;

/// The value of one attachment.
#[derive(Debug)]
pub(crate) struct Written {
    bytes: [u8; LONGEST],
    len: usize,
}

/// The length of the longest: Zipkin's as one value, with the span that called.
const LONGEST: usize = 68;

impl Written {
    const NOTHING: Self = Self { bytes: [0; LONGEST], len: 0 };

    /// It, which is ASCII.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The same.
    pub(crate) fn text(&self) -> &str {
        text(self.bytes())
    }

    fn push(&mut self, more: &[u8]) {
        let end = self.len.saturating_add(more.len());
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(more);
            self.len = end;
        }
    }
}

impl Trace {
    /// What is written into a field of a format for the try of that number, if anything.
    pub(crate) fn written(&self, (format, field): (Format, usize), number: u32) -> Written {
        if format == Format::W3c { self.w3c(number) } else { self.b3(format, field, number) }
    }

    fn w3c(&self, number: u32) -> Written {
        let mut written = Written { len: TRACEPARENT_LEN, ..Written::NOTHING };
        if let Some((value, _)) = written.bytes.split_first_chunk_mut() {
            self.write_w3c(number, value);
        }
        written
    }

    /// What is written in the format of the W3C.
    #[inline]
    pub(super) fn write_w3c(&self, number: u32, value: &mut [u8; TRACEPARENT_LEN]) {
        let [zero, same, cut, rest @ ..] = value;
        (*zero, *same, *cut) = (b'0', b'0', b'-');
        if let Some((id, [cut, rest @ ..])) = rest.split_first_chunk_mut()
            && let Some((span, [other, zero, sampled])) = rest.split_first_chunk_mut()
        {
            (*cut, *other, *zero) = (b'-', b'-', b'0');
            *id = self.id;
            *span = hex(self.span(number));
            *sampled = b'0' | u8::from(self.is_sampled);
        }
    }

    #[inline(never)]
    fn b3(&self, format: Format, field: usize, number: u32) -> Written {
        let mut written = Written::NOTHING;
        let is_whole = format == Format::B3;
        let parent = self.parent().as_bytes();
        let sampled: &[u8] = match self.is_sampled {
            _ if self.is_forced => b"d",
            true => b"1",
            false => b"0",
        };
        if is_whole || field == 0 {
            let skipped = if self.is_short { 16 } else { 0 };
            written.push(self.id.get(skipped..).unwrap_or_default());
        }
        if is_whole {
            written.push(b"-");
        }
        if is_whole || field == 1 {
            written.push(&hex(self.span(number)));
        }
        match field {
            _ if is_whole => {
                written.push(b"-");
                written.push(sampled);
                if !parent.is_empty() {
                    written.push(b"-");
                    written.push(parent);
                }
            }
            2 => written.push(parent),
            // What is forced says so already.
            3 if !self.is_forced => written.push(sampled),
            4 if self.is_forced => written.push(b"1"),
            _ => {}
        }
        written
    }
}

/// Digits as text.
pub(super) fn text(digits: &[u8]) -> &str {
    str::from_utf8(digits).unwrap_or_default()
}

/// A number in 16 digits, the last first: no instruction of Wasm turns them around.
pub(super) fn hex(number: u64) -> Digits<16> {
    let mut digits = [0; 16];
    for (digits, half) in digits.chunks_exact_mut(8).zip([number & 0xffff_ffff, number >> 32]) {
        // Each of its four bits alone in a byte.
        let bits = (half | half << 16) & 0x0000_ffff_0000_ffff;
        let bits = (bits | bits << 8) & 0x00ff_00ff_00ff_00ff;
        let bits = (bits | bits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        // Those from ten on are letters. No byte carries into the next.
        let letters = bits.wrapping_add(0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        let half = bits.wrapping_add(0x3030_3030_3030_3030).wrapping_add(letters.wrapping_mul(0x27));
        digits.copy_from_slice(&half.to_le_bytes());
    }
    digits
}
