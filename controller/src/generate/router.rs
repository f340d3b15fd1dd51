//! Routers: what MetaRouters and VirtualServices say of the routes to a host, in one form.

use serde_json::{Map, Value, json};

use super::age::Age;
use super::exports::{Exports, Unsaid};
use super::host;
use super::rate_limit::{self, Limit};
use super::report::Reports;
use super::service::cluster;
use super::terms::{duration, matchers};
use crate::api::aeraki::{Destination, Percent};
use crate::api::{self, OnNoMatch};
use crate::check;
use crate::findings::ResourceRef;
use crate::world::World;

/// What one resource says of the routes to a host.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) origin: ResourceRef,
    pub(super) namespace: String,
    pub(super) host: String,
    pub(super) age: Age,
    pub(super) exports: Exports,
    /// The gateways that follow it, as `namespace/name`.
    pub(super) gateways: Vec<String>,
    /// Sidecars follow it too.
    pub(super) is_for_mesh: bool,
    /// The routes, of which at most the last takes every call.
    pub(super) routes: Vec<Draft>,
    /// Calls that no route matches are answered with an error, if it is the owner's.
    pub(super) rejects: Rejects,
    /// How many calls the servers take, if they are of its namespace.
    pub(super) limit: Option<Limit>,
}

/// Whether calls that no route matches are answered with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejects {
    /// They go where they would without routes.
    No,
    /// The router says so.
    Said,
    /// It does not say so, but Aeraki's routers mean it.
    Meant,
}

/// A route whose destinations wait for the port that calls come by.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    /// The field of the resource that it is of.
    pub(super) field: String,
    pub(super) name: String,
    /// The plan's alternatives, each an object of matchers by attribute; `None` takes every call.
    pub(super) alternatives: Option<Vec<Map<String, Value>>>,
    pub(super) destinations: Vec<Target>,
    /// What else the plan has for a route: `timeout`, `retry`, `requestAttachments`, `responseAttachments`.
    pub(super) policies: Map<String, Value>,
}

/// A destination with its host in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) subset: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) weight: u32,
}

impl Target {
    pub(super) fn cluster(&self, port: u16) -> String {
        cluster(&self.host, self.port.unwrap_or(port), self.subset.as_deref())
    }
}

impl Draft {
    /// The route as the plan has it, for calls that come by `port`.
    pub(super) fn route(&self, name: &str, port: u16) -> Value {
        let mut route = self.destination_and_policies(port);
        route.insert("name".into(), name.into());
        if let Some(alternatives) = &self.alternatives {
            let alternatives = alternatives.iter().map(|attributes| json!({"attributes": attributes}));
            route.insert("match".into(), alternatives.collect());
        }
        route.into()
    }

    /// The default route as the plan has it.
    pub(super) fn destination_and_policies(&self, port: u16) -> Map<String, Value> {
        let mut route = self.policies.clone();
        match &*self.destinations {
            [] => {}
            [only] => _ = route.insert("cluster".into(), only.cluster(port).into()),
            several => {
                let weighted = several.iter().filter(|target| target.weight > 0);
                let clusters =
                    weighted.map(|target| json!({"cluster": target.cluster(port), "weight": target.weight}));
                route.insert("weightedClusters".into(), clusters.collect());
            }
        }
        route
    }
}

/// Every MetaRouter, those of `meltemi.io` and Aeraki's, by namespace and name. `unsaid` is for whom those are that do
/// not.
pub(super) fn meta_routers(
    world: &World,
    domain: &str,
    unsaid: Unsaid,
    reports: &mut Reports,
) -> Vec<Router> {
    let mut routers = Vec::new();
    for router in &world.meta_routers {
        let written = Written { origin: ResourceRef::of(router), age: Age::of(router), domain, unsaid };
        if !reports.accepts(&written.origin, check::meta_router(router)) {
            continue;
        }
        let is_for_mesh =
            router.spec.gateways.is_empty() || router.spec.gateways.iter().any(|gateway| gateway == "mesh");
        let rejects = match router.spec.on_no_match {
            Some(OnNoMatch::Reject) => Rejects::Said,
            _ => Rejects::No,
        };
        routers.extend(written.router(&router.spec, is_for_mesh, rejects, reports));
    }
    for router in &world.aeraki_meta_routers {
        let written = Written { origin: ResourceRef::of(router), age: Age::of(router), domain, unsaid };
        if !reports.accepts(&written.origin, check::aeraki_meta_router(router)) {
            continue;
        }
        let rejects = if router.spec.routes.is_empty() { Rejects::No } else { Rejects::Meant };
        let spec = api::MetaRouterSpec::from(router.spec.clone());
        routers.extend(written.router(&spec, true, rejects, reports));
    }
    routers.sort_by(|a, b| a.origin.namespace.cmp(&b.origin.namespace).then_with(|| a.origin.cmp(&b.origin)));
    routers
}

/// A MetaRouter as it is read.
struct Written<'a> {
    origin: ResourceRef,
    age: Age,
    domain: &'a str,
    unsaid: Unsaid,
}

