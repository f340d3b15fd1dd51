//! Bodies in the serializations that write one JSON text a line. Only the strings at the front are read.
use std::borrow::Cow;

use super::front::front;
use crate::Head;

/// Whether bodies in the serialization `id` are lines of JSON: fastjson, gson, protobuf-json.
pub(super) fn is_lines(id: u8) -> bool {
    matches!(id, 6 | 16 | 21)
}

/// The lines of a body, one after the other.
pub(super) struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut parts = self.rest.splitn(2, |byte| *byte == b'\n');
        let line = parts.next().filter(|line| !line.is_empty())?;
        self.rest = parts.next().unwrap_or_default();
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// The next line, when it is a string.
    pub(super) fn text(&mut self) -> Option<Cow<'a, str>> {
        string(self.next()?)
    }

    /// The next line: a string or null.
    fn nullable(&mut self) -> Result<Option<Cow<'a, str>>, Unread> {
        match self.next().ok_or(Unread)? {
            b"null" => Ok(None),
            line => string(line).map(Some).ok_or(Unread),
        }
    }
}

/// The line is none that is read here.
struct Unread;

/// Reads the attributes at the front of a request, as far as they can be read.
pub(super) fn read(body: &[u8], head: &mut Head) {
    let mut lines = Lines::new(body);
    if let Ok(front) = front(|| lines.nullable(), head)
        && front.is_generic()
        && let Some(method) = lines.text()
    {
        head.push("genericMethod", &method);
    }
}

/// Reads a JSON string that fills the line ([RFC 8259](https://www.rfc-editor.org/rfc/rfc8259#section-7)).
fn string(line: &[u8]) -> Option<Cow<'_, str>> {
    let inner = line.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let inner = str::from_utf8(inner).ok()?;
    if !inner.contains(['\\', '"']) {
        return Some(Cow::Borrowed(inner));
    }
    let mut units = Vec::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        let unit = match character {
            '"' => return None,
            '\\' => match characters.next()? {
                plain @ ('"' | '\\' | '/') => u16::try_from(u32::from(plain)).ok()?,
                'b' => 0x08,
                'f' => 0x0c,
                'n' => 0x0a,
                'r' => 0x0d,
                't' => 0x09,
                'u' => {
                    let (digits, after) = characters.as_str().split_at_checked(4)?;
                    characters = after.chars();
                    u16::from_str_radix(digits, 16).ok()?
                }
                _ => return None,
            },
            other => {
                units.extend_from_slice(other.encode_utf16(&mut [0; 2]));
                continue;
            }
        };
        units.push(unit);
    }
    Some(Cow::Owned(String::from_utf16_lossy(&units)))
}

#[cfg(test)]
mod tests {
    use super::string;

    #[test]
    fn strings_with_escapes() {
        assert_eq!(string(br#""Ljava\/lang\u002fString;""#).unwrap(), "Ljava/lang/String;");
        assert_eq!(string(r#""é\n\"\ud83d\ude00""#.as_bytes()).unwrap(), "é\n\"😀");
        for broken in [r#""a"b""#, r#""\""#, r#""\u00""#, r#""\x""#, "\"", "a", ""] {
            assert_eq!(string(broken.as_bytes()), None, "{broken}");
        }
    }
}
