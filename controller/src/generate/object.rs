use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::entry::Entry;
use super::tree::Tree;

/// The label of every object that Meltemi generates, and its value.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "meltemi");

/// The label of every object that Meltemi generates that says which installation of it did.
pub const INSTANCE: &str = "app.kubernetes.io/instance";

/// The value of [`INSTANCE`] where no controller generated the object, but the command, for a person to apply.
pub const BY_HAND: &str = "by-hand";

/// The label that states the [`Role`] of a generated object.
pub const ROLE: &str = "meltemi.io/role";

/// A generated object.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// The group and version, such as `networking.istio.io/v1alpha3`.
    pub api_version: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The name, the namespace and the labels.
    pub metadata: Metadata,
    /// All that it says.
    pub spec: Tree,
    /// The shards of its namespace that it makes up, or that must be there before it.
    #[serde(skip)]
    pub shards: BTreeSet<Arc<str>>,
    /// What its plan says, if it is the module.
    #[serde(skip)]
    pub entries: Vec<Entry>,
}

/// The metadata of a generated object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// The name, unique among the objects of the kind in the namespace.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The labels: [`MANAGED_BY`], [`INSTANCE`] and [`ROLE`].
    pub labels: BTreeMap<&'static str, Cow<'static, str>>,
}

/// What an object is for. No tunnel may exist without the sockets that it leads to, nor sockets without the module: so
/// objects come in this order, and go in the reverse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The module and its plan.
    Module,
    /// The internal listener, and the cluster that leads to it.
    Sockets,
    /// What sends a service's connections there, or configures a native filter in its place.
    Tunnel,
}

impl Role {
    /// The value of the label [`ROLE`].
    pub const fn label(self) -> &'static str {
        match self {
            Role::Module => "module",
            Role::Sockets => "sockets",
            Role::Tunnel => "tunnel",
        }
    }

    /// The role that a label states. Whatever is unknown is taken for a tunnel, which comes last and goes first.
    pub fn of_label(label: &str) -> Self {
        match label {
            "module" => Role::Module,
            "sockets" => Role::Sockets,
            _ => Role::Tunnel,
        }
    }
}

impl Object {
    /// An EnvoyFilter.
    pub(super) fn envoy_filter(role: Role, namespace: &str, name: String, spec: Tree) -> Self {
        Self::new(role, "networking.istio.io/v1alpha3", "EnvoyFilter", namespace, name, spec)
    }

    /// A WasmPlugin, which is the module.
    pub(super) fn wasm_plugin(namespace: &str, name: String, spec: Tree) -> Self {
        Self::new(Role::Module, "extensions.istio.io/v1alpha1", "WasmPlugin", namespace, name, spec)
    }

    /// A VirtualService, without which a gateway has no listener to tunnel from.
    pub(super) fn virtual_service(namespace: &str, name: String, spec: Tree) -> Self {
        Self::new(Role::Tunnel, "networking.istio.io/v1", "VirtualService", namespace, name, spec)
    }

    fn new(
        role: Role,
        api_version: &'static str,
        kind: &'static str,
        namespace: &str,
        name: String,
        spec: Tree,
    ) -> Self {
        let labels = [MANAGED_BY, (ROLE, role.label())].map(|(label, value)| (label, value.into()));
        let metadata = Metadata { name, namespace: namespace.to_owned(), labels: labels.into() };
        Self { api_version, kind, metadata, spec, shards: BTreeSet::new(), entries: Vec::new() }
    }

    /// The same object, which makes up these shards or leads there.
    pub(super) fn of_shards(self, shards: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self { shards: shards.into_iter().collect(), ..self }
    }

    /// The same object, with the entries of its plan.
    pub(super) fn of_entries(self, entries: Vec<Entry>) -> Self {
        Self { entries, ..self }
    }

    /// What the object is for.
    pub fn role(&self) -> Role {
        Role::of_label(self.metadata.labels.get(ROLE).map(|role| &**role).unwrap_or_default())
    }
}
