//! Which calls the proxies of a namespace tell of one by one, and until when.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use meltemi_codecs::Codecs;
use meltemi_proxy::plan::{Plan, check_regex, raw};
use serde_json::Value;

use super::age::Age;
use super::report::Reports;
use super::room;
use super::service::Labels;
use super::terms::alternatives;
use crate::api;
use crate::check::{self, MOST_OF_NAMESPACE};
use crate::findings::ResourceRef;
use crate::world::World;

/// The taps that are on.
#[derive(Debug)]
pub(super) struct Taps {
    /// By namespace, the oldest first.
    by_namespace: BTreeMap<String, Vec<Tap>>,
}

#[derive(Debug)]
struct Tap {
    origin: ResourceRef,
    labels: Labels,
    plan: Value,
    /// What the tables of its expressions take in proxies.
    table_bytes: usize,
    /// Proxies that may be selected have it.
    is_used: Cell<bool>,
}

/// How many there may be in a namespace.
const MOST: usize = 8;

/// How large one may be in plans, in bytes: plans have to leave room for all of them.
const MOST_BYTES: usize = 4096;

impl Taps {
    /// Those of the world. Each is for proxies of its own namespace alone, that of the root namespace too.
    pub(super) fn new(world: &World, reports: &mut Reports) -> Self {
        let mut all: Vec<&api::Tap> = world.taps.iter().collect();
        all.sort_by_cached_key(|tap| Age::of(*tap));
        let mut by_namespace: BTreeMap<String, Vec<Tap>> = BTreeMap::new();
        for tap in all {
            let origin = ResourceRef::of(tap);
            if !reports.accepts(&origin, check::tap(tap)) {
                continue;
            }
            let Some(raw) = plan(tap) else {
                reports.warn(&origin, "", "is on in a cluster alone, for a time from when it is made there");
                continue;
            };
            if let Err(error) = tried(&raw) {
                reports.error(&origin, "spec", error);
                continue;
            }
            let namespace = tap.namespace().unwrap_or_default();
            let table_bytes = table_bytes(&raw);
            let plan = serde_json::to_value(raw).unwrap_or_default();
            let of_namespace = by_namespace.entry(namespace.clone()).or_default();
            let taken: usize = of_namespace.iter().map(|tap| tap.table_bytes).sum();
            let bytes = plan.to_string().len();
            if bytes > MOST_BYTES {
                let message =
                    format!("has {bytes} bytes in plans, of which {MOST_BYTES} are allowed; write less");
                reports.error(&origin, "spec", message);
            } else if of_namespace.len() >= MOST {
                let message = format!(
                    "the namespace has {MOST} taps that are older, and no more are allowed; delete one"
                );
                reports.error(&origin, "", message);
            } else if taken + table_bytes > MOST_OF_NAMESPACE {
                reports.error(&origin, "spec.match", room::full(&format!("the taps of {namespace}")));
            } else {
                let selector = tap.spec.selector.as_ref();
                let labels = selector.map(|selector| selector.match_labels.clone()).unwrap_or_default();
                of_namespace.push(Tap { origin, labels, plan, table_bytes, is_used: Cell::new(false) });
            }
        }
        Self { by_namespace }
    }

    /// The plan's `taps` for proxies of a namespace, which have some labels. Each proxy picks its own of them.
    pub(super) fn of(&self, namespace: &str, labels: Option<&Labels>) -> Vec<Value> {
        let is_other = |(name, value): (&String, &String)| {
            labels.and_then(|labels| labels.get(name)).is_some_and(|known| known != value)
        };
        let of_namespace = self.by_namespace.get(namespace).into_iter().flatten();
        let taps = of_namespace.filter(|tap| !tap.labels.iter().any(is_other));
        taps.inspect(|tap| tap.is_used.set(true)).map(|tap| tap.plan.clone()).collect()
    }

    /// Says which are for nobody.
    pub(super) fn report_unused(&self, reports: &mut Reports) {
        for tap in self.by_namespace.values().flatten().filter(|tap| !tap.is_used.get()) {
            let message = "no sidecar or gateway of the namespace that it may select handles managed calls";
            reports.warn(&tap.origin, "", message);
        }
    }
}

/// A tap as plans have it, if it is known when it ends.
fn plan(tap: &api::Tap) -> Option<raw::Tap> {
    let api::TapSpec { pods, matches, percent, attributes, selector, .. } = &tap.spec;
    let labels = selector.iter().flat_map(|selector| &selector.match_labels);
    Some(raw::Tap {
        name: tap.name_any(),
        until: u32::try_from(tap.end()?.as_second()).ok()?,
        pods: pods.clone(),
        labels: labels.map(|(name, value)| (name.clone(), value.clone())).collect(),
        matches: matches.as_ref().and_then(|matches| alternatives(&matches.attributes)),
        percent: percent.unwrap_or(100.0),
        attributes: attributes.clone(),
    })
}

/// Whether proxies take it: a plan with one that they do not take would be refused whole.
fn tried(tap: &raw::Tap) -> Result<(), String> {
    let plan = raw::Plan { taps: vec![tap.clone()], ..raw::Plan::default() };
    Plan::compile(&plan, &Codecs::new([])).map(|_| ()).map_err(|error| error.message)
}

fn table_bytes(tap: &raw::Tap) -> usize {
    let alternatives = tap.matches.iter().flatten();
    let matchers = alternatives.flat_map(|one| one.attributes.iter().chain(one.not_attributes.iter()));
    let expressions: BTreeSet<&str> = matchers.filter_map(|(_, matcher)| matcher.regex.as_deref()).collect();
    expressions.into_iter().filter_map(|expression| check_regex(expression).ok()).sum()
}
