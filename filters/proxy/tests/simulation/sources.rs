//! Who calls: what the tunnel tells of a client, and what a client says of itself.

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::servers::Policy;
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
