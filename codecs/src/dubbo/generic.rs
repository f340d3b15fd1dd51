//! Generic calls (`$invoke`), whose arguments are the name of a method, the names of its parameters' types, and its arguments.
//!
//! Dubbo 2.7 remembers the methods that it found by name and types, written one after the other with nothing between: once
//! `erase` of a `java.lang.String` was called, `eras` of an `ejava.lang.String` calls it again.
use super::descriptor;
use crate::hessian::{END, NULL, Reader, is_text, optional_text};

/// Where names of types begin, so that they cannot begin elsewhere.
const ROOTS: [&str; 10] = ["java", "javax", "jakarta", "org", "com", "net", "io", "cn", "edu", "gov"];

/// The ways in which arguments may be written that leave their number to be what the method's parameters want.
const WAYS: [&str; 6] = ["", "true", "false", "gson", "raw.return", "protobuf-json"];

/// Whether the method of a call with these arguments in Hessian 2 is the one that is named, and no other of which the name
/// ends elsewhere in the same letters.
pub(super) fn names_one(arguments: &[u8]) -> bool {
    let Ok((types, Some(method))) = optional_text(arguments) else { return false };
    !method.contains(['.', '[']) && starts_with_type(types)
}

/// Whether the attachment `generic` of that value leaves the number of arguments as it is.
pub(super) fn keeps_number(way: &str) -> bool {
    WAYS.contains(&way)
}

/// Whether a list of types has none, or begins with one that begins where it seems to.
fn starts_with_type(list: &[u8]) -> bool {
    let is_empty = match list.first() {
        Some(&NULL | 0x70 | 0x78) => true,
        Some(0x55..=0x58 | 0x71..=0x77 | 0x79..=0x7f) => false,
        _ => return false,
    };
    let Ok((first, ())) = Reader::strict().opening(list) else { return false };
    match first.first() {
        _ if is_empty => true,
        Some(&END) => matches!(list.first(), Some(0x55 | 0x57)),
        Some(&tag) if is_text(tag) => matches!(optional_text(first), Ok((_, Some(name))) if is_rooted(&name)),
        _ => false,
    }
}

fn is_rooted(name: &str) -> bool {
    let is_array = name.starts_with('[');
    let mut element = name;
    while let Some(rest) = element.strip_suffix("[]") {
        element = rest;
    }
    is_array
        || descriptor::is_primitive(element)
        || name.split_once('.').is_some_and(|(root, _)| ROOTS.contains(&root))
}

#[cfg(test)]
mod tests {
    use super::{ROOTS, names_one};

    #[test]
    fn no_root_ends_as_another() {
        for root in ROOTS {
            assert!(!ROOTS.iter().any(|other| *other != root && other.ends_with(root)), "{root}");
        }
    }

    #[test]
    fn names_that_may_end_elsewhere() {
        for (arguments, is_one) in [
            (&b"\x05erase\x71\x07[string\x10java.lang.String"[..], true),
            (b"\x05erase\x71\x07[string\x03int", true),
            (b"\x05erase\x71\x07[string\x05int[]", true),
            (b"\x05erase\x71\x07[string\x02[I", true),
            (b"\x05eraseN", true),
            (b"\x05erase\x70\x07[string", true),
            (b"\x05eraseV\x07[string\x91\x10org.example.User", true),
            (b"\x05eraseU\x07[stringZ", true),
            (b"\x04eras\x71\x07[string\x11ejava.lang.String", false),
            (b"\x06erasej\x71\x07[string\x0fava.lang.String", false),
            (b"\x0ferasejava.lang.\x71\x07[string\x06String", false),
            (b"\x05erase\x71\x07[string\x04User", false),
            (b"\x04eras\x71\x07[string\x01e", false),
            (b"\x05erase\x71\x07[stringN", false),
            (b"\x05eraseH\x91\x91Z", false),
            (b"N\x70\x07[string", false),
        ] {
            assert_eq!(names_one(arguments), is_one, "{}", String::from_utf8_lossy(arguments));
        }
    }
}
