//! The objects that the controller consists of in a cluster.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde_json::{Value, json};

use super::Settings;
use crate::crds;
use crate::generate::{Delivery, IstioVersion};
use crate::run::{LEASE, SERVICE, WEBHOOK, WEBHOOK_PATH, WEBHOOK_SECRET};

/// The name of all objects of the controller that are not named for what they hold.
pub const NAME: &str = "meltemi";

/// Where /metrics, /healthz and /readyz are served.
const PORT: u16 = 8080;
/// Where the webhook is served.
const WEBHOOK_PORT: u16 = 9443;

/// The user of the process, which is in no image and owns nothing.
const USER: u32 = 65532;

/// A file of objects.
#[derive(Debug, Clone, PartialEq)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// What it holds, in the order in which it has to be made.
    pub objects: Vec<Value>,
}

/// All objects, in the order in which they have to be made.
pub fn files(settings: &Settings) -> Vec<File> {
    let file = |name, objects| File { name, objects };
    vec![
        file("namespace.yaml", vec![namespace(settings)]),
        file("crds.yaml", definitions()),
        file("rbac.yaml", rbac(settings)),
        file(
            "controller.yaml",
            vec![secret(settings), deployment(settings), service(settings), budget(settings)],
        ),
        file("webhook.yaml", vec![webhook(settings)]),
    ]
}

/// The list of the files for `kubectl apply -k`.
pub fn kustomization(files: &[File]) -> Value {
    let names: Vec<&str> = files.iter().map(|file| file.name).collect();
    json!({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": names})
}

fn definitions() -> Vec<Value> {
    crds::all().iter().filter_map(|definition| serde_json::to_value(definition).ok()).collect()
}

fn labels() -> Value {
    json!({"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "controller"})
}

fn metadata(name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({"name": name, "labels": labels()});
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

fn namespace(settings: &Settings) -> Value {
    let mut metadata = metadata(&settings.namespace, None);
    metadata["labels"]["pod-security.kubernetes.io/enforce"] = json!("restricted");
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
}

/// The rights of the controller: it reads what objects are made of, and writes those that it makes, statuses and events.
fn rbac(settings: &Settings) -> Vec<Value> {
    let read = ["list", "watch"];
    let write = ["list", "watch", "create", "patch", "delete"];
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
         "resourceNames": [WEBHOOK], "verbs": ["get", "patch"]},
    ]);
    // A right of its own, so that it can be taken away where no passwords of Redis are in Secrets, or be given by Roles
    // in the namespaces that have such.
    let passwords = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
    let own = json!([
        // The name of what is made is not known to the authorizer.
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": [LEASE],
         "verbs": ["get", "update"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [WEBHOOK_SECRET],
         "verbs": ["get", "patch"]},
    ]);
    let istio = json!([{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": read}]);
    let (home, root) = (Some(settings.namespace.as_str()), Some(settings.mesh.root_namespace.as_str()));
    let mut objects =
        vec![json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(NAME, home)})];
    for (name, namespace, rules) in [
        (NAME, None, cluster),
        ("meltemi-passwords", None, passwords),
        (NAME, home, own),
        ("meltemi-istio-version", root, istio),
    ] {
        let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
        objects.push(json!({
            "apiVersion": RBAC, "kind": kind, "metadata": metadata(name, namespace), "rules": rules,
        }));
        objects.push(json!({
            "apiVersion": RBAC, "kind": format!("{kind}Binding"), "metadata": metadata(name, namespace),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": settings.namespace}],
        }));
    }
    objects
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// The certificate's place, empty: so the controller needs no right to make Secrets.
fn secret(settings: &Settings) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": metadata(WEBHOOK_SECRET, Some(&settings.namespace)),
    })
}

fn deployment(settings: &Settings) -> Value {
    let mut labels = labels();
    // The API server calls the webhook without Istio's identities.
    labels["sidecar.istio.io/inject"] = json!("false");
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": "http"}, "periodSeconds": 5});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(NAME, Some(&settings.namespace)),
        "spec": {
            "replicas": settings.replicas,
            "selector": {"matchLabels": self::labels()},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": PORT.to_string()},
                },
                "spec": {
                    "serviceAccountName": NAME,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    // The pass under way is finished, and the Lease given back.
                    "terminationGracePeriodSeconds": 30,
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": {"matchLabels": self::labels()},
                    }],
                    "containers": [{
                        "name": "controller",
                        "image": settings.image,
                        "args": arguments(settings),
                        "env": [
                            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                            {"name": "POD_NAMESPACE",
                             "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                        ],
                        "ports": [
                            {"name": "http", "containerPort": PORT},
                            {"name": "webhook", "containerPort": WEBHOOK_PORT},
                        ],
                        "livenessProbe": probe("/healthz"),
                        "readinessProbe": probe("/readyz"),
                        // 2000 services that all of 20 namespaces see take 360 MB while objects are made.
                        "resources": {
                            "requests": {"cpu": "50m", "memory": "128Mi"},
                            "limits": {"memory": "1Gi"},
                        },
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                            "capabilities": {"drop": ["ALL"]},
                        },
                    }],
                },
            },
        },
    })
}

