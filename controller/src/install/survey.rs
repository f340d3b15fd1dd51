//! What a cluster has that Meltemi would take over.

use std::time::Duration;

use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, Client, Error};
use serde_json::json;
use tokio::time::timeout;

use super::cluster::{api_resource, connect};
use crate::world::World;

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
    let reading = async { read(&connect().await?).await };
    match timeout(PATIENCE, reading).await {
        Ok(world) => world,
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
