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
    pub of: Option<LogSelector>,
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
pub struct LogSelector {
    /// `CLIENT`, `SERVER`, or both.
    pub mode: String,
}

/// A log by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct ProviderRef {
    /// The name.
    pub name: String,
}

/// Which calls have a line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct LogFilter {
    /// An expression in CEL.
    pub expression: String,
}
