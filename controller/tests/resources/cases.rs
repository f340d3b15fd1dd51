//! The good resources, and the bad ones that changes to them make.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use meltemi::world;
use serde_json::Value;

/// A change to a good resource, what is said of the result, and the result.
#[derive(Debug)]
pub struct Case {
    /// The change as the table has it.
    pub told: Value,
    /// The resource with the change.
    pub object: Value,
}

impl Case {
    /// How what is said of it begins.
    pub fn says(&self) -> &str {
        self.told["says"].as_str().unwrap()
    }

    /// Whether the API server refuses it by the schema and its rules alone.
    pub fn is_refused_by_schema(&self) -> bool {
        self.told["schema"].as_bool().unwrap()
    }
}

fn documents(name: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("controller/tests/resources"));
    let folder = folder.into_iter().find(|folder| folder.is_dir()).unwrap();
    let text = fs::read_to_string(folder.join(name)).unwrap();
    world::documents(name, &text).unwrap().into_iter().map(|document| document.object).collect()
}

/// The good resources by name.
pub fn accepted() -> BTreeMap<String, Value> {
    let named = |object: Value| (object["metadata"]["name"].as_str().unwrap().to_owned(), object);
    documents("accepted.yaml").into_iter().map(named).collect()
}

/// The cases of a table.
pub fn cases(name: &str) -> Vec<Case> {
    let accepted = accepted();
    let table = documents(name).remove(0);
    let change = |told: &Value| {
        let (of, at) = (told["of"].as_str().unwrap(), told["at"].as_str().unwrap());
        let mut object = accepted.get(of).unwrap_or_else(|| panic!("no resource {of}")).clone();
        let (parent, key) = at.rsplit_once('/').unwrap();
        match object["spec"].pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {parent}")) {
            Value::Array(items) => {
                let (index, value) = (key.parse::<usize>().unwrap(), told["to"].clone());
                if index < items.len() { items[index] = value } else { items.push(value) }
            }
            Value::Object(fields) => match told.get("to") {
                Some(value) => _ = fields.insert(key.to_owned(), value.clone()),
                None => _ = fields.remove(key).unwrap_or_else(|| panic!("nothing at {at}")),
            },
            other => panic!("{other} at {parent}"),
        }
        Case { told: told.clone(), object }
    };
    table.as_array().unwrap().iter().map(change).collect()
}
