//! Everything of the cluster that is kept, and the world that is made of it.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;
use kube::core::DynamicObject;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::feed::{Feed, Kept, Shared};
use super::feeds::{Feeds, Guarded, Subject, owned, resource_ref};
use crate::api::{self, Tap, aeraki};
use crate::check;
use crate::findings::{Report, ResourceRef};
use crate::generate::MANAGED_BY;
use crate::kinds;
use crate::world::{ISTIOD, World};

/// What is kept of the cluster.
pub struct Cache {
    feeds: Feeds,
    config_maps: Feed<ConfigMap>,
    istiods: Feed<Deployment>,
    written: Vec<Feed<DynamicObject>>,
}

impl Cache {
    /// Starts to keep all of it. Istiod is in `istio_namespace`.
    pub fn start(client: &Client, istio_namespace: &str, shared: &Shared) -> Self {
        let ours = format!("{}={}", MANAGED_BY.0, MANAGED_BY.1);
        let written = kinds::written().iter().map(|kind| {
            let resource = kind.resource();
            let api = Api::all_with(client.clone(), &resource);
            let definition = Some(&*kind.definition);
            Feed::start(&kind.title, definition, api, Some(ours.clone()), resource, shared.clone())
        });
        Self {
            feeds: Feeds::start(client, shared),
            config_maps: {
                let api = Api::namespaced(client.clone(), istio_namespace);
                Feed::start("ConfigMap", None, api, None, (), shared.clone())
            },
            istiods: {
                let api = Api::namespaced(client.clone(), istio_namespace);
                let selector = format!("{}={}", ISTIOD.0, ISTIOD.1);
                Feed::start("Deployment", None, api, Some(selector), (), shared.clone())
            },
            written: written.collect(),
        }
    }

    /// The kinds that have not been listed yet. While there are any, the world is not known.
    pub fn unsettled(&self) -> BTreeSet<&'static str> {
        let mut unsettled = self.feeds.unsettled();
        unsettled.extend((!self.config_maps.is_settled()).then(|| self.config_maps.kind()));
        unsettled.extend(self.written.iter().filter(|feed| !feed.is_settled()).map(Feed::kind));
        unsettled.extend((!self.istiods.is_settled()).then(|| self.istiods.kind()));
        unsettled
    }

    /// The world as it is now, without Secrets, and reports on the resources that have another shape than their kind.
    pub fn world(&self) -> (World, Vec<Report>) {
        let (mut world, mut reports) = self.feeds.world();
        world.config_maps = owned(&self.config_maps);
        world.istiods = owned(&self.istiods);
        let all = "no service of the namespace";
        let gone = closed(&self.feeds.meltemi_authorization_policies, all, &mut reports);
        world.meltemi_authorization_policies.extend(gone.map(api::MeltemiAuthorizationPolicy::denying_all));
        let dubbo = "no Dubbo service of the namespace";
        let gone = closed(&self.feeds.dubbo_authorization_policies, dubbo, &mut reports);
        world.dubbo_authorization_policies.extend(gone.map(aeraki::DubboAuthorizationPolicy::denying_all));
        (world, reports)
    }

    /// The Deployments of istiod.
    pub fn istiods(&self) -> Vec<Arc<Deployment>> {
        self.istiods.objects()
    }

    /// The generated objects in the cluster.
    pub fn written(&self) -> Vec<Arc<DynamicObject>> {
        self.written.iter().flat_map(Feed::objects).collect()
    }

    /// The taps, those that have ended among them.
    pub fn taps(&self) -> Vec<Tap> {
        self.feeds.taps.readable(&mut Vec::new())
    }

    /// The Secrets that resources name, by namespace and name.
    pub fn secret_names(&self) -> BTreeSet<(String, String)> {
        let mut reports = Vec::new();
        let in_services =
            self.feeds.redis_services.readable(&mut reports).into_iter().filter_map(|service| {
                let auth = service.spec.settings.as_ref()?.auth.as_ref()?;
                Some((service.namespace()?, auth.secret.as_ref()?.name.clone()))
            });
        let in_destinations =
            self.feeds.redis_destinations.readable(&mut reports).into_iter().filter_map(|destination| {
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
        self.feeds.subjects()
    }
}

/// The policies that cannot be read, by their metadata: others stand in their place. What they say is not known, so nobody
/// may call.
fn closed<K>(
    feed: &Guarded<K>,
    services: &str,
    reports: &mut [Report],
) -> impl Iterator<Item = ObjectMeta> + use<K>
where
    K: Kept + Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let mut closed = Vec::new();
    for object in feed.objects() {
        let Err(invalid) = &object.0 else { continue };
        let resource = resource_ref(&*object);
        let report = reports.iter_mut().find(|report| report.resource == resource);
        for finding in report.into_iter().flat_map(|report| &mut report.findings) {
            finding.message.push_str(&format!(": until it is mended, {services} may be called"));
        }
        closed.push(invalid.metadata.clone());
    }
    closed.into_iter()
}
