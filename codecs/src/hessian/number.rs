use nom::bytes::complete::take;
use nom::number::complete::{be_f64, be_i32, be_i64, be_u8, be_u16};

use super::{Fault, Parsed};

/// Reads one byte.
pub(super) fn byte(input: &[u8]) -> Parsed<'_, u8> {
    be_u8(input)
}

/// Reads a number of two bytes.
pub(super) fn short(input: &[u8]) -> Parsed<'_, u16> {
    be_u16(input)
}

/// Reads `count` bytes.
pub(super) fn bytes(input: &[u8], count: usize) -> Parsed<'_, &[u8]> {
    take(count)(input)
}

/// Reads a 32-bit integer in any of its forms (section 4.6).
pub(crate) fn int(input: &[u8]) -> Parsed<'_, i32> {
    let (rest, tag) = byte(input)?;
    match tag {
        0x80..=0xbf => Ok((rest, i32::from(tag).wrapping_sub(0x90))),
        0xc0..=0xcf => low_byte(rest, tag, 0xc8),
        0xd0..=0xd7 => low_short(rest, tag, 0xd4),
        b'I' => be_i32(rest),
        _ => Fault::malformed(input, "integer"),
    }
}

/// Reads a 64-bit integer in any of its forms (section 4.9).
pub(super) fn long(input: &[u8]) -> Parsed<'_, i64> {
    let (rest, tag) = byte(input)?;
    match tag {
        0xd8..=0xef => Ok((rest, i64::from(tag).wrapping_sub(0xe0))),
        0xf0..=0xff => low_byte(rest, tag, 0xf8).map(wide),
        0x38..=0x3f => low_short(rest, tag, 0x3c).map(wide),
        0x59 => be_i32(rest).map(wide),
        b'L' => be_i64(rest),
        _ => Fault::malformed(input, "long"),
    }
}

/// Reads a double in any of its forms (section 4.5).
pub(super) fn double(input: &[u8]) -> Parsed<'_, f64> {
    let (rest, tag) = byte(input)?;
    match tag {
        0x5b => Ok((rest, 0.0)),
        0x5c => Ok((rest, 1.0)),
        0x5d => byte(rest).map(|(rest, value)| (rest, value.cast_signed().into())),
        0x5e => short(rest).map(|(rest, value)| (rest, value.cast_signed().into())),
        0x5f => be_i32(rest).map(|(rest, thousandths)| (rest, f64::from(thousandths) / 1000.0)),
        b'D' => be_f64(rest),
        _ => Fault::malformed(input, "double"),
    }
}

/// A number whose high bits are in `tag`, counted from `zero`, and the rest in the next byte.
fn low_byte(input: &[u8], tag: u8, zero: u8) -> Parsed<'_, i32> {
    let (rest, low) = byte(input)?;
    Ok((rest, (i32::from(tag).wrapping_sub(zero.into()) << 8) | i32::from(low)))
}

/// A number whose high bits are in `tag`, counted from `zero`, and the rest in the next two bytes.
fn low_short(input: &[u8], tag: u8, zero: u8) -> Parsed<'_, i32> {
    let (rest, low) = short(input)?;
    Ok((rest, (i32::from(tag).wrapping_sub(zero.into()) << 16) | i32::from(low)))
}

fn wide<T>((rest, value): (T, i32)) -> (T, i64) {
    (rest, value.into())
}
