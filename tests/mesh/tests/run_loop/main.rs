//! `meltemi run` on a real API server, with the rights that its manifests give it.

mod api;
mod controller;
mod size;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use meltemi_tests::eventually;
use serde_json::{Value, json};

use api::{Api, HOME, MODULE, shared};
use controller::{Controller, LEASE_SECONDS};

const INSTANCE: &str = "app.kubernetes.io/instance";

const LABEL: &str = "labelSelector=app.kubernetes.io/managed-by%3Dmeltemi";

/// A namespace with sidecars and a service of Dubbo in it.
fn make_service(api: &Api, namespace: &str) {
    api.apply(&format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}, labels: {{istio-injection: enabled}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: greeter, namespace: {namespace}, annotations: {{networking.istio.io/exportTo: .}}}}
spec:
  selector: {{app: greeter}}
  ports: [{{name: tcp-dubbo, port: 20880, targetPort: 20881}}]
"
    ));
}

/// A router that gives calls so many seconds.
fn make_router(api: &Api, namespace: &str, seconds: u32) {
    api.apply(&format!(
        "
apiVersion: meltemi.io/v1alpha1
kind: MetaRouter
metadata: {{name: greeter, namespace: {namespace}}}
spec:
  exportTo: [.]
  hosts: [greeter]
  routes: [{{name: all, route: [{{destination: {{host: greeter}}}}], timeout: {seconds}s}}]
"
    ));
}

fn router_path(namespace: &str) -> String {
    format!("/apis/meltemi.io/v1alpha1/namespaces/{namespace}/metarouters/greeter")
}

fn filter_path(namespace: &str, name: &str) -> String {
    format!("/apis/networking.istio.io/v1alpha3/namespaces/{namespace}/envoyfilters/{name}")
}

fn plugin_path(namespace: &str) -> String {
    format!("/apis/extensions.istio.io/v1alpha1/namespaces/{namespace}/wasmplugins/meltemi")
}

/// The generated objects of a namespace by kind and name, with their resource versions.
fn generated(api: &Api, namespace: &str) -> BTreeMap<String, String> {
    let kinds = [
        "networking.istio.io/v1alpha3/namespaces/NAMESPACE/envoyfilters",
        "extensions.istio.io/v1alpha1/namespaces/NAMESPACE/wasmplugins",
        "networking.istio.io/v1/namespaces/NAMESPACE/virtualservices",
    ];
    let objects = kinds
        .iter()
        .flat_map(|kind| api.list(&format!("/apis/{}?{LABEL}", kind.replace("NAMESPACE", namespace))));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    objects
        .map(|object| {
            let metadata = &object["metadata"];
            let name = format!("{} {}", text(&object["kind"]), text(&metadata["name"]));
            (name, text(&metadata["resourceVersion"]))
        })
        .collect()
}

/// Waits until a namespace has its objects: the module, the sockets, and the tunnels of each side.
fn wait_for_objects(api: &Api, namespace: &str) -> BTreeMap<String, String> {
    eventually("the objects are there", || {
        let objects = generated(api, namespace);
        (objects.len() == 6).then_some(objects)
    })
}

/// Waits until a condition of a router is as wanted, for what people wrote last, and returns its message.
fn wait_for_condition(api: &Api, path: &str, kind: &str, status: &str) -> String {
    eventually(&format!("{kind} is {status}"), || {
        let router = api.find(path)?;
        let conditions = router["status"]["conditions"].as_array()?;
        let condition = conditions.iter().find(|condition| condition["type"] == kind)?;
        let is_current = condition["observedGeneration"] == router["metadata"]["generation"];
        (is_current && condition["status"] == status)
            .then(|| condition["message"].as_str().unwrap().to_owned())
    })
}

