use super::{Match, object::object};

/// Authorization that is tried out: the calls that it would deny are counted and logged, and go on as without it.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct DryRun {
    /// The rules, of which the first that matches a call says what would become of it.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "Vec::is_empty"), schemars(!skip_serializing_if))]
    pub rules: Vec<DryRunRule>,
    /// Whether the calls that no rule matches would be denied.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub deny_others: bool,
}

object! {
    DryRun from Self::default();
    optional rules, deny_others as "denyOthers";
}

/// Which calls are meant, and whether they would be denied.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct DryRunRule {
    /// The name of the rule in logs.
    pub name: String,
    /// Alternatives: the rule matches if one of them does. Default: every call matches.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[cfg_attr(feature = "schema", serde(default, rename = "match", skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub matches: Option<Vec<Match>>,
    /// Whether these calls would be denied. Default: they would be allowed.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub deny: bool,
}

object! {
    DryRunRule from Self::default();
    required name;
    optional matches as "match", deny;
}
