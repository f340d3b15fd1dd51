use schemars::Schema;
use serde_json::{Value, json};

use super::raw;

/// The JSON Schema of a plan (draft 2020-12), generated from the types that read it.
pub fn schema() -> Value {
    schemars::schema_for!(raw::Plan).to_value()
}

/// Says of a matcher that exactly one of its tests stands in it.
pub(super) fn exactly_one_matcher(schema: &mut Schema) {
    let tests = ["exact", "prefix", "suffix", "contains", "regex", "range", "present"];
    let alternatives: Vec<_> = tests.into_iter().map(|test| json!({"required": [test]})).collect();
    schema.insert("oneOf".to_owned(), alternatives.into());
}
