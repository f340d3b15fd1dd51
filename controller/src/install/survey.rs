//! What a cluster has: what Meltemi would take over, and which Istio.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, Client, Error};
use serde_json::json;
use tokio::time::timeout;

use super::cluster::{api_resource, connect};
use crate::generate::IstioVersion;
use crate::run::versions;
use crate::words;
use crate::world::{ISTIOD, World};

/// The kinds that say so.
const KINDS: [(&str, &str); 5] = [
    ("v1", "Service"),
    ("networking.istio.io/v1", "ServiceEntry"),
    ("metaprotocol.aeraki.io/v1alpha1", "ApplicationProtocol"),
    ("redis.aeraki.io/v1alpha1", "RedisService"),
    ("redis.aeraki.io/v1alpha1", "RedisDestination"),
];

/// How long the cluster may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads them. Kinds that the cluster does not have are none.
///
/// # Errors
///
/// There is no cluster, or it does not show them.
pub async fn world() -> Result<World, String> {
    patient(async { read(&connect().await?).await }).await
}

/// The oldest Istio, where an istiod states it, and a world of the configuration of the mesh alone.
///
/// # Errors
///
/// There is no cluster, or it does not show them.
pub async fn istio(namespace: &str) -> Result<(Option<IstioVersion>, World), String> {
    let reading = async {
        let client = connect().await?;
        let unread = |error: Error| words::cluster(&error);
        let istiod = ListParams::default().labels(&format!("{}={}", ISTIOD.0, ISTIOD.1));
        let istiods: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let istiods = istiods.list(&istiod).await.map_err(unread)?.items;
        let maps: Api<ConfigMap> = Api::namespaced(client, namespace);
        let config_maps = maps.list(&ListParams::default()).await.map_err(unread)?.items;
        Ok((versions(&istiods).first().copied(), World { istiods, config_maps, ..World::default() }))
    };
    patient(reading).await
}

/// What is read, unless it takes too long.
async fn patient<T>(reading: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match timeout(PATIENCE, reading).await {
        Ok(read) => read,
        Err(_) => Err(format!("the cluster did not answer within {PATIENCE:?}")),
    }
}

async fn read(client: &Client) -> Result<World, String> {
    let mut world = World::default();
    for (version, kind) in KINDS {
        let resource = api_resource(version, kind);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let list = match api.list(&ListParams::default()).await {
            Ok(list) => list,
            Err(Error::Api(status)) if status.is_not_found() => continue,
            Err(error) => return Err(format!("cannot list {}: {error}", resource.plural)),
        };
        for mut object in list {
            object.metadata.managed_fields = None;
            let mut value = json!({"apiVersion": version, "kind": kind, "metadata": object.metadata});
            if let (Some(value), Some(data)) = (value.as_object_mut(), object.data.as_object()) {
                value.extend(data.clone());
            }
            // What cannot be read asks for nothing.
            let _ = world.add(&value);
        }
    }
    Ok(world)
}
