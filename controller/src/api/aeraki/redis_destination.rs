use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RedisAuth;
use crate::api::schema;

/// How connections to a Redis service are made.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "redis.aeraki.io",
    version = "v1alpha1",
    kind = "RedisDestination",
    plural = "redisdestinations",
    category = "meltemi",
    shortname = "rd",
    namespaced,
    status = "super::Status",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::redis_destination)]
pub struct RedisDestinationSpec {
    /// The host of the service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(transform = schema::host)]
    pub host: String,
    /// How connections are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_policy: Option<RedisTrafficPolicy>,
}

/// How connections are made.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisTrafficPolicy {
    /// The connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_pool: Option<RedisConnectionPool>,
}

/// The connections to a Redis service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct RedisConnectionPool {
    /// What holds for TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<RedisTcp>,
    /// What holds for Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisUpstream>,
}

/// TCP connections.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisTcp {
    /// How long connecting may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::positive_duration)]
    pub connect_timeout: Option<String>,
    /// The most connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::positive)]
    pub max_connections: Option<u32>,
    /// How idle connections are kept alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_keepalive: Option<TcpKeepalive>,
}

/// How idle connections are kept alive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct TcpKeepalive {
    /// Probes without an answer until the connection is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<u32>,
    /// How long a connection is idle before the first probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::positive_duration)]
    pub time: Option<String>,
    /// The time between probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::positive_duration)]
    pub interval: Option<String>,
}

/// The Redis servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisUpstream {
    /// What the servers are.
    #[serde(default)]
    pub mode: RedisMode,
    /// The password that is sent to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<RedisAuth>,
    /// Where a cluster is discovered: `host:port` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::endpoints)]
    pub discovery_endpoints: Vec<String>,
}

/// What Redis servers are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RedisMode {
    /// Servers among which keys are divided.
    #[default]
    Proxy,
    /// A Redis cluster, which divides the keys itself.
    Cluster,
}
