//! Writes the generated objects: applies those that differ, deletes those that are not wanted any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{DynamicObject, Status};
use kube::{Api, Client, Error};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::changes::{Accepted, Key, Surplus, Wanted, changes, fingerprint, spec, surplus_fields};
use super::feed::Kept;
use super::metrics::{Metrics, Operation};
use super::recent::Recent;
use super::warming::{self, Warming};
use crate::generate::Role;
use crate::kinds;
use crate::words::shortened;

/// The field manager of all that the controller writes.
pub const MANAGER: &str = "meltemi";

/// How many writes are under way at a time. A plan of a megabyte keeps a core of the API server busy for a second.
const PARALLEL: usize = 4;

/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much is kept of what the API server says.
const MAX_WHY_LEN: usize = 1024;

/// Writes objects.
pub struct Applier {
    client: Client,
    metrics: Arc<Metrics>,
    pauses: Pauses,
    accepted: Accepted,
    recent: Recent,
    lingering: HashMap<Surplus, Instant>,
    /// When the objects of the cluster are no longer new.
    warm: warming::Known,
}

/// How long sockets and modules are there without tunnels.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    /// Before the first tunnel, so that sidecars have fetched the module.
    pub warm_up: Duration,
    /// After the last tunnel that led there, so that the connections that drain still have them.
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
    /// Where proxies have not all of what is wanted, and why.
    pub held: Held,
    /// When the first of the objects that wait comes, or of those that linger goes.
    pub next: Option<Instant>,
}

/// Why proxies have not all of what is wanted, by the namespace and the shard of the objects that are not there: none, if they
/// are of no shard.
pub type Held = BTreeMap<(Arc<str>, Option<Arc<str>>), Hold>;

/// Why what is wanted is not there; the worst comes last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// Sidecars get the time to fetch the module.
    WarmUp,
    /// An object could not be written: what the API server said, where it allows no such object.
    Failed(Option<Arc<str>>),
}

impl Hold {
    /// Whether an object could not be written.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl Written {
    /// An object is not there yet.
    fn hold(&mut self, object: &Wanted, why: &Hold) {
        let namespace: Arc<str> = object.key.namespace.as_str().into();
        let none = object.shards.is_empty().then_some(None);
        for shard in object.shards.iter().cloned().map(Some).chain(none) {
            let known = self.held.entry((namespace.clone(), shard)).or_insert_with(|| why.clone());
            if *known < *why {
                known.clone_from(why);
            }
        }
    }

    /// There is something to do then.
    fn due(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

impl Applier {
    /// Writes as `client`, and counts in `metrics`.
    pub fn new(client: Client, metrics: Arc<Metrics>, pauses: Pauses) -> Self {
        Self {
            client,
            metrics,
            pauses,
            accepted: Accepted::new(),
            recent: Recent::default(),
            lingering: HashMap::new(),
            warm: warming::Known::new(),
        }
    }

    /// Makes the cluster have what is wanted. `live` are the generated objects that it has.
    pub async fn write(&mut self, wanted: &[Wanted], live: Vec<Arc<DynamicObject>>) -> Written {
        let live = self.recent.over(live);
        let there: BTreeSet<Key> = live.iter().map(|object| Key::live(object)).collect();
        let changes = changes(wanted, live.iter().map(|object| &**object), &self.accepted);
        let mut written = Written { next: self.recent.end(), ..Written::default() };

        let mut warming = Warming::new(wanted, &live, self.pauses.warm_up, mem::take(&mut self.warm));
        let mut blocked = Blocked::default();
        for (role, objects) in &changes.missing {
            let (mut ready, rest): (Vec<&Wanted>, Vec<&Wanted>) =
                objects.iter().partition(|object| !blocked.blocks(object));
            for object in rest {
                let why = blocked.why(object);
                blocked.block(object, why.clone());
                if !blocked.leaving.contains(&object.key.namespace) {
                    written.failed += 1;
                    written.hold(object, &Hold::Failed(why));
                }
            }
            if *role == Role::Tunnel {
                ready.retain(|object| match warming.end(object) {
                    None => true,
                    Some(end) => {
                        written.waiting += 1;
                        written.hold(object, &Hold::WarmUp);
                        written.due(end);
                        blocked.unsettle(&object.key.namespace);
                        false
                    }
                });
            }
            self.apply_all(&ready, &there, &mut blocked, &mut warming, &mut written).await;
        }
        self.warm = warming.known();
        for (role, surplus) in changes.surplus.iter().rev() {
            let (settled, rest): (Vec<&Surplus>, Vec<&Surplus>) =
                surplus.iter().partition(|surplus| !blocked.is_unsettled(&surplus.key.namespace));
            // What leads there yet may do so for long.
            rest.into_iter().for_each(|surplus| _ = self.lingering.remove(surplus));
            let due = match role {
                Role::Tunnel => settled,
                Role::Sockets | Role::Module => self.due(settled, &mut written),
            };
            self.delete_all(&due, &mut blocked, &mut written).await;
        }
        let all: BTreeSet<&Surplus> = changes.surplus.values().flatten().collect();
        self.lingering.retain(|surplus, _| all.contains(surplus));
        written
    }

    /// Those of the surplus objects that have lingered long enough.
    fn due<'s>(&mut self, surplus: Vec<&'s Surplus>, written: &mut Written) -> Vec<&'s Surplus> {
        let now = Instant::now();
        let mut due = Vec::new();
        for surplus in surplus {
            let end = *self.lingering.entry(surplus.clone()).or_insert(now + self.pauses.linger);
            match end <= now {
                true => due.push(surplus),
                false => written.due(end),
            }
        }
        due
    }

