//! Calls reported as Istio's standard metrics.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use meltemi_proxy::{Counters, Reports, Way, Workload};
use serde_json::{Value, json};

use crate::servers::{Endpoint, Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const CLUSTER: &str = "outbound|20880||demo.shop.svc.cluster.local";
const INBOUND: &str = "inbound|20880||";

thread_local! {
    /// Counters with names.
    static HOST: RefCell<Vec<(String, u64)>> = RefCell::default();
    static TIME: RefCell<u64> = RefCell::default();
}

/// A host that takes a millisecond for each name, and so makes one at once.
fn slow_host() -> Reports {
    let define = |name: &str| {
        TIME.with_borrow_mut(|time| *time += 1_000_000);
        HOST.with_borrow_mut(|host| {
            host.push((name.to_owned(), 0));
            u32::try_from(host.len() - 1).ok()
        })
    };
    let add = |id: u32, n| HOST.with_borrow_mut(|host| host[id as usize].1 += n);
    let reports = Reports::new(Workload::default(), String::new(), || TIME.with_borrow(|time| *time));
    reports.with_way(Way::Streams, Counters { define, add }, &[])
}

/// The calls that were counted by names, of clients whose identity ends like that.
fn counted(identity: &str) -> u64 {
    let part = format!("/{identity};.;");
    HOST.with_borrow(|host| {
        let calls = host.iter().filter(|(name, _)| name.ends_with("istio_requests_total"));
        calls.filter(|(name, _)| name.contains(&part)).map(|(_, n)| n).sum()
    })
}

fn plan(service: &Value, istio: &Value) -> Value {
    let mut service = service.clone();
    service["protocol"] = "dubbo".into();
    json!({"services": {"demo": service}, "metrics": {"istio": istio}})
}

fn world(service: &Value, istio: &Value) -> World {
    world_of(service, istio, Reports::default())
}

fn world_of(service: &Value, istio: &Value, reports: Reports) -> World {
    let mut world = World::new(Setup { plan: plan(service, istio), reports, ..Setup::default() });
    world.cluster(CLUSTER, &[A], Policy::RoundRobin);
    world.cluster(INBOUND, &[A], Policy::RoundRobin);
    let fields = vec![
        ("x-meltemi-workload", "v1;shop;demo;r1;east"),
        ("x-meltemi-identity", "spiffe://td/ns/shop/sa/server"),
        ("x-meltemi-own-identity", "spiffe://td/ns/web/sa/client"),
        (
            "x-meltemi-services",
            r#"[{"host":"demo.shop.svc.cluster.local","name":"demo","namespace":"shop"}]"#,
        ),
    ];
    world.manager.fields.insert(A.to_owned(), fields);
    world
}

/// The calls that were reported, by some labels.
fn calls(world: &World, labels: &[&str]) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for report in &world.manager.reports {
        let field = |name: &str| {
            report.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).unwrap_or("none")
        };
        if field("x-meltemi-report") == "sums" {
            let key: Vec<_> = labels.iter().map(|label| field(&format!("x-{label}"))).collect();
            *sums.entry(key.join(" ")).or_default() += field("x-calls").parse::<u64>().unwrap();
        }
    }
    sums
}

fn expect(sums: &[(&str, u64)]) -> BTreeMap<String, u64> {
    sums.iter().map(|(key, n)| ((*key).to_owned(), *n)).collect()
}

#[test]
fn each_series_is_reported_once_for_many_calls() {
    let mut world = world(&json!({}), &json!({}));
    let client = world.connect_to("demo", CLUSTER);
    for _ in 0..100 {
        world.call_and_wait(client, Ask::new("echo"));
    }
    assert_eq!(world.manager.reports, Vec::<Vec<_>>::new(), "it is not due");
    world.run_for(Duration::from_secs(6));
    let labels = ["reporter", "destination-workload", "destination-service-name", "source-principal"];
    assert_eq!(calls(&world, &labels), expect(&[("source v1 demo spiffe://td/ns/web/sa/client", 100)]));
    assert_eq!(world.manager.reports.len(), 1 + 20, "the sums, and all buckets");
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.manager.reports.len(), 1 + 20, "there was nothing more");
    world.call_and_wait(client, Ask::new("echo"));
    world.run_for(Duration::from_secs(6));
    assert_eq!(calls(&world, &["reporter", "rpc-system"]), expect(&[("source dubbo", 101)]));
}

