//! Everything of the cluster that is kept, and the world that is made of it.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ApiResource;
use kube::core::{DeserializeGuard, DynamicObject};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::feed::{Feed, Kept, Shared};
use crate::api::{self, aeraki};
use crate::check;
use crate::findings::{Finding, Report, ResourceRef, Severity};
use crate::generate::MANAGED_BY;
use crate::istio;
use crate::world::World;

/// The kinds that are written: group, version, kind, plural.
pub const WRITTEN: [(&str, &str, &str, &str); 3] = [
    ("extensions.istio.io", "v1alpha1", "WasmPlugin", "wasmplugins"),
    ("networking.istio.io", "v1alpha3", "EnvoyFilter", "envoyfilters"),
    ("networking.istio.io", "v1", "VirtualService", "virtualservices"),
];

const WRITTEN_DEFINITIONS: [&str; 3] = [
    "wasmplugins.extensions.istio.io",
    "envoyfilters.networking.istio.io",
    "virtualservices.networking.istio.io",
];

/// How a kind that is written is named in the API.
pub fn api_resource(kind: &str) -> Option<ApiResource> {
    let (group, version, kind, plural) = WRITTEN.into_iter().find(|(_, _, known, _)| *known == kind)?;
    Some(ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: format!("{group}/{version}"),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    })
}

type Guarded<K> = Feed<DeserializeGuard<K>>;

/// What is kept of the cluster.
pub struct Cache {
    namespaces: Feed<Namespace>,
    services: Feed<Service>,
    endpoint_slices: Feed<EndpointSlice>,
    pods: Feed<Pod>,
    service_entries: Guarded<istio::ServiceEntry>,
    destination_rules: Guarded<istio::DestinationRule>,
    virtual_services: Guarded<istio::VirtualService>,
    gateways: Guarded<istio::Gateway>,
    sidecars: Guarded<istio::Sidecar>,
    meta_routers: Guarded<api::MetaRouter>,
    aeraki_meta_routers: Guarded<aeraki::MetaRouter>,
    application_protocols: Guarded<aeraki::ApplicationProtocol>,
    redis_services: Guarded<aeraki::RedisService>,
    redis_destinations: Guarded<aeraki::RedisDestination>,
    dubbo_authorization_policies: Guarded<aeraki::DubboAuthorizationPolicy>,
    config_maps: Feed<ConfigMap>,
    istiods: Option<Feed<Deployment>>,
    written: [Feed<DynamicObject>; 3],
}

/// Calls a macro with every field that holds resources which may have another shape than their kind.
macro_rules! each_guarded {
    ($do:ident) => {
        $do!(
            service_entries,
            destination_rules,
            virtual_services,
            gateways,
            sidecars,
            meta_routers,
            aeraki_meta_routers,
            application_protocols,
            redis_services,
            redis_destinations,
            dubbo_authorization_policies
        )
    };
}

