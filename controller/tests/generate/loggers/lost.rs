//! Calls that are lost on the way to a log service.

use super::*;

#[test]
fn rules_that_proxies_do_not_follow_hide_no_loss() {
    let als = format!("{{name: als, envoyHttpAls: {{{AT}}}}}");
    let base = mesh(&als, "").replace("ports: [{name: grpc,", "ports: [{name: tcp,")
        + &telemetry("web", "{name: als}")
        + &namespace("evil");
    let is_told = |rule: &str| {
        findings(&made(&format!("{base}---\n{rule}"))).iter().any(|finding| finding.contains("all is lost"))
    };
    let rule = |namespace: &str, host: &str, spec: &str| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: logs, namespace: {namespace}}}
spec: {{host: '{host}', {spec}}}
"
        )
    };
    let host = "logs.observability.svc.cluster.local";
    let upgrade = "connectionPool: {http: {h2UpgradePolicy: UPGRADE}}";
    let of_all = format!("trafficPolicy: {{{upgrade}}}");
    let of_port =
        |port| format!("trafficPolicy: {{portLevelSettings: [{{port: {{number: {port}}}, {upgrade}}}]}}");
    for (namespace, host, spec) in [
        ("evil", host, &of_all),
        ("evil", "*", &of_all),
        ("observability", host, &of_port(1)),
        ("observability", host, &format!("exportTo: [.], {of_all}")),
    ] {
        assert!(is_told(&rule(namespace, host, spec)), "{namespace} {host} {spec}");
    }
    for (namespace, host, spec) in [
        ("observability", host, &of_all),
        ("observability", host, &of_port(9000)),
        ("web", "*.cluster.local", &of_all),
        ("istio-system", "*", &of_all),
    ] {
        assert!(!is_told(&rule(namespace, host, spec)), "{namespace} {host} {spec}");
    }
}

#[test]
fn all_revisions_have_to_upgrade_a_port_of_http() {
    let als = format!("{{name: als, envoyHttpAls: {{{AT}}}}}");
    let is_told = |ours: &str, theirs: &str| {
        let mesh = mesh(&als, ours).replace("ports: [{name: grpc,", "ports: [{name: http,");
        let output = made(&(mesh + &canary(&als, theirs) + &telemetry("web", "{name: als}")));
        findings(&output).iter().any(|finding| finding.contains("all is lost"))
    };
    let upgrades = "h2UpgradePolicy: UPGRADE";
    assert!(is_told(upgrades, "") && is_told("", upgrades) && is_told(upgrades, "h2UpgradePolicy: 0"));
    assert!(!is_told(upgrades, upgrades) && !is_told(upgrades, "h2UpgradePolicy: 1"));
}

#[test]
fn the_port_of_a_service_entry_is_of_its_protocol() {
    // Istio takes numbers in quotes as well.
    let als = "{name: als, envoyHttpAls: {service: logs.example.org, port: '9000'}}";
    let lost = |protocol: &str| {
        let entry = format!(
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: logs, namespace: observability}}
spec: {{hosts: [logs.example.org], resolution: DNS, ports: [{{name: grpc, number: 9000, protocol: {protocol}}}]}}
"
        );
        findings(&made(&(mesh(als, "") + &telemetry("web", "{name: als}") + &entry)))
    };
    for protocol in ["GRPC", "grpc-web", "HTTP2", "Grpc"] {
        assert_eq!(lost(protocol), Vec::<String>::new(), "{protocol}");
    }
    for protocol in ["HTTP", "TCP", "TLS", "HTTPS"] {
        let told = lost(protocol);
        assert!(told.len() == 1 && told[0].ends_with("Write protocol: GRPC"), "{told:?}");
    }
}

#[test]
fn what_cannot_be_read_of_a_mesh_leaves_the_rest_in_force() {
    let with = |more: &str| {
        let fields = format!("rootNamespace: cfg\n    defaultServiceExportTo: ['.']\n    {more}");
        let output = made(&(mesh("", &fields) + &namespace("cfg")));
        (crate::names(&output), findings(&output))
    };
    let (names, none) = with("");
    assert!(none.is_empty() && !names.iter().any(|name| name.contains(" cfg/")), "{names:?}");
    // Istio takes nulls for nothing.
    assert_eq!(with("defaultConfig: {tracing: {sampling: null}}"), (names.clone(), vec![]));
    let why = "Error ConfigMap istio-system/istio: data.mesh: defaultConfig cannot be read: invalid floating point; Istio's \
               default holds for it";
    assert_eq!(with("defaultConfig: {tracing: {sampling: much}}"), (names, vec![why.to_owned()]));
}