#[test]
fn objects_come_and_go_in_order() {
    let api = shared();
    make_service(&api, "order");
    let controller = Controller::start(&api, "order");
    wait_for_objects(&api, "order");
    let applied = controller.did("applied");
    let applied: Vec<&str> =
        applied.iter().filter(|name| name.contains(" order/")).map(String::as_str).collect();
    let role = |name: &str| match name {
        name if name.starts_with("WasmPlugin") => 0,
        name if name.contains("meltemi-sockets") => 1,
        _ => 2,
    };
    assert_eq!(applied.iter().map(|name| role(name)).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2], "{applied:?}");
    let made = |path: &str| api.find(path).unwrap()["metadata"]["creationTimestamp"].to_string();
    let (plugin, tunnel) =
        (made(&plugin_path("order")), made(&filter_path("order", "meltemi-outbound-order")));
    assert!(plugin < tunnel, "the tunnel waits until sidecars have the module");

    api.delete("/api/v1/namespaces/order/services/greeter");
    eventually("the objects are gone", || generated(&api, "order").is_empty().then_some(()));
    let deleted = eventually("all is told", || {
        let deleted = controller.did("deleted");
        (deleted.len() == 6).then_some(deleted)
    });
    assert_eq!(deleted.iter().map(|name| role(name)).collect::<Vec<_>>(), [2, 2, 1, 1, 0, 0], "{deleted:?}");
    assert_eq!(controller.metric("write_errors_total{operation=\"delete\"}"), 0);
    assert!(controller.end().success());
}

