//! What the API server accepts and refuses, by the resource definitions and the controller's webhook.

use meltemi::crds;
use serde_json::Value;

use crate::stage::{self, Stage};

#[path = "../../../../controller/tests/resources/cases.rs"]
mod cases;

use cases::{accepted, cases};

#[test]
fn the_server_accepts_and_refuses_as_the_tables_say() {
    let stage = stage::take();
    for (name, object) in accepted() {
        assert_eq!(refusal(&stage, &object), None, "{name}");
    }
    for case in cases("remarks.yaml") {
        assert_eq!(refusal(&stage, &case.object), None, "{case:?} {}", case.says());
    }
    for case in cases("refused.yaml") {
        let refusal = refusal(&stage, &case.object).unwrap_or_else(|| panic!("{case:?} is accepted"));
        let is_by_schema = refusal.contains(" is invalid: ");
        assert_eq!(is_by_schema, case.is_refused_by_schema(), "{case:?}: {refusal}");
    }
}

fn refusal(stage: &Stage, object: &Value) -> Option<String> {
    let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let group = version.split('/').next().unwrap();
    let of_kind =
        crds::all().into_iter().find(|crd| crd.spec.group == group && crd.spec.names.kind == kind).unwrap();
    let plural = &of_kind.spec.names.plural;
    let path = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/apis/{version}/namespaces/{namespace}/{plural}"),
        None => format!("/apis/{version}/{plural}"),
    };
    stage.mesh.cluster().refusal(&path, object)
}
