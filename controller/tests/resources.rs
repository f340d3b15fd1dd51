//! Custom resources: what the rules say of good and bad ones, and that the schemas agree.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use kube::core::cel::Validator;
use meltemi::generate::{Finding, Severity};
use meltemi::{check, crds, world};
use serde::Deserialize;
use serde_json::Value;

/// A change to a good resource, and what is said of the result.
#[derive(Debug, Deserialize)]
struct Case {
    of: String,
    at: String,
    to: Option<Value>,
    says: String,
    schema: Option<bool>,
    is: Option<String>,
}

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/resources").join(name)).unwrap()
}

/// The good resources by name.
fn accepted() -> BTreeMap<String, Value> {
    let documents = world::documents("accepted.yaml", &read("accepted.yaml")).unwrap();
    let named = |document: world::Document| {
        (document.object["metadata"]["name"].as_str().unwrap().to_owned(), document.object)
    };
    documents.into_iter().map(named).collect()
}

/// The cases of a file with the resources that they make.
fn cases(name: &str) -> Vec<(Case, Value)> {
    let accepted = accepted();
    let cases: Vec<Case> = serde_saphyr::from_str(&read(name)).unwrap();
    let change = |case: Case| {
        let mut object = accepted.get(&case.of).unwrap_or_else(|| panic!("no resource {}", case.of)).clone();
        let (parent, key) = case.at.rsplit_once('/').unwrap();
        match object["spec"].pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {parent}")) {
            Value::Array(items) => {
                let index: usize = key.parse().unwrap();
                let value = case.to.clone().unwrap();
                if index < items.len() { items[index] = value } else { items.push(value) }
            }
            Value::Object(fields) => match case.to.clone() {
                Some(value) => _ = fields.insert(key.to_owned(), value),
                None => _ = fields.remove(key).unwrap_or_else(|| panic!("nothing at {}", case.at)),
            },
            other => panic!("{other} at {parent}"),
        }
        (case, object)
    };
    cases.into_iter().map(change).collect()
}

fn lines(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|finding| format!("{}: {}", finding.path, finding.message)).collect()
}

fn schema_of(object: &Value) -> &'static Value {
    let group = object["apiVersion"].as_str().unwrap().split('/').next().unwrap();
    crds::schema(group, object["kind"].as_str().unwrap()).unwrap()
}

/// What the API server would say: the structure, then the rules.
fn by_schema(object: &Value) -> Vec<String> {
    let schema = schema_of(object);
    let structure = jsonschema::validator_for(schema).unwrap();
    let mut errors: Vec<String> = structure.iter_errors(object).map(|error| error.to_string()).collect();
    if let Err(broken) = Validator::new().validate(schema, object, None) {
        errors.extend(broken.iter().map(|error| format!("{}: {}", error.field_path, error.message)));
    }
    errors
}

#[test]
fn good_resources_are_accepted() {
    for (name, object) in accepted() {
        assert_eq!(lines(&check::object(&object).unwrap()), [""; 0], "{name}");
        assert_eq!(by_schema(&object), [""; 0], "{name}");
    }
}

#[test]
fn bad_resources_are_refused_with_a_mend() {
    for (case, object) in cases("refused.yaml") {
        let findings = check::object(&object).unwrap();
        let errors: Vec<Finding> =
            findings.into_iter().filter(|finding| finding.severity == Severity::Error).collect();
        let said = lines(&errors);
        assert!(said.iter().any(|line| line.starts_with(&case.says)), "{case:?}: {said:#?}");
        assert!(said.iter().all(|line| !line.contains('\n')), "{said:?}");
    }
}

#[test]
fn schemas_refuse_what_they_can_tell() {
    let told = |(case, object): (Case, Value)| (by_schema(&object), case);
    let otherwise = |(errors, case): &(Vec<String>, Case)| errors.is_empty() == case.schema.unwrap();
    let wrong: Vec<_> = cases("refused.yaml").into_iter().map(told).filter(otherwise).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn remarks_do_not_refuse() {
    for (case, object) in cases("remarks.yaml") {
        let findings = check::object(&object).unwrap();
        let said = lines(&findings);
        let index = said.iter().position(|line| line.starts_with(&case.says));
        let index = index.unwrap_or_else(|| panic!("{case:?}: {said:#?}"));
        assert_eq!(format!("{:?}", findings[index].severity), *case.is.as_ref().unwrap(), "{case:?}");
        assert!(findings.iter().all(|finding| finding.severity != Severity::Error), "{case:?}: {said:#?}");
        assert_eq!(by_schema(&object), [""; 0], "{case:?}");
    }
}

#[test]
fn schemas_are_structural_and_tell_of_each_field() {
    for crd in crds::all() {
        let kind = &crd.spec.names.kind;
        let schema = crds::schema(&crd.spec.group, kind).unwrap();
        assert!(jsonschema::meta::is_valid(schema), "{kind}");
        described(&format!("{}/{kind}", crd.spec.group), &schema["properties"]["spec"]);
        assert_eq!(crd.spec.names.categories.as_deref(), Some(&["meltemi".to_owned()][..]), "{kind}");
        assert_eq!(crd.spec.versions.len(), 1);
        assert!(crd.spec.versions[0].subresources.as_ref().is_some_and(|all| all.status.is_some()), "{kind}");
    }
}

fn described(path: &str, schema: &Value) {
    assert!(schema["description"].is_string(), "{path} has no description");
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        described(&format!("{path}.{name}"), property);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner]["properties"].is_object() {
            described(&format!("{path}.*"), &schema[inner]);
        }
    }
    let kind = schema["type"].as_str().unwrap_or_else(|| panic!("{path} has no type"));
    let bound = match kind {
        "array" => "maxItems",
        "string" if schema["enum"].is_null() => "maxLength",
        _ => return,
    };
    assert!(schema[bound].is_u64(), "{path} has no {bound}: rules on it may cost too much");
}
