//! VirtualServices: of several for one host, Istio's sidecars take one.

use super::{PAY, assert_told, base, mesh_config, own, routes};
use crate::{made, plan};

fn virtual_service(namespace: &str, name: &str, created: &str, host: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '{created}'}}\n\
         spec:\n  hosts: ['{host}']\n{spec}"
    )
}

const HOST: &str = "pay.shop.svc.cluster.local";
const FIRST: &str = "2021-01-01T00:00:00Z";
const LATER: &str = "2022-01-01T00:00:00Z";
const HTTP: &str = "  http: [{name: some, match: [{headers: {a: {exact: x}}}], route: [{destination: {host: sink.evil.svc.cluster.local}}]}]\n";
const PRIVATE: &str = "  exportTo: ['.']\n";

#[test]
fn the_oldest_takes_the_calls_of_a_host() {
    let older = virtual_service("shop", "zzz", FIRST, HOST, HTTP);
    let younger = virtual_service("evil", "aaa", LATER, HOST, HTTP);
    let output = made(&(base() + &younger + &older));
    for client in ["shop", "web", "evil"] {
        assert_eq!(routes(&output, client, PAY), ["shop/zzz/some"], "{client}");
    }
    assert_told(&output, "Warning VirtualService evil/aaa", "spec.hosts", &[HOST, "VirtualService shop/zzz"]);
    // Of the same second, the first by name.
    let same = virtual_service("evil", "aaa", FIRST, HOST, HTTP);
    assert_eq!(routes(&made(&(base() + &same + &older)), "web", PAY), ["evil/aaa/some"]);
}

#[test]
fn one_of_a_namespaces_own_goes_before_what_others_export() {
    let older = virtual_service("shop", "zzz", FIRST, HOST, HTTP);
    let private = virtual_service("web", "aaa", LATER, HOST, &format!("{PRIVATE}{HTTP}"));
    let output = made(&(base() + &private + &older));
    assert_eq!(routes(&output, "web", PAY), ["web/aaa/some"]);
    assert_eq!(routes(&output, "shop", PAY), ["shop/zzz/some"]);
    let to_web = virtual_service("evil", "aaa", LATER, HOST, &format!("  exportTo: [web]\n{HTTP}"));
    assert_eq!(routes(&made(&(base() + &to_web + &older)), "web", PAY), ["evil/aaa/some"]);
}

#[test]
fn a_host_goes_before_a_pattern() {
    let pattern = virtual_service("evil", "aaa", FIRST, "*.shop.svc.cluster.local", HTTP);
    let exact = virtual_service("shop", "zzz", LATER, HOST, HTTP);
    assert_eq!(routes(&made(&(base() + &pattern + &exact)), "web", PAY), ["shop/zzz/some"]);
    let wider = virtual_service("evil", "wider", FIRST, "*", HTTP);
    let pattern = virtual_service("shop", "zzz", LATER, "*.shop.svc.cluster.local", HTTP);
    assert_eq!(routes(&made(&(base() + &pattern + &wider)), "web", PAY), ["shop/zzz/some"]);
}

#[test]
fn the_mesh_says_who_goes_by_what_is_not_exported_by_name() {
    let text = base() + &virtual_service("evil", "aaa", FIRST, HOST, HTTP);
    assert_eq!(routes(&made(&text), "web", PAY), ["evil/aaa/some"]);
    let output = made(&(text + &mesh_config("defaultVirtualServiceExportTo: [\".\"]")));
    assert_eq!(routes(&output, "web", PAY), Vec::<String>::new());
    assert_eq!(routes(&output, "evil", PAY), ["evil/aaa/some"]);
}

#[test]
fn a_sidecar_decides_whose_virtual_services_are_gone_by() {
    let sidecar = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: web}
spec: {egress: [{hosts: ['./*', 'shop/*']}]}
";
    let text = base() + &virtual_service("evil", "aaa", FIRST, HOST, HTTP);
    assert_eq!(routes(&made(&(text.clone() + sidecar)), "web", PAY), Vec::<String>::new());
    let imported = sidecar.replace("'shop/*'", "'shop/*', 'evil/*'");
    assert_eq!(routes(&made(&(text + &imported)), "web", PAY), ["evil/aaa/some"]);
}

#[test]
fn an_owners_router_that_takes_every_call_leaves_none_to_others() {
    let foreign = virtual_service("evil", "aaa", FIRST, HOST, HTTP);
    let output = made(&(base() + &own() + &foreign));
    assert_eq!(routes(&output, "web", PAY), ["shop/pay/all"]);
    assert_told(&output, "Warning VirtualService evil/aaa", "spec", &["never matches", "shop/pay/all"]);
    // Its own VirtualService goes along with its own routers.
    let of_owner = virtual_service("shop", "aaa", FIRST, HOST, HTTP);
    assert_eq!(routes(&made(&(base() + &own() + &of_owner)), "web", PAY), ["shop/aaa/some", "shop/pay/all"]);
}

#[test]
fn weights_of_connections_are_those_of_the_first() {
    let tcp =
        |subset: &str| format!("  tcp: [{{route: [{{destination: {{host: {HOST}, subset: {subset}}}}}]}}]\n");
    let older = virtual_service("shop", "zzz", FIRST, HOST, &tcp("v1"));
    let younger = virtual_service("evil", "aaa", LATER, HOST, &tcp("v2"));
    let default = &plan(&made(&(base() + &younger + &older)), "web")[PAY]["defaultRoute"];
    assert_eq!(default["cluster"], format!("outbound|20880|v1|{HOST}"));
}
