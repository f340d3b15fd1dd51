//! What changes around the controller is followed.

use meltemi_tests::eventually;
use serde_json::json;

use crate::api::{Api, MODULE, shared};
use crate::controller::Controller;
use crate::{filter_path, generated, install, make_service, wait_for_condition, wait_for_objects};

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
    api.kubectl(&["wait", "--for=condition=established", "--timeout=120s", "crd", "--all"], "").unwrap();
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
    // Who installs is told of the labels that sidecars of this version need.
    let image = "registry.example.org/meltemi:0.1";
    let flags = ["--dry-run", "--image", image, "--module", MODULE, "--istio-metrics"];
    let lacks_labels = || install(&api, &flags).1.contains("add to defaultConfig.extraStatTags");
    assert!(lacks_labels());
    istiod("1.30.0-distroless");
    assert!(!lacks_labels());
    eventually("the sockets ask by the new name", || {
        asks_for("extensions.istio.io/trafficextension/version.meltemi").then_some(())
    });
    api.delete("/apis/apps/v1/namespaces/istio-system/deployments/istiod");
    assert!(controller.end().success());
}
