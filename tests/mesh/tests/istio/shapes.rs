//! Every way in which a service can be written.

use std::net::SocketAddr;

use meltemi_tests::DEADLINE;

use crate::stage::{self, Stage, count};

#[test]
fn every_managed_port_of_a_service_is_managed() {
    let stage = stage::take();
    for (address, port) in [("10.96.7.8:20980", 20981), ("10.96.7.8:20990", 20991)] {
        assert_balanced(&stage, address, port);
    }
}

#[test]
fn a_port_that_is_not_managed_stays_plain_tcp() {
    let stage = stage::take();
    let mut connection = stage.connect("10.96.7.8:7000");
    let servers = count(40, || connection.ask("sayHello", "x"));
    assert_eq!(servers.len(), 1, "one connection leads to one server: {servers:?}");
}

/// The client chooses the endpoint; the calls are managed all the same, and go there.
#[test]
fn a_headless_service_is_managed_at_each_endpoint() {
    let stage = stage::take();
    for server in ["v1", "v2"] {
        let address = SocketAddr::from((stage.pod(server).address(), 20870));
        stage.wait_for_headless(address);
        let address = address.to_string();
        let before = managed(&stage);
        let mut connection = stage.connect(&address);
        let servers = count(40, || connection.ask("sayHello", "x"));
        assert_eq!(servers, [(format!("{server}@20870"), 40)].into());
        stage.pod("client").admin(|admin| {
            let wanted = |calls| calls >= before + 40;
            admin.wait(REQUESTS, DEADLINE, wanted).unwrap();
        });
    }
}

#[test]
fn a_service_entry_with_addresses_is_managed() {
    let stage = stage::take();
    assert_balanced(&stage, "240.240.0.9:20860", 20861);
}

#[test]
fn a_service_entry_without_addresses_is_managed() {
    let stage = stage::take();
    assert_balanced(&stage, "10.99.1.1:20850", 20851);
}

const REQUESTS: &str = "^wasmcustom.meltemi.*method=.=sayHello;.;requests_total";

/// How many calls the client's Envoy has managed.
fn managed(stage: &Stage) -> u64 {
    stage.pod("client").admin(|admin| admin.sum(REQUESTS)).unwrap()
}

fn assert_balanced(stage: &Stage, address: &str, port: u16) {
    let wanted = ["v1", "v2"].map(|server| format!("{server}@{port}"));
    assert!(stage.balanced(address).keys().eq(&wanted));
}

#[test]
fn a_sidecar_that_sees_no_managed_service_stays_as_it_was() {
    let stage = stage::take();
    let now = stage.mesh.pod("plain", "bystander").settings();
    assert_eq!(now, stage.bystander_before);
}
