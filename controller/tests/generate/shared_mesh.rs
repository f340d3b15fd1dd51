//! The ConfigMap that istiod reads beside its revision's own.

use meltemi::generate::Output;

use crate::{findings, made, mesh_revisions, namespace, service, tracing};

/// An istiod of a revision, with this in its environment.
fn istiod(revision: &str, environment: &str) -> String {
    format!(
        "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: istiod-{revision}, namespace: istio-system, labels: {{app: istiod, istio.io/rev: {revision}}}}}
spec:
  selector: {{}}
  template:
    spec: {{containers: [{{name: discovery, env: [{{name: PILOT_CERT_PROVIDER, value: istiod}}, {environment}]}}]}}
"
    )
}

const SHARED: &str = "{name: SHARED_MESH_CONFIG, value: istio-user}";
const OURS: &str = "{name: f, envoyFileAccessLog: {path: /var/log/ours}}";
const THEIRS: &str = "{name: f, envoyFileAccessLog: {path: /var/log/theirs}}";
const BY_DEFAULT: &str = "defaultProviders: {accessLogging: [f]}";

/// The configuration in a ConfigMap: providers, and what else is said.
fn mesh(map: &str, providers: &str, other: &str) -> String {
    tracing::mesh(providers, other).replace("name: istio,", &format!("name: {map},"))
}

/// What clients in `web` log to, and what is found.
fn logged(config: &str) -> (Vec<&'static str>, Vec<String>) {
    let output =
        made(&(namespace("shop") + &namespace("web") + &service("shop", "demo", "10.0.0.1") + config));
    (files(&output), findings(&output))
}

fn files(output: &Output) -> Vec<&'static str> {
    let is_logged = |file: &&str| mesh_revisions::is_logged(output, &format!("/var/log/{file}"));
    ["ours", "theirs", "mesh"].into_iter().filter(is_logged).collect()
}

#[test]
fn a_shared_configuration_is_under_the_own() {
    let only = |file: &'static str| (vec![file], Vec::<String>::new());
    let istiod = istiod("default", SHARED);
    // What only one of them says holds, and what the own one says counts.
    for (own, shared) in [
        (mesh("istio", OURS, ""), mesh("istio-user", THEIRS, BY_DEFAULT)),
        (mesh("istio", OURS, BY_DEFAULT), mesh("istio-user", "", "")),
        (mesh("istio", OURS, BY_DEFAULT), mesh("istio-user", "", "accessLogFile: /var/log/mesh")),
        (mesh("istio", "", ""), mesh("istio-user", OURS, BY_DEFAULT)),
        (
            mesh("istio", "", BY_DEFAULT),
            mesh("istio-user", OURS, "defaultProviders: {metrics: [prometheus]}"),
        ),
        (String::new(), mesh("istio-user", OURS, BY_DEFAULT)),
    ] {
        assert_eq!(logged(&(own.clone() + &shared + &istiod)), only("ours"), "{own} {shared}");
    }
    // Without an istiod that names it, it is like the own one of a revision.
    let both = mesh("istio", OURS, "") + &mesh("istio-user", "", BY_DEFAULT);
    assert_eq!(logged(&both).0, Vec::<&str>::new());
}

#[test]
fn each_istiod_has_its_own_shared_configuration() {
    let canary = "{name: REVISION, value: canary}";
    let maps = mesh("istio", OURS, BY_DEFAULT) + &mesh("istio-user", THEIRS, BY_DEFAULT);
    let of_both = maps + &istiod("default", "") + &istiod("x", &format!("{canary}, {SHARED}"));
    let web = namespace("web");
    let of_canary = web.replace("istio-injection: enabled", "istio.io/rev: canary");
    let shop = namespace("shop") + &service("shop", "demo", "10.0.0.1");
    for (web, file) in [(web, "ours"), (of_canary, "theirs")] {
        let output = made(&(shop.clone() + &web + &of_both));
        assert_eq!(files(&output), [file]);
        assert_eq!(findings(&output), Vec::<String>::new());
    }
    // A ConfigMap may be shared, and a revision's own.
    let user = istiod("user", "");
    let (files, found) = logged(
        &(mesh("istio", OURS, BY_DEFAULT)
            + &mesh("istio-user", THEIRS, "")
            + &istiod("default", SHARED)
            + &user),
    );
    assert_eq!((files, found.len()), (vec!["ours"], 0), "{found:?}");
}

#[test]
fn a_shared_configuration_that_cannot_be_read_leaves_the_own_one_in_force() {
    let config = mesh("istio", OURS, BY_DEFAULT)
        + &mesh("istio-user", "", "").replace("extensionProviders", "- no mapping\n    extensionProviders")
        + &istiod("default", SHARED);
    let (files, found) = logged(&config);
    assert_eq!(files, ["ours"]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("Error ConfigMap istio-system/istio-user: data.mesh: not YAML of"),
        "{found:?}"
    );
}