impl Written<'_> {
    fn router(
        self,
        spec: &api::MetaRouterSpec,
        is_for_mesh: bool,
        rejects: Rejects,
        reports: &mut Reports,
    ) -> Option<Router> {
        let Self { origin, age, domain, unsaid } = self;
        let namespace = origin.namespace.clone().unwrap_or_default();
        let [host] = &*spec.hosts else { return None };
        let exports = Exports::new(spec.export_to.iter().map(String::as_str), &namespace, unsaid);
        let limit = match spec.local_rate_limit.as_ref().map(Limit::new).transpose() {
            Ok(limit) => limit,
            Err((path, message)) => {
                reports.error(&origin, path, message);
                return None;
            }
        };
        let reaches_servers = is_for_mesh && exports.reach(&namespace);
        if limit.is_some() && !reaches_servers {
            let mend = if is_for_mesh { "name . in exportTo" } else { "name mesh in gateways" };
            let message =
                format!("not enforced: sidecars of servers count the calls, and it is not for them: {mend}");
            reports.not_honoured(&origin, rate_limit::FIELD, message);
        }
        if spec.global_rate_limit.is_some() {
            reports.not_honoured(&origin, "spec.globalRateLimit", "rate limits are not enforced yet");
        }
        let mut routes: Vec<Draft> = Vec::new();
        for (at, route) in spec.routes.iter().enumerate() {
            if routes.last().is_some_and(|last| last.alternatives.is_none()) {
                break;
            }
            routes.push(draft(&origin, at, route, &namespace, domain, reports));
        }
        let qualified = |gateway: &String| match gateway.contains('/') {
            true => gateway.clone(),
            false => format!("{namespace}/{gateway}"),
        };
        Some(Router {
            host: host::in_full(host, &namespace, domain),
            age,
            exports,
            gateways: spec.gateways.iter().filter(|gateway| *gateway != "mesh").map(qualified).collect(),
            is_for_mesh,
            routes,
            rejects,
            limit: limit.filter(|_| reaches_servers),
            namespace,
            origin,
        })
    }
}

fn draft(
    origin: &ResourceRef,
    at: usize,
    route: &api::Route,
    namespace: &str,
    domain: &str,
    reports: &mut Reports,
) -> Draft {
    let path = |field: &str| format!("spec.routes[{at}].{field}");
    if route.mirror.is_some() {
        reports.not_honoured(origin, path("mirror"), "calls are not mirrored yet");
    }
    let mut policies = Map::new();
    if let Some(timeout) = route.timeout.as_deref().and_then(duration) {
        policies.insert("timeout".into(), timeout.into());
    }
    if let Some(retries) = &route.retries {
        policies.insert("retry".into(), retry(retries));
    }
    if let Some(fault) = route.fault.as_ref().and_then(fault) {
        policies.insert("fault".into(), fault);
    }
    let request = edit(&route.request_mutation, &route.request_remove);
    policies.extend(request.map(|edit| ("requestAttachments".to_owned(), edit)));
    let response = edit(&route.response_mutation, &route.response_remove);
    policies.extend(response.map(|edit| ("responseAttachments".to_owned(), edit)));
    let attributes = route.matches.as_ref().map(|matches| &matches.attributes);
    let destinations = route.route.iter().map(|weighted| {
        let Destination { host, subset, port } = &weighted.destination;
        Target {
            host: host::in_full(host, namespace, domain),
            subset: subset.clone().filter(|subset| !subset.is_empty()),
            port: port.map(|port| port.number).filter(|&port| port != 0),
            weight: weighted.weight.unwrap_or_default(),
        }
    });
    Draft {
        field: format!("spec.routes[{at}]"),
        name: match &*route.name {
            "" => at.to_string(),
            name => name.to_owned(),
        },
        alternatives: attributes
            .filter(|attributes| !attributes.is_empty())
            .map(|attributes| vec![matchers(attributes)]),
        destinations: destinations.collect(),
        policies,
    }
}

fn retry(retries: &api::Retries) -> Value {
    let mut retry = Map::new();
    retry.extend(retries.attempts.map(|attempts| ("attempts".to_owned(), attempts.into())));
    if !retries.on.is_empty() {
        retry.insert("on".into(), json!(retries.on));
    }
    let status =
        |status: &String| status.parse::<u32>().map_or_else(|_| json!(status), |number| json!(number));
    if !retries.statuses.is_empty() {
        retry.insert("statuses".into(), retries.statuses.iter().map(status).collect());
    }
    let per_try = retries.per_try_timeout.as_deref().and_then(duration);
    retry.extend(per_try.map(|per_try| ("perTryTimeout".to_owned(), per_try.into())));
    retry.into()
}

/// The plan's fault, if calls have any.
fn fault(fault: &api::Fault) -> Option<Value> {
    let percent = |percentage: &Option<Percent>| {
        percentage.map(|percentage| percentage.value).filter(|&percent| percent > 0.0)
    };
    let mut parts = Map::new();
    if let Some(api::Delay { percentage, fixed_delay }) = &fault.delay
        && let (Some(percent), Some(delay)) = (percent(percentage), fixed_delay.as_deref().and_then(duration))
    {
        parts.insert("delay".into(), json!({"duration": delay, "percent": percent}));
    }
    if let Some(api::Abort { percentage, message }) = &fault.abort
        && let Some(percent) = percent(percentage)
    {
        let mut abort = json!({"percent": percent});
        if let Some(message) = message {
            abort["message"] = json!(message);
        }
        parts.insert("abort".into(), abort);
    }
    (!parts.is_empty()).then(|| parts.into())
}

fn edit(set: &[api::aeraki::Mutation], remove: &[String]) -> Option<Value> {
    let set: Map<String, Value> =
        set.iter().map(|mutation| (mutation.key.clone(), mutation.value.clone().into())).collect();
    attachments(set, remove)
}

/// Changes to attachments as the plan has them, if there are any.
pub(super) fn attachments(set: Map<String, Value>, remove: &[String]) -> Option<Value> {
    let mut edit = Map::new();
    if !set.is_empty() {
        edit.insert("set".into(), set.into());
    }
    if !remove.is_empty() {
        edit.insert("remove".into(), json!(remove));
    }
    (!edit.is_empty()).then(|| edit.into())
}
