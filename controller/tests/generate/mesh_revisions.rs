//! Access logs where the mesh configurations of two revisions differ.

use meltemi::generate::Output;

use crate::{findings, made, namespace, service, spec, tracing};

const OURS: &str = "accessLogFile: /var/log/ours";

/// A service in `shop`, whose clients are in `web`, and a mesh of two revisions with these providers and other fields.
fn revisions(ours: [&str; 2], theirs: [&str; 2]) -> String {
    let mesh = |[providers, other]: [&str; 2]| tracing::mesh(providers, other);
    namespace("shop")
        + &namespace("web")
        + &service("shop", "demo", "10.0.0.1")
        + &mesh(ours)
        + &mesh(theirs).replace("name: istio,", "name: istio-canary,")
}

/// A Telemetry of the whole mesh that names a provider.
fn telemetry(provider: &str) -> String {
    format!(
        "---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: logs, namespace: istio-system}}
spec: {{accessLogging: [{{providers: [{{name: {provider}}}]}}]}}
"
    )
}

/// Whether clients log to a file.
fn is_logged(output: &Output, file: &str) -> bool {
    spec(output, "EnvoyFilter", "web", "meltemi-sockets").to_string().contains(&format!("\"{file}\""))
}

/// What is found of the ConfigMap of a revision.
fn told(map: &str, what: &str) -> String {
    format!("NotHonoured ConfigMap istio-system/{map}: data.mesh: calls of managed protocols: {what}")
}

fn as_first_has_it(first: &str) -> String {
    format!(
        "the access log \"envoy\" is as ConfigMap istio-system/{first} has it, for the proxies of all revisions; write the \
         same here"
    )
}

#[test]
fn a_provider_of_another_revision_does_not_replace_the_file_of_the_first() {
    let file = "{name: Envoy, envoyFileAccessLog: {path: /var/log/theirs}}";
    let zipkin = "{name: envoy, zipkin: {service: zipkin.observability.svc.cluster.local, port: 9411}}";
    for theirs in [file, zipkin] {
        let output = made(&(revisions(["", OURS], [theirs, ""]) + &telemetry("envoy")));
        assert!(is_logged(&output, "/var/log/ours") && !is_logged(&output, "/var/log/theirs"), "{theirs}");
        assert_eq!(findings(&output), [told("istio-canary", &as_first_has_it("istio"))], "{theirs}");
    }
    // Nor does the file of another revision replace that of a provider.
    let output = made(&(revisions([file, ""], ["", OURS]) + &telemetry("envoy")));
    assert!(is_logged(&output, "/var/log/theirs") && !is_logged(&output, "/var/log/ours"));
    assert_eq!(findings(&output), [told("istio-canary", &as_first_has_it("istio"))]);
}

#[test]
fn a_provider_may_be_the_log_of_another_mesh() {
    let same = "{name: envoy, envoyFileAccessLog: {path: /var/log/ours}}";
    let output = made(&(revisions(["", OURS], [same, OURS]) + &telemetry("envoy")));
    assert!(is_logged(&output, "/var/log/ours"));
    assert_eq!(findings(&output), Vec::<String>::new());
    let own = "{name: envoy, envoyFileAccessLog: {path: /dev/stdout}}";
    assert_eq!(
        findings(&made(&(revisions(["", ""], [own, ""]) + &telemetry("envoy")))),
        Vec::<String>::new()
    );
    // A mesh without a file has its lines on standard output.
    let format = "accessLogFormat: '%DURATION%'";
    let output = made(&(revisions(["", format], ["", OURS]) + &telemetry("envoy")));
    assert!(is_logged(&output, "/var/log/ours"));
    assert_eq!(findings(&output), [told("istio", &as_first_has_it("istio-canary"))]);
}

#[test]
fn a_revision_without_a_log_is_told_once() {
    let silent = "the access log \"envoy\" is that of the proxies of all revisions, as ConfigMap istio-system/istio names it; \
                  write the same here";
    let world = revisions(["", OURS], ["", ""]);
    assert_eq!(findings(&made(&world)), [told("istio-canary", silent)]);
    let of_both = findings(&made(&(world + &telemetry("envoy"))));
    assert_eq!(of_both, [told("istio-canary", &as_first_has_it("istio"))]);
}

#[test]
fn a_name_that_is_there_twice_is_told() {
    let files = "{name: F, envoyFileAccessLog: {path: /var/log/a}}, {name: f, envoyFileAccessLog: {path: /var/log/b}}";
    let output = made(&(revisions([files, ""], ["", ""]) + &telemetry("f")));
    assert!(is_logged(&output, "/var/log/a") && !is_logged(&output, "/var/log/b"));
    let twice = "the access log \"f\" is there twice, as capitals make no difference, and the first counts; rename one";
    assert_eq!(findings(&output), [told("istio", twice)]);
}
