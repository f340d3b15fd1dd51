//! The routes of one service, put together.

use std::collections::HashMap;
use std::sync::Arc;

use meltemi_proxy::plan::raw;
use serde_json::Value;

use super::draft::{Draft, Target};
use super::origin::Origin;
use super::protocol::{ManagedPort, Protocol};
use super::report::Reports;
use super::router::{Rejects, Router};
use super::size::{self, kib};
use super::tree::Part;
use super::wishes::PINNED;
use crate::findings::ResourceRef;

/// What one resource has for the calls to a service.
#[derive(Debug)]
pub(super) struct Share<'a> {
    pub(super) origin: &'a ResourceRef,
    /// The field that has the routes.
    pub(super) field: &'static str,
    pub(super) routes: &'a [Draft],
    /// Calls that no route takes are answered with an error.
    pub(super) rejects: bool,
    /// How many calls are made at a time, by how long answers take.
    pub(super) adaptive: Option<&'a raw::AdaptiveConcurrency>,
    /// Which comes first if there is no room for all.
    pub(super) rank: usize,
}

impl<'a> Share<'a> {
    /// What a router has for an entry in which its routes are of this rank; `is_owner` if they are the owner's.
    pub(super) fn of_router(router: &'a Router, rank: usize, is_owner: bool) -> Self {
        Self {
            origin: &router.origin,
            field: "spec.routes",
            routes: &router.routes,
            rejects: is_owner && router.rejects != Rejects::No,
            adaptive: router.adaptive.as_ref().filter(|_| is_owner),
            rank,
        }
    }
}

/// The plan's entry for calls that come by `port`, of shares in the order of their routes; those of a namespace follow each other. What it
/// has no room for is taken out of them and reported. `finish` adds what does not depend on routes alone.
pub(super) fn entry(
    shares: &mut Vec<Share<'_>>,
    connections: &[Target],
    about: &str,
    (port, finish): (&ManagedPort, &dyn Fn(&mut raw::Service)),
    reports: &mut Reports,
) -> Part {
    let put = |shares: &[Share<'_>], reports: &mut Reports| {
        let mut routes = Routes { connections: connections.to_vec(), ..Routes::default() };
        for (at, share) in shares.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|before| shares.get(before));
            if before.is_some_and(|before| before.origin.namespace != share.origin.namespace) {
                routes.end_namespace();
            }
            routes.rejects |= share.rejects;
            if let (Some(_), Some((_, first))) = (share.adaptive, routes.adaptive) {
                let message = format!("not in force: that of {first} is, which comes first");
                reports.not_honoured(share.origin, "spec.adaptiveConcurrency", message);
            }
            let own = share.adaptive.map(|adaptive| (adaptive, share.origin));
            routes.adaptive = routes.adaptive.or(own);
            let origin = Arc::new(share.origin.clone());
            share.routes.iter().for_each(|draft| routes.add(&origin, draft.clone(), reports));
        }
        let adaptive = routes.adaptive.map(|(adaptive, _)| adaptive.clone());
        match routes.entry(port) {
            Some((mut entry, origins)) => {
                entry.upstream.adaptive_concurrency = adaptive;
                finish(&mut entry);
                if entry.upstream.sharing == Some(raw::UpstreamSharing::Pinned) {
                    report_unused(shares, reports);
                }
                size::entry(&entry).of_origins(origins)
            }
            None => Part::from(Value::Null),
        }
    };
    let mut remarks = Reports::default();
    let mut entry = put(shares, &mut remarks);
    let all = format!("{} that the plan has for all routes of {about}", kib(size::MOST));
    if entry.weight > size::MOST {
        let weight = |share: &Share<'_>| put(std::slice::from_ref(share), &mut Reports::default()).weight;
        let weights: Vec<(usize, usize)> = shares.iter().map(|share| (share.rank, weight(share))).collect();
        let fitting = size::fitting(&weights);
        let mut weights = weights.into_iter().enumerate();
        shares.retain(|Share { origin, field, .. }| {
            let Some((at, (_, weight))) = weights.next() else { return false };
            let fits = fitting.contains(&at);
            if !fits {
                let message = format!("not in force: its routes take {} of the {all}: {MEND}", kib(weight));
                reports.error(origin, *field, message);
            }
            fits
        });
        remarks = Reports::default();
        entry = put(shares, &mut remarks);
    }
    reports.append(remarks);
    let longest = shares.iter().max_by_key(|share| share.routes.len());
    if let Some(Share { origin, field, .. }) = longest.filter(|_| entry.weight >= size::MUCH) {
        reports.warn(origin, *field, format!("{} are taken of the {all}: {MEND}", kib(entry.weight)));
    }
    entry
}

