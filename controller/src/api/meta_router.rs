//! `MetaRouter` of `meltemi.io`: where the calls of a service go, and what protects them.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aeraki::{
    self, Descriptor, Destination, Mutation, Percent, Status, TokenBucket, WeightedDestination,
};
use super::schema;

/// How the calls of one service are routed, by the attributes of each call.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "meltemi.io",
    version = "v1alpha1",
    kind = "MetaRouter",
    plural = "metarouters",
    category = "meltemi",
    namespaced,
    status = "Status",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::router)]
pub struct MetaRouterSpec {
    /// The namespaces whose clients follow this router: names, `.` for the router's own, `*` for all. Empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::exports)]
    pub export_to: Vec<String>,
    /// The gateways that follow this router, as `namespace/name` or `name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::gateways)]
    pub gateways: Vec<String>,
    /// The service: its host name in full, or short for one of the router's own namespace.
    #[schemars(transform = schema::only_host)]
    pub hosts: Vec<String>,
    /// The routes: the first that matches a call takes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::routes)]
    pub routes: Vec<Route>,
    /// What happens to calls that no route matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_no_match: Option<OnNoMatch>,
    /// How many calls each server takes in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_rate_limit: Option<LocalRateLimit>,
    /// How many calls all servers take in a time, as a rate limit service counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_rate_limit: Option<GlobalRateLimit>,
    /// How many calls a proxy makes at a time, by how long their answers take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
}

/// How many calls one worker of a client's proxy makes to the service at a time, by how much longer answers take than they can.
/// What is over the limit is answered at once. The fields are those of Envoy's filter.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::adaptive::whole)]
pub struct AdaptiveConcurrency {
    /// The percentile of the times of answers that is compared. Default: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::adaptive::percentile)]
    pub sample_aggregate_percentile: Option<u32>,
    /// How often the limit changes. Default: `100ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::positive_duration)]
    pub concurrency_update_interval: Option<String>,
    /// How long after the least time was measured it is measured again. Default: `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::positive_duration)]
    pub min_rtt_calc_interval: Option<String>,
    /// Over how many answers it is measured. Default: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::adaptive::measured_calls)]
    pub min_rtt_calc_request_count: Option<u32>,
    /// By how much later it may be measured, by chance, in percent of the interval. Default: 15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::adaptive::jitter)]
    pub jitter: Option<u32>,
    /// The least limit, and the one while the least time is measured. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::adaptive::calls)]
    pub min_concurrency: Option<u32>,
    /// By how much longer than the least time answers may take, in percent of it. Default: 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::adaptive::buffer)]
    pub buffer: Option<u32>,
    /// The greatest limit. Default: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::adaptive::calls)]
    pub max_concurrency_limit: Option<u32>,
}

/// What happens to a call that no route matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnNoMatch {
    /// It goes to the service as if there were no router.
    Default,
    /// It is answered with an error of its protocol.
    Reject,
}

/// Which calls are meant, where they go, and how.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::route)]
pub struct Route {
    /// The name of the route in metrics and logs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(transform = schema::value)]
    pub name: String,
    /// What the calls must be. Default: every call matches.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Match>,
    /// Where they go: one destination, or several with weights that sum to 100.
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
    /// Attachments to add to requests that have none of that name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::edits)]
    pub request_add_if_absent: Vec<Mutation>,
    /// What to append to attachments of requests: after a comma, where there are some of that name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::edits)]
    pub request_append: Vec<Mutation>,
    /// Attachments to add to responses that have none of that name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::edits)]
    pub response_add_if_absent: Vec<Mutation>,
    /// What to append to attachments of responses: after a comma, where there are some of that name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::edits)]
    pub response_append: Vec<Mutation>,
    /// The names of attachments to remove from requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::names)]
    pub request_remove: Vec<String>,
    /// The names of attachments to remove from responses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::names)]
    pub response_remove: Vec<String>,
    /// How long a call may take, retries included, such as `2s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::duration)]
    pub timeout: Option<String>,
    /// Whether the time that a request gives bounds the call too, and what is left is passed on. Default: the protocol's way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagate_deadline: Option<bool>,
    /// When and how a failed call is retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// Failures that are made on purpose, to see what callers make of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// The attributes by which calls are hashed: equal ones go to one endpoint. Default: as DestinationRules say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::hash_key)]
    pub hash_by: Vec<String>,
}

/// What the attributes of a call must be. Each of them must match.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// The attributes, by name.
    #[serde(default)]
    #[schemars(transform = schema::attributes)]
    pub attributes: BTreeMap<String, StringMatch>,
}

/// What one attribute must be: exactly one of the matchers, perhaps inverted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::matcher)]
pub struct StringMatch {
    /// The value is this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::value)]
    pub exact: Option<String>,
    /// The value starts with this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::value)]
    pub prefix: Option<String>,
    /// The value ends with this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::value)]
    pub suffix: Option<String>,
    /// The value contains this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::value)]
    pub contains: Option<String>,
    /// The whole value matches this regular expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::regex)]
    pub regex: Option<String>,
    /// The value is a decimal integer of this range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// Whether the call has the attribute at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// Turns the result around.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invert: Option<bool>,
}

