//! `meltemi run` on a real API server, with the rights that its manifests give it.

mod api;
mod controller;
mod dashboard;
mod findings;
mod following;
mod installations;
mod kubelet;
mod objects;
mod proxies;
mod replicas;
mod rights;
mod size;
mod taps;

use std::collections::BTreeMap;

use meltemi_tests::eventually;
use serde_json::Value;

use api::Api;

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