impl Cache {
    /// Starts to keep all of it. The istiods in `istio_namespace` are followed if they are to give the version.
    pub fn start(client: &Client, istio_namespace: &str, tell_version: bool, shared: &Shared) -> Self {
        let (label, value) = MANAGED_BY;
        let start_written = |at: usize| {
            let (_, _, kind, _) = WRITTEN[at];
            let resource = api_resource(kind).unwrap_or_else(|| unreachable!("{kind} is written"));
            let api = Api::all_with(client.clone(), &resource);
            let definition = Some(WRITTEN_DEFINITIONS[at]);
            Feed::start(kind, definition, api, Some(format!("{label}={value}")), resource, shared.clone())
        };
        Self {
            namespaces: built_in("Namespace", client, shared),
            services: built_in("Service", client, shared),
            endpoint_slices: built_in("EndpointSlice", client, shared),
            pods: built_in("Pod", client, shared),
            service_entries: defined("ServiceEntry", "serviceentries.networking.istio.io", client, shared),
            destination_rules: defined(
                "DestinationRule",
                "destinationrules.networking.istio.io",
                client,
                shared,
            ),
            virtual_services: Feed::start(
                "VirtualService",
                Some("virtualservices.networking.istio.io"),
                Api::all(client.clone()),
                // What is generated is no input.
                Some(format!("{label}!={value}")),
                (),
                shared.clone(),
            ),
            gateways: defined("Gateway", "gateways.networking.istio.io", client, shared),
            sidecars: defined("Sidecar", "sidecars.networking.istio.io", client, shared),
            meta_routers: defined("MetaRouter", "metarouters.meltemi.io", client, shared),
            aeraki_meta_routers: defined(
                "MetaRouter.metaprotocol.aeraki.io",
                "metarouters.metaprotocol.aeraki.io",
                client,
                shared,
            ),
            application_protocols: defined(
                "ApplicationProtocol",
                "applicationprotocols.metaprotocol.aeraki.io",
                client,
                shared,
            ),
            redis_services: defined("RedisService", "redisservices.redis.aeraki.io", client, shared),
            redis_destinations: defined(
                "RedisDestination",
                "redisdestinations.redis.aeraki.io",
                client,
                shared,
            ),
            dubbo_authorization_policies: defined(
                "DubboAuthorizationPolicy",
                "dubboauthorizationpolicies.dubbo.aeraki.io",
                client,
                shared,
            ),
            config_maps: {
                let api = Api::namespaced(client.clone(), istio_namespace);
                Feed::start("ConfigMap", None, api, None, (), shared.clone())
            },
            istiods: tell_version.then(|| {
                let api = Api::namespaced(client.clone(), istio_namespace);
                Feed::start("Deployment", None, api, Some("app=istiod".to_owned()), (), shared.clone())
            }),
            written: [0, 1, 2].map(start_written),
        }
    }

