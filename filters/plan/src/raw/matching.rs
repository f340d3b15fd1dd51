use super::object::object;
use crate::Table;

/// One alternative of a route.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Match {
    /// What the attributes of the call must be, by the attribute's name. Each of them must match.
    pub attributes: Table<Matcher>,
    /// What they must not be, by the attribute's name. None of them may match.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub not_attributes: Table<Matcher>,
}

object! {
    Match from Self::default();
    required attributes;
    optional not_attributes as "notAttributes";
}

/// What one attribute must be: exactly one of the matchers, perhaps inverted.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", schemars(transform = crate::schema::exactly_one_test))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Matcher {
    /// The value is this text.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub exact: Option<String>,
    /// The value starts with this text.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub prefix: Option<String>,
    /// The value ends with this text.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub suffix: Option<String>,
    /// The value contains this text.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub contains: Option<String>,
    /// The whole value matches this regular expression.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub regex: Option<String>,
    /// The whole value is a decimal integer of this range.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub range: Option<Range>,
    /// The client's address is in one of these blocks, such as `10.0.0.0/8`. Of `source.ip` alone.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub cidr: Vec<String>,
    /// Whether the call has the attribute at all, with any value.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub present: Option<bool>,
    /// Turns the result around: what did not match does, a missing attribute too.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub invert: bool,
}

object! {
    Matcher from Self::default();
    optional exact, prefix, suffix, contains, regex, range, cidr, present, invert;
}

/// A range of integers.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Range {
    /// The first integer of the range.
    pub start: i64,
    /// The first integer after the range.
    pub end: i64,
}

object! {
    Range from Self::default();
    required start, end;
}
