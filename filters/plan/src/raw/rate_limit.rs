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

/// Calls about which a rate limit service is asked, one that speaks Envoy's `RateLimitService` of version 3, before they go anywhere. The time-outs of the route run meanwhile.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct GlobalRateLimit {
    /// Alternatives: the service is asked if one of them matches. Default: about every call.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[cfg_attr(feature = "schema", serde(default, rename = "match", skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub matches: Option<Vec<Match>>,
    /// The Envoy cluster of the service.
    pub cluster: String,
    /// The domain that it is asked with.
    pub domain: String,
    /// What it is asked about, each a list of entries that are counted together: a call over the limit of one is refused. Those with an attribute that the call has not are left out.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    pub descriptors: Vec<Vec<DescriptorEntry>>,
    /// How many hits a call is.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    #[cfg_attr(feature = "schema", serde(default = "one"))]
    pub hits: u32,
    /// How long an answer may take; at least `1ms`.
    #[cfg_attr(feature = "schema", serde(default = "answer_timeout"))]
    pub timeout: Span,
    /// Whether calls are refused when there is no answer, whatever the reason. Default: they pass.
    #[cfg_attr(feature = "schema", serde(default))]
    pub deny_on_failure: bool,
}

impl Default for GlobalRateLimit {
    fn default() -> Self {
        Self {
            matches: None,
            cluster: String::new(),
            domain: String::new(),
            descriptors: Vec::new(),
            hits: one(),
            timeout: answer_timeout(),
            deny_on_failure: false,
        }
    }
}

object! {
    GlobalRateLimit from Self::default();
    required cluster, domain, descriptors;
    optional matches as "match", hits, timeout, deny_on_failure as "denyOnFailure";
}

/// One entry of a descriptor: exactly one of `attribute` and `value`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct DescriptorEntry {
    /// The key that is sent.
    pub key: String,
    /// The attribute of the call whose value is sent with it, at most 1024 bytes of it.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub attribute: Option<String>,
    /// The value that is sent with it.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "Option::is_none"), schemars(!skip_serializing_if))]
    pub value: Option<String>,
}

object! {
    DescriptorEntry from Self::default();
    required key;
    optional attribute, value;
}

fn one() -> u32 {
    1
}

/// As long as Envoy's own filters wait.
fn answer_timeout() -> Span {
    Span::from_millis(20)
}
