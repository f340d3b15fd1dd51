//! Some proxies of a namespace, and the objects that they get.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::entry::{Authority, Entry};
use super::loggers::Logging;
use super::module::{self, Module};
use super::object::{Object, Role};
use super::options::Options;
use super::protocol::Layouts;
use super::service::Labels;
use super::sockets::{Proxies, Sockets, envoy_filter};
use super::tree::{Part, Tree};

/// The proxies of a namespace that get the same objects, with all that they manage.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) namespace: &'a str,
    pub(super) proxies: Proxies,
    /// Those of them that have these labels. Default: all.
    pub(super) selector: Option<Labels>,
    /// Policies guard it: where there is no module, no connection passes, nor one that the plan does not know.
    pub(super) fails_closed: bool,
    /// The calls that are logged. Default: none.
    pub(super) access_log: Option<Logging>,
    /// Those that are told of one by one.
    pub(super) taps: Vec<Value>,
    /// The name of the first shard.
    base: String,
    entries: BTreeMap<Arc<str>, Entry>,
}

/// Patches of tunnels.
pub(super) type Patches = Vec<Patch>;

/// A patch of a tunnel.
#[derive(Debug, Clone)]
pub(super) struct Patch {
    /// What it is about, so that it stays in its object while others come and go.
    pub(super) about: Arc<str>,
    /// The shard that must be there first.
    pub(super) shard: Option<Arc<str>>,
    pub(super) patch: Part,
}

/// The bytes of a plan, or of patches, that one object may have. With what the API server adds it stays under 1 MiB.
const MOST: usize = 700 * 1024;

impl<'a> Group<'a> {
    /// Those of `proxies` that a selector selects.
    pub(super) fn new(namespace: &'a str, proxies: Proxies, selector: Option<Labels>) -> Self {
        let base = match proxies {
            Proxies::Sidecars => NAME.to_owned(),
            Proxies::Gateways => format!("{NAME}-gateway"),
        };
        Self {
            namespace,
            proxies,
            selector,
            fails_closed: false,
            access_log: None,
            taps: Vec::new(),
            base,
            entries: BTreeMap::new(),
        }
    }

    /// The sidecars of a service's pods, as those of servers. Nothing that others write is in the same objects.
    pub(super) fn of_servers(namespace: &'a str, service: &str, selector: Option<Labels>) -> Self {
        let base = format!("{NAME}-server-{service}");
        Self { base, ..Self::new(namespace, Proxies::Sidecars, selector) }
    }

    /// Adds what the plan says of the tunnels with an authority.
    pub(super) fn add(&mut self, authority: Authority, plan: Part) {
        self.entries.insert(authority.text(), Entry { authority, plan });
    }

    /// Divides what there is into as many shards as keep each plan small enough. Each has a cluster, an internal listener
    /// and a module of its own.
    pub(super) fn shards(&self) -> Shards {
        let entries = self.entries.iter().map(|(authority, entry)| (authority.clone(), entry.plan.weight));
        let named = |(ending, authorities): (String, Vec<(Arc<str>, usize)>)| {
            let shard: Arc<str> = named(&self.base, &ending).into();
            authorities.into_iter().map(move |(authority, _)| (authority, shard.clone()))
        };
        let parts = divide(entries.collect(), |(authority, _)| authority, |(_, bytes)| *bytes);
        Shards(parts.into_iter().flat_map(named).collect())
    }

    /// The module and the sockets of each shard.
    pub(super) fn objects(&self, shards: &Shards, layouts: &Layouts, options: &Options) -> Vec<Object> {
        let mut plans: BTreeMap<Arc<str>, BTreeMap<Arc<str>, &Entry>> = BTreeMap::new();
        for (authority, entry) in &self.entries {
            let plan = plans.entry(shards.of(authority)).or_default();
            plan.insert(authority.clone(), entry);
        }
        let mut objects = Vec::new();
        for (shard, services) in plans {
            let entries: Vec<Entry> = services.values().copied().cloned().collect();
            let protocols = protocols(&entries, layouts);
            let tree = |(authority, entry): (Arc<str>, &Entry)| (authority, Tree::Part(entry.plan.clone()));
            let services = services.into_iter().map(tree).collect();
            let module = module::discovery_name(self.namespace, &shard, options);
            let module = Module {
                namespace: self.namespace,
                shard: &shard,
                discovery_name: &module,
                proxies: self.proxies,
                selector: self.selector.as_ref(),
                fails_closed: self.fails_closed,
                plan: self.plan(services, protocols, options),
            };
            let selector = self.selector.as_ref();
            let sockets = Sockets {
                shard: &shard,
                module: module.discovery_name,
                fails_closed: self.fails_closed,
                reports: options.istio_metrics,
                loggers: self.access_log.as_ref().map_or(&[], |log| &log.loggers),
            };
            let sockets = sockets.patches(self.proxies);
            let spec = envoy_filter(selector, sockets);
            let name = shard.replacen(NAME, SOCKETS, 1);
            let sockets = Object::envoy_filter(Role::Sockets, self.namespace, name, spec);
            let module = module.object(options).of_entries(entries);
            objects.extend([module, sockets].map(|object| object.of_shards([shard.clone()])));
        }
        objects
    }

