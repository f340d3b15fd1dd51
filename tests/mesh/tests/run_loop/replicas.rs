//! The controller goes, and comes back or is replaced by another replica.

use std::time::{Duration, Instant};

use meltemi_tests::eventually;

use crate::api::{HOME, shared};
use crate::controller::{Controller, LEASE_SECONDS};
use crate::{
    filter_path, generated, make_router, make_service, router_path, wait_for_condition, wait_for_objects,
};

#[test]
fn a_restart_changes_nothing() {
    let api = shared();
    make_service(&api, "restart");
    make_router(&api, "restart", 1);
    let controller = Controller::start(&api, "restart-first");
    // The last that is told of the router.
    wait_for_condition(&api, &router_path("restart"), "Programmed", "True");
    let before = wait_for_objects(&api, "restart");
    let router = api.find(&router_path("restart")).unwrap();
    assert!(controller.end().success());
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/meltemi");
    assert_eq!(api.find(&lease).unwrap()["spec"]["holderIdentity"], "");

    let controller = Controller::start(&api, "restart-second");
    controller.wait_until_leading();
    assert_eq!(generated(&api, "restart"), before);
    assert_eq!(api.find(&router_path("restart")).unwrap(), router);
    assert_eq!(controller.did("applied"), Vec::<String>::new());
    assert!(controller.end().success());
}

#[test]
fn another_replica_takes_over() {
    let api = shared();
    make_service(&api, "takeover");
    let first = Controller::start(&api, "takeover-first");
    wait_for_objects(&api, "takeover");
    let second = Controller::start(&api, "takeover-second");
    eventually("the second is ready", || (second.view("readyz").0 == 200).then_some(()));
    assert_eq!((first.metric("leader"), second.metric("leader")), (1, 0));
    first.kill();
    let start = Instant::now();
    eventually("the second leads", || (second.metric("leader") == 1).then_some(()));
    // It looks five times in the time of a lease, and the machine may do something else meanwhile.
    let limit = Duration::from_secs(LEASE_SECONDS) * 10;
    assert!(start.elapsed() < limit, "{:?}", start.elapsed());
    api.delete(&filter_path("takeover", "meltemi-sockets"));
    wait_for_objects(&api, "takeover");
    assert!(second.end().success());
}
