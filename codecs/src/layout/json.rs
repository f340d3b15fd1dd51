//! JSON objects as far as routing needs them: their scalars, by path.
use super::entry::{Key, Visit};
use crate::Error;

/// How deep objects and arrays may lie in one another.
const DEEPEST: usize = 16;

/// Calls `visit` for every scalar of the object `bytes`, which starts at `offset`: strings without quotes and escapes,
/// others as they are written. What is in arrays is passed over.
pub(super) fn entries(bytes: &[u8], offset: usize, visit: &mut Visit<'_>) -> Result<(), Error> {
    let mut reader = Reader { bytes, at: 0, offset, visit, path: String::new(), text: String::new() };
    reader.space();
    if reader.peek() != Some(b'{') {
        return reader.malformed();
    }
    reader.object(DEEPEST)?;
    reader.space();
    // A zero byte ends what C writes.
    if reader.peek().is_some_and(|byte| byte != 0) { reader.malformed() } else { Ok(()) }
}

struct Reader<'a, 'v> {
    bytes: &'a [u8],
    at: usize,
    offset: usize,
    visit: &'a mut Visit<'v>,
    /// The keys that lead to the current object, each with a dot behind it.
    path: String,
    /// The string that was read last.
    text: String,
}

impl Reader<'_, '_> {
    fn malformed<T>(&self) -> Result<T, Error> {
        Err(Error::Malformed { what: "JSON", offset: self.offset.saturating_add(self.at) })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at = self.at.saturating_add(1);
        Some(byte)
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
            self.next();
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Error> {
        self.space();
        if self.peek() != Some(byte) {
            return self.malformed();
        }
        self.next();
        Ok(())
    }

    /// Reads an object whose scalars are told.
    fn object(&mut self, deeper: usize) -> Result<(), Error> {
        self.items(b'{', b'}', deeper, true)
    }

    /// Reads what is between braces or brackets.
    fn items(&mut self, open: u8, close: u8, deeper: usize, told: bool) -> Result<(), Error> {
        let Some(deeper) = deeper.checked_sub(1) else { return self.malformed() };
        self.expect(open)?;
        self.space();
        if self.peek() == Some(close) {
            self.next();
            return Ok(());
        }
        loop {
            let kept = self.path.len();
            if close == b'}' {
                self.space();
                self.string()?;
                self.expect(b':')?;
                self.path.push_str(&self.text);
            }
            self.value(deeper, told && close == b'}')?;
            self.path.truncate(kept);
            self.space();
            match self.next() {
                Some(b',') => {}
                Some(byte) if byte == close => return Ok(()),
                _ => return self.malformed(),
            }
        }
    }

    fn value(&mut self, deeper: usize, told: bool) -> Result<(), Error> {
        self.space();
        let start = self.at;
        match self.peek() {
            Some(b'{') => {
                self.path.push('.');
                self.items(b'{', b'}', deeper, told)
            }
            Some(b'[') => self.items(b'[', b']', deeper, false),
            Some(b'"') => {
                self.string()?;
                let at = self.offset.saturating_add(start);
                if told { (self.visit)(Key::Text(&self.path), self.text.as_bytes(), at) } else { Ok(()) }
            }
            _ => {
                while self
                    .peek()
                    .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
                {
                    self.next();
                }
                let scalar = self.bytes.get(start..self.at).unwrap_or_default();
                let at = self.offset.saturating_add(start);
                match scalar {
                    b"" => self.malformed(),
                    b"null" => Ok(()),
                    _ if told => (self.visit)(Key::Literal(&self.path), scalar, at),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Reads a string into `text`.
    fn string(&mut self) -> Result<(), Error> {
        if self.peek() != Some(b'"') {
            return self.malformed();
        }
        self.next();
        self.text.clear();
        loop {
            let start = self.at;
            while self.peek().is_some_and(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
                self.next();
            }
            match core::str::from_utf8(self.bytes.get(start..self.at).unwrap_or_default()) {
                Ok(plain) => self.text.push_str(plain),
                Err(_) => return self.malformed(),
            }
            match self.next() {
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape()?,
                _ => return self.malformed(),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Error> {
        let plain = match self.next() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex()?;
                let code = if (0xd800..0xdc00).contains(&first) {
                    if self.next() != Some(b'\\') || self.next() != Some(b'u') {
                        return self.malformed();
                    }
                    let second = self.hex()?;
                    if !(0xdc00..0xe000).contains(&second) {
                        return self.malformed();
                    }
                    0x10000_u32.saturating_add((first & 0x3ff) << 10 | second & 0x3ff)
                } else {
                    first
                };
                match char::from_u32(code) {
                    Some(char) => char,
                    None => return self.malformed(),
                }
            }
            _ => return self.malformed(),
        };
        self.text.push(plain);
        Ok(())
    }

    fn hex(&mut self) -> Result<u32, Error> {
        let mut code = 0;
        for _ in 0..4 {
            match self.next().and_then(|byte| char::from(byte).to_digit(16)) {
                Some(digit) => code = code << 4 | digit,
                None => return self.malformed(),
            }
        }
        Ok(code)
    }
}
