//! Who may call what: rules that are enforced, rules that are tried out, and calls that would walk past them.

use std::rc::Rc;
use std::time::Duration;

use meltemi_proxy::{DRY_RUN_DENIED, Metric};
use serde_json::{Value, json};

use crate::dubbo::SERVICE_ERROR;
use crate::servers::Policy;
use crate::toy::WIDE;
use crate::world::{Ask, Setup, World};

const DEMO: &str = "10.0.0.1:20880";
const IDENTITY: &str = "x-meltemi-peer-identity";

fn world(service: Value) -> World {
    let mut world = World::new(Setup::demo(service));
    world.cluster("demo", &[DEMO], Policy::RoundRobin);
    world
}

/// Whether the call got an answer of the server; or else the proxy's error.
fn passes(world: &mut World, client: usize, ask: Ask) -> bool {
    let call = world.call_and_wait(client, ask);
    match world.calls[call].error() {
        None => {
            assert_eq!(world.calls[call].endpoint(), Some(DEMO));
            true
        }
        error => {
            assert_eq!(error, Some(SERVICE_ERROR));
            false
        }
    }
}

fn readers() -> Value {
    json!({"rules": [
        {"name": "shop/secrets/0", "deny": true, "match": [{"attributes": {"tag": {"exact": "secret"}}}]},
        {"name": "shop/readers/0", "match": [
            {"attributes": {"source.namespace": {"exact": "web"}, "method": {"prefix": "get"}}},
        ]},
    ], "denyOthers": true})
}

#[test]
fn what_is_tried_out_is_counted_and_logged_and_denies_nothing() {
    let mut world = world(json!({"dryRun": readers()}));
    let client = world.connect_with("demo", "demo", &[(IDENTITY, "spiffe://cluster.local/ns/web/sa/cart")]);
    assert!(passes(&mut world, client, Ask::new("getName")));
    assert_eq!(world.sum(Metric::DryRunDenied), 0);
    assert!(passes(&mut world, client, Ask::new("getName").with("tag", "secret")));
    assert!(passes(&mut world, client, Ask::new("setName")));
    world.call(client, Ask::new("setName").one_way());
    let stranger = world.connect();
    assert!(passes(&mut world, stranger, Ask::new("getName").with("source.namespace", "web")));
    // What is in doubt would be denied.
    assert!(passes(&mut world, client, Ask::new("getName").with("TAG", "secret")));
    assert!(passes(&mut world, client, Ask::new("getName").with("path", "org.Shut")));
    assert_eq!(world.sum(Metric::DryRunDenied), 6);
    assert_eq!(world.sum(Metric::LocalReplies("denied")), 0);
    assert_eq!(world.sum(Metric::Requests), 7);
    assert_eq!(world.metrics.sum(Metric::DecodeErrors), 0);
    let lines = &world.metrics.replies;
    assert!(lines.iter().all(|line| line.reason == DRY_RUN_DENIED && line.response_bytes == 0));
    let details: Vec<&str> = lines.iter().map(|line| &*line.detail).collect();
    assert_eq!(
        details[..5],
        [
            "by rule shop/secrets/0",
            "no rule allows it",
            "no rule allows it",
            "no rule allows it",
            "the attribute TAG is called like tag but for its case",
        ]
    );
    assert!(details[5].starts_with("unsupported attachment"), "{}", details[5]);
    assert_eq!(lines[0].principal.as_deref(), Some("cluster.local/ns/web/sa/cart"));
    assert_eq!(&*lines[0].operation.method, "getName");
}

#[test]
fn what_is_tried_out_and_what_is_enforced_have_nothing_to_do_with_each_other() {
    let closed =
        json!([{"name": "closed", "match": [{"attributes": {"method": {"exact": "drop"}}}], "reject": {}}]);
    let mut world = world(json!({"routes": closed, "dryRun": readers()}));
    let client = world.connect_with("demo", "demo", &[(IDENTITY, "spiffe://cluster.local/ns/web/sa/cart")]);
    for (method, is_denied, would_be) in [("getName", false, 0), ("drop", true, 1), ("set", false, 1)] {
        let before = (world.sum(Metric::LocalReplies("denied")), world.sum(Metric::DryRunDenied));
        assert_eq!(passes(&mut world, client, Ask::new(method)), !is_denied, "{method}");
        let after = (world.sum(Metric::LocalReplies("denied")), world.sum(Metric::DryRunDenied));
        assert_eq!((after.0 - before.0, after.1 - before.1), (is_denied.into(), would_be), "{method}");
    }
}

