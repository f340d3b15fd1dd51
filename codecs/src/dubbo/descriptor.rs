//! Descriptors of parameters as the JVM has them, such as `Ljava/lang/String;[I`
//! ([section 4.3.2](https://docs.oracle.com/javase/specs/jvms/se21/html/jvms-4.html#jvms-4.3.2)).

/// The first descriptor of some, and the others.
pub(super) fn split(types: &str) -> Option<(&str, &str)> {
    let element = types.trim_start_matches('[');
    let rest = match element.split_at_checked(1)? {
        ("L", name) => name.split_once(';')?.1,
        ("Z" | "B" | "C" | "D" | "F" | "I" | "J" | "S" | "V", after) => after,
        _ => return None,
    };
    types.split_at_checked(types.len().saturating_sub(rest.len()))
}

/// The number of parameters.
pub(super) fn count(types: &[u8]) -> Option<usize> {
    let (mut count, mut rest, mut is_open) = (0_usize, types, false);
    while let Some((first, after)) = rest.split_first() {
        is_open = *first == b'[';
        count = count.saturating_add(usize::from(!is_open));
        rest = match first {
            b'[' | b'Z' | b'B' | b'C' | b'D' | b'F' | b'I' | b'J' | b'S' | b'V' => after,
            b'L' => after.get(after.iter().position(|byte| *byte == b';')?..)?.get(1..)?,
            _ => return None,
        };
    }
    (!is_open).then_some(count)
}

/// Whether each descriptor is one by the letter. Some servers pass over what they do not know among them, and then count
/// fewer parameters.
pub(super) fn are_proper(types: &str) -> bool {
    let mut rest = types;
    while !rest.is_empty() {
        let Some((first, after)) = split(rest) else { return false };
        if first.ends_with('V') || first.starts_with("[[[[[[[[") {
            return false;
        }
        if let Some(name) = first.trim_start_matches('[').strip_prefix('L') {
            let name = name.strip_suffix(';').unwrap_or(name);
            if !name.split('/').all(is_identifier) {
                return false;
            }
        }
        rest = after;
    }
    true
}

/// Whether a type of that name is one of the JVM's own.
pub(super) fn is_primitive(name: &str) -> bool {
    matches!(name, "boolean" | "byte" | "char" | "double" | "float" | "int" | "long" | "short")
}

fn is_identifier(text: &str) -> bool {
    !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$'))
}

#[cfg(test)]
mod tests {
    use super::{are_proper, count, split};

    #[test]
    fn parameters_are_counted() {
        let counted = |types: &str| {
            let by_one = std::iter::successors(Some(types), |rest| split(rest).map(|(_, after)| after));
            let count = count(types.as_bytes());
            assert_eq!(count, by_one.clone().any(str::is_empty).then(|| by_one.count() - 1), "{types}");
            count
        };
        assert_eq!(counted(""), Some(0));
        assert_eq!(counted("I[[JLjava/lang/String;[Lorg/example/User;Z"), Some(5));
        for broken in ["[", "I[", "Ljava/lang/String", "Q", "IQ", "é", "[é", "L"] {
            assert_eq!(counted(broken), None, "{broken}");
        }
    }

    #[test]
    fn descriptors_by_the_letter() {
        for proper in ["", "I[[JLjava/lang/String;[Lorg/example/User$Kind;Z", "LUser;"] {
            assert!(are_proper(proper), "{proper}");
        }
        for odd in ["L-;", "L;", "La//b;", "L/a;", "La/;", "V", "[V", "La.b;", "L1;", "L[I;", "IL-;I", "["] {
            assert!(!are_proper(odd), "{odd}");
        }
    }
}
