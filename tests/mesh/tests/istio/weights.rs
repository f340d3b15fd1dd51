//! Weights of endpoints and localities, which calls keep.

use std::time::Instant;

use meltemi_mesh_tests::Pod;
use meltemi_tests::{Client, DEADLINE};
use serde_json::{Value, json};

use crate::stage::{self, SERVERS, SHOP, Stage};

const PORT: u16 = 20890;

/// A service whose two endpoints are servers' pods; the `rest` of each tells them apart.
fn entry(stage: &Stage, name: &str, address: &str, rest: [Value; 2]) -> Value {
    let endpoints: Vec<_> = SERVERS
        .into_iter()
        .zip(rest)
        .map(|(server, mut endpoint)| {
            endpoint["address"] = json!(stage.pod(server).address());
            // The sidecar there speaks mutual TLS.
            endpoint["labels"] = json!({"security.istio.io/tlsMode": "istio"});
            endpoint
        })
        .collect();
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": SHOP},
        "spec": {
            "hosts": [host(name)],
            "addresses": [address],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"name": "tcp-metaprotocol-dubbo", "number": PORT, "targetPort": 20861, "protocol": "TCP"}],
            "endpoints": endpoints,
        },
    })
}

fn host(name: &str) -> String {
    format!("{name}.example.org")
}

/// How many of so many calls the second server answers.
fn share(client: &mut Client, calls: usize) -> usize {
    (0..calls).filter(|_| client.ask("sayHello", "x").starts_with(SERVERS[1])).count()
}

#[test]
fn calls_keep_weights_of_endpoints_and_localities() {
    let mut stage = stage::take();
    let weighted = entry(&stage, "weighted", "240.240.0.21", [json!({"weight": 9}), json!({"weight": 1})]);
    let localities = ["near/a", "near/b"].map(|locality| json!({"locality": locality}));
    let spread = entry(&stage, "spread", "240.240.0.22", localities);
    let distribute = json!([{"from": "*", "to": {"near/a/*": 90, "near/b/*": 10}}]);
    let rule = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "spread", "namespace": SHOP},
        "spec": {
            "host": host("spread"),
            "trafficPolicy": {"loadBalancer": {
                "simple": "ROUND_ROBIN",
                "localityLbSetting": {"enabled": true, "distribute": distribute},
            }},
        },
    });
    for object in [weighted, spread, rule] {
        stage.apply(&object.to_string());
    }
    wait_for_plan(stage.pod("client"));
    let mut clients =
        ["240.240.0.21", "240.240.0.22"].map(|address| stage.connect(&format!("{address}:{PORT}")));
    // Envoy is asked for a choice twice a second, and some thirty tell these from equals, of which each gets half.
    let begun = Instant::now();
    loop {
        let shares = clients.each_mut().map(|client| share(client, 400));
        if shares.iter().all(|share| (1..=100).contains(share)) {
            break;
        }
        assert!(begun.elapsed() < 4 * DEADLINE, "{shares:?} of 400");
    }
}

fn wait_for_plan(client: &Pod) {
    client.wait_for_plan(|plan| {
        ["weighted", "spread"].into_iter().all(|name| {
            let service = &plan["services"][format!("{}:{PORT}", host(name))];
            service["upstream"]["clusters"][format!("outbound|{PORT}||{}", host(name))]["keepWeights"] == true
        })
    });
}
