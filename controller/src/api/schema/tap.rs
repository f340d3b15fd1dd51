//! Of taps.

use schemars::Schema;
use serde_json::json;

use super::{items, require, rules, set};

/// All of it.
pub(in crate::api) fn whole(schema: &mut Schema) {
    require(schema, &["duration"]);
}

/// How long it lasts.
pub(in crate::api) fn duration(schema: &mut Schema) {
    super::duration(schema);
    rules(
        schema,
        &[("duration(self) >= duration('1s') && duration(self) <= duration('1h')", "must be 1s to 1h")],
    );
}

/// Names of pods.
pub(in crate::api) fn pods(schema: &mut Schema) {
    set(schema, json!({"maxItems": 64}));
    items(schema, json!({"minLength": 1, "maxLength": 253}));
}

/// Labels of pods.
pub(in crate::api) fn labels(schema: &mut Schema) {
    set(schema, json!({"maxProperties": 16}));
    if let Some(values) = schema.get_mut("additionalProperties").and_then(|values| values.as_object_mut()) {
        values.insert("maxLength".to_owned(), json!(63));
    }
}

/// The share of the calls.
pub(in crate::api) fn percent(schema: &mut Schema) {
    set(schema, json!({"minimum": 0, "maximum": 100}));
    rules(schema, &[("self > 0.0", "must be more than 0")]);
}

/// Names of attributes.
pub(in crate::api) fn attributes(schema: &mut Schema) {
    set(schema, json!({"maxItems": 16}));
    items(schema, json!({"minLength": 1, "maxLength": 256}));
}
