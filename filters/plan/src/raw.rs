//! The plan as it is written: the shape of the JSON document, and no more. What the values mean together is checked when
//! the document is compiled into a [`Plan`](super::Plan).
//!
//! The comments of the fields are the text of the JSON Schema.
mod access_log;
mod concurrency;
mod dry_run;
mod fault;
mod layout;
mod matching;
mod metrics;
mod mirror;
mod object;
mod rate_limit;
mod retry;
mod tap;
mod tracing;
mod upstream;

use core::ops::RangeInclusive;

use serde::Deserialize;

pub use self::access_log::AccessLog;
pub use self::concurrency::AdaptiveConcurrency;
pub use self::dry_run::{DryRun, DryRunRule};
pub use self::fault::{Abort, Delay, Fault};
pub use self::layout::{
    Attribute, ErrorReply, Form, Kind, Layout, Length, Otherwise, Part, Place, Response, ResponseStatus,
    Sharing,
};
pub use self::matching::{Match, Matcher, Range};
pub use self::metrics::{IstioMetrics, Metrics};
pub use self::mirror::Mirror;
use self::object::object;
pub use self::rate_limit::{Condition, DescriptorEntry, GlobalRateLimit, LocalRateLimit, TokenBucket};
pub use self::retry::{Backoff, Hedge, MOST_ATTEMPTS, Retry, Status, Trigger};
pub use self::tap::Tap;
pub use self::tracing::{SpanFormat, Tag, Tracing};
pub use self::upstream::{CircuitBreaker, Cluster, OutlierDetection, Upstream, UpstreamSharing};
use super::{span::Span, table::Table};

/// What Meltemi does with the calls of each service.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Plan {
    /// The services, by the exact authority of the tunnel that carries their connections. Large ones may be packed.
    #[cfg_attr(feature = "schema", schemars(transform = super::schema::or_packed))]
    #[cfg_attr(feature = "schema", serde(default))]
    pub services: Table<Service>,
    /// Protocols that are declared here, by the names that services give them.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub protocols: Table<Layout>,
    /// What happens to the connections of a tunnel whose authority none of the services has.
    #[cfg_attr(feature = "schema", serde(default))]
    pub unknown_authority: UnknownAuthority,
    /// What is reported about the calls.
    #[cfg_attr(feature = "schema", serde(default))]
    pub metrics: Metrics,
    /// The bytes that requests and answers on their way may take in one Wasm VM, those of all its clients together.
    #[cfg_attr(feature = "schema", schemars(range(min = 16777216, max = 3221225472_u32)))]
    #[cfg_attr(feature = "schema", serde(default = "memory_budget"))]
    pub memory_budget_bytes: u32,
    /// The calls that one worker of a proxy has in flight, over which they are answered at once. Default: any number.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub max_calls: Option<u32>,
    /// Lines in Envoy's log for calls. Default: none.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub access_log: Option<AccessLog>,
    /// Calls that are told of one by one in Envoy's log, for a time.
    #[cfg_attr(feature = "schema", schemars(length(max = 16)))]
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub taps: Vec<Tap>,
}

object! {
    Plan from Self::default();
    optional services, protocols, unknown_authority as "unknownAuthority", metrics,
        memory_budget_bytes as "memoryBudgetBytes", max_calls as "maxCalls",
        access_log as "accessLog", taps;
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            services: Table::default(),
            protocols: Table::default(),
            unknown_authority: UnknownAuthority::default(),
            metrics: Metrics::default(),
            memory_budget_bytes: memory_budget(),
            max_calls: None,
            access_log: None,
            taps: Vec::new(),
        }
    }
}

fn memory_budget() -> u32 {
    256 << 20
}

/// What happens to the connections of a tunnel whose authority none of the services has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "kebab-case")]
pub enum UnknownAuthority {
    /// They are passed through byte by byte to the tunnel's own cluster.
    #[default]
    Relay,
    /// They are closed, as where routes say who may call: nothing is carried unread.
    Refuse,
}

