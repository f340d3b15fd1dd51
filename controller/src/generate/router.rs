//! Routers: what MetaRouters say of the routes to a host, and of the calls to its servers.

use std::collections::BTreeMap;
use std::sync::Arc;

use meltemi_proxy::plan::{Table, raw};

use super::age::Age;
use super::draft::{Draft, Mirror, Places, Target};
use super::exports::{Exports, Unsaid};
use super::host;
use super::rate_limit::Limit;
use super::report::Reports;
use super::terms::{alternatives, duration};
use crate::api::aeraki::{Destination, Mutation, Percent};
use crate::api::{self, OnNoMatch, RetryOn};
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
    /// How many calls a client's proxy makes at a time, if it is the owner's.
    pub(super) adaptive: Option<raw::AdaptiveConcurrency>,
    /// How many calls the servers take, if they are of its namespace.
    pub(super) limit: Option<Limit>,
}

impl Router {
    /// The hosts that its routes lead to, and those that get copies.
    pub(super) fn targets(&self) -> impl Iterator<Item = &String> {
        self.routes.iter().flat_map(|draft| {
            let copies = draft.mirrors.iter().map(|mirror| &mirror.target);
            draft.destinations.iter().chain(copies).map(|target| &target.host)
        })
    }
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
        let limit = match Limit::new(spec.local_rate_limit.as_ref(), spec.global_rate_limit.as_ref()) {
            Ok(limit) => limit,
            Err(refusal) => {
                reports.error(&origin, refusal.field, refusal.message);
                return None;
            }
        };
        let reaches_servers = is_for_mesh && exports.reach(&namespace);
        if let Some(limit) = limit.as_ref().filter(|_| !reaches_servers) {
            let mend = if is_for_mesh { "name . in exportTo" } else { "name mesh in gateways" };
            let message =
                format!("not enforced: sidecars of servers count the calls, and it is not for them: {mend}");
            reports.not_honoured(&origin, limit.field(), message);
        }
        let mut routes: Vec<Draft> = Vec::new();
        for (at, route) in spec.routes.iter().enumerate() {
            if routes.last().is_some_and(|last| last.alternatives.is_none()) {
                break;
            }
            routes.push(draft(at, route, &namespace, domain));
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
            adaptive: spec.adaptive_concurrency.as_ref().map(adaptive),
            limit: limit.filter(|_| reaches_servers),
            namespace,
            origin,
        })
    }
}

fn draft(at: usize, route: &api::Route, namespace: &str, domain: &str) -> Draft {
    let mut places = Places::new(format!("spec.routes[{at}]"));
    places.note_alike("match[0]", "match");
    places.note("cluster", "route");
    places.note("weightedClusters", "route");
    places.note("mirrors", "mirror");
    let policies = raw::Actions {
        timeout: route.timeout.as_deref().and_then(duration).unwrap_or_default(),
        propagate_deadline: route.propagate_deadline,
        retry: route.retries.as_ref().map(|retries| retry(retries, &mut places)),
        fault: route.fault.as_ref().and_then(|written| fault(written, &mut places)),
        hash_by: (!route.hash_by.is_empty()).then(|| route.hash_by.clone()),
        request_attachments: raw::Attachments {
            set: values(&route.request_mutation),
            add_if_absent: values(&route.request_add_if_absent),
            append: values(&route.request_append),
            remove: route.request_remove.clone(),
        },
        response_attachments: raw::Attachments {
            set: values(&route.response_mutation),
            add_if_absent: values(&route.response_add_if_absent),
            append: values(&route.response_append),
            remove: route.response_remove.clone(),
        },
        ..raw::Actions::default()
    };
    for (plan, side) in [("requestAttachments", "request"), ("responseAttachments", "response")] {
        places.note(plan, format!("{side}Mutation"));
        places.note(format!("{plan}.addIfAbsent"), format!("{side}AddIfAbsent"));
        places.note(format!("{plan}.append"), format!("{side}Append"));
        places.note_alike(format!("{plan}.remove"), format!("{side}Remove"));
    }
    let attributes = route.matches.as_ref().map(|matches| &matches.attributes);
    let target = |Destination { host, subset, port }: &Destination, weight: u32| Target {
        host: host::in_full(host, namespace, domain),
        subset: subset.clone().filter(|subset| !subset.is_empty()),
        port: port.map(|port| port.number).filter(|&port| port != 0),
        weight,
    };
    let destinations = route.route.iter().map(|to| target(&to.destination, to.weight.unwrap_or_default()));
    let mirror = route.mirror.as_ref().map(|to| Mirror {
        target: target(to, 0),
        percent: route.mirror_percentage.map_or(100.0, |share| share.value),
        field: "mirror".to_owned(),
    });
    Draft {
        name: match &*route.name {
            "" => at.to_string(),
            name => name.to_owned(),
        },
        alternatives: attributes.and_then(alternatives),
        destinations: destinations.collect(),
        mirrors: mirror.into_iter().collect(),
        policies,
        places: Arc::new(places),
    }
}

