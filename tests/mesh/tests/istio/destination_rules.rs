//! What DestinationRules say of calls.

use std::collections::BTreeMap;
use std::time::Duration;

use meltemi_tests::{Action, Client, DEADLINE, Frame, eventually, server_of};
use serde_json::{Value, json};

use crate::stage::{self, DEMO, SERVERS, SHOP, Stage, count};

const SERVER_ERROR: u8 = 80;
const THREADPOOL_EXHAUSTED: u8 = 100;

/// Applies a rule beside the one that has the subsets, and waits until two sidecars have it in their plans.
fn rule(stage: &mut Stage, policy: Value, is_there: impl Fn(&Value) -> bool) {
    let rule = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "demo-calls", "namespace": SHOP},
        "spec": {"host": DEMO.name, "trafficPolicy": policy},
    });
    stage.apply(&rule.to_string());
    let cluster = format!("outbound|{}||{}", DEMO.port, DEMO.host());
    for pod in ["client", SERVERS[0]] {
        stage.pod(pod).wait_for_plan(|plan| {
            let service = &plan["services"][format!("{}:{}", DEMO.host(), DEMO.port)];
            is_there(&service["upstream"]["clusters"][&cluster])
        });
    }
}

#[test]
fn calls_with_the_same_key_go_to_one_server_as_a_rule_says() {
    let mut stage = stage::take();
    let policy = json!({"loadBalancer": {"consistentHash": {"httpHeaderName": "user"}}});
    rule(&mut stage, policy, |cluster| cluster["hashBy"] == json!(["user"]));
    let server = |client: &mut Client, user: &str| {
        server_of(&client.call_with("sayHello", "x", &[("user", user)]), "x")
    };
    // Envoy's workers learn of the plan and of the ring one after the other.
    let by_user = eventually("two sidecars lead each key to one server", || {
        let mut clients = ["client", "client", SERVERS[0]]
            .map(|pod| stage.pod(pod).enter(|| Client::connect(DEMO.address.parse().unwrap())));
        let mut of_user = |user: String| {
            let first = server(&mut clients[0], &user);
            let mut again = (0..9).map(|n| server(&mut clients[n % 3], &user));
            again.all(|server| server == first).then_some((user, first))
        };
        (0..40).map(|n| of_user(format!("user-{n}"))).collect::<Option<BTreeMap<_, _>>>()
    });
    assert!(SERVERS.iter().all(|one| by_user.values().any(|server| server == one)), "{by_user:?}");
}

#[test]
fn what_is_over_a_limit_of_calls_is_answered_at_once_as_a_rule_says() {
    let mut stage = stage::take();
    let policy = json!({"connectionPool": {"http": {"http2MaxRequests": 3}}});
    rule(&mut stage, policy, |cluster| cluster["circuitBreaker"] == json!({"maxCalls": 3}));
    for server in SERVERS {
        stage.backend(server, DEMO).on("slow", Action::Delay(Duration::from_millis(500)));
    }
    let mut client = stage.connect(DEMO.address);
    // Envoy's workers learn of the plan one after the other.
    eventually("three of eight calls pass", || {
        (0..8).for_each(|id| client.send(&Frame::request(id, "slow", "x")));
        let answers: Vec<Frame> = (0..8).map(|_| client.receive()).collect();
        let refused = answers.iter().filter(|answer| answer.status == THREADPOOL_EXHAUSTED);
        (refused.count() == 5).then_some(())
    });
    let name = "^wasmcustom.meltemi.*reason=.=overloaded;.*local_replies_total";
    stage.pod("client").admin(|admin| admin.wait(name, DEADLINE, |count| count >= 5)).unwrap();
}

#[test]
fn a_server_whose_calls_fail_is_left_out_as_a_rule_says() {
    let mut stage = stage::take();
    let policy = json!({"outlierDetection": {"consecutive5xxErrors": 3, "baseEjectionTime": "1h"}});
    rule(&mut stage, policy, |cluster| cluster["outlierDetection"]["consecutiveFailures"] == 3);
    stage.backend("v2", DEMO).on("fails", Action::Status(SERVER_ERROR, "broken".to_owned()));
    let (mut client, _) = stage.connect_balanced(DEMO.address);
    let ejections = || {
        let name = "^wasmcustom.meltemi.*outlier_ejections_total";
        stage.pod("client").admin(|admin| admin.sum(name)).unwrap()
    };
    let before = ejections();
    // It may be away for other reasons, too: its sidecar has got other sockets from the test before.
    eventually("the broken server is left out", || {
        (0..50).for_each(|_| drop(client.call("fails", "x")));
        let is_left_out = count(50, || client.ask("sayHello", "x")) == [("v1".to_owned(), 50)].into();
        (is_left_out && ejections() > before).then_some(())
    });
}
