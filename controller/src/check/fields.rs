use serde_json::Value;

use super::notes::Notes;
use crate::words::{self, nearest};

/// Finds what a structural schema does not have: fields that the API server would drop or refuse, and objects and lists that
/// it would refuse where something else belongs. A list would be read as an object with its fields in their order.
pub(super) fn unknown(notes: &mut Notes, value: &Value, schema: &Value) {
    let expected = schema["type"].as_str().unwrap_or_default();
    match value {
        Value::Object(_) if expected != "object" => misplaced(notes, "object", expected),
        Value::Array(_) if expected != "array" => misplaced(notes, "array", expected),
        Value::Object(fields) => {
            let values = schema.get("additionalProperties").filter(|values| values.is_object());
            let known = schema.get("properties").and_then(Value::as_object);
            for (name, value) in fields {
                let of_field = known.and_then(|known| known.get(name)).or(values);
                notes.field(name, |notes| match of_field {
                    Some(schema) => unknown(notes, value, schema),
                    None => {
                        let known = known.into_iter().flat_map(|known| known.keys());
                        notes.error(message(name, known.map(String::as_str)));
                    }
                });
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                notes.item(index, |notes| unknown(notes, item, &schema["items"]));
            }
        }
        _ => {}
    }
}

fn misplaced(notes: &mut Notes, found: &str, expected: &str) {
    notes.error(format_args!(
        "invalid type: {}, expected {}",
        words::plain_type(found),
        words::plain_type(expected)
    ));
}

fn message<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(meant) => format!("unknown field; did you mean {meant}?"),
        None => format!("unknown field; known are {}", known.collect::<Vec<_>>().join(", ")),
    }
}
