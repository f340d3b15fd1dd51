use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The label of every object that Meltemi generates, and its value.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "meltemi");

/// A generated object.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// The group and version, such as `networking.istio.io/v1alpha3`.
    pub api_version: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The name, the namespace and the labels.
    pub metadata: Metadata,
    /// All that it says.
    pub spec: Value,
}

/// The metadata of a generated object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// The name, unique among the objects of the kind in the namespace.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The labels: [`MANAGED_BY`].
    pub labels: BTreeMap<&'static str, &'static str>,
}

impl Object {
    /// An EnvoyFilter.
    pub fn envoy_filter(namespace: &str, name: String, spec: Value) -> Self {
        Self::new("networking.istio.io/v1alpha3", "EnvoyFilter", namespace, name, spec)
    }

    /// A WasmPlugin.
    pub fn wasm_plugin(namespace: &str, name: String, spec: Value) -> Self {
        Self::new("extensions.istio.io/v1alpha1", "WasmPlugin", namespace, name, spec)
    }

    /// A VirtualService.
    pub fn virtual_service(namespace: &str, name: String, spec: Value) -> Self {
        Self::new("networking.istio.io/v1", "VirtualService", namespace, name, spec)
    }

    fn new(
        api_version: &'static str,
        kind: &'static str,
        namespace: &str,
        name: String,
        spec: Value,
    ) -> Self {
        let metadata =
            Metadata { name, namespace: namespace.to_owned(), labels: BTreeMap::from([MANAGED_BY]) };
        Self { api_version, kind, metadata, spec }
    }
}