/// A range of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(transform = schema::range)]
pub struct Range {
    /// The first integer of the range.
    pub start: i64,
    /// The first integer after the range.
    pub end: i64,
}

/// When and how a failed call is retried. One-way calls never are.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::retries)]
pub struct Retries {
    /// How often a call may be retried after its first try. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::attempts)]
    pub attempts: Option<u32>,
    /// The failures that are retried. Default: `connect-failure`.
    // Not `on`: to YAML 1.1, which kubectl reads, that is a truth value.
    #[serde(default, rename = "retryOn", skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::failures)]
    pub on: Vec<RetryOn>,
    /// The response statuses that are retried, by the protocol's names or numbers. They need `status` in `retryOn`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::statuses)]
    pub statuses: Vec<String>,
    /// How long one try may take, such as `500ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::positive_duration)]
    pub per_try_timeout: Option<String>,
    /// When a second try is made beside one that has no answer yet. It is one of the attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
}

/// When a call gets a second try, to another endpoint: the first answer is the call's. With both fields, after the later of
/// the two times.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::hedge)]
pub struct Hedge {
    /// How long after the first try, such as `50ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::positive_duration)]
    pub after: Option<String>,
    /// After the time in which so many percent of the route's calls are answered; not used before a hundred were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::percentile)]
    pub percentile: Option<u32>,
}

/// A failure after which a call can be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// No connection to an endpoint could be had: the call was not sent.
    ConnectFailure,
    /// The connection was lost after the call was sent and before its answer came.
    Reset,
    /// No answer came within `perTryTimeout`.
    PerTryTimeout,
    /// The answer has one of the listed `statuses`.
    Status,
}

/// Failures that are made on purpose: a call is delayed first, then aborted.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::fault)]
pub struct Fault {
    /// Calls that are held back for a time before they go anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// Calls that are answered with an error of their protocol, and go nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<Abort>,
}

/// Calls that are held back.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::delay)]
pub struct Delay {
    /// The share of the calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentage: Option<Percent>,
    /// For how long, such as `2s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::positive_duration)]
    pub fixed_delay: Option<String>,
}

/// Calls that are answered with an error.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::abort)]
pub struct Abort {
    /// The share of the calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentage: Option<Percent>,
    /// What the error says. Default: which route aborts the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text)]
    pub message: Option<String>,
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
    /// Whether that is one descriptor with so many entries, in their order, in place of so many with one.
    #[serde(default)]
    pub combined: bool,
    /// What a call counts as. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::tokens)]
    pub hits: Option<u32>,
}

impl From<aeraki::MetaRouterSpec> for MetaRouterSpec {
    /// A router of Aeraki's, which has less to say.
    fn from(spec: aeraki::MetaRouterSpec) -> Self {
        Self {
            export_to: spec.export_to,
            gateways: spec.gateways,
            hosts: spec.hosts,
            routes: spec.routes.into_iter().map(Route::from).collect(),
            on_no_match: None,
            local_rate_limit: spec.local_rate_limit.map(LocalRateLimit::from),
            global_rate_limit: spec.global_rate_limit.map(GlobalRateLimit::from),
            adaptive_concurrency: None,
        }
    }
}

impl From<aeraki::Route> for Route {
    fn from(route: aeraki::Route) -> Self {
        Self {
            name: route.name,
            matches: route.matches.map(Match::from),
            route: route.route,
            mirror: route.mirror,
            mirror_percentage: route.mirror_percentage,
            request_mutation: route.request_mutation,
            response_mutation: route.response_mutation,
            ..Self::default()
        }
    }
}

impl From<aeraki::LocalRateLimit> for LocalRateLimit {
    fn from(limit: aeraki::LocalRateLimit) -> Self {
        let condition = |condition: aeraki::RateLimitCondition| RateLimitCondition {
            matches: condition.matches.map(Match::from),
            token_bucket: condition.token_bucket,
        };
        Self {
            token_bucket: limit.token_bucket,
            conditions: limit.conditions.into_iter().map(condition).collect(),
        }
    }
}

impl From<aeraki::GlobalRateLimit> for GlobalRateLimit {
    fn from(limit: aeraki::GlobalRateLimit) -> Self {
        Self {
            domain: limit.domain,
            matches: limit.matches.map(Match::from),
            rate_limit_service: limit.rate_limit_service,
            request_timeout: limit.request_timeout,
            deny_on_fail: limit.deny_on_fail,
            descriptors: limit.descriptors,
            ..Self::default()
        }
    }
}

impl From<aeraki::Match> for Match {
    fn from(matches: aeraki::Match) -> Self {
        let attributes = matches.attributes.into_iter();
        Self { attributes: attributes.map(|(name, matcher)| (name, matcher.into())).collect() }
    }
}

impl From<aeraki::StringMatch> for StringMatch {
    fn from(matcher: aeraki::StringMatch) -> Self {
        Self { exact: matcher.exact, prefix: matcher.prefix, regex: matcher.regex, ..Self::default() }
    }
}
