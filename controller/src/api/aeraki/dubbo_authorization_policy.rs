use kube::CustomResource;
use kube::api::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::schema;

/// Who may call what on the Dubbo services of a namespace.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "dubbo.aeraki.io",
    version = "v1alpha1",
    kind = "DubboAuthorizationPolicy",
    plural = "dubboauthorizationpolicies",
    category = "meltemi",
    shortname = "dap",
    namespaced,
    status = "super::Status",
    derive = "Default",
    derive = "PartialEq"
)]
pub struct DubboAuthorizationPolicySpec {
    /// The rules: a call is meant if one of them matches. Without rules no call is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::entries)]
    pub rules: Vec<AuthorizationRule>,
    /// What happens to the calls that are meant.
    #[serde(default)]
    pub action: AuthorizationAction,
}

impl DubboAuthorizationPolicy {
    /// A policy of that name by which nobody may call anything.
    pub fn denying_all(metadata: ObjectMeta) -> Self {
        let spec = DubboAuthorizationPolicySpec {
            rules: vec![AuthorizationRule::default()],
            action: AuthorizationAction::Deny,
        };
        Self { metadata, spec, status: None }
    }
}

/// What happens to the calls that a policy means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AuthorizationAction {
    /// They are allowed, and where a namespace has such policies, no others.
    #[default]
    Allow,
    /// They are denied, whatever else allows them.
    Deny,
}

/// Calls by their source and operation. Each part that is there must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct AuthorizationRule {
    /// The sources, of which one must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::entries)]
    pub from: Vec<From>,
    /// The operations, of which one must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::entries)]
    pub to: Vec<To>,
}

/// A source of calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct From {
    /// The source.
    #[serde(default)]
    pub source: Source,
}

/// Who calls. Values are exact, `prefix*`, `*suffix`, or `*` for any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
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
}

/// An operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct To {
    /// The operation.
    #[serde(default)]
    pub operation: Operation,
}

/// What is called. Values are exact, `prefix*`, `*suffix`, or `*` for any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// The interfaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::wildcards)]
    pub interfaces: Vec<String>,
    /// The interfaces that it must not be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::wildcards)]
    pub not_interfaces: Vec<String>,
    /// The methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::wildcards)]
    pub methods: Vec<String>,
    /// The methods that it must not be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::wildcards)]
    pub not_methods: Vec<String>,
}
