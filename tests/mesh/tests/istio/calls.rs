//! Which server gets a call.

use meltemi_tests::{DEADLINE, eventually, server_of};
use serde_json::json;

use crate::stage::{self, DEMO, count, router, to, weighted};

#[test]
fn calls_on_one_connection_are_balanced() {
    let stage = stage::take();
    // The second server may be found at the last of the calls.
    eventually("both servers have their part", || {
        stage.balanced(DEMO.address).values().all(|calls| *calls >= 10).then_some(())
    });
}

#[test]
fn calls_are_routed_by_method_and_attachment() {
    let mut stage = stage::take();
    stage.route(DEMO, &router(DEMO, json!([
        {"name": "writes", "match": {"attributes": {"method": {"prefix": "write"}}}, "route": [to(DEMO, "v1")]},
        {
            "name": "canary",
            "match": {"attributes": {"method": {"exact": "read"}, "user": {"exact": "canary"}}},
            "route": [to(DEMO, "v2")],
        },
    ])));
    let mut connection = stage.connect(DEMO.address);
    let mut servers = |method: &str, attachments: &[(&str, &str)]| {
        count(40, || server_of(&connection.call_with(method, "x", attachments), "x"))
    };
    // Envoy's workers learn of the plan one after the other.
    eventually("calls follow the routes", || {
        (servers("writeOrder", &[]) == [("v1".to_owned(), 40)].into()).then_some(())
    });
    assert_eq!(servers("read", &[("user", "canary")]), [("v2".to_owned(), 40)].into());
    // A worker finds a service's endpoints by chance, sooner or later.
    eventually("other calls reach every version", || {
        (servers("read", &[("user", "other")]).len() == 2).then_some(())
    });
}

#[test]
fn calls_are_split_by_weight() {
    let mut stage = stage::take();
    let split = json!([
        {"name": "probe", "match": {"attributes": {"method": {"exact": "probe"}}}, "route": [to(DEMO, "v1")]},
        {"name": "split", "route": [weighted(DEMO, "v1", 80), weighted(DEMO, "v2", 20)]},
    ]);
    stage.route(DEMO, &router(DEMO, split));
    let mut connection = stage.connect(DEMO.address);
    // Envoy's workers learn of the plan one after the other.
    eventually("calls follow the routes", || {
        (0..40).all(|_| connection.ask("probe", "x") == "v1").then_some(())
    });
    let servers = count(1000, || connection.ask("sayHello", "x"));
    // Five standard deviations.
    assert!((737..=863).contains(&servers["v1"]), "{servers:?}");
}

#[test]
fn servers_know_who_calls() {
    let stage = stage::take();
    let mut connection = stage.connect(DEMO.address);
    let servers = count(20, || connection.ask("sayHello", "x"));
    for server in servers.keys() {
        let pod = stage.pod(server);
        let name = "source_principal=.=cluster.local/ns/shop/sa/client;.;source_requests_total";
        pod.admin(|admin| admin.wait(name, DEADLINE, |calls| calls > 0)).unwrap();
    }
}

#[test]
fn a_router_may_reject_what_it_has_no_route_for() {
    let mut stage = stage::take();
    let mut router = router(
        DEMO,
        json!([
            {"name": "known", "match": {"attributes": {"method": {"exact": "known"}}}, "route": [to(DEMO, "v1")]},
        ]),
    );
    router["spec"]["onNoMatch"] = json!("reject");
    stage.route(DEMO, &router);
    let mut connection = stage.connect(DEMO.address);
    // Envoy's workers learn of the plan one after the other.
    let refusal = eventually("calls are refused", || connection.call("other", "x").message());
    assert!(refusal.contains("route"), "{refusal}");
    assert_eq!(connection.ask("known", "x"), "v1");
}
