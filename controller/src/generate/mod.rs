//! The generator: a pure function from the [`World`] to the Istio objects that make stock sidecars manage its services.
//!
//! Each namespace whose sidecars see a managed service gets the module with a plan of just those services, the sockets, and
//! the tunnels. No object reaches proxies that the module does not reach.

mod age;
mod authorization;
mod claims;
mod client;
mod gateway;
mod group;
mod host;
mod lacking;
mod mesh;
mod module;
mod object;
mod plan;
mod protocol;
mod redis;
mod report;
mod room;
mod router;
mod routes;
mod scope;
mod service;
mod sidecar;
mod size;
mod sockets;
mod subsets;
mod takeover;
mod tree;
mod trial;
mod tunnel;
mod virtual_service;
mod visibility;

use std::str::FromStr;

use clap::ValueEnum;

use crate::protocol::CODECS;
use crate::world::World;
use authorization::Authorization;
use claims::Claims;
use gateway::Gateways;
use lacking::Lacking;
use mesh::Mesh;
use plan::Planner;
use protocol::Protocols;
use redis::Redis;
use report::Reports;
use sidecar::Sidecars;
use visibility::Visibility;

pub use mesh::KEY as MESH_CONFIG;
pub use object::{BY_HAND, INSTANCE, MANAGED_BY, Metadata, Object, ROLE, Role};
pub use report::{Finding, Report, ResourceRef, Severity};
pub use room::MOST_OF_NAMESPACE as MOST_TABLES;
pub use service::NO_ADDRESS;
pub use size::unpack;
pub use takeover::{Takeover, takeovers};
pub use tree::{Part, Tree};

/// How the generated objects reach the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The version of istiod, which decides the names that it gives to WasmPlugins: 1.29 and before, or later.
    pub istio_version: IstioVersion,
    /// Where the module is: an `oci://` reference (by digest), or an `http(s)://` URL.
    pub module: String,
    /// The checksum of the module in hexadecimal, for a URL that does not include it.
    pub module_sha256: Option<String>,
    /// The codecs that the module has, by the names that plans use.
    pub codecs: Vec<String>,
    /// The Secret that the module is pulled with, in each namespace.
    pub image_pull_secret: Option<String>,
    /// How the module and its plan are delivered.
    pub delivery: Delivery,
    /// The root namespace of the mesh.
    pub root_namespace: String,
    /// The domain of the cluster.
    pub cluster_domain: String,
    /// Passwords of Redis are read from Secrets that nobody marked for it, too.
    pub any_secret: bool,
    /// The value of the label [`INSTANCE`] of all objects.
    pub instance: String,
    /// For whom routers of other namespaces than their host's hold.
    pub foreign_routers: ForeignRouters,
}

impl Options {
    /// Those of an installation without flags, with the shipped module's codecs.
    pub fn new(istio_version: IstioVersion, module: String) -> Self {
        Self {
            istio_version,
            module,
            module_sha256: None,
            codecs: CODECS.iter().map(|codec| codec.name().to_owned()).collect(),
            image_pull_secret: None,
            delivery: Delivery::WasmPlugin,
            root_namespace: "istio-system".into(),
            cluster_domain: "cluster.local".into(),
            any_secret: false,
            instance: BY_HAND.to_owned(),
            foreign_routers: ForeignRouters::OwnClients,
        }
    }
}

/// For whom a router holds whose host is of another namespace, where the host's owner says nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ForeignRouters {
    /// For the clients of the router's own namespace.
    #[default]
    OwnClients,
    /// For all clients, after the routers of the host's own namespace.
    All,
}

/// The minor version of Istio 1: `IstioVersion(30)` is 1.30.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IstioVersion(pub u32);

impl FromStr for IstioVersion {
    type Err = &'static str;

