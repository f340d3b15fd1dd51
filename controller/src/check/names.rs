use serde_json::Value;

use super::notes::Notes;
use crate::findings::Finding;

/// The API server's limits of names and of labels in them.
const NAME_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;

/// Checks the names of an object of any kind that Meltemi reads, as the API server does.
pub fn names(object: &Value) -> Vec<Finding> {
    let metadata = &object["metadata"];
    let mut notes = Notes::default();
    notes.field("metadata", |notes| {
        notes.field("name", |notes| match metadata["name"].as_str() {
            None | Some("") if metadata.get("generateName").is_some() => {
                notes.error("is missing: with generateName it is another each time; write one");
            }
            None | Some("") => notes.error("is missing; write one"),
            Some(name) => match object["kind"].as_str() {
                Some("Service" | "Namespace") => label(notes, name),
                _ => subdomain(notes, name),
            },
        });
        if let Some(namespace) = metadata["namespace"].as_str() {
            notes.field("namespace", |notes| label(notes, namespace));
        }
    });
    notes.into_findings()
}

/// Whether a text is the name of a namespace.
pub fn is_label(name: &str) -> bool {
    name.len() <= LABEL_BYTES && !name.contains('.') && is_name(name)
}

fn label(notes: &mut Notes, name: &str) {
    if !is_label(name) {
        notes.error(format_args!(
            "{name:?} is not a valid name; write up to {LABEL_BYTES} lower-case letters, digits and inner hyphens"
        ));
    }
}

/// Whether a text is the name of an object.
pub fn is_subdomain(name: &str) -> bool {
    name.len() <= NAME_BYTES && is_name(name)
}

fn subdomain(notes: &mut Notes, name: &str) {
    if !is_subdomain(name) {
        notes.error(format_args!(
            "{name:?} is not a valid name; write up to {NAME_BYTES} lower-case letters, digits, inner hyphens and dots"
        ));
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.split('.').all(|part| {
        part.bytes().all(|byte| fits(byte) || byte == b'-')
            && part.bytes().next().is_some_and(fits)
            && part.bytes().next_back().is_some_and(fits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_good(kind: &str, name: &str, namespace: &str) -> bool {
        let object = serde_json::json!({"kind": kind, "metadata": {"name": name, "namespace": namespace}});
        names(&object).is_empty()
    }

    #[test]
    fn names_are_those_that_the_api_server_takes() {
        for good in ["a", "a-b", "1", "a.b", &"a".repeat(253)] {
            assert!(is_good("MetaRouter", good, "shop"), "{good}");
        }
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a/b", "a\n", "ä", &"a".repeat(254)] {
            assert!(!is_good("MetaRouter", bad, "shop"), "{bad}");
        }
        for bad in ["a.b", &"a".repeat(64)] {
            assert!(!is_good("Service", bad, "shop") && !is_good("MetaRouter", "a", bad), "{bad}");
        }
    }
}