    /// The kinds that have not been listed yet. While there are any, the world is not known.
    pub fn unsettled(&self) -> BTreeSet<&'static str> {
        let mut unsettled = BTreeSet::new();
        macro_rules! note {
            ($($field:ident),*) => {$(
                if !self.$field.is_settled() {
                    unsettled.insert(self.$field.kind());
                }
            )*};
        }
        note!(namespaces, services, endpoint_slices, pods, config_maps);
        each_guarded!(note);
        unsettled.extend(self.written.iter().filter(|feed| !feed.is_settled()).map(Feed::kind));
        unsettled.extend(self.istiods.iter().filter(|feed| !feed.is_settled()).map(Feed::kind));
        unsettled
    }

    /// The world as it is now, without Secrets, and reports on the resources that have another shape than their kind.
    pub fn world(&self) -> (World, Vec<Report>) {
        let mut world = World {
            namespaces: owned(&self.namespaces),
            services: owned(&self.services),
            endpoint_slices: owned(&self.endpoint_slices),
            pods: owned(&self.pods),
            config_maps: owned(&self.config_maps),
            ..World::default()
        };
        let mut reports = Vec::new();
        macro_rules! take {
            ($($field:ident),*) => {
                $(world.$field = self.$field.readable(&mut reports);)*
            };
        }
        each_guarded!(take);
        world.dubbo_authorization_policies.extend(self.closed(&mut reports));
        (world, reports)
    }

    /// Policies in the place of those that cannot be read. What they say is not known, so nobody may call.
    fn closed(&self, reports: &mut [Report]) -> Vec<aeraki::DubboAuthorizationPolicy> {
        let mut closed = Vec::new();
        for object in self.dubbo_authorization_policies.objects() {
            let Err(invalid) = &object.0 else { continue };
            let resource = resource_ref(&*object);
            let report = reports.iter_mut().find(|report| report.resource == resource);
            for finding in report.into_iter().flat_map(|report| &mut report.findings) {
                finding
                    .message
                    .push_str(": until it is mended, no Dubbo service of the namespace may be called");
            }
            closed.push(aeraki::DubboAuthorizationPolicy::denying_all(invalid.metadata.clone()));
        }
        closed
    }

    /// The Deployments of istiod.
    pub fn istiods(&self) -> Vec<Arc<Deployment>> {
        self.istiods.as_ref().map(Feed::objects).unwrap_or_default()
    }

    /// The generated objects in the cluster.
    pub fn written(&self) -> Vec<Arc<DynamicObject>> {
        self.written.iter().flat_map(Feed::objects).collect()
    }

    /// The Secrets that resources name, by namespace and name.
    pub fn secret_names(&self) -> BTreeSet<(String, String)> {
        let mut reports = Vec::new();
        let in_services = self.redis_services.readable(&mut reports).into_iter().filter_map(|service| {
            let auth = service.spec.settings.as_ref()?.auth.as_ref()?;
            Some((service.namespace()?, auth.secret.as_ref()?.name.clone()))
        });
        let in_destinations =
            self.redis_destinations.readable(&mut reports).into_iter().filter_map(|destination| {
                let pool = destination.spec.traffic_policy.as_ref()?.connection_pool.as_ref()?;
                let auth = pool.redis.as_ref()?.auth.as_ref()?;
                Some((destination.namespace()?, auth.secret.as_ref()?.name.clone()))
            });
        // A name becomes part of a path that the API server is asked for.
        let is_name = |(_, name): &(String, String)| check::is_subdomain(name);
        in_services.chain(in_destinations).filter(is_name).collect()
    }

    /// What the API knows of the resources that have a status of ours, or that events can be about.
    pub fn subjects(&self) -> HashMap<ResourceRef, Subject> {
        let mut subjects = HashMap::new();
        macro_rules! with_status {
            ($($field:ident),*) => {$(
                for object in self.$field.objects() {
                    let status = object.0.as_ref().ok().map(|object| object.status.clone());
                    subject(&mut subjects, &*object, Some(status.unwrap_or_default()));
                }
            )*};
        }
        macro_rules! without_status {
            ($($field:ident),*) => {$(
                for object in self.$field.objects() {
                    subject(&mut subjects, &*object, None);
                }
            )*};
        }
        with_status!(
            meta_routers,
            aeraki_meta_routers,
            application_protocols,
            redis_services,
            redis_destinations,
            dubbo_authorization_policies
        );
        without_status!(service_entries, destination_rules, virtual_services, gateways, sidecars);
        for service in self.services.objects() {
            subject(&mut subjects, &*service, None);
        }
        subjects
    }
}

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

fn resource_ref<K: Resource<DynamicType = ()>>(object: &K) -> ResourceRef {
    ResourceRef {
        kind: K::kind(&()).into_owned(),
        group: K::group(&()).into_owned(),
        namespace: object.meta().namespace.clone(),
        name: object.meta().name.clone().unwrap_or_default(),
    }
}

fn built_in<K>(kind: &'static str, client: &Client, shared: &Shared) -> Feed<K>
where
    K: Kept + Resource<DynamicType = ()> + DeserializeOwned + Debug + Send + Sync + 'static,
{
    Feed::start(kind, None, Api::all(client.clone()), None, (), shared.clone())
}

fn defined<K>(kind: &'static str, definition: &'static str, client: &Client, shared: &Shared) -> Guarded<K>
where
    K: Kept + Resource<DynamicType = ()> + DeserializeOwned + Debug + Send + Sync + 'static,
{
    Feed::start(kind, Some(definition), Api::all(client.clone()), None, (), shared.clone())
}

fn owned<K>(feed: &Feed<K>) -> Vec<K>
where
    K: Kept + Resource<DynamicType = ()> + DeserializeOwned + Debug + Send + Sync + 'static,
{
    feed.objects().into_iter().map(Arc::unwrap_or_clone).collect()
}

impl<K> Guarded<K>
where
    K: Kept + Resource<DynamicType = ()> + DeserializeOwned + Debug + Send + Sync + 'static,
{
    fn readable(&self, reports: &mut Vec<Report>) -> Vec<K> {
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
