//! The kinds of resources that Meltemi reads, and those that it writes.
//!
//! `kinds!` is the one table of what is read: the world, what is kept of a cluster, the rules, the definitions, and what
//! the controller may do are made of it.

use std::any::TypeId;
use std::sync::LazyLock;

use kube::Resource;
use kube::api::ApiResource;
use kube::core::NamespaceResourceScope;

/// Calls a macro with the table: by whose they are, each kind by the field of the world that has it and its type; those with
/// rules, by the function of [`crate::check`] too.
macro_rules! kinds {
    ($do:ident) => {
        $do! {
            // Kept of a cluster as they are.
            kubernetes {
                /// The namespaces, for the labels that ask for sidecars.
                namespaces: k8s_openapi::api::core::v1::Namespace,
                /// The services of Kubernetes.
                services: k8s_openapi::api::core::v1::Service,
                /// The endpoints of headless services.
                endpoint_slices: k8s_openapi::api::discovery::v1::EndpointSlice,
                /// The pods, for their labels.
                pods: k8s_openapi::api::core::v1::Pod,
            }
            // Of these, the controller reads but a few.
            few {
                /// The configurations of the mesh, among other things of the kind.
                config_maps: k8s_openapi::api::core::v1::ConfigMap,
                /// The passwords of Redis.
                secrets: k8s_openapi::api::core::v1::Secret,
            }
            // Defined by Istio: one of another shape must not hide the others.
            istio {
                /// Services that Kubernetes does not know.
                service_entries: $crate::istio::ServiceEntry,
                /// Subsets, and how endpoints are chosen.
                destination_rules: $crate::istio::DestinationRule,
                /// Routes.
                virtual_services: $crate::istio::VirtualService,
                /// Gateways.
                gateways: $crate::istio::Gateway,
                /// What sidecars see.
                sidecars: $crate::istio::Sidecar,
                /// Which calls have lines in logs, and how calls are traced.
                telemetries: $crate::istio::Telemetry,
            }
            // Meltemi's and Aeraki's, which Meltemi defines, has rules for and writes the status of.
            ours {
                /// Routers.
                meta_routers: $crate::api::MetaRouter, meta_router;
                /// Aeraki's routers.
                aeraki_meta_routers: $crate::api::aeraki::MetaRouter, aeraki_meta_router;
                /// Protocols.
                application_protocols: $crate::api::aeraki::ApplicationProtocol, application_protocol;
                /// Protocols that are declared by layouts.
                declared_protocols: $crate::api::ApplicationProtocol, declared_protocol;
                /// How Redis services are routed.
                redis_services: $crate::api::aeraki::RedisService, redis_service;
                /// How Redis services are connected to.
                redis_destinations: $crate::api::aeraki::RedisDestination, redis_destination;
                /// Who may call what, in every protocol.
                meltemi_authorization_policies: $crate::api::MeltemiAuthorizationPolicy, meltemi_authorization_policy;
                /// Calls that are told of one by one, for a time.
                taps: $crate::api::Tap, tap;
                /// Who may call what of Dubbo's services.
                dubbo_authorization_policies: $crate::api::aeraki::DubboAuthorizationPolicy, dubbo_authorization_policy;
            }
        }
    };
}

pub(crate) use kinds;

/// A kind of resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// Whose it is.
    pub owner: Owner,
    /// The API group; empty for Kubernetes' core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The name.
    pub kind: String,
    /// The name of several.
    pub plural: String,
    /// Its resources are in namespaces.
    pub is_namespaced: bool,
    /// The name among the kinds that are read: with the group, if another of the name comes before it.
    pub title: String,
    /// The name of its definition, `<plural>.<group>`, which kubectl takes too.
    pub definition: String,
}

/// Whose a kind is, and so how it is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Every cluster has it.
    Kubernetes,
    /// The same, but the controller reads only what is in one namespace, or named.
    Few,
    /// Istio defines it.
    Istio,
    /// Meltemi's, or Aeraki's: Meltemi defines it, has rules for it and writes its status.
    Ours,
}

impl Kind {
    fn of<K: Resource<DynamicType = ()>>(owner: Owner) -> Self
    where
        K::Scope: 'static,
    {
        let is_namespaced = TypeId::of::<K::Scope>() == TypeId::of::<NamespaceResourceScope>();
        Self::new(owner, &K::group(&()), &K::version(&()), &K::kind(&()), &K::plural(&()), is_namespaced)
    }

    fn new(owner: Owner, group: &str, version: &str, kind: &str, plural: &str, is_namespaced: bool) -> Self {
        Self {
            owner,
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            title: kind.to_owned(),
            plural: plural.to_owned(),
            is_namespaced,
            definition: format!("{plural}.{group}"),
        }
    }

    /// Group and version, as objects write them.
    pub fn api_version(&self) -> String {
        match &*self.group {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The kind as the client of the API server has it.
    pub fn resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.clone(),
            version: self.version.clone(),
            api_version: self.api_version(),
            kind: self.kind.clone(),
            plural: self.plural.clone(),
        }
    }
}

