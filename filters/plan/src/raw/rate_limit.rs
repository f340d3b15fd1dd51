use super::{Match, object::object};
use crate::Span;

/// How many calls one proxy lets pass, all its workers together. A call takes a token from the bucket of the first condition that matches it.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct LocalRateLimit {
    /// Calls that have a bucket of their own.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "Vec::is_empty"), schemars(!skip_serializing_if))]
    pub conditions: Vec<Condition>,
    /// The bucket of all other calls. Default: they are not limited.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub token_bucket: Option<TokenBucket>,
}

object! {
    LocalRateLimit from Self::default();
    optional conditions, token_bucket as "tokenBucket";
}

/// Calls that are limited by themselves.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Condition {
    /// Alternatives: the condition matches if one of them does. Default: every call matches.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[cfg_attr(feature = "schema", serde(default, rename = "match", skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub matches: Option<Vec<Match>>,
    /// The bucket of these calls.
    pub token_bucket: TokenBucket,
}

object! {
    Condition from Self { matches: None, token_bucket: TokenBucket::default() };
    required token_bucket as "tokenBucket";
    optional matches as "match";
}

/// Tokens, one for each call. A bucket is full at first.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct TokenBucket {
    /// How often tokens are added, counted from the first call that finds the bucket full; at least `50ms`.
    pub fill_interval: Span,
    /// The most that it holds: calls that may come at once.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub max_tokens: u32,
    /// How many are added each time.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    #[cfg_attr(feature = "schema", serde(default = "one"))]
    pub tokens_per_fill: u32,
}

object! {
    TokenBucket from Self { tokens_per_fill: one(), ..Self::default() };
    required fill_interval as "fillInterval", max_tokens as "maxTokens";
    optional tokens_per_fill as "tokensPerFill";
}

fn one() -> u32 {
    1
}
