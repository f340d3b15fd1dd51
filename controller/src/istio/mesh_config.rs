use serde::Deserialize;

use super::LocalitySetting;

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
    /// How connections are distributed over localities, where no DestinationRule says it.
    pub locality_lb_setting: Option<LocalitySetting>,
    /// The file that proxies write a line for each call to. Default: none.
    pub access_log_file: Option<String>,
    /// The logs, among other things that proxies tell others.
    pub extension_providers: Option<Vec<ExtensionProvider>>,
    /// Those that hold where nobody says it.
    pub default_providers: Option<DefaultProviders>,
}

/// Something that proxies tell of calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtensionProvider {
    /// The name.
    pub name: String,
    /// It is a file of the proxy's.
    pub envoy_file_access_log: Option<serde_json::Value>,
}

/// What proxies tell where nobody says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultProviders {
    /// The names of the logs.
    pub access_logging: Option<Vec<String>>,
}
