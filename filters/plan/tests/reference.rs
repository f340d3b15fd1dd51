//! The references of the plan and of layouts in the documentation say what the plan's JSON Schema says: every field, no
//! other, and of each the same type, default and meaning.
use std::collections::BTreeMap;

use serde_json::{Map, Value};

const REFERENCES: [&str; 2] =
    [include_str!("../../../docs/plan.md"), include_str!("../../../docs/layout.md")];

/// The rows of a table, without the two of its head.
type Rows = Vec<String>;

#[test]
fn reference_and_schema_agree() {
    let expected = tables(&meltemi_plan::schema());
    let mut found = tables_of_reference();
    for (name, rows) in &expected {
        // Layouts have a page of their own.
        let table = rows.join("\n").replace("[Layout](#layout)", "[Layout](layout.md#layout)");
        let written = found.remove(name).unwrap_or_default().join("\n");
        assert_eq!(
            written, table,
            "the table under \"### {name}\" in docs/plan.md or docs/layout.md must be:\n{table}\n"
        );
    }
    assert!(
        found.is_empty(),
        "docs/plan.md and docs/layout.md have tables of what is no part of a plan: {:?}",
        found.keys()
    );
}

/// The tables that the reference should have, by their headings.
fn tables(schema: &Value) -> BTreeMap<String, Rows> {
    let mut tables = BTreeMap::from([("Plan".to_owned(), fields(schema, schema))]);
    for (name, part) in schema["$defs"].as_object().unwrap() {
        if part.get("properties").is_some() {
            tables.insert(name.clone(), fields(schema, part));
        } else if let Some(values) = part["oneOf"].as_array() {
            let row =
                |value: &Value| format!("| `{}` | {} |", text(&value["const"]), text(&value["description"]));
            tables.insert(name.clone(), values.iter().map(row).collect());
        }
    }
    tables
}

fn fields(schema: &Value, object: &Value) -> Rows {
    let is_required = |name: &str| {
        object["required"].as_array().is_some_and(|names| names.iter().any(|other| other == name))
    };
    let row = |(name, field): (&String, &Value)| {
        let default = match &field["default"] {
            _ if is_required(name) => "required".to_owned(),
            Value::Null => "none".to_owned(),
            Value::String(text) => format!("`\"{text}\"`"),
            default => format!("`{default}`"),
        };
        format!("| `{name}` | {} | {default} | {} |", kind(schema, field), text(&field["description"]))
    };
    object["properties"].as_object().unwrap().iter().map(row).collect()
}

/// The type of a value, in the words of the reference.
fn kind(schema: &Value, value: &Value) -> String {
    if let Some(name) = value["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        return match schema["$defs"][name]["anyOf"].as_array() {
            Some(kinds) => join(schema, kinds),
            None => format!("[{name}](#{})", name.to_lowercase()),
        };
    }
    if let Some(kinds) = value["anyOf"].as_array() {
        return join(schema, kinds);
    }
    let kind = match &value["type"] {
        Value::Array(kinds) => text(&kinds[0]),
        kind => text(kind),
    };
    match (kind, value["minimum"].as_i64(), value["maximum"].as_i64()) {
        ("array", ..) => format!("array of {}", self::kind(schema, &value["items"])),
        ("object", ..) => format!("object of {}", self::kind(schema, &value["additionalProperties"])),
        ("string", ..) if value.get("pattern").is_some() => "[duration](#durations)".to_owned(),
        (kind, Some(low), Some(high)) => format!("{kind}, {low} to {high}"),
        (kind, ..) => kind.to_owned(),
    }
}

fn join(schema: &Value, kinds: &[Value]) -> String {
    let kinds = kinds.iter().filter(|kind| kind["type"] != "null");
    kinds.map(|value| kind(schema, value)).collect::<Vec<_>>().join(" or ")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn tables_of_reference() -> BTreeMap<String, Rows> {
    let mut tables: BTreeMap<String, Rows> = BTreeMap::new();
    let mut heading = "";
    for line in REFERENCES.iter().flat_map(|reference| reference.lines()) {
        if let Some((level, name)) = line.split_once("# ") {
            heading = if level == "##" { name } else { "" };
        } else if line.starts_with("| `") && !heading.is_empty() {
            tables.entry(heading.to_owned()).or_default().push(line.to_owned());
        }
    }
    tables
}

/// Every object of the schema refuses fields that it does not name, as the filter does, and says what it is for.
#[test]
fn schema_is_closed_and_described() {
    let schema = meltemi_plan::schema();
    let parts = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    for part in parts {
        assert!(part["description"].is_string(), "{part}");
        let Some(fields) = part["properties"].as_object() else { continue };
        assert_eq!(part["additionalProperties"], false, "{part}");
        assert!(fields.values().all(|field| field["description"].is_string()), "{part}");
        assert_ne!(fields, &Map::new());
    }
}
