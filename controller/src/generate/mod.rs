//! The generator: a pure function from the [`World`] to the Istio objects that make stock sidecars manage its services.
//!
//! Each namespace whose sidecars see a managed service gets the module with a plan of just those services, the sockets, and
//! the tunnels. No object reaches proxies that the module does not reach.

mod access_log;
mod age;
mod asked;
mod authorization;
mod call_policy;
mod claims;
mod client;
mod collector;
mod draft;
mod duration;
mod entry;
mod exports;
mod gateway;
mod group;
mod headers;
mod host;
mod http2;
mod lacking;
mod log_format;
mod loggers;
mod mesh;
mod mesh_logs;
mod mesh_maps;
mod module;
mod object;
mod options;
mod origin;
mod places;
mod plan;
mod protocol;
mod rate_limit;
mod reader;
mod redis;
mod report;
mod revisions;
mod room;
mod router;
mod routes;
mod scope;
mod service;
mod sidecar;
mod size;
mod sockets;
mod subsets;
mod tags;
mod takeover;
mod taps;
mod telemetries;
mod telemetry;
mod terms;
mod tier;
mod tracing;
mod tree;
mod trial;
mod tunnel;
mod virtual_service;
mod visibility;
mod wishes;

use std::collections::HashMap;

use crate::findings::Report;
use crate::world::World;
use access_log::AccessLogs;
use authorization::Authorization;
use claims::Claims;
use collector::Collectors;
use gateway::Gateways;
use lacking::Lacking;
use loggers::Receivers;
use mesh::{Mesh, Told};
use plan::Planner;
use protocol::Protocols;
use redis::Redis;
use report::Reports;
use revisions::{ByRevision, Revisions};
use service::Service;
use sidecar::Sidecars;
use subsets::Subsets;
use taps::Taps;
use telemetries::Telemetries;
use tracing::Traces;
use visibility::Visibility;

pub use entry::{Authority, Entry, Scope};
pub use mesh_maps::KEY as MESH_CONFIG;
pub use object::{BY_HAND, INSTANCE, MANAGED_BY, Metadata, Object, ROLE, Role};
pub use options::{AccessLog, Delivery, ForeignRouters, IstioVersion, Options};
pub use origin::Origin;
pub use places::Places;
pub use service::NO_ADDRESS;
#[cfg(test)]
pub(crate) use size::pack;
pub use size::unpack;
pub(crate) use size::unpack_within;
pub use takeover::{Takeover, takeovers};
pub(crate) use telemetry::{HAS_LOGGERS, unnamed_tags};
pub use tree::{Part, Tree};

/// What the generator made of a world.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Output {
    /// The objects, in the order in which they have to come: of role, kind, namespace and name. The same world gives the same
    /// objects.
    pub objects: Vec<Object>,
    /// What was found in each resource that people wrote, in the order of kind, namespace and name.
    pub reports: Vec<Report>,
}

impl Output {
    /// What the plans in the objects say, each with the namespace of the proxies that have it.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.objects.iter().flat_map(|object| {
            let entry = |entry| (&*object.metadata.namespace, entry);
            object.entries.iter().map(entry)
        })
    }
}

/// Who is told of calls, by what is said of that.
struct Receiving<'a> {
    told: &'a Told,
    receivers: Receivers<'a>,
    collectors: Collectors<'a>,
}

impl<'a> Receiving<'a> {
    fn new(told: &'a Told, services: &[Service], rules: Subsets<'a>, domain: &str) -> Self {
        let receivers = Receivers::new(&told.logs, services, rules);
        Self { told, receivers, collectors: Collectors::new(&told.traces, services, domain) }
    }
}

