use super::{Match, all, object::object};
use crate::Span;

/// Which calls have a line in Envoy's log. Default: all.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields, default))]
pub struct AccessLog {
    /// Those that did not succeed.
    pub errors: bool,
    /// Those that took at least so long; with `errors`, those as well.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub slower_than: Option<Span>,
    /// The share of them, in percent.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    pub percent: f64,
    /// Alternatives: of these calls alone, those that one of them matches. Default: of every call.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[cfg_attr(feature = "schema", serde(rename = "match", skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub matches: Option<Vec<Match>>,
}

object! {
    AccessLog from Self::default();
    optional errors, slower_than as "slowerThan", percent, matches as "match";
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { errors: false, slower_than: None, percent: all(), matches: None }
    }
}
