use std::collections::BTreeMap;

use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Port;

/// What a gateway listens on.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "Gateway",
    plural = "gateways",
    namespaced,
    schema = "disabled",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(default)]
pub struct GatewaySpec {
    /// The labels of the gateway's pods.
    pub selector: BTreeMap<String, String>,
    /// What they listen on.
    pub servers: Vec<Server>,
}

/// A port that a gateway listens on.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Server {
    /// The port.
    pub port: Port,
    /// The hosts, as `namespace/host` or `host`.
    pub hosts: Vec<String>,
    /// How TLS is ended.
    pub tls: Option<Value>,
    /// The name.
    pub name: String,
}

impl Server {
    /// What becomes of TLS, such as `SIMPLE`, where it is said.
    pub fn tls_mode(&self) -> Option<&str> {
        self.tls.as_ref()?.get("mode")?.as_str()
    }
}
