//! Which ConfigMaps make the configuration of each revision of Istio.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::revisions::{DEFAULT, REVISION};
use crate::world::World;

/// The ConfigMaps of a revision: what its own does not say, the shared one does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Maps<'a> {
    /// The name of the revision.
    pub(super) revision: &'a str,
    /// `istio`, or `istio-<revision>`.
    pub(super) own: Option<&'a ConfigMap>,
    /// That which its istiod names.
    pub(super) shared: Option<&'a ConfigMap>,
}

/// The key of the ConfigMap that holds the configuration.
pub const KEY: &str = "mesh";
const NAME: &str = "istio";
/// What tells istiod its revision.
const OWN: &str = "REVISION";
/// What tells istiod of a second ConfigMap.
const SHARED: &str = "SHARED_MESH_CONFIG";

/// Those in istiod's namespace, by the names that revisions' own have.
pub(super) fn by_revision<'a>(world: &'a World, istio_namespace: &str) -> Vec<Maps<'a>> {
    let is_there = |namespace: Option<String>| namespace.as_deref() == Some(istio_namespace);
    let maps = world.config_maps.iter().filter(|map| is_there(map.namespace()) && text(map).is_some());
    let maps: BTreeMap<&str, &ConfigMap> =
        maps.filter_map(|map| Some((map.metadata.name.as_deref()?, map))).collect();
    let mut istiods: Vec<&Deployment> =
        world.istiods.iter().filter(|istiod| is_there(istiod.namespace())).collect();
    // Of several of one revision the first by name counts.
    istiods.sort_by_key(|istiod| &istiod.metadata.name);
    let istiods: Vec<(&str, Option<&str>)> =
        istiods.into_iter().map(|istiod| (revision(istiod), variable(istiod, SHARED))).collect();
    let running: BTreeSet<&str> = istiods.iter().map(|&(revision, _)| revision).collect();
    let named: BTreeSet<&str> = istiods.iter().filter_map(|&(_, shared)| shared).collect();

    let own = maps.iter().filter_map(|(&name, &map)| Some((of_name(name)?, name, map)));
    // A name may look like that of a revision's own.
    let own = own.filter(|(revision, name, _)| !named.contains(name) || running.contains(revision));
    let mut found: BTreeMap<String, Maps<'_>> = own
        .map(|(revision, name, map)| (name.to_owned(), Maps { revision, own: Some(map), shared: None }))
        .collect();
    for (revision, shared) in istiods {
        let Some(&map) = shared.and_then(|name| maps.get(name)) else { continue };
        let name = if revision == DEFAULT { NAME.to_owned() } else { format!("{NAME}-{revision}") };
        let of_revision = found.entry(name).or_insert(Maps { revision, own: None, shared: None });
        of_revision.shared.get_or_insert(map);
    }
    found.into_values().collect()
}

/// What a ConfigMap says of the mesh.
pub(super) fn text(map: &ConfigMap) -> Option<&str> {
    map.data.as_ref()?.get(KEY).map(String::as_str)
}

/// The revision whose own the ConfigMap of a name would be.
fn of_name(name: &str) -> Option<&str> {
    match name.strip_prefix(NAME)? {
        "" => Some(DEFAULT),
        rest => rest.strip_prefix('-'),
    }
}

/// The revision of an istiod.
fn revision(istiod: &Deployment) -> &str {
    let label = || istiod.metadata.labels.as_ref()?.get(REVISION).map(String::as_str);
    variable(istiod, OWN).or_else(label).filter(|name| !name.is_empty()).unwrap_or(DEFAULT)
}

/// What an istiod has in a variable of its environment, if that is not empty.
fn variable<'a>(istiod: &'a Deployment, name: &str) -> Option<&'a str> {
    let containers = &istiod.spec.as_ref()?.template.spec.as_ref()?.containers;
    let mut variables = containers.iter().flat_map(|container| container.env.iter().flatten());
    variables.find(|variable| variable.name == name)?.value.as_deref().filter(|value| !value.is_empty())
}