#[test]
fn edits_and_deletions_are_undone() {
    let api = shared();
    make_service(&api, "edits");
    let controller = Controller::start(&api, "edits");
    wait_for_objects(&api, "edits");
    let sockets = filter_path("edits", "meltemi-sockets");
    let wanted = api.find(&sockets).unwrap()["spec"].take();

    // What the controller says, what it does not say, and the label by which it knows its objects.
    api.patch(&sockets, &json!({"spec": {"configPatches": [], "priority": 7}}));
    eventually("the edit is undone", || (api.find(&sockets)?["spec"] == wanted).then_some(()));
    let unlabelled = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}});
    api.patch(&sockets, &unlabelled);
    eventually("the label is back", || {
        (api.find(&sockets)?["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "meltemi").then_some(())
    });
    let uid = api.find(&sockets).unwrap()["metadata"]["uid"].take();
    api.delete(&sockets);
    eventually("the object is back", || (api.find(&sockets)?["metadata"]["uid"] != uid).then_some(()));
    assert_eq!(api.find(&sockets).unwrap()["spec"], wanted);
    assert!(controller.end().success());
}

#[test]
fn a_restart_changes_nothing() {
    let api = shared();
    make_service(&api, "restart");
    make_router(&api, "restart", 1);
    let controller = Controller::start(&api, "restart-first");
    wait_for_condition(&api, &router_path("restart"), "Accepted", "True");
    let before = wait_for_objects(&api, "restart");
    let router = api.find(&router_path("restart")).unwrap();
    assert!(controller.end().success());
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/meltemi");
    assert_eq!(api.find(&lease).unwrap()["spec"]["holderIdentity"], "");

    // The Lease was given back, so the next one leads at once.
    let start = Instant::now();
    let controller = Controller::start(&api, "restart-second");
    controller.wait_until_leading();
    assert!(start.elapsed() < Duration::from_secs(LEASE_SECONDS), "{:?}", start.elapsed());
    assert_eq!(generated(&api, "restart"), before);
    assert_eq!(api.find(&router_path("restart")).unwrap(), router);
    assert_eq!(controller.did("applied"), Vec::<String>::new());
    assert!(controller.end().success());
}

#[test]
fn lost_watches_are_taken_up_again() {
    let mut api = Api::start("watches");
    make_service(&api, "before");
    let controller = Controller::start(&api, "watches");
    let before = wait_for_objects(&api, "before");
    api.stop();
    eventually("the watches are lost", || {
        (controller.metric("watch_errors_total{kind=\"Service\"}") > 0).then_some(())
    });
    eventually("nobody leads", || (controller.metric("leader") == 0).then_some(()));
    api.resume();
    make_service(&api, "after");
    wait_for_objects(&api, "after");
    assert_eq!(generated(&api, "before"), before);
    assert_eq!(controller.did("deleted"), Vec::<String>::new());
    controller.kill();
}

#[test]
fn the_meshs_defaults_for_exports_are_followed() {
    let api = Api::start("exports");
    make_service(&api, "owner");
    api.patch("/api/v1/namespaces/owner/services/greeter", &json!({"metadata": {"annotations": null}}));
    api.apply(
        "---\n{apiVersion: v1, kind: Namespace, metadata: {name: client, labels: {istio-injection: enabled}}}",
    );
    let controller = Controller::start(&api, "exports");
    wait_for_objects(&api, "owner");
    let tunnel = filter_path("client", "meltemi-outbound-owner");
    eventually("its clients are managed", || api.find(&tunnel));
    let configure = |who: &str| {
        api.apply(&format!(
            "
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data: {{mesh: 'defaultServiceExportTo: [\"{who}\"]'}}
"
        ));
    };
    configure(".");
    eventually("they are not any more", || api.find(&tunnel).is_none().then_some(()));
    assert!(api.find(&filter_path("owner", "meltemi-outbound-owner")).is_some());
    configure("*");
    eventually("they are again", || api.find(&tunnel));
    assert!(controller.end().success());
}

#[test]
fn another_replica_takes_over() {
    let api = shared();
    make_service(&api, "takeover");
    let first = Controller::start(&api, "takeover-first");
    wait_for_objects(&api, "takeover");
    let second = Controller::start(&api, "takeover-second");
    eventually("the second is ready", || (second.view("readyz").0 == 200).then_some(()));
    assert_eq!((first.metric("leader"), second.metric("leader")), (1, 0));
    first.kill();
    let start = Instant::now();
    eventually("the second leads", || (second.metric("leader") == 1).then_some(()));
    // It looks five times in the time of a lease.
    let limit = Duration::from_secs(LEASE_SECONDS) * 6 / 5 + Duration::from_secs(1);
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
    api.delete(&filter_path("takeover", "meltemi-sockets"));
    wait_for_objects(&api, "takeover");
    assert!(second.end().success());
}

#[test]
fn only_what_changed_is_applied() {
    let api = shared();
    let namespaces = ["change-one", "change-two"];
    for namespace in namespaces {
        make_service(&api, namespace);
        make_router(&api, namespace, 1);
    }
    let controller = Controller::start(&api, "change");
    for namespace in namespaces {
        wait_for_condition(&api, &router_path(namespace), "Accepted", "True");
    }
    let before = namespaces.map(|namespace| wait_for_objects(&api, namespace));
    let count = controller.did("applied").len();
    make_router(&api, "change-one", 2);
    eventually("the plan has changed", || {
        let plugin = api.find(&plugin_path("change-one"))?;
        plugin.to_string().contains("\"2s\"").then_some(())
    });
    wait_for_condition(&api, &router_path("change-one"), "Accepted", "True");
    assert_eq!(controller.did("applied")[count..], ["WasmPlugin change-one/meltemi"]);
    let after = namespaces.map(|namespace| generated(&api, namespace));
    assert_eq!(before[1], after[1]);
    let changed: Vec<&String> = after[0]
        .iter()
        .filter(|(name, version)| before[0][*name] != **version)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(changed, ["WasmPlugin meltemi"]);
    assert!(controller.end().success());
}

#[test]
fn the_webhook_refuses_what_could_not_be_in_force() {
    let api = shared();
    make_service(&api, "webhook");
    let controller = Controller::start(&api, "webhook");
    let configuration = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/meltemi";
    let mut webhooks = api.find(configuration).unwrap()["webhooks"].take();
    // The API server has no network to the Service's addresses here. `Fail` shows that the webhook answers.
    webhooks[0]["clientConfig"] = json!({"url": format!("https://{}/validate", controller.webhook)});
    webhooks[0]["failurePolicy"] = json!("Fail");
    api.patch(configuration, &json!({"webhooks": webhooks}));
    let address = controller.webhook.to_string();
    assert!(controller.end().success());
    let controller = Controller::start_with(&api, "webhook-again", &address, &["--istio-version=1.30"]);
    eventually("the certificate is trusted", || {
        let bundle = &api.find(configuration)?["webhooks"][0]["clientConfig"]["caBundle"];
        bundle.is_string().then_some(())
    });
    eventually("the webhook is served", || (controller.view("readyz").0 == 200).then_some(()));
    eventually("a good router is taken", || {
        api.kubectl(&["apply", "-f", "-"], &router("webhook", "other")).ok()
    });
    let refusal = api.kubectl(&["apply", "-f", "-"], &router("webhook", "tag")).unwrap_err();
    assert!(
        refusal.contains("admission webhook \"resources.meltemi.io\" denied the request")
            && refusal.contains("the attachment \"tag\" is set as well"),
        "{refusal}"
    );
    assert!(controller.metric("reviews_total{outcome=\"refused\"}") > 0);
    webhooks[0]["failurePolicy"] = json!("Ignore");
    api.patch(configuration, &json!({"webhooks": webhooks}));
    assert!(controller.end().success());
}

/// A router that sets one attachment, and removes another.
fn router(namespace: &str, removed: &str) -> String {
    format!(
        "
apiVersion: meltemi.io/v1alpha1
kind: MetaRouter
metadata: {{name: attachments, namespace: {namespace}}}
spec:
  hosts: [greeter]
  routes:
  - route: [{{destination: {{host: greeter}}}}]
    requestMutation: [{{key: tag, value: gray}}]
    requestRemove: [{removed}]
"
    )
}

#[test]
fn findings_are_told_by_status_and_events() {
    let api = shared();
    make_service(&api, "findings");
    make_router(&api, "findings", 1);
    let controller = Controller::start(&api, "findings");
    let path = router_path("findings");
    wait_for_condition(&api, &path, "Accepted", "True");
    wait_for_condition(&api, &path, "Honoured", "True");
    let events = "/apis/events.k8s.io/v1/namespaces/findings/events";
    assert_eq!(api.list(events), Vec::<Value>::new());

    api.patch(&path, &json!({"spec": {"hosts": ["nobody"]}}));
    let message = wait_for_condition(&api, &path, "Accepted", "False");
    assert!(message.contains("spec.hosts[0]: no managed service has the host"), "{message}");
    let event = eventually("an event tells", || {
        api.list(events).into_iter().find(|event| event["reason"] == "Invalid")
    });
    assert_eq!(event["regarding"]["name"], "greeter");
    assert_eq!(event["type"], "Warning");
    assert!(event["note"].as_str().unwrap().contains("no managed service has the host"), "{event}");

    api.patch(&path, &json!({"spec": {"hosts": ["greeter"]}}));
    wait_for_condition(&api, &path, "Accepted", "True");
    eventually("an event tells", || {
        api.list(events).into_iter().find(|event| event["reason"] == "Accepted" && event["type"] == "Normal")
    });
    assert!(controller.end().success());
}

#[test]
fn kinds_that_appear_are_followed() {
    let api = shared();
    let definition =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/applicationprotocols.metaprotocol.aeraki.io";
    let mut kept = api.find(definition).unwrap();
    api.delete(definition);
    eventually("the kind is gone", || api.find(definition).is_none().then_some(()));
    let controller = Controller::start(&api, "kinds");
    controller.wait_until_leading();
    assert_eq!(controller.metric("lists_total{kind=\"ApplicationProtocol\"}"), 0);

    for field in ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"] {
        kept["metadata"].as_object_mut().unwrap().remove(field);
    }
    kept.as_object_mut().unwrap().remove("status");
    api.apply(&kept.to_string());
    api.kubectl(&["wait", "--for=condition=established", "crd", "--all"], "").unwrap();
    api.apply(
        "
apiVersion: metaprotocol.aeraki.io/v1alpha1
kind: ApplicationProtocol
metadata: {name: mine}
spec: {protocol: mine, codec: aeraki.meta_protocol.codec.dubbo}
",
    );
    let path = "/apis/metaprotocol.aeraki.io/v1alpha1/applicationprotocols/mine";
    wait_for_condition(&api, path, "Accepted", "True");
    assert!(controller.end().success());
}