    /// Reads `1.30`, `1.30.2`, `v1.30.2` and `1.30.2-distroless`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let minor = text.strip_prefix('v').unwrap_or(text).strip_prefix("1.");
        let minor = minor.and_then(|rest| rest.split(['.', '-']).next()?.parse().ok());
        minor.map(Self).ok_or("write it as in 1.30")
    }
}

/// How the module and its plan are delivered to sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Delivery {
    /// By WasmPlugins.
    #[default]
    WasmPlugin,
    /// By EnvoyFilters (EXTENSION_CONFIG), whatever the version of Istio is; there are no pull secrets then.
    ExtensionConfig,
}

/// What the generator made of a world.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Output {
    /// The objects, in the order in which they have to come: of role, kind, namespace and name. The same world gives the same
    /// objects.
    pub objects: Vec<Object>,
    /// What was found in each resource that people wrote, in the order of kind, namespace and name.
    pub reports: Vec<Report>,
}

/// Makes the objects. What cannot be made of a resource is said in its report; the others are not held up by it.
pub fn generate(world: &World, options: &Options) -> Output {
    let mut reports = Reports::default();
    let domain = &*options.cluster_domain;
    let mesh = Mesh::new(world, &options.root_namespace, &mut reports);
    let protocols = Protocols::new(world, &options.codecs, &mut reports);
    let services = service::all(world, domain, &mesh, &protocols, &mut reports);
    let (services, claims) = Claims::new(services, &mut reports);
    let routers = router::meta_routers(world, domain, mesh.routes, &mut reports);
    let routings = virtual_service::routings(world, domain, mesh.routes);
    let visibility = Visibility::new(world, &mesh.root_namespace);
    let mut planner = Planner::new(world, domain, &mesh, routers, &routings, options.foreign_routers);
    let lacking = Lacking::new(world, domain, &protocols);
    planner.report_strangers(&services, &claims, &lacking, &mut reports);

    let managed = services.iter().filter(|service| !service.ports.is_empty());
    let named = managed.map(|service| &*service.namespace);
    let named =
        named.chain(world.sidecars.iter().filter_map(|sidecar| sidecar.metadata.namespace.as_deref()));
    let redis = Redis::new(world, options, &mesh, &services, &mut reports);
    let tells_identity = options.istio_version >= tunnel::TELLS_IDENTITY;
    let authorization = Authorization::new(world, tells_identity, &mut reports);
    let namespaces =
        scope::with_sidecars(world, &mesh.root_namespace, named.chain(authorization.namespaces()));
    let mut sidecars = Sidecars::new(&services, &claims, &visibility, &authorization, options);
    let mut objects = Vec::new();
    for &namespace in &namespaces {
        objects.extend(sidecars.objects(namespace, &mut planner, &mut reports));
        objects.extend(redis.objects(namespace, &services, &claims, &visibility));
    }
    scope::report_root(&mesh.root_namespace, &services, &mut reports);
    authorization.report_bare(&namespaces, &mesh.root_namespace, &mut reports);
    let gateways = Gateways {
        world,
        mesh: &mesh,
        services: &services,
        claims: &claims,
        protocols: &protocols,
        routings: &routings,
    };
    objects.extend(gateway::objects(&gateways, &mut planner, options, &mut reports));
    objects.sort_by_cached_key(|object| {
        let Object { kind, metadata, .. } = object;
        (object.role(), *kind, metadata.namespace.clone(), metadata.name.clone())
    });
    for object in &mut objects {
        object.metadata.labels.insert(INSTANCE, options.instance.clone().into());
    }
    Output { objects, reports: reports.into_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_istio() {
        for (text, minor) in [("1.30", 30), ("1.29.4", 29), ("v1.31", 31), ("1.32-dev", 32)] {
            assert_eq!(text.parse(), Ok(IstioVersion(minor)), "{text}");
        }
        for wrong in ["", "1", "30", "1.", "1.x", "1.30x", "2.30", "latest"] {
            assert!(wrong.parse::<IstioVersion>().is_err(), "{wrong}");
        }
    }
}
