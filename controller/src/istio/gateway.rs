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
    /// Whether its hosts let routes of a namespace bind to it: those of a Gateway of the namespace `own`.
    pub fn admits(&self, own: &str, namespace: &str) -> bool {
        self.hosts.iter().any(|host| match host.split_once('/') {
            None | Some(("*", _)) => true,
            Some((".", _)) => namespace == own,
            Some((only, _)) => namespace == only,
        })
    }

    /// Whether Istio has connections, and not requests, on it.
    pub fn takes_connections(&self) -> bool {
        match &*self.port.protocol.to_uppercase() {
            "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" => false,
            "HTTPS" => matches!(self.tls_mode(), Some("PASSTHROUGH" | "AUTO_PASSTHROUGH")),
            _ => true,
        }
    }

    /// What becomes of TLS, such as `SIMPLE`, where it is said.
    pub fn tls_mode(&self) -> Option<&str> {
        self.tls.as_ref()?.get("mode")?.as_str()
    }
}
