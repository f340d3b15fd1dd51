use super::{Match, all, object::object};
use crate::{Span, Table};

/// Which calls have a line in Envoy's log, or are told to the loggers of its connection manager. Default: all.
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
    /// Their lines: text with Envoy's command operators. Default: an object of JSON with all that is known.
    #[cfg_attr(feature = "schema", schemars(length(max = 8192)))]
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub text_format: Option<String>,
    /// Their lines, in place of `textFormat`: an object of JSON with these names, and values with the same operators.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Table::is_empty"), schemars(!skip_serializing_if))]
    pub json_format: Table<String>,
    /// What loggers of the connection manager are told of each: headers, by their names, as text with the same operators, and `%LINE%` for the line. Default: nothing.
    #[cfg_attr(feature = "schema", schemars(extend("maxProperties" = 64)))]
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Table::is_empty"), schemars(!skip_serializing_if))]
    pub fields: Table<String>,
    /// Their lines are in Envoy's log.
    pub log: bool,
    /// Their lines go to files, by loggers of the connection manager that are given several at a time.
    pub files: bool,
}

object! {
    AccessLog from Self::default();
    optional errors, slower_than as "slowerThan", percent, matches as "match",
        text_format as "textFormat", json_format as "jsonFormat", fields, log, files;
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            errors: false,
            slower_than: None,
            percent: all(),
            matches: None,
            text_format: None,
            json_format: Table::default(),
            fields: Table::default(),
            log: true,
            files: false,
        }
    }
}
