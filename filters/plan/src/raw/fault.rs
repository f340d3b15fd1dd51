use serde::Deserialize;

use crate::Span;

/// Failures that are made on purpose, to see what callers make of them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Calls that are held back for a time before they go anywhere.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    #[serde(default)]
    pub delay: Option<Delay>,
    /// Calls that are answered with an error in place of going anywhere, after their delay if they have one.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    #[serde(default)]
    pub abort: Option<Abort>,
}

/// Calls that are held back. The time-outs of the route begin when they go on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delay {
    /// For how long; at least `1ms`.
    pub duration: Span,
    /// The share of the calls, in percent.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    #[serde(default = "super::all")]
    pub percent: f64,
}

/// Calls that are answered with an error. One-way calls are dropped.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Abort {
    /// What the client is told. Default: which route aborts the call.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    #[serde(default)]
    pub message: Option<String>,
    /// The share of the calls, in percent.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    #[serde(default = "super::all")]
    pub percent: f64,
}
