//! Tenants against each other: `evil` may write whatever it likes in its own namespace; `shop` has a service that others call,
//! `web` is a client of it.

mod floods;
mod gateways;
mod redis;
mod root;
mod routers;
mod services;
mod virtual_services;

use assert_cmd::Command;
use serde_json::Value;

use crate::{findings, made, namespace, options, service, spec, world};
use meltemi::generate::{Options, Output, generate};

const PAY: &str = "pay.shop.svc.cluster.local:20880";

/// The three namespaces, the service of `shop`, and one of `evil` to lead calls to.
fn base() -> String {
    namespace("evil")
        + &namespace("shop")
        + &namespace("web")
        + &service("shop", "pay", "10.96.0.5")
        + &service("evil", "sink", "10.96.0.66")
}

/// A MetaRouter of Meltemi's for the service of `shop`.
fn router(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: meltemi.io/v1alpha1\nkind: MetaRouter\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  hosts: [pay.shop.svc.cluster.local]\n{spec}"
    )
}

/// What takes all calls of one service of `shop`, as its owner wrote it.
fn own() -> String {
    router("shop", "pay", "  routes: [{name: all, route: [{destination: {host: pay}}]}]\n")
}

/// What leads some of them to `evil`.
fn grab() -> String {
    router(
        "evil",
        "grab",
        "  routes: [{name: steal, match: {attributes: {interface: {prefix: a}}}, route: [{destination: {host: sink}}]}]\n",
    )
}

/// A policy by which nobody may call the services of `shop`.
const POLICY: &str = "---
apiVersion: dubbo.aeraki.io/v1alpha1
kind: DubboAuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec: {action: ALLOW}
";

/// What Istio's operator says of the mesh.
pub fn mesh_config(mesh: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: '{mesh}'}}\n"
    )
}

/// The names of an entry's routes.
fn routes(output: &Output, client: &str, authority: &str) -> Vec<String> {
    let entry = crate::plan(output, client)[authority].clone();
    let routes = entry["routes"].as_array().cloned().unwrap_or_default();
    routes.iter().map(|route| route["name"].as_str().unwrap().to_owned()).collect()
}

pub fn made_with(text: &str, change: impl FnOnce(&mut Options)) -> Output {
    let mut options = options("dubbo");
    change(&mut options);
    generate(&world(text), &options)
}

/// What `meltemi explain` says of a call to the interface `a.B`, and whether it could say anything.
fn explain(text: &str, args: &[&str]) -> Result<Value, String> {
    let attributes = ["-a", "interface=a.B", "-a", "method=pay", "-o", "json", "-"];
    let mut command = Command::cargo_bin("meltemi").unwrap();
    let output = command.arg("explain").args(args).args(attributes).write_stdin(text).output().unwrap();
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// What it says of a client's call to the service of `shop`.
fn explain_client(text: &str, client: &str) -> Value {
    explain(text, &["--host", "pay.shop.svc.cluster.local", "--client-namespace", client]).unwrap()
}

/// The finding in `resource` at `path` that says all of `words`.
#[track_caller]
fn assert_told(output: &Output, resource: &str, path: &str, words: &[&str]) {
    let found = findings(output);
    let tells = |finding: &String| {
        finding.contains(&format!("{resource}: {path}: ")) && words.iter().all(|word| finding.contains(word))
    };
    assert!(found.iter().any(tells), "{resource} {path} {words:?} in {found:#?}");
}

/// The demos of Aeraki, whose routers are in the namespaces of their services, lose nothing.
#[test]
fn routers_of_the_services_own_namespace_are_told_nothing() {
    let output = made(&(base() + &own()));
    assert_eq!(findings(&output), Vec::<String>::new());
    assert_eq!(routes(&output, "web", PAY), ["shop/pay/all"]);
    assert!(spec(&output, "EnvoyFilter", "web", "meltemi-outbound-shop")["configPatches"].is_array());
}

#[test]
fn a_host_that_begins_like_a_servers_authority_explains_no_server() {
    let entry = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: mask, namespace: evil}
spec:
  hosts: [inbound.pay.shop.svc.cluster.local]
  addresses: [192.0.2.1]
  resolution: STATIC
  ports: [{number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP}]
";
    let text = base() + POLICY + entry;
    let server = explain(&text, &["--inbound", "--host", "pay.shop.svc.cluster.local"]).unwrap();
    assert_eq!(
        (&server["namespace"], &server["does"]["reject"]["message"]),
        (&"shop".into(), &"RBAC: access denied".into())
    );
    let masked = explain(&text, &["--host", "inbound.pay.shop.svc.cluster.local"]).unwrap();
    assert!(masked["does"]["reject"].is_null(), "{masked}");
}
