//! The rights of the controller.

use serde_json::{Value, json};

use super::Settings;
use super::names::{NAME, global, metadata};
use crate::run::{LEASE, WEBHOOK, WEBHOOK_SECRET};

/// The name of the right to read passwords.
pub const PASSWORDS: &str = "meltemi-passwords";

/// All namespaces, as a value of `--redis-secrets`.
pub const EVERYWHERE: &str = "*";

/// The rights of the controller: it reads what objects are made of, and writes those that it makes, statuses and events.
pub fn objects(settings: &Settings) -> Vec<Value> {
    let read = ["list", "watch"];
    let write = ["list", "watch", "create", "patch", "delete"];
    let webhook = global(WEBHOOK, settings);
    let cluster = json!([
        {"apiGroups": [""], "resources": ["namespaces", "services", "pods"], "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
        // Which kinds there are.
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": read},
        {"apiGroups": ["networking.istio.io"],
         "resources": ["serviceentries", "destinationrules", "gateways", "sidecars"], "verbs": read},
        {"apiGroups": ["meltemi.io"], "resources": ["metarouters"], "verbs": read},
        {"apiGroups": ["metaprotocol.aeraki.io"],
         "resources": ["metarouters", "applicationprotocols"], "verbs": read},
        {"apiGroups": ["redis.aeraki.io"], "resources": ["redisservices", "redisdestinations"], "verbs": read},
        {"apiGroups": ["dubbo.aeraki.io"], "resources": ["dubboauthorizationpolicies"], "verbs": read},
        {"apiGroups": ["networking.istio.io"], "resources": ["envoyfilters", "virtualservices"], "verbs": write},
        {"apiGroups": ["extensions.istio.io"], "resources": ["wasmplugins"], "verbs": write},
        {"apiGroups": ["meltemi.io"], "resources": ["metarouters/status"], "verbs": ["patch"]},
        {"apiGroups": ["metaprotocol.aeraki.io"],
         "resources": ["metarouters/status", "applicationprotocols/status"], "verbs": ["patch"]},
        {"apiGroups": ["redis.aeraki.io"],
         "resources": ["redisservices/status", "redisdestinations/status"], "verbs": ["patch"]},
        {"apiGroups": ["dubbo.aeraki.io"], "resources": ["dubboauthorizationpolicies/status"], "verbs": ["patch"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
        {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["validatingwebhookconfigurations"],
         "resourceNames": [webhook], "verbs": ["get", "patch"]},
    ]);
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
    give(&global(NAME, settings), None, &cluster);
    give(NAME, home, &own);
    give(&global("meltemi-istio", settings), root, &istio);
    // A right over every Secret of a namespace, which nothing narrower gives: only where it is asked for.
    let passwords = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
    for namespace in &settings.redis_secrets {
        give(&global(PASSWORDS, settings), Some(&**namespace).filter(|name| *name != EVERYWHERE), &passwords);
    }
    objects
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";