/// How the calls of one service are read, routed and protected.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Service {
    /// The protocol that the clients of the service speak, such as `dubbo`; `auto` if the first bytes of a connection tell.
    pub protocol: String,
    /// What `auto` may be. Default: every protocol that the module knows or the plan declares.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub protocols: Vec<String>,
    /// The routes, of which the first that matches a call decides where it goes.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub routes: Vec<Route>,
    /// What happens to a call that no route matches.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub on_no_match: OnNoMatch,
    /// The route of the calls that no route of the list matches.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub default_route: Actions,
    /// Authorization that is tried out on the calls, whatever routes say of them.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub dry_run: Option<DryRun>,
    /// How many calls one proxy lets pass in a time. Default: any number.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub local_rate_limit: Option<LocalRateLimit>,
    /// Calls about which rate limit services are asked, unless `localRateLimit` refuses them: a call by the first that matches it.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub global_rate_limits: Vec<GlobalRateLimit>,
    /// How many calls may be on a retry at a time.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub retry_budget: RetryBudget,
    /// How long a client connection without a call in flight may be silent, heartbeats included; `0s` sets no limit.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub idle_timeout: Span,
    /// How long an open stream may be without a frame either way, before it is reset; `0s` sets no limit.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub stream_idle_timeout: Span,
    /// How long a request may go on arriving, or a client reading none of its answers, without progress; `0s` sets no limit.
    #[cfg_attr(feature = "schema", serde(default = "frame_timeout", skip_serializing_if = "is_frame_timeout"), schemars(!skip_serializing_if))]
    pub frame_timeout: Span,
    /// What one client connection may ask for.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub limits: Limits,
    /// How connections to the endpoints are made and kept.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub upstream: Upstream,
    /// Traces that calls belong to. Default: what calls carry of them passes unread.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub tracing: Option<Tracing>,
}

object! {
    Service from Self::new("");
    required protocol;
    optional protocols, routes, on_no_match as "onNoMatch", default_route as "defaultRoute",
        dry_run as "dryRun", local_rate_limit as "localRateLimit", global_rate_limits as "globalRateLimits",
        retry_budget as "retryBudget", idle_timeout as "idleTimeout", stream_idle_timeout as "streamIdleTimeout",
        frame_timeout as "frameTimeout", limits, upstream, tracing;
}

fn frame_timeout() -> Span {
    Span::from_millis(30_000)
}

#[cfg(feature = "schema")]
fn is_frame_timeout(timeout: &Span) -> bool {
    *timeout == frame_timeout()
}

/// All calls, in percent.
fn all() -> f64 {
    100.0
}

/// Whether a value need not be written.
#[cfg(feature = "schema")]
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Service {
    /// A service that speaks a protocol, without routes.
    pub fn new(protocol: impl Into<String>) -> Self {
        Self {
            protocol: protocol.into(),
            protocols: Vec::new(),
            routes: Vec::new(),
            on_no_match: OnNoMatch::default(),
            default_route: Actions::default(),
            dry_run: None,
            local_rate_limit: None,
            global_rate_limits: Vec::new(),
            retry_budget: RetryBudget::default(),
            idle_timeout: Span::default(),
            stream_idle_timeout: Span::default(),
            frame_timeout: frame_timeout(),
            limits: Limits::default(),
            upstream: Upstream::default(),
            tracing: None,
        }
    }
}

/// What happens to a call that no route matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "kebab-case")]
pub enum OnNoMatch {
    /// It takes the default route.
    #[default]
    Default,
    /// It is answered with an error of its protocol.
    Reject,
}

/// Which calls are meant, where they go, and how.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Route {
    /// The name of the route in metrics and logs, unique in its service. `default` is the name of the default route.
    pub name: String,
    /// Alternatives: the route matches if one of them does. Default: every call matches.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[cfg_attr(feature = "schema", serde(default, rename = "match", skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub matches: Option<Vec<Match>>,
    /// Where they go, and how: the same keys as `defaultRoute` has.
    #[cfg_attr(feature = "schema", serde(flatten))]
    pub actions: Actions,
}

object! {
    Route from Self::default();
    required name;
    optional matches as "match";
    flattened actions: Actions;
}

/// Where the calls of a route go, and how.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::at_most_one_destination))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Actions {
    /// The Envoy cluster that calls go to. Default, without `weightedClusters` and `reject`: the tunnel's.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub cluster: Option<String>,
    /// Several Envoy clusters that calls are spread over by chance, in place of `cluster`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub weighted_clusters: Option<Vec<WeightedCluster>>,
    /// Calls are answered with an error in place of going anywhere.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub reject: Option<Reject>,
    /// How long a call may take, retries included; `0s` sets no limit.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub timeout: Span,
    /// Whether the time that a request gives bounds the call too, and what is left is passed on. Default: the protocol's way.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub propagate_deadline: Option<bool>,
    /// When and how a failed call is retried. Default: never.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub retry: Option<Retry>,
    /// Failures that are made on purpose. Default: none.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub fault: Option<Fault>,
    /// The attributes by which calls are hashed; none if they are not. Default: as `upstream` says of their cluster.
    #[cfg_attr(feature = "schema", schemars(length(max = 16)))]
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub hash_by: Option<Vec<String>>,
    /// Clusters that get copies of the calls.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub mirrors: Vec<Mirror>,
    /// Changes to the attachments of requests.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub request_attachments: Attachments,
    /// Changes to the attachments of responses.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub response_attachments: Attachments,
}

