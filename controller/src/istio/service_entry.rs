use std::collections::BTreeMap;

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::Port;

/// A service that Kubernetes does not know.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "ServiceEntry",
    plural = "serviceentries",
    namespaced,
    schema = "disabled",
    status = "ServiceEntryStatus",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntrySpec {
    /// The hosts.
    pub hosts: Vec<String>,
    /// Their addresses, if they have any; CIDR ranges are possible.
    pub addresses: Vec<String>,
    /// The ports.
    pub ports: Vec<Port>,
    /// `NONE`, `STATIC`, `DNS`, `DNS_ROUND_ROBIN` or `DYNAMIC_DNS`.
    pub resolution: String,
    /// `MESH_EXTERNAL` or `MESH_INTERNAL`.
    pub location: String,
    /// The endpoints.
    pub endpoints: Vec<WorkloadEntry>,
    /// Selects the pods and workload entries that are its endpoints.
    pub workload_selector: Option<WorkloadSelector>,
    /// The namespaces that see it. Default: all.
    pub export_to: Vec<String>,
}

/// What Istio says of a ServiceEntry.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntryStatus {
    /// The addresses that Istio gave to hosts without any.
    pub addresses: Vec<AllocatedAddress>,
}

/// An address that Istio gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct AllocatedAddress {
    /// The address.
    pub value: String,
    /// The host that has it.
    pub host: String,
}

/// An endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEntry {
    /// The address.
    pub address: String,
    /// Its ports, by the names of the service's.
    pub ports: BTreeMap<String, u16>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its weight; 0 is 1.
    pub weight: u32,
}

/// Selects workloads by their labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct WorkloadSelector {
    /// The labels, all of which a workload must have.
    pub labels: BTreeMap<String, String>,
}
