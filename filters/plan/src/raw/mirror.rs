use super::{all, object::object};
use crate::Span;

/// A cluster that gets copies of calls. No call waits for it, and its answers go nowhere.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Mirror {
    /// The Envoy cluster.
    pub cluster: String,
    /// The share of the calls, in percent.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    #[cfg_attr(feature = "schema", serde(default = "super::all"))]
    pub percent: f64,
    /// How long a copy may take; at least `1ms`. Default: the `timeout` of the route, `15s` where it has none.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub timeout: Option<Span>,
}

object! {
    Mirror from Self { cluster: String::new(), percent: all(), timeout: None };
    required cluster;
    optional percent, timeout;
}
