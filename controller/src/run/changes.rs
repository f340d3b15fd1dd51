//! What has to be written so that the cluster has the objects that are wanted, and in which order.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use kube::core::DynamicObject;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

#[cfg(test)]
use crate::generate::MANAGED_BY;
use crate::generate::{Object, ROLE, Role};

/// An object by its names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The names of an object of the cluster.
    pub fn live(object: &DynamicObject) -> Self {
        Self {
            kind: object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default(),
            namespace: object.metadata.namespace.clone().unwrap_or_default(),
            name: object.metadata.name.clone().unwrap_or_default(),
        }
    }
}

/// An object that is wanted, as it is kept: its text, which takes a tenth of the room that its values do.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its names.
    pub key: Key,
    /// What it is for.
    pub role: Role,
    /// The shards of its namespace that it makes up, or that must be there before it.
    pub shards: BTreeSet<Arc<str>>,
    /// Its labels.
    pub labels: BTreeMap<&'static str, Cow<'static, str>>,
    /// The [`fingerprint`] of its spec.
    pub spec: u64,
    /// All of it.
    pub text: Box<RawValue>,
}

impl Wanted {
    /// A generated object.
    ///
    /// # Errors
    ///
    /// None, for objects that came from the generator.
    pub fn new(object: &Object) -> serde_json::Result<Self> {
        let spec = object.spec.to_string();
        Ok(Self {
            key: Key {
                kind: object.kind.to_owned(),
                namespace: object.metadata.namespace.clone(),
                name: object.metadata.name.clone(),
            },
            role: object.role(),
            shards: object.shards.clone(),
            labels: object.metadata.labels.clone(),
            spec: hash(&spec),
            text: to_raw_value(object)?,
        })
    }
}

#[cfg(test)]
impl Wanted {
    /// One that says nothing.
    pub fn of(role: Role, namespace: &str, name: &str) -> Self {
        Self {
            key: Key { kind: "EnvoyFilter".into(), namespace: namespace.into(), name: name.into() },
            role,
            shards: BTreeSet::new(),
            labels: [MANAGED_BY, (ROLE, role.label())].map(|(name, value)| (name, value.into())).into(),
            spec: fingerprint(&Value::Null),
            text: Box::default(),
        }
    }
}

/// What distinguishes a spec from others.
pub fn fingerprint(spec: &Value) -> u64 {
    hash(&spec.to_string())
}

/// The [`fingerprint`] of a spec that is written as JSON.
fn hash(spec: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    spec.hash(&mut hasher);
    hasher.finish()
}

/// Keeps the fingerprint of an object's spec in the place of all that the object says.
pub fn compact(object: &mut DynamicObject) {
    object.data = Value::from(fingerprint(spec(object)));
}

/// An object of the cluster that is not wanted any more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Surplus {
    /// The object.
    pub key: Key,
    /// Which of all objects that had these names it is.
    pub uid: String,
}

/// Everything that has to be written. What is applied goes in the order of its roles, what is deleted in the reverse one,
/// so that no proxy ever has a tunnel without an end.
#[derive(Debug, Default)]
pub struct Changes<'a> {
    /// The objects to apply.
    pub missing: BTreeMap<Role, Vec<&'a Wanted>>,
    /// The objects to delete.
    pub surplus: BTreeMap<Role, Vec<Surplus>>,
}

/// What the server made of objects that it does not keep word for word, such as those that its schema prunes: the
/// fingerprints of what was asked and of what it keeps. They are not applied for ever.
pub type Accepted = HashMap<Key, (u64, u64)>;

/// Compares what is wanted with what there is: objects that are [`compact`].
pub fn changes<'a, 'b>(
    wanted: &'a [Wanted],
    live: impl IntoIterator<Item = &'b DynamicObject>,
    accepted: &Accepted,
) -> Changes<'a> {
    let mut live: HashMap<Key, &DynamicObject> =
        live.into_iter().map(|object| (Key::live(object), object)).collect();
    let mut changes = Changes::default();
    for object in wanted {
        let there = live.remove(&object.key);
        if !there.is_some_and(|there| is_as_wanted(object, there, accepted)) {
            changes.missing.entry(object.role).or_default().push(object);
        }
    }
    // What is being deleted already needs no second call.
    for (key, object) in live.into_iter().filter(|(_, object)| object.metadata.deletion_timestamp.is_none()) {
        let surplus = Surplus { key, uid: object.metadata.uid.clone().unwrap_or_default() };
        changes.surplus.entry(role(object)).or_default().push(surplus);
    }
    changes.surplus.values_mut().for_each(|surplus| surplus.sort_unstable());
    changes
}

fn is_as_wanted(wanted: &Wanted, live: &DynamicObject, accepted: &Accepted) -> bool {
    let is_labelled = wanted.labels.iter().all(|(name, value)| label(live, name) == Some(&**value));
    let kept = live.data.as_u64();
    let is_accepted = || {
        accepted.get(&wanted.key).is_some_and(|(asked, given)| *asked == wanted.spec && kept == Some(*given))
    };
    is_labelled && (kept == Some(wanted.spec) || is_accepted())
}

/// What an object of the cluster is for.
pub fn role(object: &DynamicObject) -> Role {
    Role::of_label(label(object, ROLE).unwrap_or_default())
}

