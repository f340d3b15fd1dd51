//! As many routes of one service as a mesh may have.

use meltemi_tests::dubbo::INTERFACE;
use meltemi_tests::{eventually, server_of};
use serde_json::{Value, json};

use crate::stage::{self, DEMO, SHOP, Stage, router, to};

/// In each router, which may have 256.
const ROUTES: usize = 250;
const ROUTERS: usize = 40;

fn method(at: usize) -> String {
    format!("getOrderBy{}", at % 25)
}

fn tenant(at: usize) -> String {
    format!("tenant-{}", at * 7919 % 1_000_003)
}

/// The route of one tenant's calls to one method.
fn route(at: usize, version: &str) -> Value {
    let attributes = json!({
        "interface": {"exact": INTERFACE},
        "method": {"exact": method(at)},
        "tenant": {"exact": tenant(at)},
    });
    json!({
        "name": format!("r{at}"),
        "match": {"attributes": attributes},
        "route": [to(DEMO, version)],
        "timeout": format!("{}s", at % 9 + 30),
        "retries": {"attempts": 2},
    })
}

/// A router of that name with `routes`.
fn named(name: &str, routes: Value) -> Value {
    let mut router = router(DEMO, routes);
    router["metadata"]["name"] = name.into();
    router
}

/// Applies routers, on which there is more than `kubectl apply` can note.
fn apply(stage: &mut Stage, routers: &[Value]) {
    let list =
        |routers: Vec<Value>| json!({"apiVersion": "v1", "kind": "List", "items": routers}).to_string();
    let without_routes = |router: &Value| {
        let mut router = router.clone();
        router["spec"]["routes"] = json!([]);
        router
    };
    stage.remove_later(&list(routers.iter().map(without_routes).collect()));
    stage.mesh.cluster().kubectl(&["apply", "--server-side", "-f", "-"], &list(routers.to_vec()));
}

/// What a condition of a router says, once there is one.
fn condition(stage: &Stage, name: &str, of_type: &str) -> (String, String) {
    let path = format!("/apis/meltemi.io/v1alpha1/namespaces/{SHOP}/metarouters/{name}");
    eventually(&format!("{name} is looked at"), || {
        let router = stage.mesh.cluster().find(&path)?;
        let conditions = router["status"]["conditions"].as_array()?;
        let found = conditions.iter().find(|condition| condition["type"] == of_type)?;
        let text = |field: &str| found[field].as_str().unwrap().to_owned();
        Some((text("status"), text("message")))
    })
}

#[test]
fn calls_are_routed_by_the_last_of_ten_thousand_routes() {
    let mut stage = stage::take();
    let last = ROUTES * ROUTERS - 1;
    let mut routers = Vec::new();
    for number in 0..ROUTERS {
        let routes = number * ROUTES..(number + 1) * ROUTES;
        let routes: Value = routes.map(|at| route(at, if at == last { "v2" } else { "v1" })).collect();
        routers.push(named(&format!("many{number:02}"), routes));
    }
    apply(&mut stage, &routers);
    let key = format!("{}:20880", DEMO.host());
    let names = |plan: &Value| {
        let routes = plan["services"][&key]["routes"].as_array().cloned().unwrap_or_default();
        routes.iter().map(|route| route["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let wanted: Vec<String> = (0..=last).map(|at| format!("{SHOP}/many{:02}/r{at}", at / ROUTES)).collect();
    stage.pod("client").wait_for_plan(|plan| names(plan) == wanted);
    for number in 0..ROUTERS {
        let name = format!("many{number:02}");
        assert_eq!(condition(&stage, &name, "Accepted").0, "True");
        // Tunnels that lead to other sockets come last.
        eventually(&format!("{name} is written"), || {
            (condition(&stage, &name, "Programmed").0 == "True").then_some(())
        });
    }
    stage.wait_for_way(DEMO);
    let mut connection = stage.connect(DEMO.address);
    let mut server = |at: usize| {
        let answer = connection.call_with(&method(at), "x", &[("tenant", &tenant(at))]);
        server_of(&answer, "x")
    };
    // Envoy's workers learn of the plan one after the other.
    eventually("calls go by the last route", || (0..20).all(|_| server(last) == "v2").then_some(()));
    for at in [0, 1, ROUTES - 1, ROUTES, last - 1] {
        assert!((0..20).all(|_| server(at) == "v1"), "route {at}");
    }

    // One more than there is room for is in error, and changes nothing.
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from_digit((state >> 24) % 36, 36).unwrap()
    };
    let long = (0..180).map(|at| {
        let method: String = (0..4000).map(|_| noise()).collect();
        json!({"name": format!("l{at}"), "match": {"attributes": {"method": {"exact": method}}}, "route": [to(DEMO, "v1")]})
    });
    apply(&mut stage, &[named("large", long.collect())]);
    let (status, message) = condition(&stage, "large", "Accepted");
    assert_eq!(status, "False", "{message}");
    assert!(message.contains("spec.routes") && message.contains("of the 512 KiB"), "{message}");
    assert_eq!(names(&stage.pod("client").plan().unwrap()), wanted);
    assert_eq!((server(last), server(0)), ("v2".to_owned(), "v1".to_owned()));
}
