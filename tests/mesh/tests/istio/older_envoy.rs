//! A sidecar with the oldest Envoy that Meltemi supports, which lags behind istiod.

use std::net::SocketAddr;

use meltemi_mesh_tests::Workload;
use meltemi_tests::{Backend, Client, eventually};
use serde_json::json;

use crate::permissive::{is_denied, policy};
use crate::stage::{self, DEMO, SHOP, count, router, to};

#[test]
fn an_older_sidecar_routes_and_lets_nobody_pass_by_an_identity() {
    let mut stage = stage::take();
    let mut old = Workload::new(SHOP, "old").label("app", "demo");
    old.is_old = true;
    stage.mesh.start_pods([old]);
    let own = SocketAddr::from((stage.pod("old").address(), 20870));
    let _backend = stage.pod("old").enter(|| Backend::start_at("old", own));
    let routes = json!([
        {"name": "writes", "match": {"attributes": {"method": {"prefix": "write"}}}, "route": [to(DEMO, "v1")]},
        {"name": "others", "route": [to(DEMO, "v2")]},
    ]);
    stage.route(DEMO, &router(DEMO, routes));
    let pod = stage.pod("old");
    pod.wait_for_plan(|plan| plan.to_string().contains("shop/demo/others"));
    let mut connection = pod.enter(|| Client::connect(DEMO.address.parse().unwrap()));
    // Workers take up a plan one after the other.
    eventually("calls follow the routes", || {
        (count(40, || connection.ask("writeOrder", "x")) == [("v1".to_owned(), 40)].into()).then_some(())
    });
    assert_eq!(count(40, || connection.ask("read", "x")), [("v2".to_owned(), 40)].into());

    // It is called by the headless service. Who calls is not known to it in time, so that no rule may use that.
    stage.wait_for_headless(own);
    let own = own.to_string();
    assert_eq!(stage.connect(&own).ask("sayHello", "x"), "old");
    for (action, source) in [
        ("ALLOW", json!({"namespaces": [SHOP]})),
        ("DENY", json!({"principals": ["cluster.local/ns/shop/sa/somebody"]})),
    ] {
        stage.apply(&policy(action, &source).to_string());
        let authority = "unidentified.inbound.headless.shop.svc.cluster.local:20870";
        stage.pod("old").wait_for_plan(|plan| {
            let service = &plan["services"][authority];
            service["routes"].is_array() == (action == "DENY") && service.is_object()
        });
        // Workers take up a plan one after the other.
        let mut denied = 0;
        eventually(&format!("{action} {source} is in force"), || {
            denied = if is_denied(&stage.connect(&own).call("sayHello", "x")) { denied + 1 } else { 0 };
            (denied == 20).then_some(())
        });
    }
    stage.mesh.kill_pod(SHOP, "old");
}
