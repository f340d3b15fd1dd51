//! The order in which resources are read changes nothing: a controller knows none.

use crate::{made, namespace, service};
use meltemi::findings::Report;
use meltemi::generate::Output;

/// Several resources of each kind that contend with one another.
fn contending() -> Vec<String> {
    let of = |version: &str, kind: &str, namespace: &str, name: &str, spec: &str| {
        format!(
            "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
        )
    };
    let istio = "networking.istio.io/v1";
    let mut all = vec![
        namespace("one"),
        namespace("two").replace("istio-injection: enabled", "istio.io/rev: stable"),
        service("one", "a", "10.96.0.1"),
        service("two", "b", "10.96.0.2"),
    ];
    for name in ["one", "two"] {
        let protocol = if name == "one" { "dubbo" } else { "courier" };
        let ports = format!("ports: [{{number: 20880, name: tcp-metaprotocol-{protocol}, protocol: TCP}}]");
        let entry = format!("{{hosts: [same.example], addresses: [240.0.0.7], resolution: STATIC, {ports}}}");
        all.push(of(istio, "ServiceEntry", name, "same", &entry));
        let redis = "ports: [{number: 6379, name: tcp-redis, protocol: TCP}]";
        let entry = format!("{{hosts: [redis.example], addresses: [240.0.0.8], resolution: DNS, {redis}}}");
        all.push(of(istio, "ServiceEntry", name, "redis", &entry));
        all.push(of("redis.aeraki.io/v1alpha1", "RedisService", name, "redis", "{host: [redis.example]}"));
        let pool = format!("{{connectionPool: {{redis: {{auth: {{plain: {{password: of-{name}}}}}}}}}}}");
        let destination = format!("{{host: redis.example, trafficPolicy: {pool}}}");
        all.push(of("redis.aeraki.io/v1alpha1", "RedisDestination", name, "redis", &destination));
        all.push(of(
            "metaprotocol.aeraki.io/v1alpha1",
            "ApplicationProtocol",
            name,
            name,
            &format!("{{protocol: courier, codec: {}}}", if name == "one" { "dubbo" } else { "none" }),
        ));
        let route = "[{destination: {host: a.one.svc.cluster.local, subset: v1}}]";
        let http = format!("{{hosts: [a.one.svc.cluster.local], http: [{{name: {name}, route: {route}}}]}}");
        all.push(of(istio, "VirtualService", name, "same", &http));
        let router =
            format!("{{hosts: [a.one.svc.cluster.local], routes: [{{name: {name}, route: {route}}}]}}");
        all.push(of("meltemi.io/v1alpha1", "MetaRouter", name, "same", &router));
        all.push(of(
            "dubbo.aeraki.io/v1alpha1",
            "DubboAuthorizationPolicy",
            "one",
            name,
            "{action: ALLOW, rules: [{}]}",
        ));
        all.push(of(
            istio,
            "DestinationRule",
            name,
            "same",
            "{host: a.one.svc.cluster.local, subsets: [{name: v1}]}",
        ));
        all.push(of(istio, "Sidecar", "two", name, "{egress: [{hosts: ['*/*']}]}"));
        let servers = "servers: [{port: {number: 20880, name: tcp-dubbo, protocol: TCP}, hosts: ['*']}]";
        all.push(of(istio, "Gateway", name, "edge", &format!("{{selector: {{istio: edge}}, {servers}}}")));
        let router = "hosts: [a.one.svc.cluster.local], gateways: [one/edge, two/edge], routes: [{route: [{destination: {host: a}}]}]";
        all.push(of("meltemi.io/v1alpha1", "MetaRouter", name, "bound", &format!("{{{router}}}")));
        all.push(tag(name));
        all.push(istiod(name));
        all.push(mesh(&format!("of-{name}"), name));
    }
    all.extend([mesh("istio", ""), mesh("istio-canary", "canary")]);
    all
}

/// One of two Services for the tag of the namespace `two`.
fn tag(name: &str) -> String {
    let revision = if name == "one" { "default" } else { "canary" };
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: istio-system, labels: \
         {{istio.io/tag: stable, istio.io/rev: {revision}}}}}\nspec: {{clusterIP: None, ports: [{{name: https, port: 443}}]}}\n"
    )
}

/// One of two istiods of a revision, which share different ConfigMaps.
fn istiod(name: &str) -> String {
    let shared = format!("{{name: SHARED_MESH_CONFIG, value: of-{name}}}");
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: istio-system, labels: {{app: istiod}}}}\n\
         spec: {{selector: {{}}, template: {{spec: {{containers: [{{name: discovery, env: [{shared}]}}]}}}}}}\n"
    )
}

/// A ConfigMap with the mesh configuration, and the file that calls are logged to by it, if it says one.
fn mesh(name: &str, file: &str) -> String {
    let mesh = if file.is_empty() { "{}".to_owned() } else { format!("accessLogFile: /var/log/{file}") };
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: istio-system}}\ndata: {{mesh: '{mesh}'}}\n"
    )
}

/// What was found, in no order.
fn found(output: &Output) -> Vec<String> {
    let of_report = |report: &Report| {
        report.findings.iter().map(|one| format!("{} {one:?}", report.resource)).collect::<Vec<_>>()
    };
    let mut found: Vec<String> = output.reports.iter().flat_map(of_report).collect();
    found.sort();
    found
}

#[test]
fn the_order_of_resources_changes_nothing() {
    let mut all = contending();
    let wanted = made(&all.concat());
    assert!(wanted.objects.len() > 10);
    for turn in 0..all.len() {
        match turn % 2 {
            0 => all.reverse(),
            _ => all.rotate_left(7),
        }
        let output = made(&all.concat());
        assert_eq!(output.objects, wanted.objects, "{turn}");
        assert_eq!(found(&output), found(&wanted), "{turn}");
    }
}
