use serde::Deserialize;

use super::AdaptiveConcurrency;
#[cfg(feature = "schema")]
use super::is_default;
use super::object::object;
use crate::{Span, Table};

/// How connections to the endpoints are made and kept.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields, default))]
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
    /// How calls share connections. Default: as the protocol does.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub sharing: Option<UpstreamSharing>,
    /// How many calls a cluster takes at a time. Default: any number.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// When an endpoint is left out for its failures. Default: never.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub outlier_detection: Option<OutlierDetection>,
    /// How many calls a cluster takes at a time by how long its answers take. Default: that does not matter.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    /// The attributes by which calls are hashed: those with the same values go to one endpoint. Default: none, they are balanced.
    #[cfg_attr(feature = "schema", schemars(length(max = 16)))]
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub hash_by: Option<Vec<String>>,
    /// Whether endpoints get calls as often as Envoy chooses them, by weight and locality. Otherwise all get as many.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub keep_weights: bool,
    /// What holds for the clusters of these names instead.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub clusters: Table<Cluster>,
}

object! {
    Upstream from Self::default();
    optional max_connection_age as "maxConnectionAge", connections_per_endpoint as "connectionsPerEndpoint",
        connect_timeout as "connectTimeout", max_calls_per_connection as "maxCallsPerConnection",
        ejection_time as "ejectionTime", sharing, circuit_breaker as "circuitBreaker",
        outlier_detection as "outlierDetection", adaptive_concurrency as "adaptiveConcurrency", hash_by as "hashBy",
        keep_weights as "keepWeights", clusters;
}

/// How calls share connections to the endpoints, from the most to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamSharing {
    /// Those of all clients, any number at once, answered in any order: for protocols with request ids.
    Shared,
    /// Those of all clients, any number at once, answered in their order.
    InOrder,
    /// Those of all clients, one at a time.
    Exclusive,
    /// Each client has one connection to a cluster, and both end together. On it, calls go as the protocol has them.
    Pinned,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            max_connection_age: Span::from_millis(60_000),
            connections_per_endpoint: 1,
            connect_timeout: Span::from_millis(5_000),
            max_calls_per_connection: 1024,
            ejection_time: Span::from_millis(5_000),
            sharing: None,
            circuit_breaker: None,
            outlier_detection: None,
            adaptive_concurrency: None,
            hash_by: None,
            keep_weights: false,
            clusters: Table::default(),
        }
    }
}

/// What holds for the calls to one cluster, in place of what holds for all of the service.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Cluster {
    /// How many calls it takes at a time. Default: as all clusters of the service.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// When an endpoint is left out for its failures. Default: as all clusters of the service.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub outlier_detection: Option<OutlierDetection>,
    /// How many calls it takes at a time by how long its answers take. Default: as all clusters of the service.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    /// The attributes by which calls are hashed; none if they are not. Default: as all clusters of the service.
    #[cfg_attr(feature = "schema", schemars(length(max = 16)))]
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub hash_by: Option<Vec<String>>,
    /// Whether endpoints get calls as often as Envoy chooses them. Default: as all clusters of the service.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub keep_weights: Option<bool>,
}

object! {
    Cluster from Self::default();
    optional circuit_breaker as "circuitBreaker", outlier_detection as "outlierDetection",
        adaptive_concurrency as "adaptiveConcurrency", hash_by as "hashBy", keep_weights as "keepWeights";
}

/// How many calls one worker of a proxy makes to a cluster at a time. What is over a limit is answered at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct CircuitBreaker {
    /// Calls in flight, those that wait included. Default: any number.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub max_calls: Option<u32>,
    /// Calls that wait for a connection. Default: any number.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub max_waiting_calls: Option<u32>,
    /// Calls that are on a retry, beside what the retry budget allows. Default: any number.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "is_default"), schemars(!skip_serializing_if))]
    pub max_retries: Option<u32>,
}

object! {
    CircuitBreaker from Self::default();
    optional max_calls as "maxCalls", max_waiting_calls as "maxWaitingCalls", max_retries as "maxRetries";
}

/// When an endpoint is left out of a cluster for the failures of its calls: errors of the server's framework, lost
/// connections, and time-outs, and not the exceptions of the service itself. The last endpoint that is known never is.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields, default))]
pub struct OutlierDetection {
    /// After so many failures in a row; 0 for any number.
    pub consecutive_failures: u32,
    /// When so many of its calls in an interval fail, in percent; 0 for any share.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    pub failure_percent: u32,
    /// Calls of an interval without which its share of failures says nothing.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub min_calls: u32,
    /// When fewer of its calls in an interval succeed than the mean of all less so many thousandths of their deviation; 0 never.
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub success_rate_stdev_factor: u32,
    /// Endpoints with enough calls in an interval without which the mean says nothing.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "are_usual_hosts"), schemars(!skip_serializing_if))]
    pub success_rate_minimum_hosts: u32,
    /// Calls of an endpoint in an interval that are enough for that.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    #[cfg_attr(feature = "schema", serde(skip_serializing_if = "is_usual_volume"), schemars(!skip_serializing_if))]
    pub success_rate_request_volume: u32,
    /// Over which time these shares are taken; at least `1ms`.
    pub interval: Span,
    /// For how long, for the first time; longer each time. At least `1ms`.
    pub base_ejection_time: Span,
    /// The longest time, if it is more.
    pub max_ejection_time: Span,
    /// The endpoints of a cluster that may be left out at a time, in percent, and one at least.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    pub max_ejection_percent: u32,
    /// The endpoints of a cluster that are left in at least, in percent.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    pub min_health_percent: u32,
}

object! {
    OutlierDetection from Self::default();
    optional consecutive_failures as "consecutiveFailures", failure_percent as "failurePercent",
        min_calls as "minCalls", success_rate_stdev_factor as "successRateStdevFactor",
        success_rate_minimum_hosts as "successRateMinimumHosts",
        success_rate_request_volume as "successRateRequestVolume", interval, base_ejection_time as "baseEjectionTime",
        max_ejection_time as "maxEjectionTime", max_ejection_percent as "maxEjectionPercent",
        min_health_percent as "minHealthPercent";
}

#[cfg(feature = "schema")]
fn are_usual_hosts(hosts: &u32) -> bool {
    *hosts == OutlierDetection::default().success_rate_minimum_hosts
}

#[cfg(feature = "schema")]
fn is_usual_volume(calls: &u32) -> bool {
    *calls == OutlierDetection::default().success_rate_request_volume
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_percent: 0,
            min_calls: 50,
            success_rate_stdev_factor: 0,
            success_rate_minimum_hosts: 5,
            success_rate_request_volume: 100,
            interval: Span::from_millis(10_000),
            base_ejection_time: Span::from_millis(30_000),
            max_ejection_time: Span::from_millis(300_000),
            max_ejection_percent: 10,
            min_health_percent: 0,
        }
    }
}
