//! Aeraki's demonstrations of Redis do what they are there to show, as those of RPC do in `demonstrations`: where a copy lies
//! beside a folder above this one, as `shared/aeraki`.

use std::fs;

use meltemi_tests::{Envoy, each_envoy, eventually, files};

use crate::server::{Reply, Server, join, text};
use crate::stage::Stage;

const SINGLE: &str = "redis-single";
const CLUSTER: &str = "redis-cluster";

/// The password in the Secret of the demonstrations, which ends as `echo` has it end.
const PASSWORD: &str = "testredis\n";

/// Runs a test on what is in the cluster once a demonstration is applied. Secrets have the label that Meltemi asks for.
fn show(name: &str, test: impl Fn(&Envoy, &str)) {
    let Some(demos) = files::aeraki("demos") else { return };
    let world = fs::read_to_string(demos.join(format!("{name}.yaml"))).unwrap();
    let label = "  name: redis-service-secret\n  labels: {meltemi.io/redis-password: 'true'}";
    let world = world.replace("  name: redis-service-secret\n  namespace", &format!("{label}\n  namespace"));
    each_envoy(|envoy| test(envoy, &world));
}

/// What is in the cluster, with the address of a node: the service's name is one that only the DNS of Kubernetes knows.
fn found(world: &str, nodes: &[Server]) -> String {
    let node = nodes[0].address;
    world.replace("mode: CLUSTER", &format!("mode: CLUSTER\n        discoveryEndpoints: ['{node}']"))
}

/// Nodes that make a cluster.
fn cluster() -> Vec<Server> {
    let nodes: Vec<Server> = (0..6).map(|_| Server::start_node()).collect();
    join(&nodes);
    nodes
}

#[test]
fn clients_send_the_password_that_the_service_asks_for() {
    show("redis--client-side-password", |envoy, world| {
        let server = Server::start(&[]);
        let stage = Stage::start(envoy, world, &[(SINGLE, &[&server]), (CLUSTER, &[&server])]);
        let mut client = stage.client("10.96.40.11");
        assert_eq!(client.get("a"), Reply::Error("NOAUTH Authentication required.".to_owned()));
        assert!(matches!(client.call(&["AUTH", "wrong"]), Reply::Error(_)));
        assert_eq!(client.call(&["AUTH", "testredis123!"]), text("OK"));
        client.set("a", "1");
    });
}

#[test]
fn the_proxy_sends_the_password_that_servers_ask_for() {
    show("redis--server-side-password", |envoy, world| {
        let server = Server::start(&["--requirepass", PASSWORD]);
        let stage = Stage::start(envoy, world, &[(SINGLE, &[&server]), (CLUSTER, &[&server])]);
        assert!(matches!(server.client().get("a"), Reply::Error(_)));
        stage.client("10.96.40.11").set("a", "1");
    });
    show("e2e-redis--redisdestination", |envoy, world| {
        let server = Server::start(&["--requirepass", "testredis"]);
        let nodes = cluster();
        let stage =
            Stage::start(envoy, &found(world, &nodes), &[(SINGLE, &[&server]), (CLUSTER, &[&nodes[0]])]);
        stage.client("10.96.40.17").set("a", "1");
        reach_all(&stage, "10.96.40.18", &nodes);
    });
}

/// Keys are kept by all masters of a cluster, and found again.
fn reach_all(stage: &Stage, address: &str, nodes: &[Server]) {
    let mut client = stage.client(address);
    // Nothing is sent until the servers are known.
    eventually("the servers are known", || {
        (client.call(&["SET", "cluster", "1"]) == text("OK")).then_some(())
    });
    (0..30).for_each(|number| client.set(&format!("cluster{number}"), "1"));
    assert!(nodes[..3].iter().all(|master| master.count("set") > 0));
    assert!((0..30).all(|number| client.get(&format!("cluster{number}")) == text("1")));
}

#[test]
fn clients_know_nothing_of_the_cluster_behind_a_service() {
    show("redis--cluster", |envoy, world| {
        let nodes = cluster();
        let stage =
            Stage::start(envoy, &found(world, &nodes), &[(SINGLE, &[&nodes[0]]), (CLUSTER, &[&nodes[0]])]);
        reach_all(&stage, "10.96.40.12", &nodes);
    });
}

