use std::collections::BTreeMap;

use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::WorkloadSelector;

/// What holds for connections to a service. Istio puts it into its clusters, which calls go through.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "DestinationRule",
    plural = "destinationrules",
    namespaced,
    schema = "disabled",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct DestinationRuleSpec {
    /// The host.
    pub host: String,
    /// What holds for all subsets.
    pub traffic_policy: Option<TrafficPolicy>,
    /// The subsets.
    pub subsets: Vec<Subset>,
    /// The namespaces that see it. Default: all.
    pub export_to: Vec<String>,
    /// The clients that it is for.
    pub workload_selector: Option<WorkloadSelectorByMatch>,
}

/// Selects workloads, as Kubernetes' own selectors do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSelectorByMatch {
    /// The labels, all of which a workload must have.
    pub match_labels: BTreeMap<String, String>,
}

impl From<WorkloadSelectorByMatch> for WorkloadSelector {
    fn from(selector: WorkloadSelectorByMatch) -> Self {
        Self { labels: selector.match_labels }
    }
}

/// Some endpoints of a service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subset {
    /// The name.
    pub name: String,
    /// The labels of the endpoints.
    pub labels: BTreeMap<String, String>,
    /// What holds for the subset.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// What holds for connections.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicy {
    /// How endpoints are chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// The sizes of pools.
    pub connection_pool: Option<Value>,
    /// When an endpoint is left out.
    pub outlier_detection: Option<Value>,
    /// What holds for connections to one port.
    pub port_level_settings: Vec<PortSettings>,
}

/// What holds for connections to one port.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortSettings {
    /// How endpoints are chosen.
    pub load_balancer: Option<LoadBalancer>,
}

/// How endpoints are chosen.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// One of Istio's simple ways, such as `LEAST_REQUEST`.
    pub simple: Option<String>,
    /// By a hash.
    pub consistent_hash: Option<ConsistentHash>,
}

/// What is hashed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsistentHash {
    /// A header, which of a call is an attribute.
    pub http_header_name: Option<String>,
    /// The address of the client.
    pub use_source_ip: Option<bool>,
    /// A cookie.
    pub http_cookie: Option<Value>,
    /// A query parameter.
    pub http_query_parameter_name: Option<String>,
}
