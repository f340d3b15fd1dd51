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

/// What holds for connections and calls.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicy {
    /// What holds for all ports.
    #[serde(flatten)]
    pub all: Settings,
    /// What holds for connections to one port.
    pub port_level_settings: Vec<PortSettings>,
    /// How many calls may be on a retry.
    pub retry_budget: Option<Value>,
}

/// What holds for connections to one port, in place of what holds for all.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortSettings {
    /// The port.
    pub port: PortNumber,
    /// What holds for it.
    #[serde(flatten)]
    pub settings: Settings,
}

/// A port of the service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct PortNumber {
    /// Its number.
    pub number: i64,
}

/// What holds for connections and the calls on them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// How endpoints are chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// The sizes of pools.
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left out.
    pub outlier_detection: Option<OutlierDetection>,
}

/// The sizes of pools.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionPool {
    /// What holds for connections.
    pub tcp: Option<Value>,
    /// What holds for requests, which are calls.
    pub http: Option<HttpPool>,
}

/// How many requests there may be; 0 and less is Envoy's default.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpPool {
    /// Requests that wait.
    #[serde(rename = "http1MaxPendingRequests")]
    pub max_pending_requests: i64,
    /// Requests in flight.
    #[serde(rename = "http2MaxRequests")]
    pub max_requests: i64,
    /// Requests that are on a retry.
    pub max_retries: i64,
    /// Requests of one connection.
    pub max_requests_per_connection: Option<Value>,
    /// Streams at a time on one connection.
    pub max_concurrent_streams: Option<Value>,
    /// How long a connection may be without a request.
    pub idle_timeout: Option<Value>,
    /// Whether HTTP/1.1 becomes HTTP/2.
    pub h2_upgrade_policy: Option<Value>,
    /// Whether the client's version of HTTP is kept.
    pub use_client_protocol: Option<Value>,
}

/// When an endpoint is left out.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutlierDetection {
    /// Errors in a row; 0 for any number.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_errors: Option<i64>,
    /// Errors in a row by which a server was not reached; 0 for any number.
    pub consecutive_gateway_errors: Option<i64>,
    /// Failures in a row of which the server knows nothing; 0 for any number.
    pub consecutive_local_origin_failures: Option<i64>,
    /// Whether the last are counted apart.
    pub split_external_local_origin_errors: bool,
    /// The time between looks.
    pub interval: Option<String>,
    /// For how long, for the first time.
    pub base_ejection_time: Option<String>,
    /// The endpoints that may be left out at a time.
    pub max_ejection_percent: Option<i64>,
    /// The endpoints without which none is left out.
    pub min_health_percent: Option<i64>,
}

/// How endpoints are chosen.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// One of Istio's simple ways, such as `LEAST_REQUEST`.
    pub simple: Option<String>,
    /// By a hash.
    pub consistent_hash: Option<ConsistentHash>,
    /// By where client and endpoints are.
    pub locality_lb_setting: Option<LocalitySetting>,
}

/// How endpoints are chosen by where client and endpoints are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalitySetting {
    /// How connections are distributed over localities.
    pub distribute: Vec<Value>,
    /// Whether it holds; it does where this is not said.
    pub enabled: Option<bool>,
}

impl LocalitySetting {
    /// Whether endpoints have weights by where they are.
    pub fn distributes(&self) -> bool {
        self.enabled != Some(false) && !self.distribute.is_empty()
    }
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
