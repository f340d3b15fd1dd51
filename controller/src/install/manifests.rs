//! The objects that the controller consists of in a cluster.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde_json::{Value, json};

use super::names::{NAME, global, labels, metadata};
use super::{Settings, rbac};
use crate::crds;
use crate::generate::{Delivery, ForeignRouters, IstioVersion};
use crate::kinds;
use crate::run::{DASHBOARD_SERVICE, SERVICE, WEBHOOK, WEBHOOK_PATH, WEBHOOK_SECRET};

/// Where /metrics, /healthz and /readyz are served.
const PORT: u16 = 8080;
/// Where the webhook is served.
const WEBHOOK_PORT: u16 = 9443;
/// Where the dashboard is served.
const DASHBOARD_PORT: u16 = 8443;

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
    let mut controller = vec![secret(settings), deployment(settings), service(settings)];
    controller.extend(settings.dashboard.then(|| dashboard(settings)));
    controller.extend([budget(settings), network_policy(settings)]);
    vec![
        file("namespace.yaml", vec![namespace(settings)]),
        file("crds.yaml", definitions()),
        file("rbac.yaml", rbac::objects(settings)),
        file("controller.yaml", controller),
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

fn namespace(settings: &Settings) -> Value {
    let mut metadata = metadata(&settings.namespace, None);
    metadata["labels"]["pod-security.kubernetes.io/enforce"] = json!("restricted");
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
}

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
    let mut ports = vec![
        json!({"name": "http", "containerPort": PORT}),
        json!({"name": "webhook", "containerPort": WEBHOOK_PORT}),
    ];
    if settings.dashboard {
        ports.push(json!({"name": "dashboard", "containerPort": DASHBOARD_PORT}));
    }
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
                        "ports": ports,
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
    flag("instance", delivered.instance.as_deref());
    flag("root-namespace", Some(&mesh.root_namespace));
    flag("cluster-domain", Some(&mesh.cluster_domain));
    let foreign = Some(mesh.foreign_routers).filter(|foreign| *foreign != ForeignRouters::default());
    let foreign = foreign.and_then(|foreign| foreign.to_possible_value());
    flag("foreign-routers", foreign.as_ref().map(PossibleValue::get_name));
    let access_log = mesh.access_log.and_then(|calls| calls.to_possible_value());
    flag("access-log", access_log.as_ref().map(PossibleValue::get_name));
    flag("listen", Some(&format!("0.0.0.0:{PORT}")));
    flag("webhook-listen", Some(&format!("0.0.0.0:{WEBHOOK_PORT}")));
    let page = settings.dashboard.then(|| format!("0.0.0.0:{DASHBOARD_PORT}"));
    flag("dashboard-listen", page.as_deref());
    flag("log-format", Some("json"));
    let webhook = global(WEBHOOK, settings);
    flag("webhook-configuration", Some(&*webhook).filter(|name| *name != WEBHOOK));
    if mesh.any_secret {
        arguments.push("--any-secret".to_owned());
    }
    if mesh.istio_metrics {
        arguments.push("--istio-metrics".to_owned());
    }
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

/// Each replica remembers by itself what happened, so a browser stays with one.
fn dashboard(settings: &Settings) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(DASHBOARD_SERVICE, Some(&settings.namespace)),
        "spec": {
            "selector": labels(),
            "sessionAffinity": "ClientIP",
            "ports": [{"name": "https", "port": 443, "targetPort": "dashboard"}],
        },
    })
}

/// Nothing but its ports can be reached. The dashboard asks who comes. The API server calls the webhook from addresses that no selector names; what is
/// counted is for who collects metrics. Probes come from the node, which no policy keeps out.
fn network_policy(settings: &Settings) -> Value {
    let collectors = json!([
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}},
        {"namespaceSelector": {"matchLabels": {"meltemi.io/metrics": "true"}}},
    ]);
    let mut open = vec![json!({"protocol": "TCP", "port": "webhook"})];
    if settings.dashboard {
        open.push(json!({"protocol": "TCP", "port": "dashboard"}));
    }
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": metadata(NAME, Some(&settings.namespace)),
        "spec": {
            "podSelector": {"matchLabels": labels()},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"ports": open},
                {"ports": [{"protocol": "TCP", "port": "http"}], "from": collectors},
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
    let rule = |(group, resources): (&str, Vec<&str>)| {
        json!({
            "apiGroups": [group], "apiVersions": ["v1alpha1"], "resources": resources,
            "operations": ["CREATE", "UPDATE"], "scope": "*",
        })
    };
    let rules: Vec<Value> = kinds::by_group(kinds::ours()).into_iter().map(rule).collect();
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": metadata(&global(WEBHOOK, settings), None),
        "webhooks": [{
            "name": "resources.meltemi.io",
            "admissionReviewVersions": ["v1"],
            // The controller adds the certificate that is to be trusted.
            "clientConfig": {"service": {
                "name": SERVICE, "namespace": settings.namespace, "path": WEBHOOK_PATH, "port": 443,
            }},
            "rules": rules,
            "failurePolicy": "Ignore",
            "matchPolicy": "Equivalent",
            "sideEffects": "None",
            "timeoutSeconds": 5,
        }],
    })
}
