use super::{all, object::object};
use crate::Span;

/// Failures that are made on purpose, to see what callers make of them.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Fault {
    /// Calls that are held back for a time before they go anywhere.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub delay: Option<Delay>,
    /// Calls that are answered with an error in place of going anywhere, after their delay if they have one.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub abort: Option<Abort>,
}

object! {
    Fault from Self::default();
    optional delay, abort;
}

/// Calls that are held back. The time-outs of the route begin when they go on.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Delay {
    /// For how long; at least `1ms`.
    pub duration: Span,
    /// The share of the calls, in percent.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    #[cfg_attr(feature = "schema", serde(default = "super::all"))]
    pub percent: f64,
}

object! {
    Delay from Self { duration: Span::default(), percent: all() };
    required duration;
    optional percent;
}

/// Calls that are answered with an error. One-way calls are dropped.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Abort {
    /// What the client is told. Default: which route aborts the call.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub message: Option<String>,
    /// The share of the calls, in percent.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    #[cfg_attr(feature = "schema", serde(default = "super::all"))]
    pub percent: f64,
}

object! {
    Abort from Self { message: None, percent: all() };
    optional message, percent;
}
