//! `meltemi proxy-status` and `top` through a real API server, of real Envoys with what the controller generated.

use std::collections::HashMap;
use std::process::{Command, Output};

use meltemi_tests::{Envoy, Setup, eventually};
use serde_json::Value;

use crate::api::{Api, shared};
use crate::controller::Controller;
use crate::kubelet::Kubelet;
use crate::{make_router, make_service, plugin_path, router_path, wait_for_condition, wait_for_objects};

const NAMESPACE: &str = "proxies";

/// What istiod calls the plan of the namespace's clients.
const PLUGIN: &str = "extensions.istio.io/trafficextension/proxies.meltemi~istio-translated-wasmplugin";

fn meltemi(api: &Api, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mesh-meltemi"))
        .args(arguments)
        .args(["--namespace", NAMESPACE, "--output", "json"])
        .env("KUBECONFIG", api.admin())
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

/// The states by pod and plan.
fn states(api: &Api) -> HashMap<(String, String), (String, String)> {
    let output = meltemi(api, &["proxy-status"]);
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let entry = |row| ((text(row, "proxy"), text(row, "plugin")), (text(row, "state"), text(row, "why")));
    rows.iter().map(entry).collect()
}

#[test]
fn sidecars_are_asked_through_the_api_server() {
    let api = shared();
    make_service(&api, NAMESPACE);
    make_router(&api, NAMESPACE, 5);
    let controller = Controller::start(&api, NAMESPACE);
    wait_for_objects(&api, NAMESPACE);
    wait_for_condition(&api, &router_path(NAMESPACE), "Programmed", "True");
    let told = wait_for_condition(&api, &router_path(NAMESPACE), "Accepted", "True");
    assert_eq!(told, "in force for clients in proxies");
    let plan = api.find(&plugin_path(NAMESPACE)).unwrap()["spec"]["pluginConfig"].take();
    let envoy = Setup::new().plan(&plan).plugin(PLUGIN).start(Envoy::all().last().unwrap());
    let pods = ["client", "greeter"].map(|pod| (pod.to_owned(), envoy.admin()));
    let kubelet = Kubelet::start(pods.into());
    kubelet.run(&api, NAMESPACE, &[("client", "client"), ("greeter", "greeter"), ("gone", "gone")]);

    let state = |all: &HashMap<(String, String), (String, String)>, pod: &str, plan: &str| {
        let key = (format!("{NAMESPACE}/{pod}"), plan.to_owned());
        all.get(&key).unwrap_or_else(|| panic!("{key:?} in {all:?}")).clone()
    };
    let all = eventually("what is wanted is in force", || {
        let all = states(&api);
        (state(&all, "client", "meltemi").0 == "inForce").then_some(all)
    });
    assert_eq!(all.len(), 4, "{all:?}");
    assert_eq!(state(&all, "greeter", "meltemi").0, "inForce");
    let (missing, why) = state(&all, "greeter", "meltemi-server-greeter");
    assert!(missing == "missing" && why.contains("istiod has not delivered it"), "{why}");
    assert_eq!(state(&all, "gone", "").0, "unreachable");

    let output = meltemi(&api, &["top", "--once", "--interval", "0.5", "--by", "proxies"]);
    assert!(output.status.success(), "{output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let is_down = |proxy: &Value| proxy["down"].is_string();
    let down: Vec<bool> = told["proxies"].as_array().unwrap().iter().map(is_down).collect();
    assert_eq!(down, [false, true, false], "{told}");

    // istiod is not there to deliver the next plan.
    make_router(&api, NAMESPACE, 7);
    let why = eventually("the plan is not the wanted one any more", || {
        let (state, why) = state(&states(&api), "client", "meltemi");
        (state == "stale").then_some(why)
    });
    assert!(why.contains("greeter.proxies.svc.cluster.local:20880 differs"), "{why}");
    let output = meltemi(&api, &["proxy-config", "client", "--service", "greeter"]);
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown[0]["plan"]["services"], plan["services"], "what it has, not what is wanted");
    assert!(controller.end().success());
}
