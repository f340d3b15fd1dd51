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

/// As Istio has it: what a rule says of a port goes before what it says of all, and that before the mesh.
#[test]
fn rules_go_before_the_mesh_in_what_is_upgraded() {
    let als = format!("{{name: als, envoyHttpAls: {{{AT}}}}}");
    let is_told = |port: &str, mesh_wide: &str, policy: &str| {
        let rule = format!(
            "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: logs, namespace: observability}}
spec: {{host: logs, trafficPolicy: {{{policy}}}}}
"
        );
        let mesh = mesh(&als, mesh_wide).replace("ports: [{name: grpc,", &format!("ports: [{{name: {port},"));
        findings(&made(&(mesh + &telemetry("web", "{name: als}") + &rule)))
            .iter()
            .any(|finding| finding.contains("all is lost"))
    };
    let of_all = |http: &str| format!("connectionPool: {{http: {{{http}}}}}");
    let of_port =
        |number, http| format!("portLevelSettings: [{{port: {{number: {number}}}, {}}}]", of_all(http));
    let (upgrades, yes, no) =
        ("h2UpgradePolicy: UPGRADE", "h2UpgradePolicy: UPGRADE", "h2UpgradePolicy: DO_NOT_UPGRADE");
    for policy in [
        of_all(no),
        of_port(9000, no),
        format!("{}, {}", of_all(yes), of_port(9000, no)),
        of_all("h2UpgradePolicy: UPGRADE, useClientProtocol: true"),
    ] {
        assert!(is_told("http", upgrades, &policy), "{policy}");
        assert!(!is_told("grpc", upgrades, &policy), "gRPC is never downgraded: {policy}");
    }
    for policy in [
        of_all("h2UpgradePolicy: DEFAULT"),
        of_all("http2MaxRequests: 5"),
        of_port(1, no),
        format!("{}, {}", of_all(no), of_port(9000, yes)),
        // The settings of a port are in the place of all.
        format!(
            "{}, portLevelSettings: [{{port: {{number: 9000}}, loadBalancer: {{simple: RANDOM}}}}]",
            of_all(no)
        ),
    ] {
        assert!(!is_told("http", upgrades, &policy), "{policy}");
    }
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

#[test]
fn a_provider_that_cannot_be_read_is_told_and_left_out() {
    let of = |wrong: &str| {
        let providers = format!("{{name: f, envoyFileAccessLog: {{path: /var/log/f}}}}, {wrong}");
        let output = made(&(mesh(&providers, "") + &telemetry("web", "{name: f}, {name: x}")));
        (paths(&output), findings(&output))
    };
    let none = "NotHonoured Telemetry web/logs: spec.accessLogging[0].providers[1].name: \"x\" is not among the \
                extensionProviders of the mesh configuration; name the provider envoy";
    for (wrong, field, why) in [
        ("envoyFileAccessLog: {path: 5}", "envoyFileAccessLog.path", "integer `5`, expected a string"),
        ("envoyFileAccessLog: {path: [/a]}", "envoyFileAccessLog.path", "sequence, expected a string"),
        ("envoyFileAccessLog: /a", "envoyFileAccessLog", "string \"/a\", expected an object"),
        (
            "envoyFileAccessLog: {logFormat: {text: {a: b}}}",
            "envoyFileAccessLog.logFormat.text",
            "map, expected a string",
        ),
        (
            "envoyFileAccessLog: {logFormat: {labels: a}}",
            "envoyFileAccessLog.logFormat.labels",
            "string \"a\", expected a map",
        ),
        ("envoyOtelAls: {logName: 7}", "envoyOtelAls.logName", "integer `7`, expected a string"),
        ("opentelemetry: {service: 5}", "opentelemetry.service", "integer `5`, expected a string"),
    ] {
        let told = format!(
            "Error ConfigMap istio-system/istio: data.mesh: extensionProviders[1].{field} of \"x\" cannot be read: invalid type: \
             {why}; mend it: until then there is no such provider"
        );
        let expected = (files(&["/var/log/f"]), vec![told, none.to_owned()]);
        assert_eq!(of(&format!("{{name: x, {wrong}}}")), expected, "{wrong}");
    }
    // Istio passes over what it does not know, and so do others; it is said.
    let (paths, told) = of("{name: x, envoyFileAccessLog: {pfad: /a, logFormat: {texts: a}}}");
    assert_eq!(paths, files(&["/var/log/f", "/dev/stdout"]));
    let unknown = |field: &str| {
        format!(
            "NotHonoured ConfigMap istio-system/istio: data.mesh: envoyFileAccessLog.{field} of the extensionProvider \"x\" is not \
             in force for managed protocols"
        )
    };
    assert_eq!(told, [unknown("logFormat.texts"), unknown("pfad")]);
}

#[test]
fn a_port_in_quotes_is_one() {
    let collector = "{name: o, opentelemetry: {service: logs.observability.svc.cluster.local, port: '9000'}}";
    assert_eq!(findings(&made(&mesh(collector, ""))), Vec::<String>::new());
    let told = findings(&made(&mesh(&collector.replace("9000", "x"), "")));
    let why = "Error ConfigMap istio-system/istio: data.mesh: extensionProviders[0].opentelemetry.port of \"o\" cannot be read: \
               \"x\", expected the number of a port; mend it: until then there is no such provider";
    assert_eq!(told, [why]);
}
