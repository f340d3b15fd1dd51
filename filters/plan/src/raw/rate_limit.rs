use serde::Deserialize;

use super::Match;
use crate::Span;

/// How many calls one proxy lets pass, all its workers together. A call takes a token from the bucket of the first condition that matches it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalRateLimit {
    /// Calls that have a bucket of their own.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Vec::is_empty"), schemars(!skip_serializing_if))]
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// The bucket of all other calls. Default: they are not limited.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    #[serde(default)]
    pub token_bucket: Option<TokenBucket>,
}

/// Calls that are limited by themselves.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// Alternatives: the condition matches if one of them does. Default: every call matches.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    #[serde(default, rename = "match")]
    pub matches: Option<Vec<Match>>,
    /// The bucket of these calls.
    pub token_bucket: TokenBucket,
}

/// Tokens, one for each call. A bucket is full at first.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenBucket {
    /// How often tokens are added, counted from the first call that finds the bucket full; at least `50ms`.
    pub fill_interval: Span,
    /// The most that it holds: calls that may come at once.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub max_tokens: u32,
    /// How many are added each time.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    #[serde(default = "one")]
    pub tokens_per_fill: u32,
}

fn one() -> u32 {
    1
}
