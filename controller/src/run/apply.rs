//! Writes the generated objects: applies those that differ, deletes those that are not wanted any more.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Api, Client, Error};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::cache;
use super::changes::{Accepted, Key, Surplus, Wanted, changes, fingerprint, spec, surplus_fields};
use super::feed::Kept;
use super::metrics::{Metrics, Operation};
use super::recent::Recent;
use super::warming::Warming;
use crate::generate::Role;

/// The field manager of all that the controller writes.
pub const MANAGER: &str = "meltemi";

/// How many writes are under way at a time. A plan of a megabyte keeps a core of the API server busy for a second.
const PARALLEL: usize = 4;

/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes objects.
pub struct Applier {
    client: Client,
    metrics: Arc<Metrics>,
    root_namespace: String,
    pauses: Pauses,
    accepted: Accepted,
    recent: Recent,
    lingering: HashMap<Surplus, Instant>,
}

/// How long the sockets and modules of a namespace are there without its tunnels.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    /// Before the first tunnel, so that sidecars have fetched the module.
    pub warm_up: Duration,
    /// After the last tunnel, so that the connections that drain still have them.
    pub linger: Duration,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// How many objects were applied.
    pub applied: usize,
    /// How many objects were deleted.
    pub deleted: usize,
    /// How many writes failed, or were not tried because of that.
    pub failed: usize,
    /// How many tunnels wait for their sockets.
    pub waiting: usize,
    /// When the first of the objects that wait comes, or of those that linger goes.
    pub next: Option<Instant>,
}

