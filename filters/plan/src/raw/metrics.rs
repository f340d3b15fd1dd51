use super::object::object;

/// What is reported about the calls.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields, default))]
pub struct Metrics {
    /// Pairs of service and method that have metrics of their own; all others are counted as `other`.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100000)))]
    pub max_operations: u32,
    /// Istio's standard metrics. Default: none.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub istio: Option<IstioMetrics>,
}

object! {
    Metrics from Self::default();
    optional max_operations as "maxOperations", istio;
}

impl Default for Metrics {
    fn default() -> Self {
        Self { max_operations: 500, istio: None }
    }
}

/// How calls are reported as Istio's standard metrics.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields, default))]
pub struct IstioMetrics {
    /// The status of gRPC that a service's own exception counts as; `0` is success.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 16)))]
    pub exception_status: u32,
    /// Combinations of labels that a worker reports; who calls and who answers in all others is `other`.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 10000)))]
    pub max_series: u32,
    /// Metrics have their labels in their names, for `stats_tags`, as Envoys before 1.37 need it.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub by_names: bool,
}

object! {
    IstioMetrics from Self::default();
    optional exception_status as "exceptionStatus", max_series as "maxSeries", by_names as "byNames";
}

impl Default for IstioMetrics {
    fn default() -> Self {
        Self { exception_status: 2, max_series: 500, by_names: false }
    }
}
