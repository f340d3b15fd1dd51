use serde::Deserialize;

use super::object::object;
use crate::Table;

/// Traces: which a call belongs to is read from it, decided where nobody has, and passed on with each try.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields, default))]
pub struct Tracing {
    /// The share of the calls that are sampled, in percent, where no caller has decided that.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    pub sampling: f64,
    /// The Envoy cluster of a collector, which is sent the spans of sampled calls. No call waits for it. Default: none are made.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub collector: Option<String>,
    /// What the collector takes spans as.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "SpanFormat::is_otlp"), schemars(!skip_serializing_if))]
    pub format: SpanFormat,
    /// The path at which the collector takes spans by HTTP, as `/v1/traces`; Envoy speaks the HTTP that the cluster is configured for. Default: of `otlp` none, it takes them by gRPC; of `zipkin` `/api/v2/spans`.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub path: Option<String>,
    /// What the collector is told with each batch of spans, as headers of HTTP or as metadata of gRPC, such as `authorization`. Whoever reads the plan reads them.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Table::is_empty"), schemars(!skip_serializing_if))]
    pub headers: Table<String>,
    /// Attributes that spans have beside their own, whose names they cannot have.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Table::is_empty"), schemars(!skip_serializing_if))]
    pub tags: Table<Tag>,
}

object! {
    Tracing from Self::default();
    optional sampling, collector, format, path, headers, tags;
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            sampling: 1.0,
            collector: None,
            format: SpanFormat::default(),
            path: None,
            headers: Table::default(),
            tags: Table::default(),
        }
    }
}

/// What a collector takes spans as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "kebab-case")]
pub enum SpanFormat {
    /// OTLP, as collectors of OpenTelemetry do.
    #[default]
    Otlp,
    /// Zipkin's JSON, of its second version. Traces that the proxy begins are written as `b3`.
    Zipkin,
}

#[cfg(feature = "schema")]
impl SpanFormat {
    fn is_otlp(&self) -> bool {
        *self == Self::Otlp
    }
}

/// The value of an attribute of spans: that of an attribute of the call, a text, or the text where the call has no such attribute.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields, default))]
pub struct Tag {
    /// An attribute of the call, by the names that matchers have. At most 256 bytes are told, without control characters.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub attribute: Option<String>,
    /// The text. Default: spans of calls without the attribute do without.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub value: Option<String>,
}

object! {
    Tag from Self::default();
    optional attribute, value;
}
