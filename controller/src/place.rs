//! Where something is: in an object by a path, in a file by line and column.

/// A place in a file, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

/// A step of a path such as `spec.routes[0]["a.b"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Into a member of an object.
    Key(String),
    /// Into an element of a list.
    Index(usize),
}

/// The steps of a path: `.key`, `["key"]`, `[index]`. Ends at the first thing that is none of them.
pub fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    while let Some((step, after)) = step(rest) {
        steps.push(step);
        rest = after;
    }
    steps
}

fn step(path: &str) -> Option<(Step, &str)> {
    let Some(bracketed) = path.strip_prefix('[') else {
        let key = path.strip_prefix('.').unwrap_or(path);
        let end = key.find(['.', '[']).unwrap_or(key.len());
        let (key, rest) = key.split_at(end);
        return (!key.is_empty()).then(|| (Step::Key(key.to_owned()), rest));
    };
    if let Some(quoted) = bracketed.strip_prefix('"') {
        let (key, rest) = unquoted(quoted)?;
        return Some((Step::Key(key), rest.strip_prefix(']')?));
    }
    let (index, rest) = bracketed.split_once(']')?;
    Some((Step::Index(index.parse().ok()?), rest))
}

/// What a text is in quotes, after the first of them, and what follows the last: as [`push_key`] quotes it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut key = String::new();
    let mut rest = text.chars();
    loop {
        let c = match rest.next()? {
            '"' => return Some((key, rest.as_str())),
            '\\' => match rest.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'u' => {
                    let (code, after) = rest.as_str().strip_prefix('{')?.split_once('}')?;
                    rest = after.chars();
                    char::from_u32(u32::from_str_radix(code, 16).ok()?)?
                }
                itself => itself,
            },
            c => c,
        };
        key.push(c);
    }
}

/// Appends a key to a path: `.key`, or `["a.b"]` where it has more than letters, digits, `_` and `-`.
pub fn push_key(path: &mut String, key: &str) {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    match plain {
        false => path.push_str(&format!("[{key:?}]")),
        true if path.is_empty() => path.push_str(key),
        true => {
            path.push('.');
            path.push_str(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let key = |text: &str| Step::Key(text.to_owned());
        let path = r#"services["a.b"].routes[12].match"#;
        assert_eq!(steps(path), [key("services"), key("a.b"), key("routes"), Step::Index(12), key("match")]);
        assert_eq!(steps(r#"["a"]"#), [key("a")]);
        assert_eq!(steps(""), []);
        assert_eq!(steps("a[b"), [key("a")]);
        for odd in ["", "a.b", "q\"]", "\\", "'", "\u{0}\n\t\r\u{1b}\u{202e}ä"] {
            let mut path = "a".to_owned();
            push_key(&mut path, odd);
            path.push_str("[1]");
            assert_eq!(steps(&path), [key("a"), key(odd), Step::Index(1)], "{path}");
        }
    }
}
