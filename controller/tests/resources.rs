//! Custom resources: what the rules say of good and bad ones, and that the schemas agree.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::cel::Validator;
use meltemi::findings::{Finding, Severity};
use meltemi::generate::{IstioVersion, Options, generate};
use meltemi::{check, crds, world};
use serde_json::Value;

#[path = "resources/cases.rs"]
mod cases;

use cases::{Case, accepted, cases};

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
    for case in cases("refused.yaml") {
        let findings = check::object(&case.object).unwrap();
        let errors: Vec<Finding> =
            findings.into_iter().filter(|finding| finding.severity == Severity::Error).collect();
        let said = lines(&errors);
        assert!(said.len() == 1 && said[0].starts_with(case.says()), "{case:?}: {said:#?}");
        assert!(!said[0].contains('\n'), "{said:?}");
    }
}

#[test]
fn schemas_refuse_what_they_can_tell() {
    let told = |case: Case| (by_schema(&case.object), case);
    let otherwise = |(errors, case): &(Vec<String>, Case)| errors.is_empty() == case.is_refused_by_schema();
    let wrong: Vec<_> = cases("refused.yaml").into_iter().map(told).filter(otherwise).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn remarks_do_not_refuse() {
    for case in cases("remarks.yaml") {
        let findings = check::object(&case.object).unwrap();
        let said = lines(&findings);
        let index = said.iter().position(|line| line.starts_with(case.says()));
        let index = index.unwrap_or_else(|| panic!("{case:?}: {said:#?}"));
        assert_eq!(format!("{:?}", findings[index].severity), case.told["is"].as_str().unwrap(), "{case:?}");
        assert!(findings.iter().all(|finding| finding.severity != Severity::Error), "{case:?}: {said:#?}");
        assert_eq!(by_schema(&case.object), [""; 0], "{case:?}");
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

const REFERENCE: &str = include_str!("../../docs/resources.md");

/// The reference has each field of each kind, in order, with what the schema says of it and whether it is in force.
#[test]
fn the_reference_tells_of_each_field() {
    let mut sections: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut heading = String::new();
    for line in REFERENCE.lines() {
        if let Some(text) = line.strip_prefix("## ") {
            heading = text.to_owned();
        } else if line.starts_with("| `") {
            sections.entry(heading.clone()).or_default().push(line);
        }
    }
    for crd in crds::all() {
        let heading = format!("{} ({})", crd.spec.names.kind, crd.spec.group);
        let schema = crds::schema(&crd.spec.group, &crd.spec.names.kind).unwrap();
        let mut rows = Vec::new();
        fields("", &schema["properties"]["spec"], &mut rows);
        let written = sections.remove(&heading).unwrap_or_default();
        let told: Vec<&str> = written.iter().filter_map(|row| Some(row.rsplit_once(" | ")?.0)).collect();
        assert_eq!(
            told,
            rows,
            "the first columns under \"## {heading}\" in docs/resources.md must be:\n{}\n",
            rows.join("\n")
        );
        for row in written {
            let state = row.rsplit_once(" | ").unwrap().1.trim_end_matches(" |");
            let states = ["yes", "not yet", "not honoured", "for "];
            assert!(states.iter().any(|known| state.starts_with(known)), "{heading}: {row}");
        }
    }
    assert!(sections.is_empty(), "docs/resources.md has tables of what is no kind: {:?}", sections.keys());
}

/// The first two columns of the reference, for the fields of an object and all below them.
fn fields(prefix: &str, schema: &Value, rows: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let description = property["description"].as_str().unwrap().replace('|', r"\|");
        rows.push(format!("| `{path}` | {description}"));
        let (below, inner) = match (&property["items"], &property["additionalProperties"]) {
            (Value::Object(_), _) => (format!("{path}[]."), &property["items"]),
            (_, Value::Object(_)) => (format!("{path}.*."), &property["additionalProperties"]),
            _ => (format!("{path}."), property),
        };
        fields(&below, inner, rows);
    }
}

/// What the reference says is not in force is what the generator says of a resource that has all fields.
#[test]
fn the_reference_agrees_with_the_generator() {
    let mut world = world::World::default();
    for (_, object) in accepted() {
        world.add(&object).unwrap();
    }
    for service in [
        serde_json::json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "greeter", "namespace": "shop"},
            "spec": {"hosts": ["org.acme.greeter"], "addresses": ["10.0.0.1"], "resolution": "STATIC",
                "workloadSelector": {"labels": {"app": "acme"}}, "ports": [{"number": 20880, "name": "tcp-dubbo"}]}}),
        serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "greeter", "namespace": "shop"},
            "spec": {"clusterIP": "10.0.0.2", "selector": {"app": "greeter"}, "ports": [{"port": 20880, "name": "tcp-dubbo"}]}}),
        serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cache-cluster", "namespace": "shop"},
            "spec": {"clusterIP": "10.0.0.3", "ports": [{"port": 6379, "name": "tcp-redis"}]}}),
    ] {
        world.add(&service).unwrap();
    }
    let options = Options::new(IstioVersion(30), format!("oci://a/b@sha256:{}", "c".repeat(64)));
    let mut said = BTreeSet::new();
    for report in generate(&world, &options).reports {
        let heading = format!("{} ({})", report.resource.kind, report.resource.group);
        let not_honoured = report.findings.iter().filter(|finding| finding.severity == Severity::NotHonoured);
        said.extend(not_honoured.map(|finding| (heading.clone(), general(&finding.path))));
    }
    let mut written = BTreeSet::new();
    let mut heading = "";
    for line in REFERENCE.lines() {
        heading = line.strip_prefix("## ").unwrap_or(heading);
        let Some((field, rest)) = line.strip_prefix("| `").and_then(|row| row.split_once("` | ")) else {
            continue;
        };
        if rest.rsplit_once(" | ").unwrap().1.starts_with("not ") {
            written.insert((heading.to_owned(), format!("spec.{field}")));
        }
    }
    for one in &said {
        assert!(written.contains(one), "{one:?} is not honoured, but in docs/resources.md it is");
    }
    // What is said of a field holds for all below it.
    for (heading, field) in &written {
        let is_below = |of: &String| {
            field == of || field.starts_with(&format!("{of}.")) || field.starts_with(&format!("{of}[]"))
        };
        let known = said.iter().any(|(kind, of)| kind == heading && is_below(of));
        assert!(known, "{heading}: {field} is honoured, but not in docs/resources.md");
    }
}

/// A path without the numbers of elements.
fn general(path: &str) -> String {
    let mut text = String::new();
    let mut is_number = false;
    for c in path.chars() {
        is_number = (is_number || c == '[') && c != ']';
        if !is_number || c == '[' {
            text.push(c);
        }
    }
    text
}