#[test]
fn a_policy_that_cannot_be_read_lets_nobody_call() {
    let api = Api::start("policy");
    let definition =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/dubboauthorizationpolicies.dubbo.aeraki.io";
    // Aeraki's own definition says nothing of what a policy holds.
    let mut versions = api.find(definition).unwrap()["spec"]["versions"].take();
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    versions[0]["schema"]["openAPIV3Schema"] = anything;
    api.patch(definition, &json!({"spec": {"versions": versions}}));
    make_service(&api, "policy");
    let policy = |rules: &str| {
        api.apply(&format!(
            "
apiVersion: dubbo.aeraki.io/v1alpha1
kind: DubboAuthorizationPolicy
metadata: {{name: few, namespace: policy}}
spec: {{action: DENY, rules: {rules}}}
"
        ));
    };
    policy("[{to: [{operation: {methods: [delete]}}]}]");
    let controller = Controller::start(&api, "policy");
    let inbound = || {
        let plugin = api.find(&format!("{}-server-greeter", plugin_path("policy")))?;
        let services = plugin["spec"]["pluginConfig"]["services"].as_object()?.clone();
        let found = services.into_iter().find(|(authority, _)| authority.starts_with("inbound."));
        Some(found.unwrap().1["routes"].clone())
    };
    let route = |name: &str| json!([{"name": format!("policy/few/{name}"), "reject": {"message": "RBAC: access denied"}}]);
    let methods = eventually("the policy is in force", inbound);
    assert!(methods[0]["match"].to_string().contains("delete"), "{methods}");
    policy("[{to: [{operation: {methods: delete}}]}]");
    eventually("nobody may call", || (inbound()? == route("0")).then_some(()));
    let path = "/apis/dubbo.aeraki.io/v1alpha1/namespaces/policy/dubboauthorizationpolicies/few";
    let message = wait_for_condition(&api, path, "Accepted", "False");
    assert!(
        message.contains("has another shape than its kind") && message.contains("may be called"),
        "{message}"
    );
    policy("[{to: [{operation: {methods: [delete]}}]}]");
    eventually("the policy is in force again", || (inbound()? == methods).then_some(()));
    assert!(controller.end().success());
}

