//! Calls from outside the mesh.

use std::net::{SocketAddr, TcpStream};

use meltemi_mesh_tests::{Proxy, Workload};
use meltemi_tests::{Client, DEADLINE, eventually, server_of};
use serde_json::json;

use crate::stage::{self, DEMO, count, router, to};

const NAMESPACE: &str = "istio-system";
const NAME: &str = "ingressgateway";

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP}, hosts: ['*']}]
";

#[test]
fn calls_from_outside_are_routed_by_the_gateway() {
    let mut stage = stage::take();
    let mut gateway = Workload::new(NAMESPACE, NAME).label("istio", "ingressgateway");
    gateway.proxy = Proxy::Gateway;
    stage.mesh.start_pods([gateway]);
    let mut router = router(
        DEMO,
        json!([
            {"name": "writes", "match": {"attributes": {"method": {"prefix": "write"}}}, "route": [to(DEMO, "v1")]},
            {"name": "tagged", "match": {"attributes": {"tag": {"exact": "gray"}}}, "route": [to(DEMO, "v2")]},
        ]),
    );
    router["spec"]["gateways"] = json!(["istio-system/edge"]);
    router["spec"]["onNoMatch"] = json!("reject");
    stage.apply(GATEWAY);
    stage.apply(&router.to_string());

    let pod = stage.mesh.pod(NAMESPACE, NAME);
    let address = SocketAddr::from((pod.address(), 20880));
    let outside = stage.mesh.network().control();
    pod.wait_for_plan(|plan| plan["services"]["gateway.edge.istio-system:20880"].is_object());
    outside.enter(|| eventually("the gateway listens", || TcpStream::connect(address).ok().map(drop)));
    let mut connection = outside.enter(|| Client::connect(address));
    let mut servers = |method: &str, attachments: &[(&str, &str)]| {
        count(40, || server_of(&connection.call_with(method, "x", attachments), "x"))
    };
    assert_eq!(servers("writeOrder", &[]), [("v1".to_owned(), 40)].into());
    assert_eq!(servers("read", &[("tag", "gray")]), [("v2".to_owned(), 40)].into());
    let answer = connection.call("read", "x");
    assert!(answer.message().is_some_and(|message| message.contains("route")), "{answer:?}");

    // The gateway is the one that calls, by mutual TLS. Clients in the mesh do not go by its routes.
    let name = "source_principal=.=cluster.local/ns/istio-system/sa/ingressgateway;.;source_requests_total";
    stage.pod("v1").admin(|admin| admin.wait(name, DEADLINE, |calls| calls >= 40)).unwrap();
    assert_eq!(stage.balanced(DEMO.address).len(), 2);
    stage.mesh.kill_pod(NAMESPACE, NAME);
}
