//! What the objects of an installation are called.

use serde_json::{Value, json};

use super::Settings;
use crate::run::DASHBOARD_SERVICE;

/// The name of all objects of the controller that are not named for what they hold.
pub(super) const NAME: &str = "meltemi";

/// The namespace of the controller where no other is asked for.
pub(super) const NAMESPACE: &str = "meltemi-system";

/// The name of what an installation has outside its own namespace: two of them must not share it.
pub(super) fn global(name: &str, settings: &Settings) -> String {
    global_of(name, &settings.namespace)
}

fn global_of(name: &str, namespace: &str) -> String {
    match namespace {
        NAMESPACE => name.to_owned(),
        namespace => format!("{name}-{namespace}"),
    }
}

/// The ClusterRole that lets see the dashboard of the installation in a namespace.
pub(crate) fn dashboard_role(namespace: &str) -> String {
    global_of(DASHBOARD_SERVICE, namespace)
}

/// The labels of all objects, by which those of pods are found.
pub(super) fn labels() -> Value {
    json!({"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "controller"})
}

/// The metadata of an object of this name.
pub(super) fn metadata(name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({"name": name, "labels": labels()});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}
