//! The plan as it is written: the shape of the JSON document, and no more. What the values mean together is checked when
//! the document is compiled into a [`Plan`](super::Plan).
//!
//! The comments of the fields are the text of the JSON Schema.
mod fault;
mod rate_limit;

use core::ops::RangeInclusive;

use serde::Deserialize;

pub use self::fault::{Abort, Delay, Fault};
pub use self::rate_limit::{Condition, LocalRateLimit, TokenBucket};
use super::{span::Span, table::Table};

/// What Meltemi does with the calls of each service.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// The services, by the exact authority of the tunnel that carries their connections. Large ones may be packed.
    #[cfg_attr(feature = "schema", schemars(transform = super::schema::or_packed))]
    #[serde(default)]
    pub services: Table<Service>,
    /// What happens to the connections of a tunnel whose authority none of the services has.
    #[serde(default)]
    pub unknown_authority: UnknownAuthority,
    /// What is reported about the calls.
    #[serde(default)]
    pub metrics: Metrics,
    /// The bytes that requests and answers on their way may take in one Wasm VM, those of all its clients together.
    #[cfg_attr(feature = "schema", schemars(range(min = 16777216, max = 3221225472_u32)))]
    #[serde(default = "memory_budget")]
    pub memory_budget_bytes: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            services: Table::default(),
            unknown_authority: UnknownAuthority::default(),
            metrics: Metrics::default(),
            memory_budget_bytes: memory_budget(),
        }
    }
}

fn memory_budget() -> u32 {
    256 << 20
}

/// What happens to the connections of a tunnel whose authority none of the services has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
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
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// The protocol that the clients of the service speak, such as `dubbo`.
    pub protocol: String,
    /// The routes, of which the first that matches a call decides where it goes.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// What happens to a call that no route matches.
    #[serde(default)]
    pub on_no_match: OnNoMatch,
    /// The route of the calls that no route of the list matches.
    #[serde(default)]
    pub default_route: DefaultRoute,
    /// How many calls one proxy lets pass in a time. Default: any number.
    #[serde(default)]
    pub local_rate_limit: Option<LocalRateLimit>,
    /// How many calls may be on a retry at a time.
    #[serde(default)]
    pub retry_budget: RetryBudget,
    /// How long a client connection without a call in flight may be silent, heartbeats included; `0s` sets no limit.
    #[serde(default)]
    pub idle_timeout: Span,
    /// How long a request may go on arriving, or a client reading none of its answers, without progress; `0s` sets no limit.
    #[serde(default = "frame_timeout")]
    pub frame_timeout: Span,
    /// What one client connection may ask for.
    #[serde(default)]
    pub limits: Limits,
    /// How connections to the endpoints are made and kept.
    #[serde(default)]
    pub upstream: Upstream,
}

fn frame_timeout() -> Span {
    Span::from_millis(30_000)
}

/// What happens to a call that no route matches.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
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
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::at_most_one_destination))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// The name of the route in metrics and logs, unique in its service. `default` is the name of the default route.
    pub name: String,
    /// Alternatives: the route matches if one of them does. Default: every call matches.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[serde(default, rename = "match")]
    pub matches: Option<Vec<Match>>,
    /// The Envoy cluster that calls go to. Default, without `weightedClusters` and `reject`: the tunnel's.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Several Envoy clusters that calls are spread over by chance, in place of `cluster`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[serde(default)]
    pub weighted_clusters: Option<Vec<WeightedCluster>>,
    /// Calls are answered with an error in place of going anywhere.
    #[serde(default)]
    pub reject: Option<Reject>,
    /// How long a call may take, retries included; `0s` sets no limit.
    #[serde(default)]
    pub timeout: Span,
    /// When and how a failed call is retried. Default: never.
    #[serde(default)]
    pub retry: Option<Retry>,
    /// Failures that are made on purpose. Default: none.
    #[serde(default)]
    pub fault: Option<Fault>,
    /// Changes to the attachments of requests.
    #[serde(default)]
    pub request_attachments: Attachments,
    /// Changes to the attachments of responses.
    #[serde(default)]
    pub response_attachments: Attachments,
}

/// Where the calls go that no route matches, and how.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::at_most_one_destination))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DefaultRoute {
    /// The Envoy cluster that calls go to. Default, without `weightedClusters` and `reject`: the tunnel's.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Several Envoy clusters that calls are spread over by chance, in place of `cluster`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[serde(default)]
    pub weighted_clusters: Option<Vec<WeightedCluster>>,
    /// Calls are answered with an error in place of going anywhere.
    #[serde(default)]
    pub reject: Option<Reject>,
    /// How long a call may take, retries included; `0s` sets no limit.
    #[serde(default)]
    pub timeout: Span,
    /// When and how a failed call is retried. Default: never.
    #[serde(default)]
    pub retry: Option<Retry>,
    /// Failures that are made on purpose. Default: none.
    #[serde(default)]
    pub fault: Option<Fault>,
    /// Changes to the attachments of requests.
    #[serde(default)]
    pub request_attachments: Attachments,
    /// Changes to the attachments of responses.
    #[serde(default)]
    pub response_attachments: Attachments,
}

/// One alternative of a route.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Match {
    /// What the attributes of the call must be, by the attribute's name. Each of them must match.
    pub attributes: Table<Matcher>,
    /// What they must not be, by the attribute's name. None of them may match.
    #[serde(default)]
    pub not_attributes: Table<Matcher>,
}

