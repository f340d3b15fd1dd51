//! Installations beside each other, and after they are removed.

use std::collections::BTreeMap;

use meltemi_tests::eventually;
use serde_json::json;

use crate::api::{Api, HOME};
use crate::controller::Controller;
use crate::{
    filter_path, generated, install, make_router, make_service, router_path, wait_for_condition,
    wait_for_objects,
};

const INSTANCE: &str = "app.kubernetes.io/instance";

#[test]
fn two_installations_leave_each_other_alone() {
    let api = Api::start("instances");
    make_service(&api, "instances");
    let first = Controller::start(&api, "instances-first");
    let before = wait_for_objects(&api, "instances");
    let sockets = filter_path("instances", "meltemi-sockets");
    let owner = || api.find(&sockets).map(|object| object["metadata"]["labels"][INSTANCE].clone());
    assert_eq!(owner(), Some(json!(HOME)));

    // What a person applied, and what a version without the label left: one under a name that is wanted, and others.
    api.kubectl(&["create", "namespace", "canary"], "").unwrap();
    for (name, label) in [
        ("meltemi-sockets", ""),
        ("meltemi-old", ""),
        ("meltemi-by-hand", "app.kubernetes.io/instance: by-hand, "),
    ] {
        api.apply(&format!(
            "
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata:
  name: {name}
  namespace: canary
  labels: {{{label}app.kubernetes.io/managed-by: meltemi, meltemi.io/role: tunnel}}
spec: {{}}
"
        ));
    }
    make_service(&api, "canary");
    let binding = ["create", "rolebinding", "second", "--namespace=canary", "--clusterrole=cluster-admin"];
    api.kubectl(&[&binding[..], &["--serviceaccount=meltemi-system:meltemi"]].concat(), "").unwrap();
    // One of its six is there already.
    eventually("the first has what it wants there", || (generated(&api, "canary").len() == 8).then_some(()));
    let adopted = filter_path("canary", "meltemi-sockets");
    let adopter = || api.find(&adopted).unwrap()["metadata"]["labels"][INSTANCE].clone();
    eventually("it took over what it wants", || (adopter() == HOME).then_some(()));
    let all = generated(&api, "canary");

    // A second one, with a Lease of its own.
    let flags = ["--istio-version=1.30", "--namespace=canary"];
    let second = Controller::start_with(&api, "instances-second", "127.0.0.1:0", &flags);
    second.wait_until_leading();
    assert_eq!(second.did("applied"), Vec::<String>::new());
    assert_eq!(second.did("deleted"), Vec::<String>::new());
    assert_eq!(generated(&api, "instances"), before);
    assert_eq!(generated(&api, "canary"), all);

    // It follows when the first is gone from a namespace.
    assert!(first.end().success());
    for kind in ["envoyfilters", "wasmplugins"] {
        let own = format!("--selector={INSTANCE}={HOME}");
        api.kubectl(&["delete", kind, "--namespace=instances", &own], "").unwrap();
    }
    eventually("the second has what it wants there", || (owner()? == "canary").then_some(()));
    let after = wait_for_objects(&api, "instances");
    second.kill();

    // What is not of the first stays when that is uninstalled.
    let (told, _) = install(&api, &["--uninstall", "--linger-seconds=0"]);
    assert_eq!(generated(&api, "instances"), after);
    let left = ["EnvoyFilter meltemi-by-hand", "EnvoyFilter meltemi-old"];
    assert_eq!(Vec::from_iter(generated(&api, "canary").into_keys()), left);
    for name in ["canary/meltemi-old", "canary/meltemi-by-hand", "instances/meltemi-sockets"] {
        assert!(told.contains(&format!("EnvoyFilter {name} left: ")), "{told}");
    }
}

#[test]
fn nothing_is_left_after_uninstalling() {
    let api = Api::start("uninstall");
    make_service(&api, "uninstall");
    make_router(&api, "uninstall", 1);
    let controller = Controller::start(&api, "uninstall");
    wait_for_objects(&api, "uninstall");
    wait_for_condition(&api, &router_path("uninstall"), "Accepted", "True");
    let (told, _) = install(&api, &["--uninstall", "--linger-seconds=0"]);
    // The controller has no rights any more, so it cannot make anew what was deleted.
    assert_eq!(generated(&api, "uninstall"), BTreeMap::new());
    let position = |what: &str| told.find(what).unwrap_or_else(|| panic!("{what} in {told}"));
    assert!(position("ClusterRoleBinding meltemi deleted") < position("EnvoyFilter"));
    assert!(position("EnvoyFilter uninstall/meltemi-sockets") < position("WasmPlugin uninstall/meltemi"));
    assert!(
        api.find("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/meltemi").is_none()
    );
    assert!(api.find(&router_path("uninstall")).is_some());
    controller.kill();
}
