//! Access logs where the mesh configurations of two revisions differ.

use meltemi::generate::Output;

use crate::{findings, made, namespace, service, spec, tracing};

const OURS: &str = "accessLogFile: /var/log/ours";

/// A service in `shop`, whose clients are in `web`, and a mesh of two revisions with these providers and other fields. Each
/// namespace has proxies of both.
fn revisions(ours: [&str; 2], theirs: [&str; 2]) -> String {
    let mesh = |[providers, other]: [&str; 2]| tracing::mesh(providers, other);
    namespace("shop")
        + &namespace("web")
        + &pods_of_both()
        + &service("shop", "demo", "10.0.0.1")
        + &mesh(ours)
        + &mesh(theirs).replace("name: istio,", "name: istio-canary,")
}

/// A namespace of a revision, or of a tag of one.
fn of_revision(name: &str, revision: &str) -> String {
    namespace(name).replace("istio-injection: enabled", &format!("istio.io/rev: {revision}"))
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
pub fn is_logged(output: &Output, file: &str) -> bool {
    spec(output, "EnvoyFilter", "web", "meltemi-sockets").to_string().contains(&format!("\"{file}\""))
}

/// What is found of the ConfigMap of a revision.
fn told(map: &str, what: &str) -> String {
    format!("NotHonoured ConfigMap istio-system/{map}: data.mesh: calls of managed protocols: {what}")
}

fn as_first_has_it(first: &str) -> String {
    format!(
        "the access log \"envoy\" is as ConfigMap istio-system/{first} has it, where proxies of both share a plan; write the \
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
    let silent = "the access log \"envoy\" holds where proxies of both share a plan, as ConfigMap istio-system/istio names it; \
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
    // Of those that are written alike the last counts, as for Istio, whether something is shared or not.
    let files = files.replace("name: F", "name: f");
    let output = made(&(revisions([&*files, ""], ["", ""]) + &telemetry("f")));
    assert!(is_logged(&output, "/var/log/b") && !is_logged(&output, "/var/log/a"));
    assert_eq!(findings(&output), Vec::<String>::new());
}

/// What proxies of a revision log to, and what is found, where clients have these namespaces and pods.
fn own(web: &str) -> (Vec<String>, Vec<String>) {
    let ours = "{name: f, envoyFileAccessLog: {path: /var/log/ours}}";
    let mesh = |providers: &str| tracing::mesh(providers, "");
    let world = namespace("shop")
        + &service("shop", "demo", "10.0.0.1")
        + &mesh(ours)
        + &mesh(&ours.replace("ours", "theirs")).replace("name: istio,", "name: istio-canary,")
        + &telemetry("f")
        + web;
    let output = made(&world);
    let files = ["ours", "theirs"].map(str::to_owned);
    let logged = files.into_iter().filter(|file| is_logged(&output, &format!("/var/log/{file}")));
    (logged.collect(), findings(&output))
}

/// Pods of two revisions in `shop`, which serve `demo`, and in `web`.
pub fn pods_of_both() -> String {
    let both = |namespace: &str| pod(namespace, "a", "default") + &pod(namespace, "b", "canary");
    both("shop") + &both("web")
}

/// A pod with a sidecar of a revision.
fn pod(namespace: &str, name: &str, revision: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels: {{app: demo}}
  annotations: {{sidecar.istio.io/status: '{{}}', istio.io/rev: {revision}}}
spec: {{containers: [{{name: app}}, {{name: istio-proxy}}]}}
"
    )
}

#[test]
fn proxies_have_the_providers_of_their_own_revision() {
    let only = |file: &str| (vec![file.to_owned()], Vec::<String>::new());
    assert_eq!(own(&namespace("web")), only("ours"));
    assert_eq!(own(&of_revision("web", "default")), only("ours"));
    assert_eq!(own(&of_revision("web", "canary")), only("theirs"));
    // Pods have what injected them: the revision of a tag, or the one before.
    assert_eq!(own(&(of_revision("web", "stable") + &pod("web", "a", "canary"))), only("theirs"));
    assert_eq!(own(&(of_revision("web", "canary") + &pod("web", "a", "default"))), only("ours"));
    // Gateways are no sidecars, and neither are pods that have ended or that have no proxy.
    let ours = pod("web", "b", "default");
    let alone = ours.replace("{name: app}, ", "");
    let ended = ours.clone() + "status: {phase: Succeeded}\n";
    let asks = "labels: {istio.io/rev: default}";
    let without = ours.replace("labels: {app: demo}", asks).replace(", {name: istio-proxy}", "");
    let without = without.replace("sidecar.istio.io/status: '{}', istio.io/rev: default", "a: b");
    for other in [alone, ended, without] {
        let web = of_revision("web", "canary") + &pod("web", "a", "canary") + &other;
        assert_eq!(own(&web), only("theirs"), "{other}");
    }
    // Those of two revisions share a plan, and the first counts.
    let of_all = "the access log \"f\" is as ConfigMap istio-system/istio has it, where proxies of both share a plan; write the \
                  same here";
    let both = (vec!["ours".to_owned()], vec![told("istio-canary", of_all)]);
    assert_eq!(
        own(&(of_revision("web", "canary") + &pod("web", "a", "default") + &pod("web", "b", "canary"))),
        both
    );
}

/// The Service that stands for a tag of a revision.
fn tag(namespace: &str, name: &str, revision: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: istiod-revision-tag-{name}, namespace: {namespace}, labels: {{istio.io/tag: {name}, istio.io/rev: {revision}}}}}
spec: {{selector: {{app: istiod}}, ports: [{{name: https-dns, port: 15012}}]}}
"
    )
}

