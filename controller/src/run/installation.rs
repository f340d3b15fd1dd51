//! Which of the generated objects in the cluster are this installation's to write.
//!
//! Installations know their objects by a label. Two of them would give one namespace objects of the same names, so each
//! namespace is that of one: the first to have had an object there. What a person applied, or a version without the label did,
//! is taken over under its name, and never deleted.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::core::DynamicObject;
use tracing::warn;

use super::changes::{Key, Wanted, label};
use crate::generate::{BY_HAND, INSTANCE};

/// An installation of the controller.
#[derive(Debug)]
pub struct Installation {
    /// Its name.
    name: String,
    /// What was said of others, so that it is said once.
    told: Others,
}

/// What this installation may write.
#[derive(Debug)]
pub struct Own<'a> {
    /// What it wants, where it may.
    pub wanted: Cow<'a, [Wanted]>,
    /// Its objects in the cluster, and those that it takes over.
    pub live: Vec<Arc<DynamicObject>>,
}

/// What other installations and people have.
#[derive(Debug, Default, PartialEq, Eq)]
struct Others {
    /// The namespaces of other installations.
    namespaces: BTreeMap<String, String>,
    /// What nobody wants any more, and nobody's to delete.
    left: BTreeSet<Key>,
}

impl Installation {
    /// The installation of that name.
    pub fn new(name: String) -> Self {
        Self { name, told: Others::default() }
    }

    /// What it may write, of what it wants and what there is.
    pub fn own<'a>(&mut self, wanted: &'a [Wanted], live: Vec<Arc<DynamicObject>>) -> Own<'a> {
        let mut others = Others { namespaces: self.namespaces_of_others(&live), left: BTreeSet::new() };
        let is_ours = |object: &&Wanted| !others.namespaces.contains_key(&object.key.namespace);
        let wanted = match others.namespaces.is_empty() {
            true => Cow::Borrowed(wanted),
            false => Cow::Owned(wanted.iter().filter(is_ours).cloned().collect()),
        };
        let keys: BTreeSet<&Key> = wanted.iter().map(|object| &object.key).collect();
        let is_own = |object: &Arc<DynamicObject>| {
            let key = Key::live(object);
            match label(object, INSTANCE) {
                Some(name) if name == self.name => true,
                // Applying it gives it the label.
                _ if keys.contains(&key) => true,
                None | Some(BY_HAND) if !others.namespaces.contains_key(&key.namespace) => {
                    others.left.insert(key);
                    false
                }
                _ => false,
            }
        };
        let live = live.into_iter().filter(is_own).collect();
        self.tell(others);
        Own { wanted, live }
    }

    /// The namespaces whose oldest object is another installation's, and whose that is.
    fn namespaces_of_others(&self, live: &[Arc<DynamicObject>]) -> BTreeMap<String, String> {
        let mut first = BTreeMap::new();
        for object in live {
            let Some(name) = label(object, INSTANCE).filter(|name| *name != BY_HAND) else { continue };
            let namespace = object.metadata.namespace.clone().unwrap_or_default();
            let made = (object.metadata.creation_timestamp.as_ref().map(|time| time.0), name);
            first.entry(namespace).and_modify(|first| *first = made.min(*first)).or_insert(made);
        }
        let others = first.into_iter().filter(|(_, (_, name))| *name != self.name);
        others.map(|(namespace, (_, name))| (namespace, name.to_owned())).collect()
    }

    fn tell(&mut self, others: Others) {
        for (namespace, instance) in &others.namespaces {
            if self.told.namespaces.get(namespace) != Some(instance) {
                warn!(
                    namespace,
                    instance, "another installation was here first: the namespace is left to it"
                );
            }
        }
        for key in others.left.difference(&self.told.left) {
            let name = format!("{}/{}", key.namespace, key.name);
            warn!(kind = key.kind, name, "left over, and not of this installation: to be deleted by hand");
        }
        self.told = others;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{MANAGED_BY, Metadata, Object};
    use serde_json::json;

    fn live(namespace: &str, name: &str, instance: Option<&str>, second: u8) -> Arc<DynamicObject> {
        let mut object = json!({
            "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
            "metadata": {
                "name": name, "namespace": namespace, "labels": {MANAGED_BY.0: MANAGED_BY.1},
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            },
        });
        if let Some(instance) = instance {
            object["metadata"]["labels"][INSTANCE] = json!(instance);
        }
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn wanted(namespace: &str, name: &str) -> Wanted {
        let object = Object {
            api_version: "networking.istio.io/v1alpha3",
            kind: "EnvoyFilter",
            metadata: Metadata {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                labels: BTreeMap::from([(INSTANCE, "one".into())]),
            },
            spec: json!({}).into(),
            shards: BTreeSet::new(),
            entries: Vec::new(),
        };
        Wanted::new(&object).unwrap()
    }

    /// The names of what an installation wants to write, of what it may change, and of what is left over.
    fn own(name: &str, wanted: &[Wanted], live: &[Arc<DynamicObject>]) -> [Vec<String>; 3] {
        let mut installation = Installation::new(name.to_owned());
        let own = installation.own(wanted, live.to_vec());
        let told = |key: &Key| format!("{}/{}", key.namespace, key.name);
        [
            own.wanted.iter().map(|object| told(&object.key)).collect(),
            own.live.iter().map(|object| told(&Key::live(object))).collect(),
            installation.told.left.iter().map(told).collect(),
        ]
    }

    #[test]
    fn each_namespace_is_that_of_the_first() {
        let wanted = [wanted("shop", "a"), wanted("web", "a")];
        let there = [
            live("shop", "a", Some("one"), 1),
            live("shop", "old", Some("one"), 1),
            live("shop", "b", Some("two"), 2),
            live("web", "a", Some("two"), 3),
            live("web", "late", Some("one"), 4),
        ];
        let none = Vec::<String>::new;
        assert_eq!(
            own("one", &wanted, &there),
            [
                vec!["shop/a".to_owned()],
                ["shop/a", "shop/old", "web/late"].map(str::to_owned).to_vec(),
                none()
            ]
        );
        assert_eq!(
            own("two", &wanted, &there),
            [vec!["web/a".to_owned()], ["shop/b", "web/a"].map(str::to_owned).to_vec(), none()]
        );
    }

    #[test]
    fn what_is_of_nobody_is_taken_over_by_name_and_else_left() {
        let wanted = [wanted("shop", "a"), wanted("shop", "b")];
        let there = [
            live("shop", "a", None, 1),
            live("shop", "b", Some(BY_HAND), 1),
            live("shop", "old", None, 1),
            live("shop", "older", Some(BY_HAND), 1),
        ];
        let names = |names: [&str; 2]| names.map(str::to_owned).to_vec();
        let all = names(["shop/a", "shop/b"]);
        assert_eq!(own("one", &wanted, &there), [all.clone(), all, names(["shop/old", "shop/older"])]);
    }
}