/// Says what of the shares is not in force, as each client has connections for itself.
fn report_unused(shares: &[Share<'_>], reports: &mut Reports) {
    let mut unused = |origin: &ResourceRef, path: String| {
        reports.not_honoured(origin, path, format!("is not in force: {PINNED}"));
    };
    for share in shares {
        if share.adaptive.is_some() {
            unused(share.origin, "spec.adaptiveConcurrency".to_owned());
        }
        let is_hedged =
            |draft: &&Draft| draft.policies.retry.as_ref().is_some_and(|retry| retry.hedge.is_some());
        for draft in share.routes.iter().filter(is_hedged) {
            unused(share.origin, draft.places.of("retry.hedge"));
        }
    }
}

/// What helps against too many routes.
const MEND: &str = "write fewer or shorter ones, or divide the service";

/// The routes of one service as they are gathered, namespace by namespace.
#[derive(Debug, Default)]
struct Routes<'a> {
    drafts: Vec<(Arc<ResourceRef>, Draft)>,
    /// The one of the namespace that takes every call.
    last: Option<(Arc<ResourceRef>, Draft)>,
    /// The name of the one that leaves none to the namespaces after it.
    taken_by: Option<String>,
    /// Where Istio would have sent connections.
    connections: Vec<Target>,
    /// Calls that no route takes are answered with an error.
    rejects: bool,
    /// How many calls are made at a time, and who says so.
    adaptive: Option<(&'a raw::AdaptiveConcurrency, &'a ResourceRef)>,
}

impl Routes<'_> {
    /// Adds a route. One that takes every call comes after all others of the namespace, also after those of later resources;
    /// only the first such one is.
    fn add(&mut self, origin: &Arc<ResourceRef>, mut draft: Draft, reports: &mut Reports) {
        let namespace = origin.namespace.as_deref().unwrap_or_default();
        let written = std::mem::take(&mut draft.name);
        draft.name = format!("{namespace}/{}/{written}", origin.name);
        let is_for_rest = draft.alternatives.is_none();
        let last = self.last.as_ref().filter(|_| is_for_rest).map(|(_, last)| &last.name);
        if let Some(taker) = self.taken_by.as_ref().or(last) {
            let message = format!("route {written:?} never matches: {taker} already is the catch-all");
            reports.warn(origin, "spec", message);
        } else if is_for_rest {
            self.last = Some((origin.clone(), draft));
        } else {
            self.drafts.push((origin.clone(), draft));
        }
    }

    /// What comes is of another namespace, and has no say in the calls that are taken.
    fn end_namespace(&mut self) {
        if let Some(last) = self.last.take() {
            self.taken_by = Some(last.1.name.clone());
            self.drafts.push(last);
        }
    }

    /// The plan's entry of the service, for calls that come by `port`, and what its routes were made of.
    fn entry(mut self, port: &ManagedPort) -> Option<(raw::Service, Vec<Origin>)> {
        self.end_namespace();
        let Protocol::Codec(reader) = &port.protocol else { return None };
        let mut entry = reader.entry();
        let takes_all = self.taken_by.is_some();
        let mut names = HashMap::new();
        let mut origins = Vec::new();
        for (resource, draft) in self.drafts {
            let name = unique(&draft.name, &mut names);
            entry.routes.push(draft.route(name.clone(), port.number));
            origins.push(Origin { route: name, resource, path: draft.places.route.clone() });
        }
        if self.rejects && !takes_all {
            entry.on_no_match = raw::OnNoMatch::Reject;
        } else if !takes_all && !self.connections.is_empty() {
            let default = Draft { destinations: self.connections, ..Draft::default() };
            entry.default_route = default.default_route(port.number);
        }
        Some((entry, origins))
    }
}

/// A name that no route before has. `names` are theirs, each with the last number that was put behind it.
fn unique(name: &str, names: &mut HashMap<String, u32>) -> String {
    let mut free = name.to_owned();
    while names.contains_key(&free) {
        let number = names.entry(name.to_owned()).or_insert(1);
        *number += 1;
        free = format!("{name}-{number}");
    }
    names.insert(free.clone(), 1);
    free
}
