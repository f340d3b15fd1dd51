use schemars::{Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::{Value, json};

use super::raw;

/// The JSON Schema of a plan (draft 2020-12), generated from the types that read it.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(tidy));
    settings.into_generator().into_root_schema_for::<raw::Plan>().to_value()
}

/// Removes what only says that a field may be left out.
fn tidy(schema: &mut Schema) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if schema.get("$ref").is_some() && schema.get("default").is_some_and(Value::is_object) {
        schema.insert("default".to_owned(), json!({}));
    }
    if schema.get("format").is_some_and(|format| format == "uint32" || format == "int64") {
        schema.remove("format");
    }
}

/// Says of the services that they may be packed.
pub(super) fn or_packed(schema: &mut Schema) {
    let packed =
        json!({"type": "string", "contentEncoding": "base64", "contentMediaType": "application/gzip"});
    if let Some(service) = schema.remove("additionalProperties") {
        schema.insert("additionalProperties".to_owned(), json!({"anyOf": [service, packed]}));
    }
}

/// Says of a route that calls go to one place only.
pub(super) fn at_most_one_destination(schema: &mut Schema) {
    let pairs = [["cluster", "weightedClusters"], ["cluster", "reject"], ["weightedClusters", "reject"]];
    let pairs: Vec<_> = pairs.into_iter().map(|pair| json!({"required": pair})).collect();
    schema.insert("not".to_owned(), json!({"anyOf": pairs}));
}

/// Says of a matcher that exactly one of its tests is in it.
pub(super) fn exactly_one_test(schema: &mut Schema) {
    let tests = ["exact", "prefix", "suffix", "contains", "regex", "range", "cidr", "present"];
    let alternatives: Vec<_> = tests.into_iter().map(|test| json!({"required": [test]})).collect();
    schema.insert("oneOf".to_owned(), alternatives.into());
}
