//! One client and two servers behind strict mutual TLS: does the mesh run, and Meltemi in it?

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use meltemi_mesh_tests::{Mesh, Workload};
use meltemi_tests::{Backend, Client, Frame, eventually, files};
use serde_json::{Value, json};

const NAMESPACE: &str = "smoke";
const SERVICES: &str = include_str!("services.yaml");
const SOCKETS: &str = include_str!("sockets.yaml");
const HOST: &str = "demo.smoke.svc.cluster.local";
const PORT: u16 = 20881;

#[test]
fn calls_on_one_connection_go_to_both_versions_and_by_each_new_plan() {
    let start = Instant::now();
    let mut mesh = Mesh::start();
    println!("mesh ready after {:?}", start.elapsed());
    mesh.make_namespace(NAMESPACE);
    mesh.apply(SERVICES);
    let server = |version| Workload::new(NAMESPACE, version).label("app", "demo").label("version", version);
    mesh.start_pods([Workload::new(NAMESPACE, "client").label("app", "client"), server("v1"), server("v2")]);
    println!("pods ready after {:?}", start.elapsed());

    let backends = ["v1", "v2"].map(|name| {
        let pod = mesh.pod(NAMESPACE, name);
        let address = (pod.address(), PORT).into();
        pod.enter(|| Backend::start_at(name, address))
    });
    apply_plan(&mesh, &json!([]));
    mesh.apply(SOCKETS);
    let client = mesh.pod(NAMESPACE, "client");
    client.wait_for_plan(|plan| plan["services"].is_object());

    // Per request, not per connection; endpoints come one by one.
    let address: SocketAddr = "10.96.7.7:20880".parse().unwrap();
    let mut connection = client.enter(|| Client::connect(address));
    eventually("calls go to both versions", || {
        let servers = count(&mut connection, "sayHello");
        (servers.len() == 2 && servers.values().all(|calls| *calls >= 10)).then_some(())
    });

    // A new plan reaches the connection that is open.
    let to_v2 = json!([{
        "name": "v2",
        "match": [{"attributes": {"method": {"exact": "toV2"}}}],
        "cluster": format!("outbound|20880|v2|{HOST}"),
    }]);
    apply_plan(&mesh, &to_v2);
    client.wait_for_plan(|plan| plan["services"][format!("{HOST}:20880")]["routes"] == to_v2);
    eventually("toV2 goes to v2", || {
        (count(&mut connection, "toV2") == [("v2".to_owned(), 40)].into()).then_some(())
    });
    assert_eq!(count(&mut connection, "sayHello").len(), 2);

    // Mutual TLS is not only possible: plain text is refused.
    let server = SocketAddr::from((mesh.pod(NAMESPACE, "v1").address(), PORT));
    mesh.network().control().enter(|| {
        let mut outsider = Client::connect(server);
        outsider.send(&Frame::request(1, "sayHello", "outside"));
        outsider.receive_end();
    });
    drop(backends);
}

/// Applies the module and a plan with `routes`.
fn apply_plan(mesh: &Mesh, routes: &Value) {
    let url = mesh.files().publish(files::module());
    let plugin = json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "WasmPlugin",
        "metadata": {"name": "meltemi", "namespace": NAMESPACE},
        "spec": {
            "url": url,
            "type": "NETWORK",
            "pluginName": "meltemi",
            "failStrategy": "FAIL_OPEN",
            // Inserted nowhere by Istio: the internal listener asks for it by name.
            "match": [{"mode": "CLIENT", "ports": [{"number": 1}]}],
            "pluginConfig": {
                "services": {format!("{HOST}:20880"): {"protocol": "dubbo", "routes": routes}},
            },
        },
    });
    mesh.apply(&plugin.to_string());
}

/// How many of 40 calls of `method` each server answers.
fn count(connection: &mut Client, method: &str) -> BTreeMap<String, usize> {
    let mut servers = BTreeMap::new();
    for number in 0..40 {
        *servers.entry(connection.ask(method, &number.to_string())).or_default() += 1;
    }
    servers
}