#[test]
fn the_version_of_istio_is_followed() {
    let api = shared();
    make_service(&api, "version");
    let controller = Controller::start_with(&api, "version", "127.0.0.1:0", &[]);
    let istiod = |version: &str| {
        api.apply(&format!(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: istiod, namespace: istio-system, labels: {{app: istiod}}}}
spec:
  selector: {{matchLabels: {{app: istiod}}}}
  template:
    metadata: {{labels: {{app: istiod}}}}
    spec: {{containers: [{{name: discovery, image: 'docker.io/istio/pilot:{version}'}}]}}
"
        ));
    };
    istiod("1.29.2");
    wait_for_objects(&api, "version");
    let sockets = filter_path("version", "meltemi-sockets");
    let asks_for = |name: &str| api.find(&sockets).unwrap().to_string().contains(name);
    assert!(asks_for("extensions.istio.io/wasmplugin/version.meltemi"));
    istiod("1.30.0-distroless");
    eventually("the sockets ask by the new name", || {
        asks_for("extensions.istio.io/trafficextension/version.meltemi").then_some(())
    });
    api.delete("/apis/apps/v1/namespaces/istio-system/deployments/istiod");
    assert!(controller.end().success());
}

#[test]
fn two_installations_leave_each_other_alone() {
    let api = Api::start("instances");
    make_service(&api, "instances");
    let first = Controller::start(&api, "instances-first");
    let before = wait_for_objects(&api, "instances");
    let sockets = filter_path("instances", "meltemi-sockets");
    let owner = || api.find(&sockets).map(|object| object["metadata"]["labels"][INSTANCE].clone());
    assert_eq!(owner(), Some(json!(HOME)));

    // What a person applied, and what a version without the label left: one under a name that is wanted, and others.
    api.kubectl(&["create", "namespace", "canary"], "").unwrap();
    for (name, label) in [
        ("meltemi-sockets", ""),
        ("meltemi-old", ""),
        ("meltemi-by-hand", "app.kubernetes.io/instance: by-hand, "),
    ] {
        api.apply(&format!(
            "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata:
  name: {name}
  namespace: canary
  labels: {{{label}app.kubernetes.io/managed-by: meltemi, meltemi.io/role: tunnel}}
spec: {{}}
"
        ));
    }
    make_service(&api, "canary");
    let binding = ["create", "rolebinding", "second", "--namespace=canary", "--clusterrole=cluster-admin"];
    api.kubectl(&[&binding[..], &["--serviceaccount=meltemi-system:meltemi"]].concat(), "").unwrap();
    eventually("the first has what it wants there", || (generated(&api, "canary").len() == 6).then_some(()));
    let adopted = filter_path("canary", "meltemi-sockets");
    let adopter = || api.find(&adopted).unwrap()["metadata"]["labels"][INSTANCE].clone();
    eventually("it took over what it wants", || (adopter() == HOME).then_some(()));
    let all = generated(&api, "canary");

    // A second one, with a Lease of its own.
    let flags = ["--istio-version=1.30", "--namespace=canary"];
    let second = Controller::start_with(&api, "instances-second", "127.0.0.1:0", &flags);
    second.wait_until_leading();
    assert_eq!(second.did("applied"), Vec::<String>::new());
    assert_eq!(second.did("deleted"), Vec::<String>::new());
    assert_eq!(generated(&api, "instances"), before);
    assert_eq!(generated(&api, "canary"), all);

    // It follows when the first is gone from a namespace.
    assert!(first.end().success());
    for kind in ["envoyfilters", "wasmplugins"] {
        let own = format!("--selector={INSTANCE}={HOME}");
        api.kubectl(&["delete", kind, "--namespace=instances", &own], "").unwrap();
    }
    eventually("the second has what it wants there", || (owner()? == "canary").then_some(()));
    let after = wait_for_objects(&api, "instances");
    second.kill();

    // What is not of the first stays when that is uninstalled.
    let (told, _) = install(&api, &["--uninstall", "--linger-seconds=0"]);
    assert_eq!(generated(&api, "instances"), after);
    let left = ["EnvoyFilter meltemi-by-hand", "EnvoyFilter meltemi-old"];
    assert_eq!(Vec::from_iter(generated(&api, "canary").into_keys()), left);
    for name in ["canary/meltemi-old", "canary/meltemi-by-hand", "instances/meltemi-sockets"] {
        assert!(told.contains(&format!("EnvoyFilter {name} left: ")), "{told}");
    }
}

