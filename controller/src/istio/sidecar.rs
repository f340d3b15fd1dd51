use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::{Port, WorkloadSelector};

/// What some sidecars of a namespace see of the mesh.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "Sidecar",
    plural = "sidecars",
    namespaced,
    schema = "disabled",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct SidecarSpec {
    /// The workloads. Default: all of the namespace.
    pub workload_selector: Option<WorkloadSelector>,
    /// What they are called by, where that is not what their services say.
    pub ingress: Vec<IngressListener>,
    /// What they may call. Default: what the namespace's or the mesh's own Sidecar says.
    pub egress: Vec<EgressListener>,
}

/// What workloads are called by.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressListener {
    /// The port.
    pub port: Port,
    /// The address in the pod that connections go to.
    pub default_endpoint: String,
}

/// What workloads may call.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct EgressListener {
    /// The port. Default: any.
    pub port: Option<Port>,
    /// The address that the sidecar listens on.
    pub bind: String,
    /// The services, as `namespace/host`: namespaces by name, `.` for its own, `*` for all, `~` for none; hosts by name,
    /// `*.domain`, or `*`.
    pub hosts: Vec<String>,
}
