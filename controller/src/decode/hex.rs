//! Bytes that somebody has written down: `dabb c200`, `0xda, 0xbb`, and the dumps of xxd, hexdump -C and Wireshark.

use super::Error;

/// Whether the first line of `bytes` is hexadecimal digits, alone or as a dump.
pub fn is_hex(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let line = lines.find(|line| !line.is_empty()).and_then(|line| str::from_utf8(line).ok());
    let Some(line) = line else { return false };
    let digits = content(line);
    // The end of a long line may not be there yet.
    digits.len() >= 4 && pairs(digits).map_or_else(|at| at == digits.len(), |bytes| !bytes.is_empty())
}

/// The bytes that a text says.
pub fn read(text: &[u8]) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut offset = 0_u64;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let broken = |at: usize| Error::Broken {
            offset: offset + at as u64,
            what: "no hexadecimal digits, of which each byte has two".to_owned(),
        };
        let whole = str::from_utf8(line).map_err(|error| broken(error.valid_up_to()))?;
        let trimmed = whole.trim();
        let digits = content(trimmed);
        let start = whole.find(digits).unwrap_or(0);
        bytes.extend(pairs(digits).map_err(|at| broken(start + at))?);
        offset += line.len() as u64;
    }
    Ok(bytes)
}

/// What of a line are the digits: a dump has an offset before them and the text after them.
fn content(line: &str) -> &str {
    let offset = line.find(|character: char| !character.is_ascii_hexdigit()).unwrap_or(0);
    let rest = line.get(offset..).unwrap_or_default();
    if offset < 4 {
        return line;
    }
    if let Some(rest) = rest.strip_prefix(':') {
        let rest = rest.trim_start();
        return rest.split("  ").next().unwrap_or(rest);
    }
    if rest.starts_with("  ") {
        let rest = rest.trim_start();
        let rest = rest.split('|').next().unwrap_or(rest);
        return rest.split("   ").next().unwrap_or(rest).trim_end();
    }
    line
}

/// The bytes of the digits, or where something else is.
fn pairs(digits: &str) -> Result<Vec<u8>, usize> {
    let mut bytes = Vec::new();
    let mut first: Option<u8> = None;
    let mut rest = digits.char_indices().peekable();
    while let Some((at, character)) = rest.next() {
        let is_prefix = first.is_none()
            && character == '0'
            && rest.next_if(|(_, next)| matches!(next, 'x' | 'X')).is_some();
        match (character.to_digit(16).and_then(|digit| u8::try_from(digit).ok()), first) {
            _ if is_prefix => {}
            (Some(digit), None) => first = Some(digit),
            (Some(digit), Some(high)) => {
                bytes.push(high << 4 | digit);
                first = None;
            }
            (None, None) if character.is_whitespace() || matches!(character, ',' | ':' | ';') => {}
            (None, _) => return Err(at),
        }
    }
    if first.is_some() { Err(digits.len()) } else { Ok(bytes) }
}