/// The kinds that are read, in the order of the table.
pub fn read() -> &'static [Kind] {
    macro_rules! list {
        (
            kubernetes { $($(#[$_k:meta])* $k:ident: $kubernetes:ty,)* }
            few { $($(#[$_f:meta])* $f:ident: $few:ty,)* }
            istio { $($(#[$_i:meta])* $i:ident: $istio:ty,)* }
            ours { $($(#[$_o:meta])* $o:ident: $ours:ty, $rules:ident;)* }
        ) => {
            vec![
                $(Kind::of::<$kubernetes>(Owner::Kubernetes),)*
                $(Kind::of::<$few>(Owner::Few),)*
                $(Kind::of::<$istio>(Owner::Istio),)*
                $(Kind::of::<$ours>(Owner::Ours),)*
            ]
        };
    }
    static READ: LazyLock<Vec<Kind>> = LazyLock::new(|| {
        let mut all: Vec<Kind> = kinds!(list);
        for at in 1..all.len() {
            let (before, rest) = all.split_at_mut(at);
            if let Some(kind) = rest.first_mut().filter(|kind| before.iter().any(|one| one.kind == kind.kind))
            {
                kind.title = format!("{}.{}", kind.kind, kind.group);
            }
        }
        all
    });
    &READ
}

/// The kinds that Meltemi defines: its own first, then Aeraki's.
pub fn ours() -> impl Iterator<Item = &'static Kind> + Clone {
    read().iter().filter(|kind| kind.owner == Owner::Ours)
}

/// The plurals of some kinds, by group in the order of the first of each.
pub fn by_group<'a>(kinds: impl Iterator<Item = &'a Kind>) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for kind in kinds {
        match groups.iter_mut().find(|(group, _)| *group == kind.group) {
            Some((_, plurals)) => plurals.push(&kind.plural),
            None => groups.push((&kind.group, vec![&kind.plural])),
        }
    }
    groups
}

/// The kind of this name in a group that is read, if one is.
pub fn find(group: &str, kind: &str) -> Option<&'static Kind> {
    read().iter().find(|known| known.group == group && known.kind == kind)
}

/// The kinds that are written.
pub fn written() -> &'static [Kind] {
    static WRITTEN: LazyLock<[Kind; 3]> = LazyLock::new(|| {
        let kind = |group, version, kind, plural| Kind::new(Owner::Istio, group, version, kind, plural, true);
        [
            kind("networking.istio.io", "v1alpha3", "EnvoyFilter", "envoyfilters"),
            kind("networking.istio.io", "v1", "VirtualService", "virtualservices"),
            kind("extensions.istio.io", "v1alpha1", "WasmPlugin", "wasmplugins"),
        ]
    });
    &*WRITTEN
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn page(name: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        fs::read_to_string(root.join(name)).unwrap()
    }

    /// What `kubectl` calls a kind, in full where Kubernetes or another of the kinds has a kind of the name.
    fn argument(kind: &Kind) -> String {
        let is_ambiguous = read().iter().filter(|other| other.plural == kind.plural).count() > 1;
        // The Gateway API has Gateways too.
        match is_ambiguous || kind.kind == "Gateway" {
            true => kind.definition.clone(),
            false => kind.plural.clone(),
        }
    }

    #[test]
    fn the_readme_has_all_inputs_read() {
        let readme = page("README.md");
        let inputs = readme.lines().filter_map(|line| line.strip_prefix("INPUTS="));
        let named = inputs.flat_map(|list| list.split(',')).filter(|name| *name != "$INPUTS");
        let all = read().iter().filter(|kind| kind.owner != Owner::Few);
        assert_eq!(
            named.map(str::to_owned).collect::<BTreeSet<_>>(),
            all.map(argument).collect::<BTreeSet<_>>()
        );
        // The passwords of Redis are for those who use it.
        assert!(readme.contains("kubectl get configmaps,deployments --namespace istio-system"));
        assert!(page("docs/from-aeraki.md").contains("kubectl get $INPUTS,secrets"));
    }

    #[test]
    fn the_documentation_has_a_place_for_each_kind() {
        let resources = page("docs/resources.md");
        for Kind { kind, group, .. } in ours() {
            assert!(resources.contains(&format!("## {kind} ({group})")), "{kind} of {group}");
        }
        let istio = page("docs/istio.md");
        for Kind { kind, .. } in read().iter().filter(|kind| kind.owner == Owner::Istio) {
            assert!(istio.contains(&format!("\n| {kind} |")), "{kind}");
        }
    }

    #[test]
    fn the_documentation_deletes_all_that_is_written() {
        let written: BTreeSet<&str> = written().iter().map(|kind| &*kind.plural).collect();
        let controller = page("docs/controller.md");
        let deleted: Vec<BTreeSet<&str>> = controller
            .lines()
            .filter_map(|line| line.strip_prefix("kubectl delete ")?.split_once(" --all-namespaces"))
            .map(|(kinds, _)| kinds.split(',').collect())
            .collect();
        assert!(!deleted.is_empty());
        assert!(deleted.iter().all(|kinds| *kinds == written), "{deleted:?}");
    }

    #[test]
    fn kinds_know_whether_they_are_in_namespaces() {
        let of_cluster = read().iter().filter(|kind| !kind.is_namespaced).map(|kind| &*kind.kind);
        assert_eq!(
            of_cluster.collect::<Vec<_>>(),
            ["Namespace", "ApplicationProtocol", "ApplicationProtocol"]
        );
        assert_eq!(find("", "Service").map(Kind::api_version).as_deref(), Some("v1"));
        assert!(find("meltemi.io", "Service").is_none());
    }
}
