//! Tunnels wait until sidecars have what they lead to.
//!
//! A sidecar that gets the sockets has to fetch and compile the module before they serve, and for as long would
//! refuse the connections that a tunnel leads there.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;
use tokio::time::Instant;

use super::changes::{Key, Wanted};
use crate::generate::Role;

/// The shards that got a module or sockets a moment ago.
#[derive(Debug)]
pub struct Warming<'a> {
    span: Duration,
    /// What makes up shards.
    parts: HashMap<&'a Key, &'a Wanted>,
    /// Until when tunnels wait, by the namespace and the shard.
    ends: HashMap<(&'a str, &'a str), Instant>,
    known: Known,
}

/// When the time of objects is over, by their uids, as it was when they were first seen: by a clock of the API server that is
/// ahead they would stay new for long.
pub type Known = HashMap<String, Instant>;

impl<'a> Warming<'a> {
    /// Those of `wanted` that are among the objects of the cluster: sidecars get `span` from when an object was made.
    /// `known` is what was known before.
    pub fn new(wanted: &'a [Wanted], live: &[Arc<DynamicObject>], span: Duration, mut known: Known) -> Self {
        let parts = wanted.iter().filter(|object| object.role != Role::Tunnel);
        let parts = parts.map(|object| (&object.key, object)).collect();
        let there: HashSet<&String> = live.iter().filter_map(|object| object.metadata.uid.as_ref()).collect();
        known.retain(|uid, _| there.contains(uid));
        let mut warming = Self { span, parts, ends: HashMap::new(), known };
        live.iter().for_each(|object| warming.note(object));
        warming
    }

    /// Notes an object of the cluster.
    pub fn note(&mut self, object: &DynamicObject) {
        let Some(part) = self.parts.get(&Key::live(object)) else { return };
        let Some(made) = &object.metadata.creation_timestamp else { return };
        // The clock of the API server may be ahead.
        let age = Duration::try_from(Timestamp::now().duration_since(made.0)).unwrap_or_default();
        if age >= self.span {
            return;
        }
        let now = Instant::now();
        let end = now + self.span.saturating_sub(age);
        let uid = object.metadata.uid.clone();
        let end = uid.map_or(end, |uid| *self.known.entry(uid).or_insert(end));
        if end <= now {
            return;
        }
        for shard in &part.shards {
            let known = self.ends.entry((&part.key.namespace, shard)).or_insert(end);
            *known = end.max(*known);
        }
    }

    /// Until when an object waits for the shards that it leads to, if it has to.
    pub fn end(&self, object: &Wanted) -> Option<Instant> {
        let end = |shard: &Arc<str>| self.ends.get(&(&*object.key.namespace, &**shard)).copied();
        object.shards.iter().filter_map(end).max()
    }

    /// What is known now.
    pub fn known(self) -> Known {
        self.known
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::ToSpan;
    use serde_json::json;

    use super::*;

    const SPAN: Duration = Duration::from_secs(20);

    fn there(name: &str, age: i64) -> Arc<DynamicObject> {
        let made = Timestamp::now().saturating_sub(age.seconds()).unwrap();
        let object = serde_json::from_value(json!({
            "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
            "metadata": {"name": name, "namespace": "shop", "creationTimestamp": made.to_string()},
        }));
        Arc::new(object.unwrap())
    }

    fn wanted(role: Role, name: &str, shards: &[&str]) -> Wanted {
        let mut object = Wanted::of(role, "shop", name);
        object.shards = shards.iter().map(|&shard| shard.into()).collect();
        object
    }

    #[test]
    fn tunnels_wait_for_the_youngest_of_what_they_lead_to() {
        let wanted = [
            wanted(Role::Module, "module-a", &["a"]),
            wanted(Role::Sockets, "sockets-a", &["a"]),
            wanted(Role::Sockets, "sockets-b", &["b"]),
            wanted(Role::Tunnel, "to-a", &["a"]),
            wanted(Role::Tunnel, "to-b", &["b"]),
            wanted(Role::Tunnel, "to-both", &["a", "b"]),
        ];
        let [.., to_a, to_b, to_both] = &wanted;
        let live = [("module-a", 100), ("sockets-a", 5), ("sockets-b", 21), ("to-b", 0)]
            .map(|(name, age)| there(name, age));
        let mut warming = Warming::new(&wanted, &live, SPAN, Known::new());
        let left = warming.end(to_a).unwrap() - Instant::now();
        assert!((Duration::from_secs(14)..=Duration::from_secs(15)).contains(&left), "{left:?}");
        assert_eq!(warming.end(to_both), warming.end(to_a));
        assert_eq!(warming.end(to_b), None);
        warming.note(&there("module-a", 1));
        assert!(warming.end(to_a).unwrap() - Instant::now() > Duration::from_secs(18));
    }

    #[test]
    fn a_clock_that_is_ahead_prolongs_nothing() {
        let wanted = [wanted(Role::Sockets, "sockets", &["a"]), wanted(Role::Tunnel, "tunnel", &["a"])];
        let end =
            |span| Warming::new(&wanted, &[there("sockets", -3600)], span, Known::new()).end(&wanted[1]);
        assert!(end(SPAN).unwrap() - Instant::now() <= SPAN);
        // Nobody waits where no time is given.
        assert_eq!(end(Duration::ZERO), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_of_a_clock_that_is_ahead_is_new_once() {
        let wanted = [wanted(Role::Sockets, "sockets", &["a"]), wanted(Role::Tunnel, "tunnel", &["a"])];
        let mut object = DynamicObject::clone(&there("sockets", -3600));
        object.metadata.uid = Some("1".to_owned());
        let live = [Arc::new(object)];
        let pass = |live: &[Arc<DynamicObject>], known| {
            let warming = Warming::new(&wanted, live, SPAN, known);
            (warming.end(&wanted[1]), warming.known())
        };
        let (first, known) = pass(&live, Known::new());
        tokio::time::advance(SPAN / 2).await;
        let (second, known) = pass(&live, known);
        assert!(first.is_some() && second == first, "{first:?} {second:?}");
        tokio::time::advance(SPAN / 2).await;
        let (third, known) = pass(&live, known);
        assert_eq!((third, known.len()), (None, 1));
        // Nothing is kept of one that is gone.
        assert!(pass(&[], known).1.is_empty());
    }
}
