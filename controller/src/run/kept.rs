//! What is kept of each kind, and which of its changes matter.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Namespace, Pod, PodSpec, PodStatus, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Resource;
use kube::core::{DeserializeGuard, DynamicObject};

use super::changes::compact;
use super::feed::Kept;
use super::pulse::Change;
use crate::generate::MESH_CONFIG;
use crate::kinds::kinds;

macro_rules! kept {
    (
        kubernetes { $($_k:tt)* }
        few { $($_f:tt)* }
        istio { $($(#[$_i:meta])* $_istio:ident: $istio:ty,)* }
        ours { $($(#[$_o:meta])* $_ours:ident: $ours:ty, $_rules:ident;)* }
    ) => {
        whole!($($istio,)*);

        // Their status is ours: nothing is made of it.
        $(impl Kept for $ours {
            fn change(&self, before: &Self) -> Option<Change> {
                if self.spec != before.spec || self.metadata != before.metadata {
                    return Some(Change::Input);
                }
                (self.status != before.status).then_some(Change::Output)
            }
        })*
    };
}

/// Kinds that matter as a whole.
macro_rules! whole {
    ($($kind:ty,)*) => {$(
        impl Kept for $kind {
            fn change(&self, before: &Self) -> Option<Change> {
                (self != before).then_some(Change::Input)
            }
        }
    )*};
}

whole!(Namespace, Service,);
kinds!(kept);

impl Kept for EndpointSlice {
    fn change(&self, before: &Self) -> Option<Change> {
        // Its annotations carry the time of the last change, which changes with every pod of every service.
        let is_same = self.address_type == before.address_type
            && self.endpoints == before.endpoints
            && self.ports == before.ports
            && self.metadata.labels == before.metadata.labels;
        (!is_same).then_some(Change::Input)
    }
}

/// There are many pods and they are large: what is kept of them is who they are, their ports and their addresses.
impl Kept for Pod {
    fn trim(&mut self) {
        let metadata = self.meta_mut();
        metadata.managed_fields = None;
        metadata.resource_version = None;
        metadata.owner_references = None;
        if let Some(annotations) = &mut metadata.annotations {
            annotations.retain(|name, _| name.contains("istio.io/"));
        }
        self.spec = self.spec.take().map(|spec| PodSpec {
            containers: spec.containers.into_iter().map(trimmed).collect(),
            init_containers: spec.init_containers.map(|all| all.into_iter().map(trimmed).collect()),
            host_network: spec.host_network,
            service_account_name: spec.service_account_name,
            ..PodSpec::default()
        });
        self.status = self.status.take().map(|status| PodStatus {
            phase: status.phase,
            pod_ip: status.pod_ip,
            pod_ips: status.pod_ips,
            ..PodStatus::default()
        });
    }

    fn change(&self, before: &Self) -> Option<Change> {
        (self != before).then_some(Change::Input)
    }
}

fn trimmed(container: Container) -> Container {
    Container {
        name: container.name,
        ports: container.ports,
        restart_policy: container.restart_policy,
        ..Container::default()
    }
}

/// Of the ConfigMaps beside istiod, those that elect leaders change all the time. What is kept is the mesh's configuration.
impl Kept for ConfigMap {
    fn trim(&mut self) {
        let metadata = self.meta_mut();
        metadata.managed_fields = None;
        metadata.resource_version = None;
        metadata.annotations = None;
        self.binary_data = None;
        if let Some(data) = &mut self.data {
            data.retain(|key, _| key == MESH_CONFIG);
        }
    }

    fn change(&self, before: &Self) -> Option<Change> {
        (self.data != before.data).then_some(Change::Input)
    }
}

impl Kept for Deployment {
    fn change(&self, before: &Self) -> Option<Change> {
        let is_same = self.spec == before.spec && self.metadata.labels == before.metadata.labels;
        (!is_same).then_some(Change::Input)
    }
}

/// What was written: it is only compared, by its fingerprint.
impl Kept for DynamicObject {
    const PRESENCE: Change = Change::Output;

    fn trim(&mut self) {
        self.metadata.managed_fields = None;
        self.metadata.resource_version = None;
        compact(self);
    }

    fn change(&self, before: &Self) -> Option<Change> {
        (self != before).then_some(Change::Output)
    }
}

/// An object that may have another shape than its kind, so that one of them does not hide the others.
impl<K: Kept> Kept for DeserializeGuard<K> {
    fn trim(&mut self) {
        match &mut self.0 {
            Ok(object) => object.trim(),
            Err(invalid) => {
                invalid.metadata.managed_fields = None;
                invalid.metadata.resource_version = None;
            }
        }
    }

    fn change(&self, before: &Self) -> Option<Change> {
        match (&self.0, &before.0) {
            (Ok(now), Ok(before)) => now.change(before),
            (Err(now), Err(before)) if now.error == before.error && now.metadata == before.metadata => None,
            _ => Some(Change::Input),
        }
    }
}