impl Written {
    /// There is something to do then.
    fn due(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

impl Applier {
    /// Writes as `client`, and counts in `metrics`.
    pub fn new(client: Client, metrics: Arc<Metrics>, root_namespace: String, pauses: Pauses) -> Self {
        Self {
            client,
            metrics,
            root_namespace,
            pauses,
            accepted: Accepted::new(),
            recent: Recent::default(),
            lingering: HashMap::new(),
        }
    }

    /// Makes the cluster have what is wanted. `live` are the generated objects that it has.
    pub async fn write(&mut self, wanted: &[Wanted], live: Vec<Arc<DynamicObject>>) -> Written {
        let live = self.recent.over(live);
        let there: BTreeSet<Key> = live.iter().map(|object| Key::live(object)).collect();
        let changes = changes(wanted, live.iter().map(|object| &**object), &self.accepted);
        let mut written = Written { next: self.recent.end(), ..Written::default() };

        let mut warming = Warming::new(&live, self.pauses.warm_up);
        let mut barred = Barred::new(&self.root_namespace);
        for (role, objects) in &changes.missing {
            let (mut ready, rest): (Vec<&Wanted>, Vec<&Wanted>) =
                objects.iter().partition(|object| !barred.bars(&object.key.namespace));
            written.failed += rest.len();
            if *role == Role::Tunnel {
                ready.retain(|object| match warming.end(&object.key.namespace) {
                    None => true,
                    Some(end) => {
                        written.waiting += 1;
                        written.due(end);
                        false
                    }
                });
            }
            self.apply_all(&ready, &there, &mut barred, &mut warming, &mut written).await;
        }
        let mut barred = Barred::new(&self.root_namespace);
        for (role, surplus) in changes.surplus.iter().rev() {
            let due = match role {
                Role::Tunnel => surplus.clone(),
                Role::Sockets | Role::Module => self.due(surplus, &mut written),
            };
            let (ready, rest): (Vec<Surplus>, Vec<Surplus>) =
                due.into_iter().partition(|surplus| !barred.bars(&surplus.key.namespace));
            written.failed += rest.len();
            self.delete_all(&ready, &mut barred, &mut written).await;
        }
        let all: BTreeSet<&Surplus> = changes.surplus.values().flatten().collect();
        self.lingering.retain(|surplus, _| all.contains(surplus));
        written
    }

    /// Those of the surplus objects that have lingered long enough.
    fn due(&mut self, surplus: &[Surplus], written: &mut Written) -> Vec<Surplus> {
        let now = Instant::now();
        let mut due = Vec::new();
        for surplus in surplus {
            let end = *self.lingering.entry(surplus.clone()).or_insert(now + self.pauses.linger);
            match end <= now {
                true => due.push(surplus.clone()),
                false => written.due(end),
            }
        }
        due
    }

    async fn apply_all(
        &mut self,
        objects: &[&Wanted],
        there: &BTreeSet<Key>,
        barred: &mut Barred,
        warming: &mut Warming,
        written: &mut Written,
    ) {
        let client = &self.client;
        let mut outcomes = futures::stream::iter(objects.iter().copied())
            .map(|object| async move { (object, limited(apply(client, object)).await) })
            .buffer_unordered(PARALLEL);
        while let Some((object, outcome)) = outcomes.next().await {
            let Key { kind, namespace, name } = &object.key;
            let name = format!("{namespace}/{name}");
            self.metrics.wrote(Operation::Apply, outcome.is_ok());
            match outcome {
                Ok(mut kept) => {
                    let is_new = !there.contains(&object.key);
                    info!(kind, name, is_new, "applied");
                    written.applied += 1;
                    kept.trim();
                    warming.note(&kept);
                    let key = object.key.clone();
                    match kept.data.as_u64().filter(|spec| *spec != object.spec) {
                        None => self.accepted.remove(&key),
                        Some(given) => self.accepted.insert(key.clone(), (object.spec, given)),
                    };
                    self.recent.applied(key, kept);
                }
                Err(error) => {
                    warn!(kind, name, error, "cannot apply");
                    written.failed += 1;
                    barred.bar(namespace);
                }
            }
        }
    }

    async fn delete_all(&mut self, surplus: &[Surplus], barred: &mut Barred, written: &mut Written) {
        let client = &self.client;
        let mut outcomes = futures::stream::iter(surplus)
            .map(|surplus| async move { (surplus, limited(delete(client, surplus)).await) })
            .buffer_unordered(PARALLEL);
        while let Some((surplus, outcome)) = outcomes.next().await {
            let Key { kind, namespace, name } = &surplus.key;
            let name = format!("{namespace}/{name}");
            self.metrics.wrote(Operation::Delete, outcome.is_ok());
            self.accepted.remove(&surplus.key);
            match outcome {
                Ok(()) => {
                    info!(kind, name, "deleted");
                    self.recent.deleted(surplus);
                    written.deleted += 1;
                }
                Err(error) => {
                    warn!(kind, name, error, "cannot delete");
                    written.failed += 1;
                    barred.bar(namespace);
                }
            }
        }
    }
}

/// The namespaces in which a step failed, so that the next one waits. The root namespace is that of all proxies.
struct Barred {
    root: String,
    namespaces: BTreeSet<String>,
}

impl Barred {
    fn new(root: &str) -> Self {
        Self { root: root.to_owned(), namespaces: BTreeSet::new() }
    }

    fn bar(&mut self, namespace: &str) {
        self.namespaces.insert(namespace.to_owned());
    }

    fn bars(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace) || self.namespaces.contains(&self.root)
    }
}

/// A write, and what is the matter if it fails or takes too long.
pub async fn limited<T>(write: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match timeout(PATIENCE, write).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the API server did not answer within {PATIENCE:?}")),
    }
}

/// Applies an object, and returns what the server keeps of it.
async fn apply(client: &Client, object: &Wanted) -> Result<DynamicObject, Error> {
    let Key { kind, namespace, name } = &object.key;
    let api = api(client, kind, namespace);
    let kept = api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object.text)).await?;
    if fingerprint(spec(&kept)) == object.spec {
        return Ok(kept);
    }
    let wanted: DynamicObject = serde_json::from_str(object.text.get()).map_err(Error::SerdeError)?;
    let Some(surplus) = surplus_fields(spec(&kept), spec(&wanted)) else { return Ok(kept) };
    let patch = Patch::Merge(json!({"spec": surplus}));
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(name, &params, &patch).await
}

async fn delete(client: &Client, surplus: &Surplus) -> Result<(), Error> {
    let api = api(client, &surplus.key.kind, &surplus.key.namespace);
    // An object that was made anew in the meantime is another one.
    let preconditions = Preconditions { uid: Some(surplus.uid.clone()), resource_version: None };
    let params = DeleteParams::default().preconditions(preconditions);
    match api.delete(&surplus.key.name, &params).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}

fn api(client: &Client, kind: &str, namespace: &str) -> Api<DynamicObject> {
    let resource = cache::api_resource(kind).unwrap_or_else(|| unreachable!("{kind} is never generated"));
    Api::namespaced_with(client.clone(), namespace, &resource)
}