object! {
    Actions from Self::default();
    optional cluster, weighted_clusters as "weightedClusters", reject, timeout,
        propagate_deadline as "propagateDeadline", retry, fault, hash_by as "hashBy", mirrors,
        request_attachments as "requestAttachments", response_attachments as "responseAttachments";
}

/// A cluster and its share of the calls.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct WeightedCluster {
    /// The Envoy cluster.
    pub cluster: String,
    /// Its share, in proportion to the sum of the weights.
    pub weight: u32,
}

object! {
    WeightedCluster from Self::default();
    required cluster, weight;
}

/// An answer in place of a server's: an error of the protocol that says that the call is denied. One-way calls are dropped.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Reject {
    /// The error message for the client. Default: which route denies the call.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub message: Option<String>,
}

object! {
    Reject from Self::default();
    optional message;
}

/// Changes to the attachments of a message.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Attachments {
    /// The attachments to set, by name: an existing value is replaced, a new one added.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub set: Table<String>,
    /// The attachments to add, by name, where a message has none of that name.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub add_if_absent: Table<String>,
    /// What to append to attachments, by name: an existing value is followed by a comma and this, a new one added.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub append: Table<String>,
    /// The names of the attachments to remove.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub remove: Vec<String>,
}

object! {
    Attachments from Self::default();
    optional set, add_if_absent as "addIfAbsent", append, remove;
}

/// How many calls may be on a retry at a time: as many as the greater of the two allows.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields, default))]
pub struct RetryBudget {
    /// Calls that may be on a retry at a time, in percent of the calls in flight.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    pub percent: u32,
    /// Calls that may be on a retry at a time however few are in flight.
    pub min_retries: u32,
}

object! {
    RetryBudget from Self::default();
    optional percent, min_retries as "minRetries";
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, min_retries: 10 }
    }
}

/// What one client connection may ask for.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields, default))]
pub struct Limits {
    /// The largest request or response, in bytes. A larger one closes its connection.
    #[cfg_attr(feature = "schema", schemars(range(min = 16, max = 268435456)))]
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "is_message_size"), schemars(!skip_serializing_if))]
    pub max_frame_bytes: u32,
    /// The largest request, in bytes, if `maxFrameBytes` allows it: never more than every server takes.
    #[cfg_attr(feature = "schema", schemars(range(min = 16, max = 268435456)))]
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "is_message_size"), schemars(!skip_serializing_if))]
    pub max_request_bytes: u32,
    /// A request or response over so many bytes is passed on while it comes, where its codec and route allow that.
    #[cfg_attr(feature = "schema", schemars(range(min = 1024, max = 268435456)))]
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "is_cut_through"), schemars(!skip_serializing_if))]
    pub cut_through_bytes: u32,
    /// Calls in flight on one client connection. More of them wait in the client's socket.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000000)))]
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "is_client_limit"), schemars(!skip_serializing_if))]
    pub max_calls_per_connection: u32,
}

object! {
    Limits from Self::default();
    optional max_frame_bytes as "maxFrameBytes", max_request_bytes as "maxRequestBytes",
        cut_through_bytes as "cutThroughBytes", max_calls_per_connection as "maxCallsPerConnection";
}

#[cfg(feature = "schema")]
fn is_message_size(bytes: &u32) -> bool {
    *bytes == Limits::default().max_frame_bytes
}

#[cfg(feature = "schema")]
fn is_cut_through(bytes: &u32) -> bool {
    *bytes == Limits::default().cut_through_bytes
}

#[cfg(feature = "schema")]
fn is_client_limit(calls: &u32) -> bool {
    *calls == Limits::default().max_calls_per_connection
}

impl Limits {
    /// The bounds of the sizes.
    pub const BYTES: RangeInclusive<u32> = 16..=256 << 20;
    /// The bounds of the size over which messages are passed on while they come.
    pub const CUT_THROUGH: RangeInclusive<u32> = 1 << 10..=256 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        // Dubbo's servers take 8 MiB, unless they are told otherwise.
        let most = 8 << 20;
        Self {
            max_frame_bytes: most,
            max_request_bytes: most,
            cut_through_bytes: 32 << 10,
            max_calls_per_connection: 4096,
        }
    }
}