/// The value of a label of an object of the cluster.
pub fn label<'a>(object: &'a DynamicObject, name: &str) -> Option<&'a str> {
    object.metadata.labels.as_ref()?.get(name).map(String::as_str)
}

/// The spec of an object of the cluster.
pub fn spec(object: &DynamicObject) -> &Value {
    object.data.get("spec").unwrap_or(&Value::Null)
}

/// A merge patch that removes from `live` what is not in `wanted`, if there is anything. Server-side apply leaves the
/// fields that others have added.
pub fn surplus_fields(live: &Value, wanted: &Value) -> Option<Value> {
    let (Value::Object(live), Value::Object(wanted)) = (live, wanted) else { return None };
    let removed: Map<String, Value> = live
        .iter()
        .filter_map(|(name, value)| match wanted.get(name) {
            None => Some((name.clone(), Value::Null)),
            Some(wanted) => surplus_fields(value, wanted).map(|inner| (name.clone(), inner)),
        })
        .collect();
    (!removed.is_empty()).then_some(Value::Object(removed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn live(role: Role, name: &str, spec: Value) -> DynamicObject {
        let mut object = serde_json::from_value(json!({
            "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
            "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}"),
                "labels": {"app.kubernetes.io/managed-by": "meltemi", "meltemi.io/role": role.label()}},
            "spec": spec,
        }))
        .unwrap();
        compact(&mut object);
        object
    }

    fn wanted(role: Role, name: &str, spec: Value) -> Wanted {
        let object = Wanted::of(role, "shop", name);
        Wanted { spec: fingerprint(&spec), ..object }
    }

    fn tunnel(name: &str, spec: Value) -> Wanted {
        wanted(Role::Tunnel, name, spec)
    }

    fn missing(changes: &Changes<'_>) -> Vec<String> {
        changes.missing.values().flatten().map(|object| object.key.name.clone()).collect()
    }

    fn is_empty(changes: &Changes<'_>) -> bool {
        changes.missing.is_empty() && changes.surplus.is_empty()
    }

    #[test]
    fn objects_that_are_as_wanted_are_left_alone() {
        let wanted = [tunnel("meltemi-a", json!({"x": 1}))];
        let there = [live(Role::Tunnel, "meltemi-a", json!({"x": 1}))];
        assert!(is_empty(&changes(&wanted, &there, &Accepted::new())));
    }

    #[test]
    fn tunnels_come_last_and_go_first() {
        let wanted = [
            wanted(Role::Tunnel, "a", json!({})),
            wanted(Role::Sockets, "b", json!({})),
            wanted(Role::Module, "c", json!({})),
        ];
        let there = [
            live(Role::Sockets, "old-sockets", json!({})),
            live(Role::Tunnel, "old-tunnel", json!({})),
            live(Role::Module, "old-module", json!({})),
        ];
        let changes = changes(&wanted, &there, &Accepted::new());
        assert_eq!(missing(&changes), ["c", "b", "a"]);
        let gone: Vec<&str> =
            changes.surplus.values().rev().flatten().map(|surplus| surplus.uid.as_str()).collect();
        assert_eq!(gone, ["uid-old-tunnel", "uid-old-sockets", "uid-old-module"]);
    }

    #[test]
    fn a_lost_label_and_a_changed_spec_are_mended() {
        let wanted = [tunnel("a", json!({"x": 1})), tunnel("b", json!({"x": 1}))];
        let mut unlabelled = live(Role::Tunnel, "a", json!({"x": 1}));
        unlabelled.metadata.labels.as_mut().unwrap().remove(ROLE);
        let there = [unlabelled, live(Role::Tunnel, "b", json!({"x": 2}))];
        assert_eq!(missing(&changes(&wanted, &there, &Accepted::new())), ["a", "b"]);
    }

    #[test]
    fn what_the_server_made_of_an_object_is_accepted_until_either_changes() {
        let wanted = [tunnel("a", json!({"x": 1}))];
        let given = json!({"x": 1, "default": true});
        let accepted = Accepted::from([(wanted[0].key.clone(), (wanted[0].spec, fingerprint(&given)))]);
        let there = live(Role::Tunnel, "a", given);
        assert!(is_empty(&changes(&wanted, [&there], &accepted)));
        let edited = live(Role::Tunnel, "a", json!({"x": 1, "default": false}));
        assert_eq!(missing(&changes(&wanted, [&edited], &accepted)), ["a"]);
        let rewanted = [tunnel("a", json!({"x": 2}))];
        assert_eq!(missing(&changes(&rewanted, [&there], &accepted)), ["a"]);
    }

    #[test]
    fn what_goes_already_is_not_deleted_twice() {
        let mut there = live(Role::Tunnel, "a", json!({}));
        there.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        assert!(is_empty(&changes(&[], [&there], &Accepted::new())));
    }

    #[test]
    fn surplus_fields_are_found_at_any_depth() {
        let live = json!({"a": {"b": 1, "c": 2}, "d": 3, "e": [1]});
        let wanted = json!({"a": {"b": 1}, "e": [2]});
        assert_eq!(surplus_fields(&live, &wanted), Some(json!({"a": {"c": null}, "d": null})));
        assert_eq!(surplus_fields(&wanted, &live), None);
    }
}
