//! One kind of object, kept as the cluster has it.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::Resource;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Lookup, ObjectRef, Store};
use kube::runtime::watcher::{Config, Error, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{info, warn};

use super::metrics::Metrics;
use super::pulse::{Change, Pulse};

/// How long the objects of a kind whose definition went away are kept: a definition is sometimes replaced by deleting
/// and making it.
const KEPT_AFTER_KIND: Duration = Duration::from_secs(60);

/// How long one watch lasts. A connection that died without a word is noticed a little later than that.
const WATCH_SECONDS: u32 = 120;

/// The names of the resource definitions that the cluster has; none while they are not known.
pub type Definitions = watch::Receiver<Option<Arc<BTreeSet<String>>>>;

/// What is kept of an object, and what counts as its change.
pub trait Kept: Resource + Clone {
    /// What the coming or going of such an object is.
    const PRESENCE: Change = Change::Input;

    /// Forgets what nobody asks for.
    fn trim(&mut self) {
        let metadata = self.meta_mut();
        metadata.managed_fields = None;
        metadata.resource_version = None;
        if let Some(annotations) = &mut metadata.annotations {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }

    /// What differs between `self` and what it was.
    fn change(&self, before: &Self) -> Option<Change>;
}

/// What all feeds share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The definitions in the cluster.
    pub definitions: Definitions,
    /// Who is notified of changes.
    pub pulse: Arc<Pulse>,
    /// Where lists and errors are counted.
    pub metrics: Arc<Metrics>,
}

/// The objects of one kind.
pub struct Feed<K>
where
    K: Lookup + 'static,
    K::DynamicType: Eq + Hash,
{
    kind: &'static str,
    store: Store<K>,
    settled: watch::Receiver<bool>,
}

impl<K> Feed<K>
where
    K: Kept + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Debug + Clone + Eq + Hash + Send + Sync + 'static,
{
    /// Starts to keep the objects that `api` and `selector` name. `definition` is the resource definition of the kind,
    /// unless the cluster has it built in: without it there are none.
    pub fn start(
        kind: &'static str,
        definition: Option<&'static str>,
        api: Api<K>,
        selector: Option<String>,
        dynamic: K::DynamicType,
        shared: Shared,
    ) -> Self {
        let writer = Writer::new(dynamic.clone());
        let store = writer.as_reader();
        let (settle, settled) = watch::channel(false);
        let config = Config { label_selector: selector, ..Config::default().timeout(WATCH_SECONDS) };
        let keeper =
            Keeper { kind, definition, api, config, dynamic, writer, settle, shared, is_failing: false };
        tokio::spawn(keeper.keep());
        Self { kind, store, settled }
    }

    /// The kind.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Whether the objects have been listed, or are known to be none.
    pub fn is_settled(&self) -> bool {
        *self.settled.borrow()
    }

    /// The objects, in no order.
    pub fn objects(&self) -> Vec<Arc<K>> {
        self.store.state()
    }
}

struct Keeper<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    kind: &'static str,
    definition: Option<&'static str>,
    api: Api<K>,
    config: Config,
    dynamic: K::DynamicType,
    writer: Writer<K>,
    settle: watch::Sender<bool>,
    shared: Shared,
    is_failing: bool,
}

impl<K> Keeper<K>
where
    K: Kept + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Debug + Clone + Eq + Hash + Send + Sync + 'static,
{
    async fn keep(mut self) {
        let mut definitions = self.shared.definitions.clone();
        let definition = self.definition;
        let has = move |known: &Option<Arc<BTreeSet<String>>>| match definition {
            Some(name) => known.as_ref().map(|known| known.contains(name)),
            None => Some(true),
        };
        loop {
            // Nobody reports definitions any more when the process ends.
            let Ok(known) = definitions.wait_for(|known| has(known).is_some()).await.map(|known| has(&known))
            else {
                return;
            };
            if known == Some(false) {
                self.settle();
                if definitions.wait_for(|known| has(known) == Some(true)).await.is_err() {
                    return;
                }
                info!(kind = self.kind, "the kind is defined now");
            }
            tokio::select! {
                () = self.watch() => return,
                gone = definitions.wait_for(|known| has(known) == Some(false)) => {
                    if gone.is_err() {
                        return;
                    }
                }
            }
            warn!(kind = self.kind, "the kind is not defined any more");
            tokio::select! {
                _ = definitions.wait_for(|known| has(known) == Some(true)) => {}
                () = tokio::time::sleep(KEPT_AFTER_KIND) => self.forget(),
            }
        }
    }

    /// Follows the objects, for ever.
    async fn watch(&mut self) {
        let mut events = pin!(watcher(self.api.clone(), self.config.clone()).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.take(event),
                Err(error) => self.fail(&error),
            }
        }
    }

    fn take(&mut self, event: Event<K>) {
        if self.is_failing {
            self.is_failing = false;
            info!(kind = self.kind, "watch recovered");
        }
        let event = event.modify(Kept::trim);
        let change = match &event {
            Event::Init => {
                self.shared.metrics.listed(self.kind);
                None
            }
            Event::InitApply(_) => None,
            Event::InitDone | Event::Delete(_) => Some(K::PRESENCE),
            Event::Apply(object) => {
                let key = ObjectRef::from_obj_with(object, self.dynamic.clone());
                match self.writer.as_reader().get(&key) {
                    Some(before) => object.change(&before),
                    None => Some(K::PRESENCE),
                }
            }
        };
        let is_listed = matches!(event, Event::InitDone);
        self.writer.apply_watcher_event(&event);
        if is_listed {
            self.settle();
        }
        if let Some(change) = change {
            self.shared.pulse.tell(change);
        }
    }

    fn fail(&mut self, error: &Error) {
        self.shared.metrics.watch_failed(self.kind);
        if !self.is_failing {
            self.is_failing = true;
            warn!(kind = self.kind, %error, "watch failed; retrying");
        }
    }

    fn settle(&mut self) {
        self.settle.send_replace(true);
        self.shared.pulse.tell(Change::Input);
    }

    fn forget(&mut self) {
        self.writer.apply_watcher_event(&Event::Init);
        self.writer.apply_watcher_event(&Event::InitDone);
        self.shared.pulse.tell(Change::Input);
    }
}