/// What one attribute must be: exactly one of the matchers, perhaps inverted.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", schemars(transform = super::schema::exactly_one_test))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Matcher {
    /// The value is this text.
    #[serde(default)]
    pub exact: Option<String>,
    /// The value starts with this text.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The value ends with this text.
    #[serde(default)]
    pub suffix: Option<String>,
    /// The value contains this text.
    #[serde(default)]
    pub contains: Option<String>,
    /// The whole value matches this regular expression.
    #[serde(default)]
    pub regex: Option<String>,
    /// The whole value is a decimal integer of this range.
    #[serde(default)]
    pub range: Option<Range>,
    /// Whether the call has the attribute at all, with any value.
    #[serde(default)]
    pub present: Option<bool>,
    /// Turns the result around: what did not match does, a missing attribute too.
    #[serde(default)]
    pub invert: bool,
}

/// A range of integers.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Range {
    /// The first integer of the range.
    pub start: i64,
    /// The first integer after the range.
    pub end: i64,
}

/// A cluster and its share of the calls.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WeightedCluster {
    /// The Envoy cluster.
    pub cluster: String,
    /// Its share, in proportion to the sum of the weights.
    pub weight: u32,
}

/// An answer in place of a server's: an error of the protocol that says that the call is denied. One-way calls are dropped.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reject {
    /// The error message for the client. Default: which route denies the call.
    #[serde(default)]
    pub message: Option<String>,
}

/// When and how a failed call is retried. One-way calls never are.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// How often a call may be retried after its first try.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 10)))]
    #[serde(default = "one")]
    pub attempts: u32,
    /// The failures that are retried.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[serde(default = "connect_failure")]
    pub on: Vec<Trigger>,
    /// The response statuses that are retried, by name or number of the protocol. They need `status` in `on`.
    #[serde(default)]
    pub statuses: Vec<Status>,
    /// How long one try may take; `0s` sets no limit.
    #[serde(default)]
    pub per_try_timeout: Span,
    /// How long to wait before each retry.
    #[serde(default)]
    pub backoff: Backoff,
}

fn one() -> u32 {
    1
}

fn connect_failure() -> Vec<Trigger> {
    vec![Trigger::ConnectFailure]
}

/// A failure after which a call can be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// No connection to an endpoint could be had: the call was not sent.
    ConnectFailure,
    /// The connection was lost after the call was sent and before its answer came.
    Reset,
    /// No answer came within `perTryTimeout`.
    PerTryTimeout,
    /// The answer has one of the listed `statuses`.
    Status,
}

/// A response status of the protocol, by name or by number.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(untagged))]
pub enum Status {
    /// The protocol's own name, such as `SERVER_TIMEOUT`.
    Name(String),
    /// The number on the wire.
    Number(u32),
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Status;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("the name or the number of a status")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Status, E> {
                Ok(Status::Name(name.to_owned()))
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Status, E> {
                let unexpected = |_| E::invalid_value(serde::de::Unexpected::Unsigned(number), &self);
                u32::try_from(number).map(Status::Number).map_err(unexpected)
            }
        }

        from.deserialize_any(Visitor)
    }
}

/// The wait before a retry, a random part of a time that doubles with each.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backoff {
    /// The longest wait before the first retry; `0s` retries at once.
    #[serde(default = "base_backoff")]
    pub base: Span,
    /// The longest wait before any retry. Default: ten times `base`.
    #[serde(default)]
    pub max: Option<Span>,
}

fn base_backoff() -> Span {
    Span::from_millis(25)
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: base_backoff(), max: None }
    }
}

/// Changes to the attachments of a message.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attachments {
    /// The attachments to set, by name: an existing value is replaced, a new one added.
    #[serde(default)]
    pub set: Table<String>,
    /// The names of the attachments to remove.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// How many calls may be on a retry at a time: as many as the greater of the two allows.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetryBudget {
    /// Calls that may be on a retry at a time, in percent of the calls in flight.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    pub percent: u32,
    /// Calls that may be on a retry at a time however few are in flight.
    pub min_retries: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, min_retries: 10 }
    }
}

/// What one client connection may ask for.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// The largest request or response, in bytes. A larger one closes its connection.
    #[cfg_attr(feature = "schema", schemars(range(min = 16, max = 268435456)))]
    pub max_frame_bytes: u32,
    /// The largest request, in bytes, if `maxFrameBytes` allows it: never more than every server takes.
    #[cfg_attr(feature = "schema", schemars(range(min = 16, max = 268435456)))]
    pub max_request_bytes: u32,
    /// Calls in flight on one client connection. More of them wait in the client's socket.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000000)))]
    pub max_calls_per_connection: u32,
}

impl Limits {
    /// The bounds of the sizes.
    pub const BYTES: RangeInclusive<u32> = 16..=256 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        // Dubbo's servers take 8 MiB, unless they are told otherwise.
        Self { max_frame_bytes: 8 << 20, max_request_bytes: 8 << 20, max_calls_per_connection: 4096 }
    }
}

/// How connections to the endpoints are made and kept.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Upstream {
    /// A connection of this age is replaced; one without a call for ten times as long, closed. `0s` does neither.
    pub max_connection_age: Span,
    /// Connections that a worker keeps to one endpoint.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 64)))]
    pub connections_per_endpoint: u32,
    /// How long opening a connection may take; at least `1ms`.
    pub connect_timeout: Span,
    /// Calls in flight on one connection, for protocols that allow more than one.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000000)))]
    pub max_calls_per_connection: u32,
    /// How long an endpoint that refused a connection is avoided; longer each time. `0s` avoids none.
    pub ejection_time: Span,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            max_connection_age: Span::from_millis(60_000),
            connections_per_endpoint: 1,
            connect_timeout: Span::from_millis(5_000),
            max_calls_per_connection: 1024,
            ejection_time: Span::from_millis(5_000),
        }
    }
}

/// What is reported about the calls.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Metrics {
    /// Pairs of service and method that have metrics of their own; all others are counted as `other`.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100000)))]
    pub max_operations: u32,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { max_operations: 500 }
    }
}