#[test]
fn how_calls_end_is_told_as_of_grpc() {
    let service = json!({"onNoMatch": "reject", "routes": [
        {"name": "denied", "match": [{"attributes": {"method": {"exact": "denied"}}}], "reject": {}},
        {"name": "slow", "match": [{"attributes": {"method": {"exact": "slow"}}}], "timeout": "100ms"},
        {"name": "rest", "match": [{"attributes": {"method": {"exact": "echo"}}}]},
    ]});
    let mut world = world(&service, &json!({}));
    world.serve(|arrival, _| match arrival.method {
        "slow" => What::Nothing.now(),
        _ => Reply::echo(),
    });
    let client = world.connect_to("demo", CLUSTER);
    for method in ["echo", "slow", "denied", "lost", "lost"] {
        world.call_and_wait(client, Ask::new(method));
    }
    world.call(client, Ask { is_one_way: true, ..Ask::new("echo") });
    world.run_for(Duration::from_secs(6));
    let labels =
        ["rpc-outcome", "response-code", "grpc-response-status", "response-flags", "destination-workload"];
    assert_eq!(
        calls(&world, &labels),
        expect(&[
            ("denied 200 7 UAEX unknown", 1),
            ("no_route 200 12 NR unknown", 2),
            ("sent 200 0 - v1", 1),
            ("success 200 0 - v1", 1),
            ("timeout 200 4 UT v1", 1),
        ])
    );
}

#[test]
fn the_service_is_told_when_no_endpoint_is_reached() {
    let mut world = world(&json!({}), &json!({}));
    world.manager.endpoints.insert(A.to_owned(), Endpoint::Refusing);
    let client = world.connect_to("demo", CLUSTER);
    world.call_and_wait(client, Ask::new("echo"));
    world.run_for(Duration::from_secs(6));
    let labels =
        ["rpc-outcome", "grpc-response-status", "destination-service", "destination-service-namespace"];
    let key = "no_endpoint 14 demo.shop.svc.cluster.local shop";
    assert_eq!(calls(&world, &labels), expect(&[(key, 1)]));
}

#[test]
fn a_servers_sidecar_tells_who_calls() {
    let mut world = world(&json!({}), &json!({}));
    let headers = [
        ("x-meltemi-peer-identity", "spiffe://td/ns/web/sa/client"),
        ("x-meltemi-own-identity", "spiffe://td/ns/shop/sa/server"),
    ];
    let client = world.connect_with("demo", INBOUND, &headers);
    world.call_and_wait(client, Ask::new("echo"));
    world.run_for(Duration::from_secs(6));
    let labels = [
        "reporter",
        "source-workload-namespace",
        "destination-principal",
        "destination-service",
        "connection-security-policy",
    ];
    let key = "destination web spiffe://td/ns/shop/sa/server demo.shop.svc.cluster.local mutual_tls";
    assert_eq!(calls(&world, &labels), expect(&[(key, 1)]));
}

#[test]
fn series_are_bounded() {
    let mut world = world(&json!({}), &json!({"maxSeries": 2}));
    for number in 0..5 {
        let identity = format!("spiffe://td/ns/a/sa/{number}");
        let headers = [("x-meltemi-peer-identity", identity.as_str())];
        let client = world.connect_with("demo", INBOUND, &headers);
        world.call_and_wait(client, Ask::new("echo"));
    }
    world.run_for(Duration::from_secs(6));
    assert_eq!(
        calls(&world, &["source-principal", "destination-service-name", "rpc-outcome"]),
        expect(&[
            ("other other success", 3),
            ("spiffe://td/ns/a/sa/0 demo success", 1),
            ("spiffe://td/ns/a/sa/1 demo success", 1),
        ])
    );
}

