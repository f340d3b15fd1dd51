use meltemi::findings::ResourceRef;

use crate::{made, names, namespace, plan, service, spec, tunnels};

#[test]
fn every_namespace_that_sees_a_service_gets_its_own_objects() {
    let elsewhere = "---\n{apiVersion: v1, kind: Namespace, metadata: {name: plain}}\n";
    let output =
        made(&(namespace("shop") + &namespace("web") + elsewhere + &service("shop", "demo", "10.0.0.1")));
    let wanted = [
        "WasmPlugin shop/meltemi",
        "WasmPlugin shop/meltemi-server-demo",
        "WasmPlugin web/meltemi",
        "EnvoyFilter shop/meltemi-sockets",
        "EnvoyFilter shop/meltemi-sockets-server-demo",
        "EnvoyFilter web/meltemi-sockets",
        "EnvoyFilter shop/meltemi-inbound-demo",
        "EnvoyFilter shop/meltemi-outbound-shop",
        "EnvoyFilter web/meltemi-outbound-shop",
    ];
    assert_eq!(names(&output), wanted);
    assert_eq!(plan(&output, "web").as_object().unwrap().len(), 1);
}

#[test]
fn pods_with_sidecars_count_where_labels_say_nothing() {
    let pod = "---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: web, labels: {security.istio.io/tlsMode: istio}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: web}}
";
    let output = made(&(service("shop", "demo", "10.0.0.1") + pod));
    assert_eq!(tunnels(&output, "web"), ["10.0.0.1_20880"]);
}

#[test]
fn a_service_that_is_not_exported_is_not_managed_elsewhere() {
    let private = service("shop", "demo", "10.0.0.1").replace(
        "namespace: shop}",
        "namespace: shop, annotations: {networking.istio.io/exportTo: \".,near\"}}",
    );
    let output = made(&(namespace("shop") + &namespace("near") + &namespace("far") + &private));
    assert_eq!(tunnels(&output, "near"), ["10.0.0.1_20880"]);
    assert!(!names(&output).iter().any(|name| name.contains(" far/")));
}

#[test]
fn what_a_sidecar_leaves_out_is_not_managed() {
    let sidecar = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: web}
spec: {egress: [{hosts: [istio-system/*, shop/a.shop.svc.cluster.local]}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: none}
spec: {egress: [{hosts: [./*]}]}
";
    let services = service("shop", "a", "10.0.0.1") + &service("shop", "b", "10.0.0.2");
    let output = made(&(namespace("web") + &namespace("none") + &namespace("shop") + sidecar + &services));
    assert_eq!(tunnels(&output, "web"), ["10.0.0.1_20880"]);
    assert_eq!(tunnels(&output, "shop").len(), 4);
    assert!(!names(&output).iter().any(|name| name.contains(" none/")));
}

#[test]
fn the_sidecar_of_the_root_namespace_holds_for_all() {
    let sidecar = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: istio-system}
spec: {egress: [{hosts: [./*]}]}
";
    let output =
        made(&(namespace("web") + &namespace("shop") + sidecar + &service("shop", "demo", "10.0.0.1")));
    assert_eq!(tunnels(&output, "shop"), ["virtualInbound:20880", "10.0.0.1_20880"]);
    assert!(!names(&output).iter().any(|name| name.contains(" web/")));
}

#[test]
fn where_only_servers_are_managed_only_they_get_the_sockets() {
    let sidecar = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {egress: [{hosts: [istio-system/*]}]}
";
    let output = made(&(namespace("shop") + sidecar + &service("shop", "demo", "10.0.0.1")));
    assert_eq!(tunnels(&output, "shop"), ["virtualInbound:20880"]);
    let labels = serde_json::json!({"app": "demo"});
    let sockets = spec(&output, "EnvoyFilter", "shop", "meltemi-sockets-server-demo");
    assert_eq!(sockets["workloadSelector"]["labels"], labels);
    let module = spec(&output, "WasmPlugin", "shop", "meltemi-server-demo");
    assert_eq!(module["selector"]["matchLabels"], labels);
    // What is for clients is for everybody, and there is none of it here.
    assert_eq!(output.objects.len(), 3, "{:?}", names(&output));

    // Two selectors may select one pod, which gets the sockets of both services, each under a name of its own.
    let two = service("shop", "demo", "10.0.0.1") + &service("shop", "other", "10.0.0.2");
    let output = made(&(namespace("shop") + sidecar + &two));
    let added = |service: &str| {
        let sockets = spec(&output, "EnvoyFilter", "shop", &format!("meltemi-sockets-server-{service}"));
        let names = sockets["configPatches"].as_array().unwrap().iter();
        names.map(|patch| patch["patch"]["value"]["name"].clone()).collect::<Vec<_>>()
    };
    for service in ["demo", "other"] {
        assert_eq!(added(service), vec![format!("meltemi-server-{service}"); 2]);
    }
}

#[test]
fn ports_with_an_ingress_of_their_own_are_left_alone() {
    let sidecar = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: demo, namespace: shop}
spec:
  workloadSelector: {labels: {app: demo}}
  ingress: [{port: {number: 20880, protocol: TCP, name: tcp}, defaultEndpoint: 127.0.0.1:20880}]
  egress: [{hosts: [./*]}]
";
    let output = made(&(namespace("shop") + sidecar + &service("shop", "demo", "10.0.0.1")));
    assert_eq!(tunnels(&output, "shop"), ["10.0.0.1_20880"]);
}

#[test]
fn it_is_told_where_resources_are_in_force() {
    let resources = "---
apiVersion: meltemi.io/v1alpha1
kind: MetaRouter
metadata: {name: demo, namespace: shop}
spec:
  hosts: [demo]
  routes: [{name: one, match: {attributes: {a: {exact: x}}}, route: [{destination: {host: demo}}]}]
---
apiVersion: meltemi.io/v1alpha1
kind: MetaRouter
metadata: {name: nobody, namespace: shop}
spec: {hosts: [nobody], routes: [{name: all, route: [{destination: {host: demo}}]}]}
---
apiVersion: meltemi.io/v1alpha1
kind: MeltemiAuthorizationPolicy
metadata: {name: guard, namespace: shop}
spec: {action: DENY, rules: [{when: [{key: method, values: [drop]}]}]}
";
    let output =
        made(&(namespace("shop") + &namespace("web") + &service("shop", "demo", "10.0.0.1") + resources));
    let places = output.places();
    let place = |kind: &str, name: &str| {
        let resource = ResourceRef::new(kind, "meltemi.io", Some("shop"), name);
        places.get(&resource).map(ToString::to_string)
    };
    assert_eq!(place("MetaRouter", "demo").as_deref(), Some("for clients in shop, web"));
    assert_eq!(place("MetaRouter", "nobody"), None);
    assert_eq!(place("MeltemiAuthorizationPolicy", "guard").as_deref(), Some("for servers in shop"));
}
