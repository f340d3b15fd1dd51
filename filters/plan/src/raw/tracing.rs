use super::object::object;

/// Traces: which a call belongs to is read from it, decided where nobody has, and passed on with each try.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields, default))]
pub struct Tracing {
    /// The share of the calls that are sampled, in percent, where no caller has decided that.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    pub sampling: f64,
    /// The Envoy cluster of an OpenTelemetry collector, which is sent the spans of sampled calls by OTLP. No call waits for it. Default: none are made.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub collector: Option<String>,
    /// The path at which the collector takes spans by OTLP over HTTP, as `/v1/traces`; Envoy speaks the HTTP that the cluster is configured for. Default: it takes them by gRPC.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub path: Option<String>,
}

object! {
    Tracing from Self::default();
    optional sampling, collector, path;
}

impl Default for Tracing {
    fn default() -> Self {
        Self { sampling: 1.0, collector: None, path: None }
    }
}