#[test]
fn tags_stand_for_revisions() {
    let only = |file: &str| (vec![file.to_owned()], Vec::<String>::new());
    let stable = of_revision("web", "stable");
    for (revision, file) in [("canary", "theirs"), ("default", "ours")] {
        assert_eq!(own(&(stable.clone() + &tag("istio-system", "stable", revision))), only(file));
    }
    let moved = tag("istio-system", "default", "canary");
    assert_eq!(own(&(namespace("web") + &moved)), only("theirs"));
    // Pods ask by tags, and are told their revision.
    let asks = pod("web", "a", "stable")
        .replace(", istio.io/rev: stable", "")
        .replace("app: demo", "istio.io/rev: stable");
    let tagged = tag("istio-system", "stable", "canary");
    assert_eq!(own(&(namespace("web") + &asks + &tagged)), only("theirs"));
    assert_eq!(own(&(namespace("web") + &pod("web", "a", "default") + &moved)), only("ours"));
    // What others call a tag is none, and of what is known to nobody all holds.
    let unknown = "Warning Namespace web: metadata.labels: \"stable\" is neither a revision that has a ConfigMap nor \
                   a tag that a Service beside istiod stands for: ";
    for world in [stable.clone(), stable.clone() + &tag("web", "stable", "canary")] {
        let (files, found) = own(&world);
        assert_eq!((&*files, found.len()), (&["ours".to_owned()][..], 2), "{found:?}");
        assert!(found.iter().any(|finding| finding.starts_with(unknown)), "{found:?}");
    }
    // It makes no difference where revisions say the same.
    let same = "{name: f, envoyFileAccessLog: {path: /var/log/ours}}";
    let mesh = tracing::mesh(same, "");
    let canary = mesh.replace("name: istio,", "name: istio-canary,");
    let world = stable + &namespace("shop") + &service("shop", "demo", "10.0.0.1") + &mesh + &canary;
    assert_eq!(findings(&made(&world)), Vec::<String>::new());
}

#[test]
fn calls_are_traced_as_the_revision_of_their_proxies_says() {
    let mesh = |port: &str| {
        tracing::mesh(&tracing::OTEL.replace("4317", port), "defaultProviders: {tracing: [otel]}")
    };
    let world = tracing::mesh_of_two().replace("istio-injection: enabled", "istio.io/rev: canary")
        + &mesh("4317")
        + &mesh("4318").replace("name: istio,", "name: istio-canary,");
    let output = made(&world);
    let cluster = "outbound|4318||otel.observability.svc.cluster.local";
    assert_eq!(tracing::traced(&output).map(|tracing| tracing["collector"].clone()), [cluster; 3]);
    assert_eq!(findings(&output), Vec::<String>::new());
}
