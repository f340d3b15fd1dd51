//! The world: every object of the mesh that says what Meltemi has to do.

mod addresses;
mod read;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::api::{self, aeraki};
use crate::istio;

pub use read::{Document, ReadError, documents};

/// The objects that Meltemi reads, in no order.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The namespaces, for the labels that ask for sidecars.
    pub namespaces: Vec<Namespace>,
    /// The configurations of the mesh, among other things of the kind.
    pub config_maps: Vec<ConfigMap>,
    /// The services of Kubernetes.
    pub services: Vec<Service>,
    /// The endpoints of headless services.
    pub endpoint_slices: Vec<EndpointSlice>,
    /// The pods, for their labels.
    pub pods: Vec<Pod>,
    /// The passwords of Redis.
    pub secrets: Vec<Secret>,
    /// Services that Kubernetes does not know.
    pub service_entries: Vec<istio::ServiceEntry>,
    /// Subsets, and how endpoints are chosen.
    pub destination_rules: Vec<istio::DestinationRule>,
    /// Routes.
    pub virtual_services: Vec<istio::VirtualService>,
    /// Gateways.
    pub gateways: Vec<istio::Gateway>,
    /// What sidecars see.
    pub sidecars: Vec<istio::Sidecar>,
    /// Routers.
    pub meta_routers: Vec<api::MetaRouter>,
    /// Aeraki's routers.
    pub aeraki_meta_routers: Vec<aeraki::MetaRouter>,
    /// Protocols.
    pub application_protocols: Vec<aeraki::ApplicationProtocol>,
    /// How Redis services are routed.
    pub redis_services: Vec<aeraki::RedisService>,
    /// How Redis services are connected to.
    pub redis_destinations: Vec<aeraki::RedisDestination>,
    /// Who may call what.
    pub dubbo_authorization_policies: Vec<aeraki::DubboAuthorizationPolicy>,
}
