//! `MeltemiAuthorizationPolicy` of `meltemi.io`: who may call what, in every protocol.

use kube::CustomResource;
use kube::api::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aeraki::{self, AuthorizationAction, Status};
use super::schema;

/// Who may call what on the managed services of a namespace, by what every protocol says of its calls.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "meltemi.io",
    version = "v1alpha1",
    kind = "MeltemiAuthorizationPolicy",
    plural = "meltemiauthorizationpolicies",
    category = "meltemi",
    shortname = "map",
    namespaced,
    status = "Status",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct MeltemiAuthorizationPolicySpec {
    /// The protocols of the services that the policy is for, such as `thrift`. Empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::protocols)]
    pub protocols: Vec<String>,
    /// What happens to the calls that are meant.
    #[serde(default)]
    pub action: AuthorizationAction,
    /// The rules: a call is meant if one of them matches. Without rules no call is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::entries)]
    pub rules: Vec<Rule>,
    /// What clients are told of calls that the policy denies. Default: `RBAC: access denied`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub message: Option<String>,
    /// Whether the policy is tried out: calls that it would deny are counted and logged, and go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

impl MeltemiAuthorizationPolicy {
    /// A policy of that name by which nobody may call anything.
    pub fn denying_all(metadata: ObjectMeta) -> Self {
        let spec = MeltemiAuthorizationPolicySpec {
            rules: vec![Rule::default()],
            action: AuthorizationAction::Deny,
            ..MeltemiAuthorizationPolicySpec::default()
        };
        Self { metadata, spec, status: None }
    }
}

/// Calls by their source and what they say. Each part that is there must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Rule {
    /// The sources, of which one must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::entries)]
    pub from: Vec<RuleFrom>,
    /// What calls say, each of which must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::entries)]
    pub when: Vec<When>,
}

/// A source of calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct RuleFrom {
    /// The source.
    #[serde(default)]
    pub source: RuleSource,
}

/// Who calls, and from where. Names are exact, `prefix*`, `*suffix`, or `*` for any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleSource {
    /// The identities, such as `cluster.local/ns/shop/sa/web`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::wildcards)]
    pub principals: Vec<String>,
    /// The identities that it must not be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::wildcards)]
    pub not_principals: Vec<String>,
    /// The namespaces of the identities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::wildcards)]
    pub namespaces: Vec<String>,
    /// The namespaces that it must not be of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::wildcards)]
    pub not_namespaces: Vec<String>,
    /// The addresses, as blocks such as `10.0.0.0/8` or alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::blocks)]
    pub ip_blocks: Vec<String>,
    /// The addresses that it must not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::blocks)]
    pub not_ip_blocks: Vec<String>,
}

impl From<&aeraki::Source> for RuleSource {
    /// A source of Aeraki's, which has no addresses.
    fn from(source: &aeraki::Source) -> Self {
        let aeraki::Source { principals, not_principals, namespaces, not_namespaces } = source.clone();
        Self { principals, not_principals, namespaces, not_namespaces, ..Self::default() }
    }
}

/// What a call must say. Values are exact, `prefix*`, `*suffix`, or `*` for any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct When {
    /// The attribute of the call, such as `method`, or an attachment by its name.
    #[schemars(length(min = 1, max = 256))]
    pub key: String,
    /// The values, of which it must have one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::wildcards)]
    pub values: Vec<String>,
    /// The values that it must not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::wildcards)]
    pub not_values: Vec<String>,
}
