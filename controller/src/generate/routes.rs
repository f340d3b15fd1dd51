//! The routes of one service, put together.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::protocol::Protocol;
use super::report::{Reports, ResourceRef};
use super::router::{Draft, Target};
use super::service::ManagedPort;

/// The routes of one service as they are gathered, namespace by namespace.
#[derive(Debug, Default)]
pub(super) struct Routes {
    drafts: Vec<Draft>,
    /// The one of the namespace that takes every call.
    last: Option<Draft>,
    /// The name of the one that leaves none to the namespaces after it.
    taken_by: Option<String>,
    /// Where Istio would have sent connections.
    pub(super) connections: Vec<Target>,
    /// Calls that no route takes are answered with an error.
    pub(super) rejects: bool,
}

impl Routes {
    /// Adds a route. One that takes every call comes after all others of the namespace, also after those of later resources;
    /// only the first such one is.
    pub(super) fn add(&mut self, origin: &ResourceRef, mut draft: Draft, reports: &mut Reports) {
        let namespace = origin.namespace.as_deref().unwrap_or_default();
        let written = std::mem::take(&mut draft.name);
        draft.name = format!("{namespace}/{}/{written}", origin.name);
        let is_for_rest = draft.alternatives.is_none();
        let last = self.last.as_ref().filter(|_| is_for_rest).map(|last| &last.name);
        if let Some(taker) = self.taken_by.as_ref().or(last) {
            let message = format!("route {written:?} never matches: {taker} already is the catch-all");
            reports.warn(origin, "spec", message);
        } else if is_for_rest {
            self.last = Some(draft);
        } else {
            self.drafts.push(draft);
        }
    }

    /// What comes is of another namespace, and has no say in the calls that are taken.
    pub(super) fn end_namespace(&mut self) {
        if let Some(last) = self.last.take() {
            self.taken_by = Some(last.name.clone());
            self.drafts.push(last);
        }
    }

    /// The plan's entry of the service, for calls that come by `port`.
    pub(super) fn entry(mut self, port: &ManagedPort) -> Value {
        self.end_namespace();
        let Protocol::Codec(codec) = &port.protocol else { return Value::Null };
        let mut entry = Map::from_iter([("protocol".to_owned(), json!(codec))]);
        let takes_all = self.taken_by.is_some();
        let mut names = HashMap::new();
        let drafts = self.drafts.into_iter();
        let written: Vec<Value> =
            drafts.map(|draft| draft.route(&unique(&draft.name, &mut names), port.number)).collect();
        if !written.is_empty() {
            entry.insert("routes".into(), written.into());
        }
        if self.rejects && !takes_all {
            entry.insert("onNoMatch".into(), "reject".into());
        } else if !takes_all && !self.connections.is_empty() {
            let default = Draft { destinations: self.connections, ..Draft::default() };
            entry.insert("defaultRoute".into(), default.destination_and_policies(port.number).into());
        }
        entry.into()
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
