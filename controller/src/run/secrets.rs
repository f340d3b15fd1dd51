//! The passwords that resources name, read one by one.
//!
//! To watch them, the controller would need the right to list every Secret of the cluster. So it reads the few that are
//! named, again each minute.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tracing::warn;

use super::apply::limited;

/// How many reads are under way at a time: a namespace may name thousands, and nobody else is to wait for each of them.
const PARALLEL: usize = 16;

/// The Secrets that were named when they were read last.
pub struct Secrets {
    client: Client,
    known: BTreeMap<(String, String), Option<Secret>>,
    /// Those that could not be read, which is said once.
    failed: BTreeSet<(String, String)>,
}

impl Secrets {
    /// None yet.
    pub fn new(client: Client) -> Self {
        Self { client, known: BTreeMap::new(), failed: BTreeSet::new() }
    }

    /// Reads the Secrets of these namespaces and names, those that are not known yet or, if `again`, all. Returns
    /// whether one of them changed.
    pub async fn read(&mut self, names: &BTreeSet<(String, String)>, again: bool) -> bool {
        let count = self.known.len();
        self.known.retain(|name, _| names.contains(name));
        self.failed.retain(|name| names.contains(name));
        let mut is_changed = self.known.len() != count;
        // One that was missing is looked for each time: it is often made just after the resource that names it.
        let is_due = |name: &&(String, String)| again || self.known.get(*name).is_none_or(Option::is_none);
        let due: Vec<(String, String)> = names.iter().filter(is_due).cloned().collect();
        let client = &self.client;
        let mut read = futures::stream::iter(due)
            .map(|name| async move {
                let api = Api::<Secret>::namespaced(client.clone(), &name.0);
                let found = limited(api.get_opt(&name.1)).await;
                (name, found)
            })
            .buffer_unordered(PARALLEL);
        while let Some((name, found)) = read.next().await {
            match found {
                Ok(found) => {
                    let found = found.map(|mut found| {
                        found.metadata.managed_fields = None;
                        found.metadata.resource_version = None;
                        found
                    });
                    self.failed.remove(&name);
                    is_changed |= self.known.insert(name, found.clone()) != Some(found);
                }
                // What was known of it stays: a failed read is no reason to forget a password.
                Err(error) => {
                    if self.failed.insert(name.clone()) {
                        warn!(error, secret = format!("{}/{}", name.0, name.1), "cannot read a Secret");
                    }
                }
            }
        }
        is_changed
    }

    /// The Secrets that were found.
    pub fn found(&self) -> Vec<Secret> {
        self.known.values().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::Router;
    use axum::extract::State;
    use axum::http::StatusCode;
    use axum::routing::get;
    use tokio::net::TcpListener;
    use tokio::sync::Barrier;
    use tokio::time::timeout;

    use super::*;

    /// Answers when so many ask together.
    async fn missing(State(together): State<Arc<Barrier>>) -> (StatusCode, &'static str) {
        together.wait().await;
        (StatusCode::NOT_FOUND, r#"{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404}"#)
    }

    #[tokio::test]
    async fn secrets_do_not_wait_for_one_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let together = Arc::new(Barrier::new(PARALLEL));
        let path = "/api/v1/namespaces/{namespace}/secrets/{name}";
        let router = Router::new().route(path, get(missing)).with_state(together);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        let mut secrets = Secrets::new(Client::try_from(config).unwrap());
        let names = (0..PARALLEL * 3).map(|at| ("evil".to_owned(), format!("s{at}"))).collect();
        for _ in 0..2 {
            let read = timeout(Duration::from_secs(60), secrets.read(&names, false)).await;
            assert!(read.is_ok(), "one after the other they never come together");
        }
        assert!(secrets.found().is_empty());
    }
}
