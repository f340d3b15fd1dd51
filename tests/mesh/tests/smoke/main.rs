//! One client and two servers behind strict mutual TLS: does the mesh run, and Meltemi in it?

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use meltemi_mesh_tests::{Mesh, Pod, Workload};
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

    // What the sidecar tells of itself is understood.
    let wanted = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    std::fs::write(wanted.path(), plan(&to_v2).to_string()).unwrap();
    let row = eventually("what is wanted is in force", || {
        let rows = ask(client, "proxy-status", &["--wanted", wanted.path().to_str().unwrap()]);
        (rows[0]["state"] == "inForce").then(|| rows[0].clone())
    });
    assert_eq!((&row["plugin"], &row["services"]), (&json!("meltemi"), &json!(1)), "{row}");
    assert!(row["module"]["code"].as_str().is_some_and(|digest| digest.len() == 64), "{row}");
    std::fs::write(wanted.path(), plan(&json!([])).to_string()).unwrap();
    let rows = ask(client, "proxy-status", &["--wanted", wanted.path().to_str().unwrap()]);
    assert_eq!(rows[0]["state"], "stale", "{rows}");
    assert_eq!(ask(client, "proxy-config", &[])[0]["plan"], plan(&to_v2));
    let counted = eventually("a call is within the interval", || {
        let mut top = meltemi("top", &["--once", "--interval", "2", "--by", "methods"]);
        let top = client.enter(|| top.stdout(Stdio::piped()).spawn().unwrap());
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            connection.ask("sayHello", "counted");
        }
        let told: Value = serde_json::from_slice(&top.wait_with_output().unwrap().stdout).unwrap();
        (told["rows"][0]["requestsPerSecond"].as_f64()? > 0.0).then(|| told["rows"][0].clone())
    });
    assert_eq!((&counted["method"], &counted["success"]), (&json!("sayHello"), &json!(1.0)), "{counted}");

    // Mutual TLS is not only possible: plain text is refused.
    let server = SocketAddr::from((mesh.pod(NAMESPACE, "v1").address(), PORT));
    mesh.network().control().enter(|| {
        let mut outsider = Client::connect(server);
        outsider.send(&Frame::request(1, "sayHello", "outside"));
        outsider.receive_end();
    });
    drop(backends);
}

/// The command `meltemi` about the sidecar of a pod, to be run there.
fn meltemi(command: &str, arguments: &[&str]) -> Command {
    let mut meltemi = Command::new(env!("CARGO_BIN_EXE_mesh-meltemi"));
    meltemi.args([command, "--admin", "127.0.0.1:15000", "--output", "json"]).args(arguments);
    meltemi
}

/// What it prints.
fn ask(pod: &Pod, command: &str, arguments: &[&str]) -> Value {
    let output = pod.enter(|| meltemi(command, arguments).output().unwrap());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn plan(routes: &Value) -> Value {
    json!({"services": {format!("{HOST}:20880"): {"protocol": "dubbo", "routes": routes}}})
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
            "pluginConfig": plan(routes),
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
