use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::schema;

/// A protocol by name, and the codec that reads it.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "metaprotocol.aeraki.io",
    version = "v1alpha1",
    kind = "ApplicationProtocol",
    plural = "applicationprotocols",
    category = "meltemi",
    status = "super::Status",
    derive = "Default",
    derive = "PartialEq"
)]
#[schemars(transform = schema::protocol)]
pub struct ApplicationProtocolSpec {
    /// The protocol: `<protocol>` in port names such as `tcp-metaprotocol-<protocol>`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(transform = schema::protocol_name)]
    pub protocol: String,
    /// The codec: one that the module has, such as `dubbo` or `aeraki.meta_protocol.codec.dubbo`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(transform = schema::text)]
    pub codec: String,
}
