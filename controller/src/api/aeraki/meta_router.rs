use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::schema;

/// How the calls of one service are routed, by the attributes of each call.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "metaprotocol.aeraki.io",
    version = "v1alpha1",
    kind = "MetaRouter",
    plural = "metarouters",
    category = "meltemi",
    namespaced,
    status = "super::Status",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::aeraki_router)]
pub struct MetaRouterSpec {
    /// The namespaces whose clients follow this router: names, `.` for the router's own, `*` for all. Empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::exports)]
    pub export_to: Vec<String>,
    /// The gateways that follow this router, as `namespace/name` or `name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::gateways)]
    pub gateways: Vec<String>,
    /// The service: exactly one host name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::only_host)]
    pub hosts: Vec<String>,
    /// The routes: the first that matches a call takes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::routes)]
    pub routes: Vec<Route>,
    /// How many calls each server takes in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_rate_limit: Option<LocalRateLimit>,
    /// How many calls all servers take in a time, as a rate limit service counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_rate_limit: Option<GlobalRateLimit>,
}

/// Which calls are meant, where they go, and how.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::aeraki_route)]
pub struct Route {
    /// The name of the route in metrics and logs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(transform = schema::value)]
    pub name: String,
    /// What the calls must be. Default: every call matches.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Match>,
    /// Where they go: one destination, or several with weights that sum to 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::destinations)]
    pub route: Vec<WeightedDestination>,
    /// A service that gets copies of the calls, and whose answers nobody waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Destination>,
    /// The share of the calls that is mirrored. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::share)]
    pub mirror_percentage: Option<Percent>,
    /// Attachments to set in requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::edits)]
    pub request_mutation: Vec<Mutation>,
    /// Attachments to set in responses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::edits)]
    pub response_mutation: Vec<Mutation>,
}

/// What the attributes of a call must be. Each of them must match.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Match {
    /// The attributes, by name.
    #[serde(default)]
    #[schemars(transform = schema::attributes)]
    pub attributes: BTreeMap<String, StringMatch>,
}

/// What one attribute must be: exactly one of the three. An empty `exact` matches any value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(transform = schema::aeraki_matcher)]
pub struct StringMatch {
    /// The value is this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::value)]
    pub exact: Option<String>,
    /// The value starts with this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::value)]
    pub prefix: Option<String>,
    /// The whole value matches this regular expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::regex)]
    pub regex: Option<String>,
}

/// A destination and its share of the calls.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct WeightedDestination {
    /// Where the calls go.
    pub destination: Destination,
    /// The share in percent; optional with a single destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::weight)]
    pub weight: Option<u32>,
}

/// A service, or a subset of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Destination {
    /// The host name of the service.
    #[schemars(transform = schema::host)]
    pub host: String,
    /// The subset, by its name in the service's DestinationRule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::label)]
    pub subset: Option<String>,
    /// The port. Default: the one that the call was sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortSelector>,
}

/// A port by its number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct PortSelector {
    /// The port of the service.
    #[schemars(transform = schema::port)]
    pub number: u16,
}

/// A share in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct Percent {
    /// The share, 0 to 100.
    #[schemars(transform = schema::percent)]
    pub value: f64,
}

/// An attachment to set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Mutation {
    /// The name of the attachment.
    #[schemars(transform = schema::text)]
    pub key: String,
    /// Its value: text with command operators of Envoy, such as `%REQ(method)%`; a percent sign is `%%`.
    #[schemars(transform = schema::edit_value)]
    pub value: String,
}

/// How many calls each server takes in a time.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::local_rate_limit)]
pub struct LocalRateLimit {
    /// The limit of calls that no condition matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_bucket: Option<TokenBucket>,
    /// Limits of some calls: the first that matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::conditions)]
    pub conditions: Vec<RateLimitCondition>,
}

/// The limit of some calls.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::condition)]
pub struct RateLimitCondition {
    /// What the calls must be.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Match>,
    /// Their limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_bucket: Option<TokenBucket>,
}

/// Tokens of which each call takes one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::bucket)]
pub struct TokenBucket {
    /// The most tokens that there can be: calls that may come at once.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(transform = schema::tokens)]
    pub max_tokens: u32,
    /// The tokens that are added each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::tokens)]
    pub tokens_per_fill: Option<u32>,
    /// How often they are added, such as `60s`; at least `50ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::fill_interval)]
    pub fill_interval: Option<String>,
}

/// How many calls all servers take in a time, as a rate limit service counts them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::global_rate_limit)]
pub struct GlobalRateLimit {
    /// The domain that the service is asked with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(transform = schema::text)]
    pub domain: String,
    /// The calls that it is asked about. Default: all.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Match>,
    /// The Envoy cluster of the service, such as `outbound|8081||ratelimit.default.svc.cluster.local`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(transform = schema::text)]
    pub rate_limit_service: String,
    /// How long it may take to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::positive_duration)]
    pub request_timeout: Option<String>,
    /// Whether calls are refused when it cannot be asked.
    #[serde(default)]
    pub deny_on_fail: bool,
    /// What is sent to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::descriptors)]
    pub descriptors: Vec<Descriptor>,
}

/// One entry of what is sent to the rate limit service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::descriptor)]
pub struct Descriptor {
    /// The attribute of the call whose value is sent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(transform = schema::text)]
    pub property: String,
    /// The key that it is sent under.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(transform = schema::text)]
    pub descriptor_key: String,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}
