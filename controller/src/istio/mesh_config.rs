use serde::Deserialize;

/// What the operator of Istio says of the whole mesh, as the key `mesh` of the ConfigMap `istio` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfig {
    /// The root namespace, where it is not istiod's own.
    pub root_namespace: Option<String>,
    /// The namespaces that see services which do not say it.
    pub default_service_export_to: Option<Vec<String>>,
    /// The namespaces that follow VirtualServices which do not say it.
    pub default_virtual_service_export_to: Option<Vec<String>>,
    /// The namespaces that follow DestinationRules which do not say it.
    pub default_destination_rule_export_to: Option<Vec<String>>,
}