fn adaptive(written: &api::AdaptiveConcurrency) -> raw::AdaptiveConcurrency {
    let default = raw::AdaptiveConcurrency::default();
    let time = |text: &Option<String>| text.as_deref().and_then(duration);
    raw::AdaptiveConcurrency {
        sample_aggregate_percentile: written
            .sample_aggregate_percentile
            .unwrap_or(default.sample_aggregate_percentile),
        concurrency_update_interval: time(&written.concurrency_update_interval)
            .unwrap_or(default.concurrency_update_interval),
        min_rtt_calc_interval: time(&written.min_rtt_calc_interval).unwrap_or(default.min_rtt_calc_interval),
        min_rtt_calc_request_count: written
            .min_rtt_calc_request_count
            .unwrap_or(default.min_rtt_calc_request_count),
        jitter: written.jitter.unwrap_or(default.jitter),
        min_concurrency: written.min_concurrency.unwrap_or(default.min_concurrency),
        buffer: written.buffer.unwrap_or(default.buffer),
        max_concurrency_limit: written.max_concurrency_limit.unwrap_or(default.max_concurrency_limit),
    }
}

fn retry(retries: &api::Retries, places: &mut Places) -> raw::Retry {
    places.note_alike("retry", "retries");
    places.note_alike("retry.on", "retries.retryOn");
    let trigger = |on: &RetryOn| match on {
        RetryOn::ConnectFailure => raw::Trigger::ConnectFailure,
        RetryOn::Reset => raw::Trigger::Reset,
        RetryOn::PerTryTimeout => raw::Trigger::PerTryTimeout,
        RetryOn::Status => raw::Trigger::Status,
    };
    let status = |status: &String| {
        let number = status.parse().map(raw::Status::Number);
        number.unwrap_or_else(|_| raw::Status::Name(status.clone()))
    };
    let mut retry = raw::Retry {
        statuses: retries.statuses.iter().map(status).collect(),
        per_try_timeout: retries.per_try_timeout.as_deref().and_then(duration).unwrap_or_default(),
        hedge: retries.hedge.as_ref().map(|hedge| raw::Hedge {
            after: hedge.after.as_deref().and_then(duration),
            percentile: hedge.percentile,
        }),
        ..raw::Retry::default()
    };
    retry.attempts = retries.attempts.unwrap_or(retry.attempts);
    if !retries.on.is_empty() {
        retry.on = retries.on.iter().map(trigger).collect();
    }
    retry
}

/// The plan's fault, if calls have any.
fn fault(fault: &api::Fault, places: &mut Places) -> Option<raw::Fault> {
    places.note_alike("fault", "fault");
    places.note("fault.delay.duration", "fault.delay.fixedDelay");
    places.note("fault.delay.percent", "fault.delay.percentage");
    places.note("fault.abort.percent", "fault.abort.percentage");
    let percent = |percentage: &Option<Percent>| {
        percentage.map(|percentage| percentage.value).filter(|&percent| percent > 0.0)
    };
    let delay = fault.delay.as_ref().and_then(|delay| {
        let duration = delay.fixed_delay.as_deref().and_then(duration)?;
        Some(raw::Delay { duration, percent: percent(&delay.percentage)? })
    });
    let abort = fault.abort.as_ref().and_then(|abort| {
        Some(raw::Abort { message: abort.message.clone(), percent: percent(&abort.percentage)? })
    });
    (delay.is_some() || abort.is_some()).then_some(raw::Fault { delay, abort })
}

/// The values of some attachments, of which the last of a name applies.
fn values(mutations: &[Mutation]) -> Table<String> {
    let values: BTreeMap<String, String> =
        mutations.iter().map(|mutation| (mutation.key.clone(), mutation.value.clone())).collect();
    values.into_iter().collect()
}
