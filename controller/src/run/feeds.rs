//! The feeds of the kinds that are kept of the whole cluster: one for each of the table.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::ApiResource;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::feed::{Feed, Kept, Shared};
use crate::api::aeraki;
use crate::findings::{Finding, Report, ResourceRef, Severity};
use crate::generate::MANAGED_BY;
use crate::kinds::{self, Owner, kinds};
use crate::world::World;

/// The feed of a kind that is defined in the cluster.
pub type Guarded<K> = Feed<DeserializeGuard<K>>;

macro_rules! feeds {
    (
        kubernetes { $($(#[$_k:meta])* $kubernetes:ident: $kubernetes_type:ty,)* }
        few { $($_f:tt)* }
        istio { $($(#[$_i:meta])* $istio:ident: $istio_type:ty,)* }
        ours { $($(#[$_o:meta])* $ours:ident: $ours_type:ty, $_rules:ident;)* }
    ) => {
        /// What is kept of the kinds.
        pub struct Feeds {
            $(pub $kubernetes: Feed<$kubernetes_type>,)*
            $(pub $istio: Guarded<$istio_type>,)*
            $(pub $ours: Guarded<$ours_type>,)*
        }

        impl Feeds {
            /// Starts to keep all of them.
            pub fn start(client: &Client, shared: &Shared) -> Self {
                Self {
                    $($kubernetes: start(client, shared),)*
                    $($istio: start(client, shared),)*
                    $($ours: start(client, shared),)*
                }
            }

            /// The kinds that have not been listed yet.
            pub fn unsettled(&self) -> BTreeSet<&'static str> {
                let all = [
                    $((self.$kubernetes.kind(), self.$kubernetes.is_settled()),)*
                    $((self.$istio.kind(), self.$istio.is_settled()),)*
                    $((self.$ours.kind(), self.$ours.is_settled()),)*
                ];
                all.into_iter().filter(|(_, is_settled)| !is_settled).map(|(kind, _)| kind).collect()
            }

            /// What there is of them, and reports on the resources that have another shape than their kind.
            pub fn world(&self) -> (World, Vec<Report>) {
                let mut reports = Vec::new();
                let world = World {
                    $($kubernetes: owned(&self.$kubernetes),)*
                    $($istio: self.$istio.readable(&mut reports),)*
                    $($ours: self.$ours.readable(&mut reports),)*
                    ..World::default()
                };
                (world, reports)
            }

            /// What the API knows of the resources that have a status of ours, or that events can be about.
            pub fn subjects(&self) -> HashMap<ResourceRef, Subject> {
                let mut subjects = HashMap::new();
                self.services.objects().iter().for_each(|service| subject(&mut subjects, &**service, None));
                $(for object in self.$istio.objects() {
                    subject(&mut subjects, &*object, None);
                })*
                $(for object in self.$ours.objects() {
                    let status = object.0.as_ref().ok().map(|object| object.status.clone());
                    subject(&mut subjects, &*object, Some(status.unwrap_or_default()));
                })*
                subjects
            }
        }
    };
}

kinds!(feeds);

/// A resource that can be reported on.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What the API calls it.
    pub resource: ApiResource,
    /// How events refer to it.
    pub reference: ObjectReference,
    /// The generation of what people wrote.
    pub generation: Option<i64>,
    /// Its status, in the kinds that have one of ours.
    pub status: Option<Option<aeraki::Status>>,
}

fn subject<K: Resource<DynamicType = ()>>(
    subjects: &mut HashMap<ResourceRef, Subject>,
    object: &K,
    status: Option<Option<aeraki::Status>>,
) {
    let subject = Subject {
        resource: ApiResource::erase::<K>(&()),
        reference: object.object_ref(&()),
        generation: object.meta().generation,
        status,
    };
    subjects.insert(resource_ref(object), subject);
}

/// The names of an object of a known type.
pub fn resource_ref<K: Resource<DynamicType = ()>>(object: &K) -> ResourceRef {
    ResourceRef {
        kind: K::kind(&()).into_owned(),
        group: K::group(&()).into_owned(),
        namespace: object.meta().namespace.clone(),
        name: object.meta().name.clone().unwrap_or_default(),
    }
}

/// Starts to keep the objects of a kind.
fn start<K>(client: &Client, shared: &Shared) -> Feed<K>
where
    K: Kept + Resource<DynamicType = ()> + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let (group, name) = (K::group(&()), K::kind(&()));
    let kind = kinds::find(&group, &name).unwrap_or_else(|| unreachable!("{name} is read"));
    let definition = (kind.owner != Owner::Kubernetes).then_some(&*kind.definition);
    let is_written = kinds::written().iter().any(|written| written.definition == kind.definition);
    // What is generated is no input.
    let selector = is_written.then(|| format!("{}!={}", MANAGED_BY.0, MANAGED_BY.1));
    Feed::start(&kind.title, definition, Api::all(client.clone()), selector, (), shared.clone())
}

/// The objects themselves.
pub fn owned<K>(feed: &Feed<K>) -> Vec<K>
where
    K: Kept + Resource<DynamicType = ()> + DeserializeOwned + Debug + Send + Sync + 'static,
{
    feed.objects().into_iter().map(Arc::unwrap_or_clone).collect()
}

impl<K> Guarded<K>
where
    K: Kept + Resource<DynamicType = ()> + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Those that have the shape of their kind; reports on the others.
    pub fn readable(&self, reports: &mut Vec<Report>) -> Vec<K> {
        let mut readable = Vec::new();
        for object in self.objects() {
            match &object.0 {
                Ok(object) => readable.push(object.clone()),
                Err(invalid) => reports.push(Report {
                    resource: resource_ref(&*object),
                    findings: vec![Finding {
                        severity: Severity::Error,
                        path: String::new(),
                        message: format!("has another shape than its kind: {}", invalid.error),
                    }],
                }),
            }
        }
        readable
    }
}
