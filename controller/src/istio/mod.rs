//! Istio's objects, as far as Meltemi reads them. Fields that it does not read are passed over.

mod destination_rule;
mod gateway;
mod mesh_config;
mod service_entry;
mod sidecar;
mod telemetry;
mod virtual_service;

pub use destination_rule::*;
pub use gateway::*;
pub use mesh_config::*;
pub use service_entry::*;
pub use sidecar::*;
pub use telemetry::*;
pub use virtual_service::*;

use serde::{Deserialize, Serialize};

/// A port of a service or a gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// The number.
    pub number: u16,
    /// The protocol, such as `TCP`.
    pub protocol: String,
    /// The name.
    pub name: String,
    /// The port of the endpoints, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_port: Option<u16>,
}