    fn plan(
        &self,
        services: BTreeMap<Arc<str>, Tree>,
        protocols: BTreeMap<Arc<str>, Tree>,
        options: &Options,
    ) -> Tree {
        let mut plan = BTreeMap::from([("services".into(), Tree::Map(services))]);
        if !protocols.is_empty() {
            plan.insert("protocols".into(), Tree::Map(protocols));
        }
        if options.istio_metrics {
            plan.insert("metrics".into(), Tree::from(serde_json::json!({"istio": {}})));
        }
        if let Some(access_log) = &self.access_log {
            plan.insert("accessLog".into(), Tree::from(access_log.plan.clone()));
        }
        if !self.taps.is_empty() {
            plan.insert("taps".into(), Tree::from(Value::from(self.taps.clone())));
        }
        if self.fails_closed {
            plan.insert("unknownAuthority".into(), Tree::from(Value::from("refuse")));
        }
        Tree::Map(plan)
    }

    /// EnvoyFilters with these patches, of this name, as many as keep each small enough.
    pub(super) fn tunnels(&self, name: &str, selector: Option<&Labels>, patches: Patches) -> Vec<Object> {
        let object = |(ending, patches): (String, Patches)| {
            let shards: BTreeSet<Arc<str>> = patches.iter().filter_map(|patch| patch.shard.clone()).collect();
            let spec = envoy_filter(selector, patches.into_iter().map(|patch| patch.patch));
            Object::envoy_filter(Role::Tunnel, self.namespace, named(name, &ending), spec).of_shards(shards)
        };
        let parts = divide(patches, |patch| &patch.about, |patch| patch.patch.weight);
        parts.into_iter().map(object).collect()
    }

    /// What the names of the group's objects start with.
    pub(super) fn base(&self) -> &str {
        &self.base
    }
}

/// The layouts of the protocols that entries name.
fn protocols(entries: &[Entry], layouts: &Layouts) -> BTreeMap<Arc<str>, Tree> {
    let named = entries.iter().flat_map(|entry| {
        let value = entry.plan.value();
        let several = value["protocols"].as_array().into_iter().flatten();
        several.chain([&value["protocol"]]).filter_map(Value::as_str)
    });
    let declared = named.filter_map(|name| Some((name.into(), Tree::Part(layouts.get(name)?.clone()))));
    declared.collect()
}

/// What the names of all objects start with.
const NAME: &str = "meltemi";

/// What those of the sockets start with, so that they are no other's whatever a service is called.
const SOCKETS: &str = "meltemi-sockets";

/// Which shard has each authority.
#[derive(Debug)]
pub(super) struct Shards(BTreeMap<Arc<str>, Arc<str>>);

impl Shards {
    /// The shard that has an authority: the name of its cluster, its listener and its module.
    pub(super) fn of(&self, authority: &str) -> Arc<str> {
        self.0.get(authority).cloned().unwrap_or_else(|| NAME.into())
    }
}

fn named(name: &str, ending: &str) -> String {
    match ending {
        "" => name.to_owned(),
        // No name of a namespace or of a Kubernetes Service has a dot: none ends like this.
        ending => format!("{name}.{ending}"),
    }
}

/// Parts that keep each under [`MOST`] bytes, as far as that is possible, by the ending of their name.
///
/// A name stands for all whose hash begins with its bits. What outgrows a part goes to two of other names, so that the old
/// one stays as it is until nothing leads there any more.
fn divide<T>(
    items: Vec<T>,
    about: impl Fn(&T) -> &str + Copy,
    bytes: impl Fn(&T) -> usize + Copy,
) -> Vec<(String, Vec<T>)> {
    let mut parts = Vec::new();
    let mut left = vec![(String::new(), items)];
    while let Some((bits, items)) = left.pop() {
        let total: usize = items.iter().map(bytes).sum();
        if total <= MOST || items.len() < 2 || bits.len() >= 32 {
            parts.extend((!items.is_empty()).then_some((bits, items)));
            continue;
        }
        let bit = 1 << (31 - bits.len());
        let is_set = |item: &T| crc32fast::hash(about(item).as_bytes()) & bit != 0;
        let (ones, zeros) = items.into_iter().partition(is_set);
        left.extend([(format!("{bits}1"), ones), (format!("{bits}0"), zeros)]);
    }
    parts
}