#[test]
fn replicas_are_read() {
    show("redis--read-policy", |envoy, world| {
        let nodes = cluster();
        let stage =
            Stage::start(envoy, &found(world, &nodes), &[(SINGLE, &[&nodes[0]]), (CLUSTER, &[&nodes[0]])]);
        let mut client = stage.client("10.96.40.12");
        eventually("the servers are known", || (client.call(&["SET", "a", "1"]) == text("OK")).then_some(()));
        eventually("a replica has the key", || (client.get("a") == text("1")).then_some(()));
        let (masters, replicas) = nodes.split_at(3);
        assert_eq!(masters.iter().map(|node| node.count("get")).sum::<u64>(), 0);
        assert!(replicas.iter().any(|node| node.count("get") > 0));
    });
}

#[test]
fn keys_go_where_their_prefix_says_and_passwords_hold_for_all() {
    show("redis--routing", |envoy, world| {
        let (single, other) = (Server::start(&[]), Server::start(&[]));
        let stage = Stage::start(envoy, world, &[(SINGLE, &[&single]), (CLUSTER, &[&other])]);
        let mut client = stage.client("10.96.40.12");
        ["cluster-a", "b"].iter().for_each(|key| client.set(key, "1"));
        assert_eq!(["cluster-a", "b"].map(|key| single.client().get(key)), [Reply::Nil, text("1")]);
        assert_eq!(["cluster-a", "b"].map(|key| other.client().get(key)), [text("1"), Reply::Nil]);
    });
    show("e2e-redis--redisservice", |envoy, world| {
        let (single, other) = (Server::start(&[]), Server::start(&[]));
        let stage = Stage::start(envoy, world, &[(SINGLE, &[&single]), (CLUSTER, &[&other])]);
        let mut client = stage.client("10.96.40.18");
        assert!(matches!(client.get("b"), Reply::Error(_)));
        assert_eq!(client.call(&["AUTH", PASSWORD]), text("OK"));
        ["cluster-a", "b"].iter().for_each(|key| client.set(key, "1"));
        assert_eq!(["cluster-a", "b"].map(|key| single.client().get(key)), [Reply::Nil, text("1")]);
        stage.client("10.96.40.17").set("c", "1");
    });
}

#[test]
fn commands_are_copied() {
    show("redis--traffic-mirroring", |envoy, world| {
        let (single, other) = (Server::start(&[]), Server::start(&[]));
        let stage = Stage::start(envoy, world, &[(SINGLE, &[&single]), (CLUSTER, &[&other])]);
        let mut client = stage.client("10.96.40.12");
        (0..20).for_each(|number| client.set(&format!("key{number}"), "1"));
        assert_eq!(other.count("set"), 20);
        eventually("all are copied", || (single.count("set") == 20).then_some(()));
    });
}

#[test]
fn half_of_the_reads_fail() {
    show("redis--fault-injection", |envoy, world| {
        let server = Server::start(&[]);
        let stage = Stage::start(envoy, world, &[(SINGLE, &[&server]), (CLUSTER, &[&server])]);
        let mut client = stage.client("10.96.40.12");
        client.set("a", "1");
        let failed = (0..200).filter(|_| client.get("a") == Reply::Error("Fault Injected: Error".to_owned()));
        // Six standard deviations.
        let failed = failed.count();
        assert!((58..=142).contains(&failed), "{failed}");
    });
}

/// A service without pods is left as it is, since no resource is of it.
#[test]
fn a_server_outside_of_the_mesh_is_called_as_ever() {
    show("redis--external-redis", |envoy, world| {
        let server = Server::start(&[]);
        let hosts = [(SINGLE, &[&server][..]), (CLUSTER, &[&server]), ("external-redis", &[&server])];
        let stage = Stage::start(envoy, world, &hosts);
        let mut client = stage.client("10.96.40.13");
        client.set("a", "1");
        assert_eq!(client.call(&["MULTI"]), text("OK"));
    });
}