#[test]
fn a_policy_covers_connections_that_were_open_before() {
    let mut world = world(json!({}));
    let client = world.connect();
    assert!(passes(&mut world, client, Ask::new("drop")));
    let closed =
        json!([{"name": "closed", "match": [{"attributes": {"method": {"exact": "drop"}}}], "reject": {}}]);
    world.set_plan(&Setup::demo(json!({"routes": closed})).plan);
    assert!(!passes(&mut world, client, Ask::new("drop")));
    assert!(passes(&mut world, client, Ask::new("echo")));
    assert_eq!(world.proxy.clients[client].closed_at, None);
    // And one that is tried out, too.
    world.set_plan(&Setup::demo(json!({"dryRun": readers()})).plan);
    assert!(passes(&mut world, client, Ask::new("drop")));
    assert_eq!((world.sum(Metric::LocalReplies("denied")), world.sum(Metric::DryRunDenied)), (1, 1));
}

#[test]
fn no_other_case_of_a_name_gets_past_a_rule() {
    let closed =
        json!([{"name": "closed", "match": [{"attributes": {"tenant": {"exact": "evil"}}}], "reject": {}}]);
    let mut world = world(json!({"routes": closed}));
    let client = world.connect();
    for (name, passes_by) in [("tenant", false), ("Tenant", false), ("TENANT", false), ("tenants", true)] {
        assert_eq!(passes(&mut world, client, Ask::new("echo").with(name, "evil")), passes_by, "{name}");
    }
    let both = Ask::new("echo").with("tenant", "good").with("tenanT", "evil");
    assert!(!passes(&mut world, client, both));
    assert!(world.metrics.replies.iter().all(|reply| reply.reason == "denied"));
}

#[test]
fn callers_are_told_apart_by_address() {
    let blocks = |blocks: Value| json!([{"attributes": {"source.ip": {"cidr": blocks}}}]);
    let world_of = |blocks: Value| {
        world(json!({"routes": [{"name": "inside", "match": blocks}], "defaultRoute": {"reject": {}}}))
    };
    for (list, is_inside) in [
        (json!(["192.0.2.0/24"]), true),
        (json!(["10.0.0.0/8", "192.0.2.1"]), true),
        (json!(["10.0.0.0/8", "::/0"]), false),
    ] {
        let mut world = world_of(blocks(list.clone()));
        let client = world.connect();
        let forged = Ask::new("echo").with("source.ip", if is_inside { "203.0.113.1" } else { "10.0.0.1" });
        assert_eq!(passes(&mut world, client, forged), is_inside, "{list}");
    }
}

/// A protocol with the frames of the small one, which says nothing of its calls.
fn look_alike() -> Value {
    json!({
        "length": {"at": 0, "as": "u32"},
        "id": {"at": 6, "as": "u32"},
        "status": {"at": 5, "as": "u8"},
        "kind": {"at": 4, "as": "u8", "request": 1, "oneWay": 2, "response": 3},
        "errorReply": {"frame": "{frame:u32} 03 {status:u8} {id:u32} 00 {text}", "status": 9},
    })
}

#[test]
fn a_call_of_two_protocols_is_of_neither_where_calls_are_denied() {
    for (rejects, passes) in [(true, false), (false, true)] {
        let mut denied = json!({"name": "no", "match": [{"attributes": {"method": {"exact": "secret"}}}]});
        match rejects {
            true => denied["reject"] = json!({}),
            false => denied["cluster"] = json!("demo"),
        }
        let service = json!({"protocol": "auto", "protocols": ["alike", "wide"], "routes": [denied]});
        let plan = json!({"protocols": {"alike": look_alike()}, "services": {"demo": service}});
        let mut world = World::new(Setup { plan, wire: Rc::new(&WIDE), ..Setup::default() });
        world.cluster("demo", &[DEMO], Policy::RoundRobin);
        let client = world.connect();
        let call = world.call(client, Ask::new("secret"));
        world.run_for(Duration::from_millis(50));
        assert_eq!(!world.calls[call].deliveries.is_empty(), passes);
        assert_eq!(world.proxy.clients[client].closed_at.is_none(), passes);
    }
}
