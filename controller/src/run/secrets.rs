//! The passwords that resources name, read one by one.
//!
//! To watch them, the controller would need the right to list every Secret of the cluster. So it reads the few that are
//! named, again each minute.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tracing::warn;

/// The Secrets that were named when they were read last.
pub struct Secrets {
    client: Client,
    known: BTreeMap<(String, String), Option<Secret>>,
}

impl Secrets {
    /// None yet.
    pub fn new(client: Client) -> Self {
        Self { client, known: BTreeMap::new() }
    }

    /// Reads the Secrets of these namespaces and names, those that are not known yet or, if `again`, all. Returns
    /// whether one of them changed.
    pub async fn read(&mut self, names: &BTreeSet<(String, String)>, again: bool) -> bool {
        let count = self.known.len();
        self.known.retain(|name, _| names.contains(name));
        let mut is_changed = self.known.len() != count;
        for name in names {
            // One that was missing is looked for each time: it is often made just after the resource that names it.
            if !again && self.known.get(name).is_some_and(Option::is_some) {
                continue;
            }
            let (namespace, secret) = name;
            match Api::<Secret>::namespaced(self.client.clone(), namespace).get_opt(secret).await {
                Ok(found) => {
                    let found = found.map(|mut found| {
                        found.metadata.managed_fields = None;
                        found.metadata.resource_version = None;
                        found
                    });
                    is_changed |= self.known.insert(name.clone(), found.clone()) != Some(found);
                }
                // What was known of it stays: a failed read is no reason to forget a password.
                Err(error) => warn!(%error, secret = format!("{namespace}/{secret}"), "cannot read a Secret"),
            }
        }
        is_changed
    }

    /// The Secrets that were found.
    pub fn found(&self) -> Vec<Secret> {
        self.known.values().flatten().cloned().collect()
    }
}
