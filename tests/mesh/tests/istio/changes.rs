//! Changes while calls are under way.

use meltemi_tests::{DEADLINE, Traffic};
use serde_json::json;

use crate::stage::{self, DEMO, SHOP, router, to};

#[test]
fn a_change_of_the_router_loses_no_call() {
    let mut stage = stage::take();
    let traffic = stage.pod("client").enter(|| Traffic::start(DEMO.address.parse().unwrap(), 8, 8));
    traffic.wait_for_answers(1000);
    for round in 0..6 {
        let subset = if round % 2 == 0 { "v1" } else { "v2" };
        let routes = json!([{"name": format!("round-{round}"), "route": [to(DEMO, subset)]}]);
        stage.route(DEMO, &router(DEMO, routes));
        traffic.wait_for_answers(1000);
    }
    traffic.finish();
}

/// A server that leaves gets no new calls once the connections that clients have to it are renewed, after a minute at most.
/// Then it can end.
#[test]
fn a_server_that_leaves_loses_no_call() {
    let mut stage = stage::take();
    stage.balanced(DEMO.address);
    let traffic = stage.pod("client").enter(|| Traffic::start(DEMO.address.parse().unwrap(), 8, 8));
    traffic.wait_for_answers(1000);
    stage.mesh.withdraw_pod(SHOP, "v2");
    let clients = "^wasmcustom.meltemi.client_connections_active";
    stage.pod("v2").admin(|admin| admin.wait(clients, DEADLINE, |count| count == 0)).unwrap();
    stage.kill_server("v2");
    traffic.wait_for_answers(1000);
    stage.start_server("v2");
    let calls = "^wasmcustom.meltemi.*method=.=sayHello;.;requests_total";
    stage.pod("v2").admin(|admin| admin.wait(calls, DEADLINE, |count| count > 0)).unwrap();
    traffic.wait_for_answers(1000);
    traffic.finish();
}