#[test]
fn many_series_are_reported_in_turns() {
    let mut world = world(&json!({}), &json!({}));
    for number in 0..25 {
        let identity = format!("spiffe://td/ns/a/sa/{number}");
        let client = world.connect_with("demo", INBOUND, &[("x-meltemi-peer-identity", &identity)]);
        world.call_and_wait(client, Ask::new("echo"));
    }
    world.run_for(Duration::from_millis(5010));
    assert_eq!(calls(&world, &["rpc-outcome"]), expect(&[("success", 10)]));
    world.run_for(Duration::from_secs(1));
    assert_eq!(calls(&world, &["rpc-outcome"]), expect(&[("success", 25)]));
}

/// Clients with identities of their own.
fn clients<const N: usize>(world: &mut World) -> [usize; N] {
    core::array::from_fn(|number| {
        let identity = format!("spiffe://td/ns/a/sa/{number}");
        world.connect_with("demo", INBOUND, &[("x-meltemi-peer-identity", &identity)])
    })
}

#[test]
fn known_series_do_not_wait_for_the_names_of_new_ones() {
    let mut world = world_of(&json!({}), &json!({"byNames": true}), slow_host());
    let [known, new @ ..] = clients::<25>(&mut world);
    world.call_and_wait(known, Ask::new("echo"));
    world.run_for(Duration::from_secs(7));
    assert_eq!(counted("0"), 1);
    world.call_and_wait(known, Ask::new("echo"));
    for client in new {
        world.call_and_wait(client, Ask::new("echo"));
    }
    world.run_for(Duration::from_secs(7));
    assert_eq!([counted("0"), counted("1"), counted("24")], [2, 1, 0], "names are made in turn");
    world.call_and_wait(known, Ask::new("echo"));
    world.run_for(Duration::from_secs(5));
    assert_eq!([counted("0"), counted("24")], [3, 0], "names are still made");
    world.run_for(Duration::from_secs(20));
    assert_eq!(counted("24"), 1);
    assert_eq!(HOST.with_borrow(Vec::len), 25 * 67);
}

#[test]
fn every_bucket_is_told_by_each_way() {
    let by = |names: bool| json!({"byNames": names});
    let mut world = world_of(&json!({}), &by(true), slow_host());
    let [client] = clients(&mut world);
    world.call_and_wait(client, Ask::new("echo"));
    world.run_for(Duration::from_secs(7));
    world.set_plan(&plan(&json!({}), &by(false)));
    assert_eq!((counted("0"), world.manager.reports.len()), (1, 0));
    world.call_and_wait(client, Ask::new("echo"));
    world.run_for(Duration::from_secs(7));
    assert_eq!(world.manager.reports.len(), 1 + 20);
    assert_eq!(calls(&world, &["rpc-outcome"]), expect(&[("success", 1)]));
}

#[test]
fn series_whose_names_are_not_made_are_told_the_other_way() {
    let by = |names: bool| json!({"byNames": names});
    let mut world = world_of(&json!({}), &by(true), slow_host());
    for client in clients::<3>(&mut world) {
        world.call_and_wait(client, Ask::new("echo"));
    }
    world.run_for(Duration::from_millis(5200));
    assert!(HOST.with_borrow(Vec::len) < 67, "names are still made");
    world.set_plan(&plan(&json!({}), &by(false)));
    world.run_for(Duration::from_secs(1));
    assert_eq!(calls(&world, &["rpc-outcome"]), expect(&[("success", 3)]));
}

#[test]
fn nothing_is_reported_unless_the_plan_says_so() {
    let mut world = World::new(Setup::default());
    world.cluster("demo", &[A], Policy::RoundRobin);
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.manager.reports, Vec::<Vec<_>>::new());
}
