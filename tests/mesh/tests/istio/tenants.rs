//! What whoever may write in one namespace does to the service of another.

use meltemi_mesh_tests::Workload;
use meltemi_tests::{Client, eventually};
use serde_json::{Value, json};

use crate::controller::settled;
use crate::permissive::is_denied;
use crate::stage::{self, DEMO, Stage, count, router, to};

const EVIL: &str = "evil";

/// By this nobody may call the services of the shop.
const NOBODY: &str = "
apiVersion: dubbo.aeraki.io/v1alpha1
kind: DubboAuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec: {action: ALLOW}
";

/// A ServiceEntry with the host of the shop's Service, and one with its address.
const CLAIMS: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: host, namespace: evil}
spec:
  hosts: [demo.shop.svc.cluster.local]
  addresses: [192.0.2.1]
  resolution: STATIC
  ports: [{name: tcp-metaprotocol-dubbo, number: 20880, protocol: TCP}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: address, namespace: evil}
spec:
  hosts: [aaa.evil.example]
  addresses: [10.96.7.7]
  resolution: STATIC
  endpoints: [{address: 192.0.2.2}]
  ports: [{name: tcp-metaprotocol-dubbo, number: 20880, protocol: TCP}]
";

#[test]
fn a_policy_and_routes_hold_whatever_service_entries_claim() {
    let mut stage = stage::take();
    stage.mesh.make_namespace(EVIL);
    stage.route(DEMO, &router(DEMO, json!([{"name": "only", "route": [to(DEMO, "v1")]}])));
    // Envoy's workers learn of the plan one after the other.
    let mut own = stage.connect(DEMO.address);
    eventually("calls follow the route", || (0..40).all(|_| own.ask("sayHello", "x") == "v1").then_some(()));
    stage.apply(NOBODY);
    let is_refused = |stage: &Stage| is_denied(&stage.connect(DEMO.address).call("sayHello", "x"));
    eventually("the policy is in force", || is_refused(&stage).then_some(()));
    // What other tests wanted may linger.
    let before = settled(&stage);

    stage.apply(CLAIMS);
    for claim in ["host", "address"] {
        let note = told(&stage, claim);
        assert!(note.contains("Service shop/demo"), "{note}");
    }
    stage.mesh.settle();
    assert_eq!(stage.generated(), before);
    assert!(is_refused(&stage));
    stage.mesh.cluster().delete(NOBODY);
    // The workers of the servers' Envoys learn of it one after the other.
    eventually("the policy is gone", || (0..20).all(|_| !is_refused(&stage)).then_some(()));
    assert_eq!(stage.connect(DEMO.address).ask("sayHello", "x"), "v1");
}

#[test]
fn a_router_of_another_namespace_is_for_its_own_clients() {
    let mut stage = stage::take();
    stage.mesh.make_namespace(EVIL);
    stage.mesh.start_pods([Workload::new(EVIL, "client")]);
    stage.route(DEMO, &router(DEMO, json!([{"name": "only", "route": [to(DEMO, "v1")]}])));
    let mut grab = router(DEMO, json!([{"name": "all", "route": [to(DEMO, "v2")]}]));
    grab["metadata"] = json!({"name": "grab", "namespace": EVIL});
    // Of Aeraki's, what its routes leave over is refused.
    let never = json!({"attributes": {"never": {"exact": "x"}}});
    let mut reject = router(DEMO, json!([{"name": "never", "match": never, "route": [to(DEMO, "v2")]}]));
    reject["apiVersion"] = json!("metaprotocol.aeraki.io/v1alpha1");
    reject["metadata"] = json!({"name": "reject", "namespace": EVIL});
    for router in [&grab, &reject] {
        stage.apply(&router.to_string());
        let group = router["apiVersion"].as_str().unwrap();
        let name = router["metadata"]["name"].as_str().unwrap();
        let path = format!("/apis/{group}/namespaces/{EVIL}/metarouters/{name}");
        eventually("its writer is warned", || {
            let conditions = stage.mesh.cluster().find(&path)?["status"]["conditions"].take();
            let tells = |condition: &Value| {
                condition["message"].as_str().is_some_and(|message| message.contains("of another namespace"))
            };
            conditions.as_array()?.iter().any(tells).then_some(())
        });
    }

    let evil = stage.mesh.pod(EVIL, "client");
    let key = format!("{}:20880", DEMO.host());
    evil.wait_for_plan(|plan| plan["services"][&key]["routes"][0]["name"] == "evil/grab/all");
    let address = DEMO.address.parse().unwrap();
    let mut own = eventually("its clients follow it", || {
        let mut connection = evil.enter(|| Client::connect(address));
        (connection.ask("sayHello", "x") == "v2").then_some(connection)
    });
    assert_eq!(count(40, || own.ask("sayHello", "x")), [("v2".to_owned(), 40)].into());
    let mut others = stage.connect(DEMO.address);
    assert_eq!(count(40, || others.ask("sayHello", "x")), [("v1".to_owned(), 40)].into());
    let plan = stage.pod("client").plan().unwrap();
    assert!(!plan.to_string().contains(EVIL), "{plan}");
    stage.mesh.kill_pod(EVIL, "client");
}

/// What an event says of a ServiceEntry.
fn told(stage: &Stage, name: &str) -> String {
    let events = format!("/apis/events.k8s.io/v1/namespaces/{EVIL}/events");
    eventually(&format!("an event reports {name}"), || {
        let events = stage.mesh.cluster().list(&events);
        let event = events.into_iter().find(|event| event["regarding"]["name"] == name)?;
        Some(event["note"].as_str()?.to_owned())
    })
}
