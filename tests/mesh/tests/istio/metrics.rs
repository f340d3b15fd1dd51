//! Istio's standard metrics, of the sidecars of both sides.

use std::collections::BTreeMap;

use meltemi_mesh_tests::{Pod, Workload};
use meltemi_tests::{Backend, Client, eventually, files};
use nix::sys::signal::Signal;

use crate::stage::{self, DEMO, SERVERS, SHOP};

const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";

/// The labels of the sidecar's requests, with how many there were.
fn requests(pod: &Pod) -> Vec<(BTreeMap<String, String>, u64)> {
    let text = pod.admin(|admin| admin.fetch("/stats/prometheus?usedonly")).unwrap();
    let lines = text.lines().filter_map(|line| {
        let (labels, count) = line.strip_prefix("istio_requests_total{")?.rsplit_once("} ")?;
        let labels = labels.split("\",").map(|label| {
            let (name, value) = label.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        Some((labels.collect(), count.parse().unwrap()))
    });
    lines.collect()
}

#[test]
fn both_sides_tell_who_calls_whom() {
    let mut stage = stage::take();
    let module = stage.module.clone();
    stage.end_controller(Signal::SIGTERM);
    stage.run_controller(&module, &["--istio-metrics"]);
    for pod in ["client"].into_iter().chain(SERVERS) {
        stage.pod(pod).wait_for_plan(|plan| plan["metrics"]["istio"].is_object());
    }
    // The sockets come after the plan. Tunnels from before go on in the listeners from before, until those are gone.
    stage.wait_for_sockets(|sockets| sockets.to_string().contains("/report"));
    let mut connection = stage.connect(DEMO.address);
    let mut call = || (0..20).for_each(|_| _ = connection.ask("sayHello", "x"));

    let expected = [
        ("reporter", "source"),
        ("source_workload", "client"),
        ("source_workload_namespace", "shop"),
        ("source_principal", CLIENT),
        ("source_cluster", "Kubernetes"),
        ("destination_workload_namespace", "shop"),
        ("destination_service", "demo.shop.svc.cluster.local"),
        ("destination_service_name", "demo"),
        ("destination_service_namespace", "shop"),
        ("destination_cluster", "Kubernetes"),
        ("request_protocol", "grpc"),
        ("response_code", "200"),
        ("grpc_response_status", "0"),
        ("response_flags", "-"),
        ("connection_security_policy", "unknown"),
        ("rpc_system", "dubbo"),
    ];
    let is_like = |labels: &BTreeMap<String, String>, expected: &[(&str, &str)]| {
        expected.iter().all(|(name, value)| labels.get(*name).is_some_and(|known| known == value))
    };
    let servers = eventually("the client's sidecar reports both servers", || {
        call();
        let found = requests(stage.pod("client"));
        let found = found.into_iter().filter(|(labels, count)| is_like(labels, &expected) && *count > 0);
        let servers: Vec<_> = found.map(|(labels, _)| labels).collect();
        (servers.len() == SERVERS.len()).then_some(servers)
    });
    for labels in servers {
        let server = labels["destination_workload"].clone();
        assert!(SERVERS.contains(&server.as_str()), "{labels:?}");
        let principal = format!("spiffe://cluster.local/ns/shop/sa/{server}");
        assert_eq!(labels["destination_principal"], principal);
        let expected = [
            ("reporter", "destination"),
            ("source_workload_namespace", "shop"),
            ("source_principal", CLIENT),
            ("destination_workload", &server),
            ("destination_workload_namespace", "shop"),
            ("destination_principal", &principal),
            ("destination_service", "demo.shop.svc.cluster.local"),
            ("destination_service_name", "demo"),
            ("destination_service_namespace", "shop"),
            ("connection_security_policy", "mutual_tls"),
            ("grpc_response_status", "0"),
        ];
        eventually("the server's sidecar reports the client", || {
            call();
            let found = requests(stage.pod(&server));
            found.iter().any(|(labels, count)| is_like(labels, &expected) && *count > 0).then_some(())
        });
    }
    drop(connection);

    // A sidecar before Istio 1.30, which calls the servers and is one, counts by metrics whose names have the labels.
    let mut old = Workload::new(SHOP, "old").label("app", "demo");
    old.is_old = true;
    stage.mesh.start_pods([old]);
    let pod = stage.pod("old");
    let _backend = pod.enter(|| Backend::start_at("old", (pod.address(), DEMO.target).into()));
    pod.wait_for_plan(|plan| plan["metrics"]["istio"].is_object());
    for listener in ["virtualInbound", &DEMO.address.replace(':', "_")] {
        eventually(&format!("the tunnels of {listener} have come"), || {
            let listener = &pod.settings()[format!("listener \"{listener}\"")];
            listener.to_string().contains("tunneling_config").then_some(())
        });
    }
    for (caller, expected) in [
        ("old", [("reporter", "source"), ("source_workload", "old"), ("rpc_system", "dubbo")]),
        // Envoys of Istio 1.28 do not tell who calls.
        (
            "client",
            [
                ("reporter", "destination"),
                ("destination_workload", "old"),
                ("connection_security_policy", "unknown"),
            ],
        ),
    ] {
        let found = eventually(&format!("the old sidecar counts the calls of {caller}"), || {
            // Each worker looks for endpoints itself.
            let mut connection = stage.pod(caller).enter(|| Client::connect(DEMO.address.parse().unwrap()));
            (0..20).for_each(|_| _ = connection.ask("sayHello", "x"));
            let mut found = requests(stage.pod("old")).into_iter();
            found.find(|(labels, count)| is_like(labels, &expected) && *count > 0)
        });
        let mut labels = files::stat_tags();
        labels.retain(|label| label != "le");
        let missing: Vec<_> = labels.iter().filter(|label| !found.0.contains_key(*label)).collect();
        assert!(missing.is_empty(), "{missing:?} of {found:?}");
        assert!(
            is_like(&found.0, &[("rpc_system", "dubbo"), ("destination_service_name", "demo")]),
            "{found:?}"
        );
    }
    stage.mesh.kill_pod(SHOP, "old");
    stage.end_controller(Signal::SIGTERM);
}