    async fn apply_all(
        &mut self,
        objects: &[&Wanted],
        there: &BTreeSet<Key>,
        blocked: &mut Blocked,
        warming: &mut Warming<'_>,
        written: &mut Written,
    ) {
        let client = &self.client;
        let mut outcomes = futures::stream::iter(objects.iter().copied())
            .map(|object| async move { (object, limited(unless_refused(apply(client, object))).await) })
            .buffer_unordered(PARALLEL);
        while let Some((object, outcome)) = outcomes.next().await {
            let Key { kind, namespace, name } = &object.key;
            let name = format!("{namespace}/{name}");
            if !matches!(outcome, Ok(Outcome::Leaving)) {
                self.metrics.wrote(Operation::Apply, matches!(outcome, Ok(Outcome::Done(_))));
            }
            let (why, error) = match outcome {
                Ok(Outcome::Leaving) => {
                    debug!(kind, name, "not applied: its namespace is being deleted");
                    blocked.leaving.insert(namespace.clone());
                    blocked.block(object, None);
                    continue;
                }
                Ok(Outcome::Done(mut kept)) => {
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
                    continue;
                }
                Ok(Outcome::Forbidden(why)) => (Some(Arc::from(shortened(&why, MAX_WHY_LEN))), why),
                Err(error) => (None, error),
            };
            warn!(kind, name, error, "cannot apply");
            written.failed += 1;
            blocked.block(object, why.clone());
            written.hold(object, &Hold::Failed(why));
        }
    }

    async fn delete_all(&mut self, surplus: &[&Surplus], blocked: &mut Blocked, written: &mut Written) {
        let client = &self.client;
        let mut outcomes = futures::stream::iter(surplus.iter().copied())
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
                    blocked.unsettle(namespace);
                }
            }
        }
    }
}

/// What has to wait since something else could not be written.
#[derive(Default)]
struct Blocked {
    /// The shards that are not as they should be, with their namespaces, and what the API server says of that.
    shards: BTreeMap<(String, Arc<str>), Option<Arc<str>>>,
    /// The namespaces that have not all of what they should have: what it takes the place of stays there.
    unsettled: BTreeSet<String>,
    /// The namespaces that are being deleted: nothing new is taken there, and nobody misses it.
    leaving: BTreeSet<String>,
}

impl Blocked {
    /// An object is not as it should be.
    fn block(&mut self, object: &Wanted, why: Option<Arc<str>>) {
        for key in keys(object) {
            let known = self.shards.entry(key).or_default();
            if *known < why {
                known.clone_from(&why);
            }
        }
        self.unsettle(&object.key.namespace);
    }

    /// Whether that is so of anything that has to be there before the object.
    fn blocks(&self, object: &Wanted) -> bool {
        keys(object).any(|key| self.shards.contains_key(&key))
    }

    /// What the API server says of that.
    fn why(&self, object: &Wanted) -> Option<Arc<str>> {
        keys(object).filter_map(|key| self.shards.get(&key)?.clone()).max()
    }

    fn unsettle(&mut self, namespace: &str) {
        self.unsettled.insert(namespace.to_owned());
    }

    fn is_unsettled(&self, namespace: &str) -> bool {
        self.unsettled.contains(namespace)
    }
}

/// The shards of an object, with its namespace.
fn keys(object: &Wanted) -> impl Iterator<Item = (String, Arc<str>)> {
    object.shards.iter().map(|shard| (object.key.namespace.clone(), shard.clone()))
}

/// A write, and what is the matter if it fails or takes too long.
pub async fn limited<T>(write: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match timeout(PATIENCE, write).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the API server did not answer within {PATIENCE:?}")),
    }
}

/// What comes of a write that the API server answers.
enum Outcome<T> {
    Done(T),
    /// The namespace is being deleted.
    Leaving,
    /// It allows no such object there, as where that is over a quota: its words.
    Forbidden(String),
}

/// What comes of a write.
async fn unless_refused<T>(write: impl Future<Output = Result<T, Error>>) -> Result<Outcome<T>, Error> {
    match write.await {
        Ok(kept) => Ok(Outcome::Done(kept)),
        Err(Error::Api(status)) if is_of_leaving(&status) => Ok(Outcome::Leaving),
        Err(Error::Api(status)) if status.is_forbidden() => Ok(Outcome::Forbidden(status.message)),
        Err(error) => Err(error),
    }
}

/// Whether the API server refuses since a namespace is being deleted.
fn is_of_leaving(status: &Status) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    status.is_forbidden() && causes.any(|cause| cause.reason == "NamespaceTerminating")
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
    let resource = kinds::written().iter().find(|known| known.kind == kind);
    let resource = resource.unwrap_or_else(|| unreachable!("{kind} is never generated")).resource();
    Api::namespaced_with(client.clone(), namespace, &resource)
}
