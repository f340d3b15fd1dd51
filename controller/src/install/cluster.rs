//! What is done in a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::{ApiResource, DeleteParams, ListParams, Patch, PatchParams};
use kube::core::{DynamicObject, TypeMeta};
use kube::{Api, Client, Error, ResourceExt};
use serde_json::{Value, json};

use super::Settings;
use super::manifests::File;
use super::names::global;
use super::rbac::PASSWORDS;
use crate::generate::{INSTANCE, MANAGED_BY, ROLE, Role};
use crate::kinds::{self, Kind};
use crate::screen;
use crate::words;

/// The field manager of the manifests.
const MANAGER: &str = "meltemi-install";

/// The cluster that the kubeconfig names.
pub async fn connect() -> Result<Client, String> {
    // Several libraries have TLS: all of them use the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::try_default().await.map_err(|error| format!("cannot find a cluster: {}", words::cluster(&error)))
}

/// Applies all objects.
pub async fn apply(files: &[File]) -> Result<String, String> {
    let client = connect().await?;
    let mut told = String::new();
    for value in files.iter().flat_map(|file| &file.objects) {
        let (api, object) = object(&client, value)?;
        let name = object.name_any();
        let params = PatchParams::apply(MANAGER).force();
        let label = label(value, &name);
        api.patch(&name, &params, &Patch::Apply(value))
            .await
            .map_err(|error| format!("{label}: {}", words::cluster(&error)))?;
        told.push_str(&format!("{label} applied\n"));
    }
    Ok(told)
}

/// Removes all objects but the kinds, and all that the controller generated.
pub async fn remove(files: &[File], settings: &Settings, linger: Duration) -> Result<String, String> {
    let client = connect().await?;
    let mut told = String::new();
    let objects: Vec<&Value> = files
        .iter()
        .flat_map(|file| &file.objects)
        .filter(|object| object["kind"] != "CustomResourceDefinition")
        .collect();
    // Without its rights the controller does not make anew what is deleted.
    let is_binding = |object: &&&Value| object["kind"].as_str().is_some_and(|kind| kind.ends_with("Binding"));
    for value in objects.iter().filter(is_binding) {
        delete(&client, value, &mut told).await?;
    }
    let instance = settings.delivered.instance.as_ref().unwrap_or(&settings.namespace);
    generated(&client, instance, linger, &mut told).await?;
    passwords(&client, settings, &mut told).await?;
    for value in objects.iter().rev().filter(|object| !is_binding(object)) {
        delete(&client, value, &mut told).await?;
    }
    told.push_str(
        "the kinds stay, with the resources that people wrote: kubectl delete -f crds.yaml removes both\n",
    );
    Ok(told)
}

/// Deletes what the controller generated: tunnels first, then the sockets that they lead to, then the modules.
async fn generated(
    client: &Client,
    instance: &str,
    linger: Duration,
    told: &mut String,
) -> Result<(), String> {
    let (label, value) = MANAGED_BY;
    let params = ListParams::default().labels(&format!("{label}={value}"));
    let mut by_role: BTreeMap<Role, Vec<(ApiResource, DynamicObject)>> = BTreeMap::new();
    for resource in kinds::written().iter().map(Kind::resource) {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        match api.list(&params).await {
            Ok(list) => {
                for object in list {
                    if object.labels().get(INSTANCE).is_none_or(|own| own != instance) {
                        let name = format!(
                            "{} {}/{}",
                            resource.kind,
                            object.namespace().unwrap_or_default(),
                            object.name_any()
                        );
                        told.push_str(&format!("{name} left: it is not of the installation {instance}\n"));
                        continue;
                    }
                    let role = Role::of_label(object.labels().get(ROLE).map_or("", String::as_str));
                    by_role.entry(role).or_default().push((resource.clone(), object));
                }
            }
            Err(Error::Api(status)) if status.is_not_found() => {}
            Err(error) => {
                return Err(format!("cannot list {}: {}", resource.plural, words::cluster(&error)));
            }
        }
    }
    let has_tunnels = by_role.contains_key(&Role::Tunnel);
    for (role, objects) in by_role.into_iter().rev() {
        if role == Role::Sockets && has_tunnels && !linger.is_zero() {
            screen::warn(format!("waiting {} s for connections to drain", linger.as_secs()));
            tokio::time::sleep(linger).await;
        }
        for (resource, object) in objects {
            let namespace = object.namespace().unwrap_or_default();
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
            let name = object.name_any();
            let label = format!("{} {namespace}/{name}", resource.kind);
            gone(api.delete(&name, &DeleteParams::default()).await.map(drop), &label, told)?;
        }
    }
    Ok(())
}

/// Takes away the right to read passwords, wherever it was given.
async fn passwords(client: &Client, settings: &Settings, told: &mut String) -> Result<(), String> {
    let params = ListParams::default().fields(&format!("metadata.name={}", global(PASSWORDS, settings)));
    for kind in ["RoleBinding", "Role", "ClusterRoleBinding", "ClusterRole"] {
        let resource = api_resource("rbac.authorization.k8s.io/v1", kind);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let list = api
            .list(&params)
            .await
            .map_err(|error| format!("cannot list {}: {}", resource.plural, words::cluster(&error)))?;
        for object in list {
            let value =
                json!({"apiVersion": resource.api_version, "kind": kind, "metadata": object.metadata});
            delete(client, &value, told).await?;
        }
    }
    Ok(())
}

async fn delete(client: &Client, value: &Value, told: &mut String) -> Result<(), String> {
    let (api, object) = object(client, value)?;
    let name = object.name_any();
    gone(api.delete(&name, &DeleteParams::background()).await.map(drop), &label(value, &name), told)
}

fn gone(outcome: Result<(), Error>, label: &str, told: &mut String) -> Result<(), String> {
    match outcome {
        Ok(()) => told.push_str(&format!("{label} deleted\n")),
        Err(Error::Api(status)) if status.is_not_found() => {}
        Err(error) => return Err(format!("{label}: {}", words::cluster(&error))),
    }
    Ok(())
}

fn label(value: &Value, name: &str) -> String {
    let kind = value["kind"].as_str().unwrap_or_default();
    match value["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

fn object(client: &Client, value: &Value) -> Result<(Api<DynamicObject>, DynamicObject), String> {
    let object: DynamicObject = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    let TypeMeta { api_version, kind } = object.types.clone().unwrap_or_default();
    let resource = api_resource(&api_version, &kind);
    let api = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    Ok((api, object))
}

/// How the API names a kind.
pub fn api_resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        plural: plural(kind),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    }
}

/// The kinds of the manifests have regular plurals.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    }
}
