use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Percent;
use crate::api::schema;

/// How the commands to a Redis service are read and where they go.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "redis.aeraki.io",
    version = "v1alpha1",
    kind = "RedisService",
    plural = "redisservices",
    category = "meltemi",
    shortname = "rsvc",
    namespaced,
    status = "super::Status",
    derive = "Default",
    derive = "PartialEq"
)]
#[schemars(transform = schema::redis_service)]
pub struct RedisServiceSpec {
    /// The hosts of the services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::hosts)]
    pub host: Vec<String>,
    /// How connections behave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<RedisSettings>,
    /// The routes, by the key of a command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::entries)]
    pub redis: Vec<RedisRoute>,
    /// Faults to inject.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::entries)]
    pub faults: Vec<RedisFault>,
}

/// How connections behave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisSettings {
    /// The password that clients must send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<RedisAuth>,
    /// How long a command may take. Default: `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::positive_duration)]
    pub op_timeout: Option<String>,
    /// Whether `{tag}` in a key decides the server.
    #[serde(default)]
    pub enable_hashtagging: bool,
    /// Whether `MOVED` and `ASK` answers are followed.
    #[serde(default)]
    pub enable_redirection: bool,
    /// Whether each command has metrics of its own.
    #[serde(default)]
    pub enable_command_stats: bool,
    /// Bytes that are collected before they are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_buffer_size_before_flush: Option<u32>,
    /// How long they are collected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::positive_duration)]
    pub buffer_flush_timeout: Option<String>,
    /// Which servers are read from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_policy: Option<ReadPolicy>,
    /// Whether prefixes of keys match in either case.
    #[serde(default)]
    pub case_insensitive: bool,
    /// The connections to servers that redirections named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_upstream_unknown_connections: Option<u32>,
}

/// Which servers are read from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ReadPolicy {
    /// The master alone.
    #[default]
    Master,
    /// The master, or a replica if there is none.
    PreferMaster,
    /// Replicas alone.
    Replica,
    /// Replicas, or the master if there is none.
    PreferReplica,
    /// Any.
    Any,
}

/// A password: exactly one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(transform = schema::redis_auth)]
pub struct RedisAuth {
    /// The password in a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<RedisSecret>,
    /// The password itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain: Option<RedisPassword>,
}

/// A password in a Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::redis_secret)]
pub struct RedisSecret {
    /// The Secret, in the resource's own namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(transform = schema::host)]
    pub name: String,
    /// The field of the password. Default: `password`, else `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text)]
    pub password_field: Option<String>,
    /// The field of the user's name. Default: `username`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::text)]
    pub username_field: Option<String>,
}

/// A user's name and password.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(transform = schema::redis_password)]
pub struct RedisPassword {
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::value)]
    pub username: Option<String>,
    /// The password.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(transform = schema::text)]
    pub password: String,
}

/// Where commands go, by their key.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[schemars(transform = schema::redis_route)]
pub struct RedisRoute {
    /// The keys. Default: all that match no other route.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<RedisMatch>,
    /// The service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RedisTarget>,
    /// Services that get copies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::entries)]
    pub mirror: Vec<RedisMirror>,
}

/// Keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct RedisMatch {
    /// The key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<RedisKey>,
}

/// Keys by their prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisKey {
    /// What the key starts with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(transform = schema::value)]
    pub prefix: String,
    /// Whether it is taken off before the command is sent.
    #[serde(default)]
    pub remove_prefix: bool,
}

/// A service and its port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(transform = schema::redis_target)]
pub struct RedisTarget {
    /// The host of the service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(transform = schema::host)]
    pub host: String,
    /// The port. Default: the one that the command was sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::port)]
    pub port: Option<u16>,
}

impl RedisTarget {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A service that gets copies of commands.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::redis_mirror)]
pub struct RedisMirror {
    /// The service.
    #[serde(default, skip_serializing_if = "RedisTarget::is_empty")]
    pub route: RedisTarget,
    /// The share of the commands. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentage: Option<Percent>,
    /// Whether commands that only read are left out.
    #[serde(default)]
    pub exclude_read_commands: bool,
}

/// A fault to inject.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[schemars(transform = schema::redis_fault)]
pub struct RedisFault {
    /// The kind of fault.
    #[serde(default, rename = "type")]
    pub kind: RedisFaultKind,
    /// The share of the commands. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentage: Option<Percent>,
    /// How long commands are delayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::positive_duration)]
    pub delay: Option<String>,
    /// The commands. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::commands)]
    pub commands: Vec<String>,
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RedisFaultKind {
    /// The answer comes late.
    #[default]
    Delay,
    /// The answer is an error.
    Error,
}