/// Makes the objects. What cannot be made of a resource is said in its report; the others are not held up by it.
pub fn generate(world: &World, options: &Options) -> Output {
    let mut reports = Reports::default();
    let domain = &*options.cluster_domain;
    let mesh = Mesh::new(world, &options.root_namespace, &mut reports);
    telemetry::report_tags(&mesh, options, &mut reports);
    let protocols = Protocols::new(world, &options.codecs, &mut reports);
    let services = service::all(world, domain, &mesh, &protocols, &mut reports);
    let revisions = Revisions::new(world, &mesh.root_namespace, &options.root_namespace);
    let rules = || Subsets::new(world, domain, &mesh, HashMap::new());
    let of_all = Receiving::new(&mesh.told, &services, rules(), domain);
    // What a single one says is what all say.
    let own = mesh.own.iter().filter(|_| mesh.own.len() > 1);
    let own = own.map(|(revision, told)| (&**revision, Receiving::new(told, &services, rules(), domain)));
    let own: Vec<_> = own.collect();
    let (services, claims) = Claims::new(services, &mut reports);
    let routers = router::meta_routers(world, domain, mesh.routes, &mut reports);
    let routings = virtual_service::routings(world, domain, mesh.routes);
    let visibility = Visibility::new(world, &mesh.root_namespace);
    let mut planner = Planner::new(
        world,
        domain,
        &mesh,
        (routers, &routings),
        claims.owners(&services),
        options.foreign_routers,
    );
    let lacking = Lacking::new(world, domain, &protocols);
    planner.report_strangers(&services, &claims, &lacking, &mut reports);

    let managed = services.iter().filter(|service| !service.ports.is_empty());
    let named = managed.map(|service| &*service.namespace);
    let named =
        named.chain(world.sidecars.iter().filter_map(|sidecar| sidecar.metadata.namespace.as_deref()));
    let redis = Redis::new(world, options, &mesh, &services, &mut reports);
    let tells_identity = options.istio_version >= tunnel::TELLS_IDENTITY;
    let authorization = Authorization::new(world, &services, tells_identity, &mut reports);
    let namespaces =
        scope::with_sidecars(world, &mesh.root_namespace, named.chain(authorization.namespaces()));
    if mesh.differ {
        revisions.report_unknown(&namespaces, &mesh.own, &mut reports);
    }
    let telemetries = Telemetries::new(world, &mesh.root_namespace);
    let tell = |Receiving { told, receivers, collectors }| {
        let (telemetries, visibility) = (&telemetries, &visibility);
        let logs = AccessLogs {
            telemetries,
            configured: &told.logs,
            receivers,
            visibility,
            services: &services,
            flag: options.access_log,
        };
        (logs, Traces { telemetries, collectors, visibility })
    };
    let (logs, traces) = tell(of_all);
    let own = own.into_iter().map(|(revision, receiving)| {
        let (logs, traces) = tell(receiving);
        ((revision, logs), (revision, traces))
    });
    let (own_logs, own_traces) = own.unzip();
    let logs = ByRevision::new(&revisions, logs, own_logs);
    let traces = ByRevision::new(&revisions, traces, own_traces);
    let taps = Taps::new(world, &mut reports);
    let mut sidecars = Sidecars::new(
        &services,
        &claims,
        &visibility,
        &authorization,
        (&logs, &traces, &taps),
        protocols.layouts(),
        options,
    );
    let mut objects = Vec::new();
    for &namespace in &namespaces {
        objects.extend(sidecars.objects(namespace, &mut planner, &mut reports));
        objects.extend(redis.objects(namespace, &services, &claims, &visibility));
    }
    sidecars.report_bare(&namespaces, &planner, &mut reports);
    scope::report_root(&mesh.root_namespace, &services, &mut reports);
    authorization.report_bare(&namespaces, &mesh.root_namespace, &mut reports);
    let gateways = Gateways {
        world,
        mesh: &mesh,
        logs: &logs,
        traces: &traces,
        taps: &taps,
        services: &services,
        claims: &claims,
        protocols: &protocols,
        routings: &routings,
    };
    objects.extend(gateway::objects(&gateways, &mut planner, options, &mut reports));
    taps.report_unused(&mut reports);
    objects.sort_by_cached_key(|object| {
        let Object { kind, metadata, .. } = object;
        (object.role(), *kind, metadata.namespace.clone(), metadata.name.clone())
    });
    for object in &mut objects {
        object.metadata.labels.insert(INSTANCE, options.instance.clone().into());
    }
    Output { objects, reports: reports.into_vec() }
}