fn arguments(settings: &Settings) -> Vec<String> {
    let Settings { mesh, delivered, .. } = settings;
    let mut arguments = vec!["run".to_owned(), format!("--module={}", settings.module)];
    let mut flag = |name: &str, value: Option<&str>| {
        arguments.extend(value.map(|value| format!("--{name}={value}")));
    };
    flag("module-sha256", delivered.module_sha256.as_deref());
    flag("codecs", Some(&*mesh.codecs.join(",")).filter(|codecs| !codecs.is_empty()));
    flag("image-pull-secret", delivered.image_pull_secret.as_deref());
    let delivery = Some(delivered.delivery).filter(|delivery| *delivery != Delivery::default());
    flag(
        "delivery",
        delivery.and_then(|delivery| delivery.to_possible_value()).as_ref().map(PossibleValue::get_name),
    );
    let version = settings.istio_version.map(|IstioVersion(minor)| format!("1.{minor}"));
    flag("istio-version", version.as_deref());
    flag("root-namespace", Some(&mesh.root_namespace));
    flag("cluster-domain", Some(&mesh.cluster_domain));
    flag("listen", Some(&format!("0.0.0.0:{PORT}")));
    flag("webhook-listen", Some(&format!("0.0.0.0:{WEBHOOK_PORT}")));
    flag("log-format", Some("json"));
    arguments
}

fn service(settings: &Settings) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(SERVICE, Some(&settings.namespace)),
        "spec": {
            "selector": labels(),
            "ports": [
                {"name": "https-webhook", "port": 443, "targetPort": "webhook"},
                {"name": "http-metrics", "port": PORT, "targetPort": "http"},
            ],
        },
    })
}

/// One replica may go at a time.
fn budget(settings: &Settings) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": metadata(NAME, Some(&settings.namespace)),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels()}},
    })
}

/// What the webhook refuses is refused by the controller as well, which says so in the resource's status and leaves the
/// mesh as it was. So nobody is kept from writing resources while the controller is away: the policy is `Ignore`.
fn webhook(settings: &Settings) -> Value {
    let rule = |group: &str, resources: &[&str]| {
        json!({
            "apiGroups": [group], "apiVersions": ["v1alpha1"], "resources": resources,
            "operations": ["CREATE", "UPDATE"], "scope": "*",
        })
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": metadata(WEBHOOK, None),
        "webhooks": [{
            "name": "resources.meltemi.io",
            "admissionReviewVersions": ["v1"],
            // The controller adds the certificate that is to be trusted.
            "clientConfig": {"service": {
                "name": SERVICE, "namespace": settings.namespace, "path": WEBHOOK_PATH, "port": 443,
            }},
            "rules": [
                rule("meltemi.io", &["metarouters"]),
                rule("metaprotocol.aeraki.io", &["metarouters", "applicationprotocols"]),
                rule("redis.aeraki.io", &["redisservices", "redisdestinations"]),
                rule("dubbo.aeraki.io", &["dubboauthorizationpolicies"]),
            ],
            "failurePolicy": "Ignore",
            "matchPolicy": "Equivalent",
            "sideEffects": "None",
            "timeoutSeconds": 5,
        }],
    })
}
