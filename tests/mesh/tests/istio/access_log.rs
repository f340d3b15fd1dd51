//! Lines of the access log, as Istio's own resources ask for them.

use meltemi_mesh_tests::Pod;
use meltemi_tests::eventually;
use serde_json::{Value, json};

use crate::stage::{self, DEMO, SERVERS, SHOP};

/// The lines of the calls of a method that stand by themselves in what a pod's Envoy writes.
fn lines(pod: &Pod, method: &str) -> Vec<Value> {
    let log = pod.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["event"] == "call" && line["method"] == method).collect()
}

#[test]
fn a_telemetry_has_bare_lines_on_the_standard_output_of_both_sidecars() {
    let mut stage = stage::take();
    let telemetry = json!({
        "apiVersion": "telemetry.istio.io/v1",
        "kind": "Telemetry",
        "metadata": {"name": "lines", "namespace": SHOP},
        "spec": {"accessLogging": [{"providers": [{"name": "envoy"}]}]},
    });
    stage.apply(&telemetry.to_string());
    stage.wait_for_sockets(|sockets| sockets.to_string().contains("x-meltemi-lines"));
    let has_lines = |plan: &Value| plan["accessLog"]["files"] == true;
    for pod in ["client"].into_iter().chain(SERVERS) {
        stage.pod(pod).wait_for_plan(has_lines);
    }
    let mut connection = stage.connect(DEMO.address);
    // Workers take up a plan one after the other.
    eventually("calls have lines", || {
        connection.ask("first", "x");
        (!lines(stage.pod("client"), "first").is_empty()).then_some(())
    });
    eventually("calls of servers have lines", || {
        connection.ask("first", "x");
        let mut servers = SERVERS.iter().map(|server| lines(stage.pod(server), "first"));
        servers.any(|lines| !lines.is_empty()).then_some(())
    });

    const CALLS: usize = 40;
    (0..CALLS).for_each(|_| drop(connection.ask("logged", "x")));
    let client = stage.pod("client");
    let all = eventually("each call has its line", || {
        Some(lines(client, "logged")).filter(|lines| lines.len() >= CALLS)
    });
    assert_eq!(all.len(), CALLS, "each has one");
    for line in &all {
        assert_eq!((&line["reason"], &line["tries"]), (&json!("success"), &json!(1)), "{line}");
        let cluster = line["cluster"].as_str().unwrap();
        assert!(cluster.starts_with("outbound|20880|") && cluster.contains(&DEMO.host()), "{line}");
    }
    let log = client.log();
    assert!(!log.contains("meltemi: {\"event\":\"call\""), "none is in the log of Envoy as well");
}
