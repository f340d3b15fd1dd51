//! Who calls and who answers: what Envoy reports of both ends, and what a client says of itself.

use std::time::Duration;

use meltemi_proxy::{Labels, Metric};
use serde_json::{Value, json};

use crate::dubbo::INTERFACE;
use crate::servers::{Policy, What};
use crate::world::{Ask, Setup, World};

const DEMO: &str = "10.0.0.1:20880";
const V1: &str = "10.0.1.1:20880";

const IDENTITY: &str = "x-meltemi-peer-identity";
const CLIENT: &str = "spiffe://cluster.local/ns/dubbo/sa/client";
const PRINCIPAL: &str = "cluster.local/ns/dubbo/sa/client";

/// Calls that meet `attributes` go to V1, all others to DEMO.
fn world(attributes: &Value) -> World {
    let plan = json!({"services": {"demo": {"protocol": "dubbo", "routes": [
        {"name": "v1", "match": [{"attributes": attributes}], "cluster": "v1"},
    ]}}});
    let mut world = World::new(Setup { plan, ..Setup::default() });
    world.cluster("demo", &[DEMO], Policy::RoundRobin);
    world.cluster("v1", &[V1], Policy::RoundRobin);
    world
}

fn endpoint(world: &mut World, client: usize, ask: Ask) -> String {
    let call = world.call_and_wait(client, ask);
    world.calls[call].endpoint().expect("an answer of an endpoint").to_owned()
}

#[test]
fn routes_match_who_calls() {
    for (name, value) in
        [("source.principal", PRINCIPAL), ("source.namespace", "dubbo"), ("source.ip", "192.0.2.1")]
    {
        let mut world = world(&json!({name: {"exact": value}, "method": {"exact": "echo"}}));
        let client = world.connect_with("demo", "demo", &[(IDENTITY, CLIENT)]);
        assert_eq!(endpoint(&mut world, client, Ask::new("echo")), V1, "{name}");
        assert_eq!(endpoint(&mut world, client, Ask::new("other")), DEMO, "{name}");
        let other = world.connect_with("demo", "demo", &[(IDENTITY, "spiffe://cluster.local/ns/x/sa/y")]);
        let wanted = if name == "source.ip" { V1 } else { DEMO };
        assert_eq!(endpoint(&mut world, other, Ask::new("echo")), wanted, "{name}");
    }
}

#[test]
fn an_attachment_cannot_stand_in_for_who_calls() {
    for identity in ["", "-", "spiffe://cluster.local/ns/x/sa/y"] {
        let mut world = world(&json!({"source.principal": {"exact": PRINCIPAL}}));
        let client = world.connect_with("demo", "demo", &[(IDENTITY, identity)]);
        let forged = Ask::new("echo").with("source.principal", PRINCIPAL);
        assert_eq!(endpoint(&mut world, client, forged), DEMO);
    }
    // Nor can it where the service matches on attachments too, or keep a true identity from being seen.
    let mut world = world(&json!({"source.principal": {"exact": PRINCIPAL}, "tag": {"exact": "x"}}));
    let stranger = world.connect();
    let forged = Ask::new("echo").with("tag", "x").with("source.principal", PRINCIPAL);
    assert_eq!(endpoint(&mut world, stranger, forged), DEMO);
    let client = world.connect_with("demo", "demo", &[(IDENTITY, CLIENT)]);
    let disguised = Ask::new("echo").with("source.principal", "someone").with("tag", "x");
    assert_eq!(endpoint(&mut world, client, disguised), V1);
}

#[test]
fn a_missing_identity_is_a_missing_attribute() {
    let mut world = world(&json!({"source.principal": {"present": false}}));
    let stranger = world.connect();
    let ask = || Ask::new("echo").with("source.principal", "someone");
    assert_eq!(endpoint(&mut world, stranger, ask()), V1);
    let client = world.connect_with("demo", "demo", &[(IDENTITY, CLIENT)]);
    assert_eq!(endpoint(&mut world, client, ask()), DEMO);
}

#[test]
fn requests_are_counted_where_there_is_an_identity() {
    let mut world = world(&json!({"method": {"exact": "echo"}}));
    let client = world.connect_with("demo", "demo", &[(IDENTITY, CLIENT)]);
    let stranger = world.connect();
    for _ in 0..3 {
        world.call_and_wait(client, Ask::new("echo"));
        world.call_and_wait(stranger, Ask::new("echo"));
    }
    assert_eq!(world.sum(Metric::SourceRequests), 3);
    assert_eq!(world.sum(Metric::Requests), 6);
}

#[test]
fn a_reply_of_the_proxys_own_tells_who_called() {
    let mut world = world(&json!({"method": {"exact": "echo"}}));
    let plan = json!({"services": {"demo": {"protocol": "dubbo", "onNoMatch": "reject"}}});
    world.set_plan(&plan);
    let client = world.connect_with("demo", "demo", &[(IDENTITY, CLIENT)]);
    world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.metrics.replies[0].principal.as_deref(), Some(PRINCIPAL));
}

#[test]
fn responses_are_counted_by_who_answers() {
    const V1: &str = "10.0.1.1:1";
    const V2: &str = "10.0.1.2:1";
    const UNKNOWN: &str = "10.0.1.3:1";
    let mut world = World::new(Setup::default());
    world.cluster("demo", &[V1, V2, UNKNOWN], Policy::RoundRobin);
    let identity = "spiffe://cluster.local/ns/dubbo/sa/server";
    let workload = ("x-meltemi-workload", "v1;dubbo;demo;v1;Kubernetes");
    world.manager.fields.insert(V1.to_owned(), vec![workload, ("x-meltemi-identity", identity)]);
    world.manager.fields.insert(V2.to_owned(), vec![("x-meltemi-workload", "v2")]);
    world
        .manager
        .fields
        .insert(UNKNOWN.to_owned(), vec![("x-meltemi-workload", "-"), ("x-meltemi-identity", "")]);
    let client = world.connect();
    // Once all three are known, each has its turn.
    world.call_and_wait(client, Ask::new("echo"));
    world.run_for(Duration::from_millis(300));
    let calls = world.call_all(client, (0..30).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    world.run_for(Duration::from_millis(300));
    let served = world.served();
    let labels = |workload: &str, principal: &str| Labels::Destination {
        service: INTERFACE.into(),
        workload: workload.into(),
        principal: principal.into(),
    };
    let (first, second) = (labels("v1", "cluster.local/ns/dubbo/sa/server"), labels("v2", "-"));
    let expected = [(&first, served[V1] as u64), (&second, served[V2] as u64)];
    assert_eq!(world.metrics.counted(Metric::DestinationRequests), expected);
    assert!(served.values().all(|&count| count >= 10), "{served:?}");
}

#[test]
fn a_response_that_is_tried_again_is_counted_too() {
    let plan = json!({"services": {"demo": {"protocol": "dubbo", "defaultRoute": {
        "retry": {"on": ["status"], "statuses": [100], "backoff": {"base": "1ms"}},
    }}}});
    let mut world = World::new(Setup { plan, ..Setup::default() });
    world.cluster("demo", &[DEMO], Policy::RoundRobin);
    world.manager.fields.insert(DEMO.to_owned(), vec![("x-meltemi-workload", "v1;a;b;c;d")]);
    world.serve(|arrival, _| if arrival.times == 1 { What::Error(100).now() } else { What::Echo(0).now() });
    let client = world.connect();
    assert_eq!(endpoint(&mut world, client, Ask::new("echo")), DEMO);
    assert_eq!(world.sum(Metric::DestinationRequests), 2);
}