/// Runs `meltemi install`, and gives what it wrote to both outputs.
fn install(api: &Api, flags: &[&str]) -> (String, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_mesh-controller"))
        .arg("install")
        .args(flags)
        .env("KUBECONFIG", api.admin())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (told, remarks) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{remarks}");
    (told, remarks)
}

#[test]
fn passwords_are_read_where_that_is_allowed() {
    let api = shared();
    api.apply(
        "
apiVersion: v1
kind: Namespace
metadata: {name: passwords, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: cache, namespace: passwords, annotations: {networking.istio.io/exportTo: .}}
spec: {ports: [{name: tcp-redis, port: 6379}]}
---
apiVersion: v1
kind: Secret
metadata: {name: cache, namespace: passwords}
stringData: {password: s3cret}
",
    );
    let images = ["--image=registry.example.org/meltemi:0.1", "--module", MODULE];
    let survey = || install(&api, &[&images[..], &["--dry-run"]].concat()).1;
    let line = "passwords  cache.passwords.svc.cluster.local  6379  redis";
    let is_line = |told: &str| told.split_whitespace().collect::<Vec<_>>().join("  ").contains(line);
    let told = survey();
    let (_, left) = told.split_once("left alone").unwrap_or_else(|| panic!("{told}"));
    assert!(is_line(left), "{told}");

    let service = |host: &str| {
        api.apply(&format!(
            "
apiVersion: redis.aeraki.io/v1alpha1
kind: RedisService
metadata: {{name: cache, namespace: passwords}}
spec: {{host: [{host}], settings: {{auth: {{secret: {{name: cache}}}}}}}}
"
        ));
    };
    service("cache");
    let told = survey();
    assert!(
        told.contains("would be taken over:") && is_line(&told) && !told.contains("left alone"),
        "{told}"
    );

    let controller = Controller::start(&api, "passwords");
    let path = "/apis/redis.aeraki.io/v1alpha1/namespaces/passwords/redisservices/cache";
    let message = wait_for_condition(&api, path, "Accepted", "False");
    assert!(message.contains("`meltemi install --redis-secrets=passwords`"), "{message}");

    install(&api, &[&images[..], &["--redis-secrets=passwords"]].concat());
    // Another spelling of the host has the controller look again before a minute is over.
    service("cache.passwords.svc.cluster.local");
    let mend = eventually("the mend is told", || {
        let message = wait_for_condition(&api, path, "Accepted", "False");
        let (_, mend) = message.split_once("kubectl ")?;
        Some(mend.split_once(": ")?.0.to_owned())
    });
    assert_eq!(mend, "label secret --namespace=passwords cache meltemi.io/redis-password=true");
    api.kubectl(&mend.split(' ').collect::<Vec<_>>(), "").unwrap();
    let proxy = filter_path("passwords", "meltemi-redis-passwords");
    assert_eq!(api.find(&proxy), None);
    // It warned of what it might not read.
    controller.kill();

    let controller = Controller::start(&api, "passwords-again");
    wait_for_condition(&api, path, "Accepted", "True");
    let proxy = eventually("the proxy is there", || api.find(&proxy));
    assert!(proxy.to_string().contains("s3cret"));
    assert!(controller.end().success());
}

#[test]
fn nothing_is_left_after_uninstalling() {
    let api = Api::start("uninstall");
    make_service(&api, "uninstall");
    make_router(&api, "uninstall", 1);
    let controller = Controller::start(&api, "uninstall");
    wait_for_objects(&api, "uninstall");
    wait_for_condition(&api, &router_path("uninstall"), "Accepted", "True");
    let (told, _) = install(&api, &["--uninstall", "--linger-seconds=0"]);
    // The controller has no rights any more, so it cannot make anew what was deleted.
    assert_eq!(generated(&api, "uninstall"), BTreeMap::new());
    let position = |what: &str| told.find(what).unwrap_or_else(|| panic!("{what} in {told}"));
    assert!(position("ClusterRoleBinding meltemi deleted") < position("EnvoyFilter"));
    assert!(position("EnvoyFilter uninstall/meltemi-sockets") < position("WasmPlugin uninstall/meltemi"));
    assert!(
        api.find("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/meltemi").is_none()
    );
    assert!(api.find(&router_path("uninstall")).is_some());
    controller.kill();
}
