//! The rights of the controller.

use serde_json::{Value, json};

use super::Settings;
use super::names::{NAME, dashboard_role, global, metadata};
use crate::kinds::{self, Kind, Owner};
use crate::run::{DASHBOARD_PATH, LEASE, WEBHOOK, WEBHOOK_SECRET};

/// The name of the right to read passwords.
pub const PASSWORDS: &str = "meltemi-passwords";

/// All namespaces, as a value of `--redis-secrets`.
pub const EVERYWHERE: &str = "*";

/// The rights of the controller: it reads what objects are made of, and writes those that it makes, statuses and events.
pub fn objects(settings: &Settings) -> Vec<Value> {
    let read = ["list", "watch"];
    let write = ["list", "watch", "create", "patch", "delete"];
    let webhook = global(WEBHOOK, settings);
    let rules = |kinds: Vec<&'static Kind>, verbs: &[&str]| -> Vec<Value> {
        let groups = kinds::by_group(kinds.into_iter()).into_iter();
        groups.map(|(group, resources)| rule(group, &resources, verbs)).collect()
    };
    let is_written = |kind: &Kind| kinds::written().iter().any(|known| known.definition == kind.definition);
    let of = |owner: Owner| {
        kinds::read().iter().filter(move |kind| kind.owner == owner && !is_written(kind)).collect::<Vec<_>>()
    };
    let mut cluster = rules(of(Owner::Kubernetes), &read);
    // Which kinds there are.
    cluster.push(rule("apiextensions.k8s.io", &["customresourcedefinitions"], &read));
    cluster.extend(rules(of(Owner::Istio), &read));
    cluster.extend(rules(of(Owner::Ours), &read));
    cluster.extend(rules(kinds::written().iter().collect(), &write));
    for (group, resources) in kinds::by_group(kinds::ours()) {
        let statuses: Vec<String> = resources.iter().map(|plural| format!("{plural}/status")).collect();
        let statuses: Vec<&str> = statuses.iter().map(String::as_str).collect();
        cluster.push(rule(group, &statuses, &["patch"]));
    }
    // Those that have ended.
    cluster.push(rule("meltemi.io", &["taps"], &["delete"]));
    cluster.push(rule("events.k8s.io", &["events"], &["create", "patch"]));
    cluster.push(json!({
        "apiGroups": ["admissionregistration.k8s.io"], "resources": ["validatingwebhookconfigurations"],
        "resourceNames": [webhook], "verbs": ["get", "patch"],
    }));
    if settings.dashboard {
        // Who comes, and whether they may; and the proxies' admin interfaces. By API server, opening a WebSocket is a `get`
        // or a `create`.
        cluster.push(rule("authentication.k8s.io", &["tokenreviews"], &["create"]));
        cluster.push(rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"]));
        cluster.push(rule("", &["pods/portforward"], &["get", "create"]));
    }
    let own = json!([
        // The name of what is made is not known to the authorizer.
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [LEASE],
         "verbs": ["get", "update"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [WEBHOOK_SECRET],
         "verbs": ["get", "patch"]},
    ]);
    // The version, and the configuration of the mesh.
    let istio = json!([
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": read},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": read},
    ]);
    let (home, root) = (Some(settings.namespace.as_str()), Some(settings.mesh.root_namespace.as_str()));
    let mut objects =
        vec![json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(NAME, home)})];
    let mut give = |name: &str, namespace: Option<&str>, rules: &Value| {
        let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
        objects.push(json!({
            "apiVersion": RBAC, "kind": kind, "metadata": metadata(name, namespace), "rules": rules,
        }));
        objects.push(json!({
            "apiVersion": RBAC, "kind": format!("{kind}Binding"), "metadata": metadata(name, namespace),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": settings.namespace}],
        }));
    };
    give(&global(NAME, settings), None, &cluster.into());
    give(NAME, home, &own);
    give(&global("meltemi-istio", settings), root, &istio);
    // A right over every Secret of a namespace, which nothing narrower gives: only where it is asked for.
    let passwords = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
    for namespace in &settings.redis_secrets {
        give(&global(PASSWORDS, settings), Some(&**namespace).filter(|name| *name != EVERYWHERE), &passwords);
    }
    if settings.dashboard {
        objects.push(json!({
            "apiVersion": RBAC, "kind": "ClusterRole", "metadata": metadata(&dashboard_role(&settings.namespace), None),
            "rules": [{"nonResourceURLs": [DASHBOARD_PATH], "verbs": ["get"]}],
        }));
    }
    objects
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";
