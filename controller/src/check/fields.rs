use serde_json::Value;

use super::notes::Notes;
use crate::words::nearest;

/// Finds the fields of `value` that a structural schema does not know, which the API server would drop or refuse.
pub(super) fn unknown(notes: &mut Notes, value: &Value, schema: &Value) {
    match value {
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
            let Some(schema) = schema.get("items") else { return };
            for (index, item) in items.iter().enumerate() {
                notes.item(index, |notes| unknown(notes, item, schema));
            }
        }
        _ => {}
    }
}

fn message<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(meant) => format!("unknown field; did you mean {meant}?"),
        None => format!("unknown field; known are {}", known.collect::<Vec<_>>().join(", ")),
    }
}
