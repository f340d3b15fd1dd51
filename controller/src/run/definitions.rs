//! Which kinds the cluster knows, by its resource definitions.
//!
//! The definitions themselves are asked, not the discovery of the API: discovery lags behind and has holes while an API
//! server starts, and a kind that seems to be gone would take its objects with it.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tracing::{info, warn};

use super::feed::Definitions;
use super::metrics::Metrics;

/// Starts to follow the definitions.
pub fn follow(client: Client, metrics: Arc<Metrics>) -> Definitions {
    let (tell, definitions) = watch::channel(None);
    tokio::spawn(keep(client, metrics, tell));
    definitions
}

async fn keep(client: Client, metrics: Arc<Metrics>, tell: watch::Sender<Option<Arc<BTreeSet<String>>>>) {
    const KIND: &str = "CustomResourceDefinition";
    let api = Api::<PartialObjectMeta<CustomResourceDefinition>>::all(client);
    let mut events = pin!(watcher(api, Config::default()).default_backoff());
    let mut known = BTreeSet::new();
    let mut listed = BTreeSet::new();
    let mut is_failing = false;
    while let Some(event) = events.next().await {
        if is_failing && event.is_ok() {
            is_failing = false;
            info!(kind = KIND, "watch recovered");
        }
        match event {
            Ok(Event::Init) => {
                metrics.listed(KIND);
                listed.clear();
                continue;
            }
            Ok(Event::InitApply(definition)) => {
                note(&mut listed, &definition);
                continue;
            }
            Ok(Event::InitDone) => known = std::mem::take(&mut listed),
            Ok(Event::Apply(definition)) => note(&mut known, &definition),
            Ok(Event::Delete(definition)) => {
                known.remove(&definition.name_any());
            }
            Err(error) => {
                metrics.watch_failed(KIND);
                if !is_failing {
                    is_failing = true;
                    warn!(kind = KIND, %error, "watch failed; retrying");
                }
                continue;
            }
        }
        tell.send_if_modified(|told| {
            let is_new = told.as_deref() != Some(&known);
            if is_new {
                *told = Some(Arc::new(known.clone()));
            }
            is_new
        });
    }
}

/// A definition that is being deleted counts as gone: its objects are deleted one by one now.
fn note(known: &mut BTreeSet<String>, definition: &PartialObjectMeta<CustomResourceDefinition>) {
    match definition.metadata.deletion_timestamp {
        None => known.insert(definition.name_any()),
        Some(_) => known.remove(&definition.name_any()),
    };
}
