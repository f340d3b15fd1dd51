//! Text that others wrote, as it may be shown.

use std::fmt::{self, Display, Write};

/// A text on one line that cannot steer a terminal or the program that reads a log: control characters are written as
/// escapes, and so are those that turn the direction of what follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plain<T>(pub(crate) T);

impl<T: Display> Display for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| match steers(c) {
            true => write!(self.0, "{}", c.escape_default()),
            false => self.0.write_char(c),
        })
    }
}

/// A text of JSON that says the same and steers nothing either. What would is in its strings alone, but for ends of lines.
pub(crate) fn json(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) && c != '\n' {
            // No such character is over U+FFFF.
            true => plain.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => plain.push(c),
        }
    }
    plain
}

/// Whether a character does more than show itself.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_a_terminal_or_a_log() {
        let text = "a\u{1b}[31m\n::error::x\u{9b}\u{202e}\u{61c}\tä";
        assert_eq!(Plain(text).to_string(), r"a\u{1b}[31m\n::error::x\u{9b}\u{202e}\u{61c}\tä");
        let written = serde_json::to_string_pretty(&[text]).unwrap();
        let json = json(&written);
        assert_eq!(json.matches(steers).collect::<String>(), "\n\n", "{json:?}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [text]);
    }
}
