use std::collections::BTreeMap;

use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// What some proxies tell of calls.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize)]
#[kube(
    group = "telemetry.istio.io",
    version = "v1",
    kind = "Telemetry",
    plural = "telemetries",
    namespaced,
    schema = "disabled",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct TelemetrySpec {
    /// The workloads. Default: all of the namespace.
    pub selector: Option<MatchLabels>,
    /// The gateways and waypoints of the Gateway API that it is for, and nobody else.
    pub target_refs: Vec<serde_json::Value>,
    /// The same, of one.
    pub target_ref: Option<serde_json::Value>,
    /// Which calls are traced.
    pub tracing: Vec<Tracing>,
    /// Which calls have lines in which logs.
    pub access_logging: Vec<AccessLogging>,
}

/// Workloads by their labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MatchLabels {
    /// The labels, all of which a workload must have.
    pub match_labels: BTreeMap<String, String>,
}

/// Which calls have lines in which logs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct AccessLogging {
    /// Of calls by the workloads, to them, or both.
    #[serde(rename = "match")]
    pub of: Option<ModeSelector>,
    /// The logs. Default: those that hold already.
    pub providers: Vec<ProviderRef>,
    /// None.
    pub disabled: Option<bool>,
    /// Which calls. Default: all.
    pub filter: Option<LogFilter>,
}

/// Which side of calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ModeSelector {
    /// `CLIENT`, `SERVER`, or both.
    pub mode: String,
}

/// Something of the mesh configuration that is told of calls, by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ProviderRef {
    /// The name.
    pub name: String,
}

/// How calls are traced. What is not said is as in wider Telemetries.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tracing {
    /// Of calls by the workloads, to them, or both.
    #[serde(rename = "match")]
    pub of: Option<ModeSelector>,
    /// Who gets spans: the first.
    pub providers: Vec<ProviderRef>,
    /// The share of the calls that are sampled, where no caller has decided that.
    pub random_sampling_percentage: Option<f64>,
    /// No spans are made.
    pub disable_span_reporting: Option<bool>,
    /// What spans say beside what they do anyway.
    pub custom_tags: Option<BTreeMap<String, serde_json::Value>>,
    /// The share is taken by the ids of requests.
    pub use_request_id_for_trace_sampling: Option<bool>,
    /// Servers are not told of the trace.
    pub disable_context_propagation: Option<bool>,
}

/// Which calls have a line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct LogFilter {
    /// An expression in CEL.
    pub expression: String,
}
