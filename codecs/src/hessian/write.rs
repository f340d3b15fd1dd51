use crate::words::is_ascii;

/// The longest piece of a string, in UTF-16 units, and of a binary, in bytes: what the Java implementation writes.
const PIECE: usize = 0x8000;

/// Appends `text`, in pieces when it is long (section 4.12). No surrogate pair is ever cut.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    if text.len() <= SHORT && is_ascii(text.as_bytes()) {
        write_short(out, text.as_bytes());
        return;
    }
    let mut rest = text;
    loop {
        let (bytes, units) = measure(rest);
        let (piece, tail) = rest.split_at_checked(bytes).unwrap_or((rest, ""));
        let [_, _, high, low] = u32::try_from(units).unwrap_or(u32::MAX).to_be_bytes();
        match units {
            _ if !tail.is_empty() => out.extend_from_slice(&[b'R', high, low]),
            0..=0x1f => out.push(low),
            0x20..=0x3ff => out.extend_from_slice(&[0x30 | high, low]),
            _ => out.extend_from_slice(&[b'S', high, low]),
        }
        if units == bytes {
            // ASCII throughout.
            out.extend_from_slice(piece.as_bytes());
        } else {
            write_units(out, piece);
        }
        if tail.is_empty() {
            return;
        }
        rest = tail;
    }
}

/// The length of the longest text that [`write_short`] appends.
pub(crate) const SHORT: usize = 0x3ff;

/// Appends text as nearly all is: ASCII, and not longer than [`SHORT`].
#[inline]
pub(crate) fn write_short(out: &mut Vec<u8>, text: &[u8]) {
    let [.., high, low] = text.len().to_be_bytes();
    if text.len() <= 0x1f {
        out.push(low);
    } else {
        out.extend_from_slice(&[0x30 | high, low]);
    }
    out.extend_from_slice(text);
}

/// Appends `bytes`, in pieces when they are long (section 4.2).
pub(crate) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        let (piece, tail) = rest.split_at_checked(PIECE).unwrap_or((rest, &[]));
        let [_, _, high, low] = u32::try_from(piece.len()).unwrap_or(u32::MAX).to_be_bytes();
        match piece.len() {
            _ if !tail.is_empty() => out.extend_from_slice(&[b'A', high, low]),
            0..=0x0f => out.push(0x20 | low),
            0x10..=0x3ff => out.extend_from_slice(&[0x34 | high, low]),
            _ => out.extend_from_slice(&[b'B', high, low]),
        }
        out.extend_from_slice(piece);
        if tail.is_empty() {
            return;
        }
        rest = tail;
    }
}

/// Appends a 32-bit integer (section 4.6).
pub(crate) fn write_int(out: &mut Vec<u8>, value: i32) {
    let [first, second, third, fourth] = value.to_be_bytes();
    match value {
        -0x10..=0x2f => out.push(fourth.wrapping_add(0x90)),
        -0x800..=0x7ff => out.extend_from_slice(&[third.wrapping_add(0xc8), fourth]),
        -0x40000..=0x3ffff => out.extend_from_slice(&[second.wrapping_add(0xd4), third, fourth]),
        _ => out.extend_from_slice(&[b'I', first, second, third, fourth]),
    }
}

/// How much of `text` fits in one piece, in bytes and in UTF-16 units.
fn measure(text: &str) -> (usize, usize) {
    if text.len() <= PIECE && text.is_ascii() {
        return (text.len(), text.len());
    }
    let mut units = 0_usize;
    for (at, character) in text.char_indices() {
        let more = units.saturating_add(character.len_utf16());
        if more > PIECE {
            return (at, units);
        }
        units = more;
    }
    (text.len(), units)
}

fn write_units(out: &mut Vec<u8>, piece: &str) {
    // UTF-8 of four bytes, and only that, starts with a byte over 0xef.
    if !piece.bytes().any(|byte| byte >= 0xf0) {
        out.extend_from_slice(piece.as_bytes());
        return;
    }
    for character in piece.chars() {
        let mut room = [0; 4];
        match character.len_utf16() {
            1 => out.extend_from_slice(character.encode_utf8(&mut room).as_bytes()),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let [high, low] = unit.to_be_bytes();
                    out.push(0xe0 | high >> 4);
                    out.push(0x80 | (high & 0x0f) << 2 | low >> 6);
                    out.push(0x80 | low & 0x3f);
                }
            }
        }
    }
}
