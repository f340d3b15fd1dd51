use kube::CustomResource;
use meltemi_proxy::plan::raw::Layout;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// A private protocol, declared by a layout in place of a codec.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "meltemi.io",
    version = "v1alpha1",
    kind = "ApplicationProtocol",
    plural = "applicationprotocols",
    category = "meltemi",
    status = "super::aeraki::Status",
    derive = "Default",
    derive = "PartialEq"
)]
#[schemars(transform = schema::declared_protocol)]
pub struct ApplicationProtocolSpec {
    /// The protocol: `<protocol>` in port names such as `tcp-<protocol>` and `tcp-metaprotocol-<protocol>`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(transform = schema::protocol_name)]
    pub protocol: String,
    /// Where in its frames things are.
    #[serde(default)]
    #[schemars(transform = schema::layout)]
    pub layout: Layout,
}
