//! ServiceEntries that claim the host or the address of somebody else's service.

use std::collections::BTreeSet;

use super::{PAY, POLICY, assert_told, base, explain_client, mesh_config};
use crate::{findings, made, names, object, plan, service, spec, tunnels};

/// The worst: it took the policy of the Service out of force.
const SQUATTER: &str = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: squatter, namespace: evil, creationTimestamp: '2020-01-01T00:00:00Z'}
spec:
  hosts: [pay.shop.svc.cluster.local]
  addresses: [192.0.2.1]
  exportTo: ['.']
  resolution: STATIC
  ports: [{number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP}]
";

fn entry(namespace: &str, name: &str, created: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '{created}'}}\n\
         spec:\n  resolution: STATIC\n  {spec}\n"
    )
}

const DUBBO: &str = "ports: [{number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP}]";

#[test]
fn a_policy_holds_against_a_service_entry_of_the_services_host() {
    let quiet = made(&(base() + POLICY));
    for visible in ["['.']", "['*']", "[shop]"] {
        let squatter = SQUATTER.replace("['.']", visible);
        let output = made(&(base() + POLICY + &squatter));
        assert_eq!(names(&output), names(&quiet), "{visible}");
        for kind in ["meltemi-inbound-pay", "meltemi-outbound-shop"] {
            let object = |output| spec(output, "EnvoyFilter", "shop", kind);
            assert_eq!(object(&output), object(&quiet), "{visible}");
        }
        let guarded = &plan(&output, "shop")["inbound.pay.shop.svc.cluster.local:20880"];
        assert_eq!(guarded["defaultRoute"]["reject"]["message"], "RBAC: access denied", "{visible}");
        assert_eq!(tunnels(&output, "web"), tunnels(&quiet, "web"));
        assert_told(
            &output,
            "Warning ServiceEntry evil/squatter",
            "spec.hosts",
            &["pay.shop.svc.cluster.local", "Service shop/pay"],
        );
        // And nobody else is told anything.
        assert_eq!(findings(&output).len(), findings(&quiet).len() + 1, "{:#?}", findings(&output));
        let explained = explain_client(&(base() + POLICY + &squatter), "web");
        assert_eq!(explained["service"], PAY);
    }
}

#[test]
fn a_service_entry_of_an_unmanaged_services_host_is_not_managed() {
    let plain = service("shop", "pay", "10.96.0.5").replace("tcp-metaprotocol-dubbo", "tcp-legacy");
    let squatter = SQUATTER.replace("['.']", "['*']");
    let output = made(&(base().replace(&service("shop", "pay", "10.96.0.5"), &plain) + &squatter));
    for client in ["evil", "shop", "web"] {
        assert!(!tunnels(&output, client).contains(&"192.0.2.1_20880".to_owned()), "{client}");
    }
    assert_told(&output, "Warning ServiceEntry evil/squatter", "spec.hosts", &["Service shop/pay"]);
}

#[test]
fn an_address_of_a_service_is_no_other_ones() {
    // First by name, and older.
    let vip = entry(
        "evil",
        "vip",
        "2020-01-01T00:00:00Z",
        &format!("hosts: [aaa.evil.example]\n  addresses: [10.96.0.5]\n  {DUBBO}"),
    );
    let quiet = made(&base());
    let output = made(&(base() + &vip));
    assert_eq!(names(&output), names(&quiet));
    for client in ["evil", "shop", "web"] {
        let way = |output| spec(output, "EnvoyFilter", client, "meltemi-outbound-shop");
        assert_eq!(way(&output), way(&quiet), "{client}");
    }
    assert_told(
        &output,
        "Warning ServiceEntry evil/vip",
        "spec.addresses",
        &["10.96.0.5", "20880", "Service shop/pay"],
    );
    assert_eq!(findings(&output).len(), 1);
}

#[test]
fn addresses_are_compared_as_addresses() {
    let six = base().replace("10.96.0.5", "'fd00::5'");
    let vip = entry(
        "evil",
        "vip",
        "2020-01-01T00:00:00Z",
        &format!("hosts: [aaa.evil.example]\n  addresses: ['FD00:0:0::5']\n  {DUBBO}"),
    );
    assert_eq!(tunnels(&made(&(six.clone() + &vip)), "web"), tunnels(&made(&six), "web"));
}

#[test]
fn an_unmanaged_listener_is_not_taken_over() {
    // Neither that of a Service whose port has another name, nor that of an older ServiceEntry, by Redis or by Dubbo.
    let plain = "---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.96.0.9, ports: [{name: tcp-mysql, port: 3306}]}
"
    .to_owned()
        + &entry(
            "shop",
            "legacy",
            "2021-01-01T00:00:00Z",
            "hosts: [legacy.example]\n  addresses: [203.0.113.5]\n  ports: [{number: 9000, name: tcp, protocol: TCP}]",
        );
    let quiet = made(&(base() + &plain));
    for protocol in ["dubbo", "redis"] {
        for (address, port) in [("10.96.0.9", 3306), ("203.0.113.5", 9000), ("10.96.0.5", 20880)] {
            let taker = entry(
                "evil",
                "taker",
                "2022-01-01T00:00:00Z",
                &format!(
                    "hosts: [aaa.evil.example]\n  addresses: [{address}]\n  \
                     ports: [{{number: {port}, name: tcp-metaprotocol-{protocol}, protocol: TCP}}]"
                ),
            );
            let output = made(&(base() + &plain + &taker));
            for client in ["shop", "web"] {
                assert_eq!(tunnels(&output, client), tunnels(&quiet, client), "{protocol} {address}");
            }
        }
    }
}

