//! Some proxies of a namespace, and the objects that they get.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Options;
use super::module::{self, Module};
use super::object::{Object, Role};
use super::service::Labels;
use super::sockets::{self, Proxies, envoy_filter};
use super::tree::{Part, Tree};

/// The proxies of a namespace that get the same objects, with all that they manage.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) namespace: &'a str,
    pub(super) proxies: Proxies,
    /// Those of them that have these labels; all without it.
    pub(super) selector: Option<Labels>,
    /// Where there is no module, no connection passes.
    pub(super) fails_closed: bool,
    entries: BTreeMap<Arc<str>, Part>,
}

/// Patches, each with what it is about, so that it stays in its object while others come and go.
pub(super) type Patches = Vec<(Arc<str>, Part)>;

/// The bytes of a plan, or of patches, that one object may have. With what the API server adds it stays under 1 MiB.
const MOST: usize = 700 * 1024;

impl<'a> Group<'a> {
    pub(super) fn new(namespace: &'a str, proxies: Proxies, selector: Option<Labels>) -> Self {
        Self { namespace, proxies, selector, fails_closed: false, entries: BTreeMap::new() }
    }

    /// Adds what the plan says of the tunnels with an authority.
    pub(super) fn add(&mut self, authority: Arc<str>, entry: Part) {
        self.entries.insert(authority, entry);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Divides what there is into as many shards as keep each plan small enough.
    pub(super) fn shards(&self) -> Shards {
        Shards { count: shards(self.entries.iter().map(|(authority, entry)| (&**authority, entry.bytes))) }
    }

    /// The module and the sockets of each shard.
    pub(super) fn objects(&self, shards: &Shards, options: &Options) -> Vec<Object> {
        let mut plans: BTreeMap<String, BTreeMap<Arc<str>, Tree>> = BTreeMap::new();
        for (authority, entry) in &self.entries {
            plans
                .entry(shards.of(authority))
                .or_default()
                .insert(authority.clone(), Tree::Part(entry.clone()));
        }
        let base = self.base();
        let named = |shard: &str| shard.replacen(SHARD, base, 1);
        let modules: Vec<(String, String)> = plans
            .keys()
            .map(|shard| (shard.clone(), module::discovery_name(self.namespace, &named(shard), options)))
            .collect();
        let sockets = format!("{base}-sockets");
        let sockets = sockets::object(
            self.namespace,
            sockets,
            self.proxies,
            self.selector.as_ref(),
            self.fails_closed,
            modules.into_iter(),
        );
        let mut objects = Vec::from_iter(plans.into_iter().map(|(shard, services)| {
            let module = Module {
                namespace: self.namespace,
                name: &named(&shard),
                proxies: self.proxies,
                selector: self.selector.as_ref(),
                fails_closed: self.fails_closed,
                plan: Tree::Map(BTreeMap::from([("services".into(), Tree::Map(services))])),
            };
            module.object(options)
        }));
        objects.push(sockets);
        objects
    }

    /// EnvoyFilters with these patches, of this name, as many as keep each small enough.
    pub(super) fn tunnels(&self, name: &str, selector: Option<&Labels>, patches: Patches) -> Vec<Object> {
        let count = shards(patches.iter().map(|(about, patch)| (&**about, patch.bytes)));
        let mut parts: BTreeMap<usize, Vec<Part>> = BTreeMap::new();
        for (about, patch) in patches {
            parts.entry(shard(&about, count)).or_default().push(patch);
        }
        let object = |(part, patches): (usize, Vec<Part>)| {
            let spec = envoy_filter(selector, patches);
            Object::envoy_filter(Role::Tunnel, self.namespace, numbered(name, part), spec)
        };
        parts.into_iter().map(object).collect()
    }

    /// What the names of the group's objects start with.
    pub(super) fn base(&self) -> &'static str {
        match self.proxies {
            Proxies::Sidecars => SHARD,
            Proxies::Gateways => "meltemi-gateway",
        }
    }
}

/// The cluster and the internal listener of the first shard.
const SHARD: &str = "meltemi";

/// The division of a group's services.
#[derive(Debug)]
pub(super) struct Shards {
    count: usize,
}

impl Shards {
    /// The cluster of the shard that has an authority.
    pub(super) fn of(&self, authority: &str) -> String {
        numbered(SHARD, shard(authority, self.count))
    }
}

fn numbered(name: &str, part: usize) -> String {
    match part {
        0 => name.to_owned(),
        part => format!("{name}-{}", part + 1),
    }
}

/// How many parts keep each under [`MOST`] bytes, as far as that is possible.
fn shards<'a>(sizes: impl Iterator<Item = (&'a str, usize)>) -> usize {
    let sizes: Vec<(u32, usize)> =
        sizes.map(|(about, size)| (crc32fast::hash(about.as_bytes()), size)).collect();
    let total: usize = sizes.iter().map(|(_, size)| size).sum();
    let fits = |&count: &usize| {
        let mut parts = vec![0; count];
        for (hash, size) in &sizes {
            parts[*hash as usize % count] += size;
        }
        parts.iter().all(|&part| part <= MOST)
    };
    let fewest = total / MOST + 1;
    (fewest..fewest * 2 + 8).find(fits).unwrap_or(fewest * 2)
}

fn shard(about: &str, count: usize) -> usize {
    crc32fast::hash(about.as_bytes()) as usize % count
}
