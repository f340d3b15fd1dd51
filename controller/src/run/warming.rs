//! Tunnels wait until sidecars have what they lead to.
//!
//! A sidecar that is told of the sockets has to fetch and compile the module before they serve, and for as long would
//! refuse the connections that a tunnel leads there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;
use tokio::time::Instant;

use super::changes::role;
use crate::generate::Role;

/// The namespaces that got a module or sockets a moment ago.
#[derive(Debug)]
pub struct Warming {
    span: Duration,
    ends: HashMap<String, Instant>,
}

impl Warming {
    /// Those among the objects of the cluster: sidecars get `span` from when an object was made.
    pub fn new(live: &[Arc<DynamicObject>], span: Duration) -> Self {
        let mut warming = Self { span, ends: HashMap::new() };
        live.iter().for_each(|object| warming.note(object));
        warming
    }

    /// Notes an object of the cluster.
    pub fn note(&mut self, object: &DynamicObject) {
        let (Some(namespace), Some(made)) = (&object.metadata.namespace, &object.metadata.creation_timestamp)
        else {
            return;
        };
        // The clock of the API server may be ahead.
        let age = Duration::try_from(Timestamp::now().duration_since(made.0)).unwrap_or_default();
        if role(object) == Role::Tunnel || age >= self.span {
            return;
        }
        let end = Instant::now() + self.span.saturating_sub(age);
        let known = self.ends.entry(namespace.clone()).or_insert(end);
        *known = end.max(*known);
    }

    /// Until when the tunnels of a namespace wait, if they have to.
    pub fn end(&self, namespace: &str) -> Option<Instant> {
        self.ends.get(namespace).copied()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::ToSpan;
    use serde_json::json;

    use super::*;
    use crate::generate::ROLE;

    const SPAN: Duration = Duration::from_secs(20);

    fn object(role: Role, namespace: &str, age: i64) -> Arc<DynamicObject> {
        let made = Timestamp::now().saturating_sub(age.seconds()).unwrap();
        let object = serde_json::from_value(json!({
            "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
            "metadata": {"name": "x", "namespace": namespace, "creationTimestamp": made.to_string(),
                "labels": {ROLE: role.label()}},
        }));
        Arc::new(object.unwrap())
    }

    #[test]
    fn tunnels_wait_for_the_youngest_of_what_they_lead_to() {
        let live = [
            object(Role::Module, "shop", 100),
            object(Role::Sockets, "shop", 5),
            object(Role::Tunnel, "shop", 0),
            object(Role::Sockets, "old", 21),
            object(Role::Tunnel, "old", 0),
        ];
        let mut warming = Warming::new(&live, SPAN);
        let left = warming.end("shop").unwrap() - Instant::now();
        assert!((Duration::from_secs(14)..=Duration::from_secs(15)).contains(&left), "{left:?}");
        assert_eq!(["old", "none"].map(|namespace| warming.end(namespace)), [None, None]);
        warming.note(&object(Role::Module, "shop", 1));
        assert!(warming.end("shop").unwrap() - Instant::now() > Duration::from_secs(18));
    }

    #[test]
    fn a_clock_that_is_ahead_prolongs_nothing() {
        let warming = Warming::new(&[object(Role::Sockets, "shop", -3600)], SPAN);
        assert!(warming.end("shop").unwrap() - Instant::now() <= SPAN);
    }

    #[test]
    fn nobody_waits_where_no_time_is_given() {
        assert_eq!(Warming::new(&[object(Role::Sockets, "shop", 0)], Duration::ZERO).end("shop"), None);
    }
}