#[test]
fn the_older_of_two_service_entries_has_the_host_and_the_address() {
    let spec = format!("hosts: [org.acme.greeter]\n  addresses: [240.240.0.20]\n  {DUBBO}");
    let of_shop = entry("shop", "greeter", "2021-01-01T00:00:00Z", &spec);
    let of_evil = entry("evil", "greeter", "2022-01-01T00:00:00Z", &spec.replace("0.20", "0.21"));
    let output = made(&(base() + &of_evil + &of_shop));
    assert!(tunnels(&output, "web").contains(&"240.240.0.20_20880".to_owned()));
    assert!(!tunnels(&output, "web").contains(&"240.240.0.21_20880".to_owned()));
    // Its own clients mean their own.
    assert!(tunnels(&output, "evil").contains(&"240.240.0.21_20880".to_owned()));
    assert!(!tunnels(&output, "evil").contains(&"240.240.0.20_20880".to_owned()));
    assert_told(&output, "Warning ServiceEntry evil/greeter", "spec.hosts", &["ServiceEntry shop/greeter"]);

    // Of several addresses the others stay one's own.
    let both =
        "hosts: [other.evil.example]\n  addresses: [240.240.0.20, 240.240.0.30]\n  ".to_owned() + DUBBO;
    let output = made(&(base() + &of_shop + &entry("evil", "both", "2022-01-01T00:00:00Z", &both)));
    let of_evil = spec_of(&output, "web", "meltemi-outbound-evil");
    assert_eq!(of_evil, ["10.96.0.66_20880", "240.240.0.30_20880"]);
    assert!(spec_of(&output, "web", "meltemi-outbound-shop").contains(&"240.240.0.20_20880".to_owned()));
}

fn spec_of(output: &meltemi::generate::Output, client: &str, name: &str) -> Vec<String> {
    let patches = spec(output, "EnvoyFilter", client, name)["configPatches"].clone();
    let listeners = patches.as_array().unwrap().iter();
    let names = listeners.map(|patch| patch["match"]["listener"]["name"].as_str().unwrap().to_owned());
    BTreeSet::from_iter(names).into_iter().collect()
}

#[test]
fn who_sees_only_one_of_them_has_that_one() {
    let spec = format!("hosts: [org.acme.greeter]\n  addresses: [240.240.0.20]\n  {DUBBO}");
    let private = spec.clone() + "\n  exportTo: ['.']";
    let of_shop = entry("shop", "greeter", "2021-01-01T00:00:00Z", &private);
    let of_evil = entry("evil", "greeter", "2022-01-01T00:00:00Z", &spec.replace("0.20", "0.21"));
    let output = made(&(base() + &of_evil + &of_shop));
    assert!(tunnels(&output, "shop").contains(&"240.240.0.20_20880".to_owned()));
    assert!(tunnels(&output, "web").contains(&"240.240.0.21_20880".to_owned()));
}

#[test]
fn headless_services_do_not_take_the_addresses_of_others() {
    // Who may write EndpointSlices can give a Service any endpoints.
    let headless = "---
apiVersion: v1
kind: Service
metadata: {name: aaa, namespace: evil, creationTimestamp: '2020-01-01T00:00:00Z'}
spec: {clusterIP: None, ports: [{name: tcp-metaprotocol-dubbo, port: 20880}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: aaa-x, namespace: evil, labels: {kubernetes.io/service-name: aaa}}
addressType: IPv4
endpoints: [{addresses: [10.96.0.5]}]
ports: [{port: 20880}]
";
    let output = made(&(base() + headless));
    assert_eq!(tunnels(&output, "web"), tunnels(&made(&base()), "web"));
    assert_told(&output, "Warning Service evil/aaa", "spec.clusterIP", &["10.96.0.5", "Service shop/pay"]);
}

#[test]
fn the_mesh_says_who_sees_what_is_not_exported_by_name() {
    let config = mesh_config("defaultServiceExportTo: [\".\"]");
    let output = made(&(base() + &config));
    assert!(!names(&output).iter().any(|name| name.contains(" web/")));
    assert_eq!(tunnels(&output, "shop"), ["virtualInbound:20880", "10.96.0.5_20880"]);
    let exported = config.clone()
        + &base().replace(
            "{name: pay, namespace: shop}",
            "{name: pay, namespace: shop, annotations: {networking.istio.io/exportTo: '*'}}",
        );
    assert_eq!(tunnels(&made(&exported), "web"), ["10.96.0.5_20880"]);
    // What is elsewhere, or is named otherwise, is not the mesh's.
    for other in [config.replace("istio-system", "evil"), config.replace("name: istio,", "name: other,")] {
        assert_eq!(names(&made(&(base() + &other))), names(&made(&base())));
    }
    let broken = made(&(base() + &mesh_config("a: [")));
    assert_told(&broken, "Error ConfigMap istio-system/istio", "data.mesh", &["not YAML"]);
    assert_eq!(names(&broken), names(&made(&base())));
    assert_eq!(object(&broken, "WasmPlugin", "web", "meltemi").metadata.namespace, "web");
}
