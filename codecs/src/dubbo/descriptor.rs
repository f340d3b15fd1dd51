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
pub(super) fn count(types: &str) -> Option<usize> {
    let mut count = 0_usize;
    let mut rest = types;
    while !rest.is_empty() {
        rest = split(rest)?.1;
        count = count.saturating_add(1);
    }
    Some(count)
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
    use super::{are_proper, count};

    #[test]
    fn parameters_are_counted() {
        assert_eq!(count(""), Some(0));
        assert_eq!(count("I[[JLjava/lang/String;[Lorg/example/User;Z"), Some(5));
        for broken in ["[", "Ljava/lang/String", "Q", "é"] {
            assert_eq!(count(broken), None, "{broken}");
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
