use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A protocol by name, and the codec that reads it.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "metaprotocol.aeraki.io",
    version = "v1alpha1",
    kind = "ApplicationProtocol",
    plural = "applicationprotocols",
    status = "super::Status",
    derive = "Default",
    derive = "PartialEq"
)]
pub struct ApplicationProtocolSpec {
    /// The protocol: `<protocol>` in port names such as `tcp-metaprotocol-<protocol>`.
    #[serde(default)]
    pub protocol: String,
    /// The codec: one that the module has, such as `dubbo` or `aeraki.meta_protocol.codec.dubbo`.
    #[serde(default)]
    pub codec: String,
}
