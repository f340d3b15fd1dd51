use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::place::{Step, steps};

/// The byte offset in the JSON text `json` of the value that `path` names, such as `services["demo"].routes[3].match`.
/// A path that leads further than the text does ends at the last value that is there: a missing field is sought where
/// it should be. `None` if `json` is not JSON.
pub fn offset(json: &str, path: &str) -> Option<usize> {
    let mut value: &RawValue = serde_json::from_str(json).ok()?;
    for step in steps(path) {
        let next = match step {
            Step::Index(index) => elements(value).and_then(|elements| elements.get(index).copied()),
            Step::Key(key) => members(value).and_then(|members| members.get(&key).copied()),
        };
        match next {
            Some(next) => value = next,
            None => break,
        }
    }
    // A raw value is a piece of the text that it was read from.
    (value.get().as_ptr() as usize).checked_sub(json.as_ptr() as usize)
}

fn elements(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

fn members(value: &RawValue) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(value.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"
{"services": {"a.b": {"routes": [{"name": "x"},
  {"name": "y", "timeout": 5}]}, "q\"]": 7}}"#;

    fn found(path: &str) -> &str {
        &JSON[offset(JSON, path).unwrap()..]
    }

    #[test]
    fn values_are_found() {
        assert!(found(r#"services["a.b"].routes[1].timeout"#).starts_with("5}"));
        assert!(found(r#"services["a.b"].routes[0]"#).starts_with(r#"{"name": "x"}"#));
        assert!(found(r#"services["q\"]"]"#).starts_with("7}"));
    }

    #[test]
    fn a_path_into_nothing_ends_at_what_is_there() {
        assert!(found(r#"services["a.b"].routes[7].name"#).starts_with("[{"));
        assert!(found(r#"services["a.b"].routes[1].retry.attempts"#).starts_with(r#"{"name": "y""#));
        assert_eq!(offset(JSON, ""), Some(1));
        assert_eq!(offset("{", "services"), None);
    }
}
