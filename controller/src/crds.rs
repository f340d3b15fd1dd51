//! The CustomResourceDefinitions of the kinds that Meltemi reads, made from their types.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::kinds::kinds;

pub use apiextensions::CustomResourceDefinition;

/// All of them: Meltemi's own first, then Aeraki's.
pub fn all() -> Vec<CustomResourceDefinition> {
    macro_rules! definitions {
        (
            kubernetes { $($_k:tt)* }
            few { $($_f:tt)* }
            istio { $($_i:tt)* }
            ours { $($(#[$_o:meta])* $_field:ident: $type:ty, $_rules:ident;)* }
        ) => {
            vec![$(finished(<$type>::crd()),)*]
        };
    }
    kinds!(definitions)
}

/// All of them as one YAML stream.
pub fn yaml() -> String {
    all().iter().map(|crd| format!("---\n{}", serde_saphyr::to_string(crd).unwrap_or_default())).collect()
}

/// The schema of a kind in a group, if it is one of them.
pub fn schema(group: &str, kind: &str) -> Option<&'static Value> {
    static SCHEMAS: LazyLock<Vec<(String, String, Value)>> = LazyLock::new(|| {
        let schema = |crd: CustomResourceDefinition| {
            let schema = crd.spec.versions.into_iter().next()?.schema?.open_api_v3_schema?;
            Some((crd.spec.group, crd.spec.names.kind, serde_json::to_value(schema).ok()?))
        };
        all().into_iter().filter_map(schema).collect()
    });
    SCHEMAS.iter().find(|(of, known, _)| of == group && known == kind).map(|(.., schema)| schema)
}

/// A column of `kubectl get`: its name, the path of its value, and what it shows.
type Column = (&'static str, &'static str, &'static str);

/// The columns of a kind.
fn columns(kind: &str) -> &'static [Column] {
    match kind {
        "MetaRouter" => &[("Host", ".spec.hosts[0]", "The service")],
        "ApplicationProtocol" => &[
            ("Protocol", ".spec.protocol", "The protocol"),
            ("Codec", ".spec.codec", "The codec that reads it"),
        ],
        "RedisService" => &[("Hosts", ".spec.host", "The services")],
        "RedisDestination" => &[("Host", ".spec.host", "The service")],
        "MeltemiAuthorizationPolicy" => &[
            ("Action", ".spec.action", "What happens to the calls"),
            ("Dry run", ".spec.dryRun", "Whether it is only tried out"),
        ],
        "Tap" => &[("Duration", ".spec.duration", "How long calls are told of")],
        "DubboAuthorizationPolicy" => &[("Action", ".spec.action", "What happens to the calls")],
        _ => &[],
    }
}

/// The columns that come after those of the kind.
const STATUS: [Column; 2] = [
    ("Accepted", ".status.conditions[?(@.type==\"Accepted\")].status", "Whether the resource is in force"),
    ("Honoured", ".status.conditions[?(@.type==\"Honoured\")].status", "Whether all of its fields are"),
];

/// Adds what the types do not say: columns, and the description of the resource, which is that of its specification.
/// Takes out the formats that the API server does not know, and would warn of: their bounds say the same.
fn finished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let columns = columns(&crd.spec.names.kind);
    for version in &mut crd.spec.versions {
        let told = columns.iter().chain(&STATUS).map(|column| (column, "string"));
        let age = (&("Age", ".metadata.creationTimestamp", "When it was made"), "date");
        let columns = told.chain([age]).map(|((name, path, description), kind)| {
            apiextensions::CustomResourceColumnDefinition {
                name: (*name).to_owned(),
                json_path: (*path).to_owned(),
                description: Some((*description).to_owned()),
                type_: kind.to_owned(),
                ..Default::default()
            }
        });
        version.additional_printer_columns = Some(columns.collect());
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            let spec = schema.properties.as_ref().and_then(|properties| properties.get("spec"));
            schema.description = spec.and_then(|spec| spec.description.clone());
            clean(schema);
        }
    }
    crd
}

fn clean(schema: &mut apiextensions::JSONSchemaProps) {
    use apiextensions::{JSONSchemaPropsOrArray as Items, JSONSchemaPropsOrBool as Additional};
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    schema.properties.iter_mut().flatten().for_each(|(_, property)| clean(property));
    match &mut schema.items {
        Some(Items::Schema(items)) => clean(items),
        Some(Items::Schemas(all)) => all.iter_mut().for_each(clean),
        None => {}
    }
    if let Some(Additional::Schema(values)) = &mut schema.additional_properties {
        clean(values);
    }
}
