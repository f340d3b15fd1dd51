//! The protocols beside Dubbo, with their own libraries on both sides, and one that is declared: routed by objects that
//! people apply, over the mesh's mutual TLS.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread;

use meltemi_tests::java::start_brpc;
use meltemi_tests::remote::Remote;
use meltemi_tests::thrift::peers::{Library, Served};
use meltemi_tests::{DEADLINE, eventually, files, go};
use serde_json::{Value, json};

use crate::stage::{self, SERVERS, SHOP, Service, Stage, router, to};

pub const THRIFT: Service = Service { name: "thrift", address: "10.96.7.20:9090", port: 9090, target: 9091 };
const BRPC: Service = Service { name: "brpc", address: "10.96.7.21:8010", port: 8010, target: 8011 };
pub const TRPC: Service = Service { name: "trpc", address: "10.96.7.22:8020", port: 8020, target: 8021 };
const PARCELS: Service = Service { name: "parcels", address: "10.96.7.23:7100", port: 7100, target: 7101 };

#[test]
fn thrift_is_routed_by_service_and_method() {
    let mut stage = stage::take();
    serve(&mut stage, THRIFT, "tcp-thrift");
    let form = ("framed", "binary");
    let address: SocketAddr = THRIFT.address.parse().unwrap();
    let _servers = serve_thrift(&stage, form);
    let before = called(&stage, "v1");
    stage.route(
        THRIFT,
        &virtual_service(
            THRIFT,
            json!([
                {"name": "greeter", "match": [{"headers": {"service": {"exact": "Greeter"}}}], "route": [to(THRIFT, "v1")]},
                {"name": "hello", "match": [{"method": {"exact": "sayHello"}}], "route": [to(THRIFT, "v2")]},
            ]),
        ),
    );
    let calls = ["Greeter:sayHello=a", "sayHello=b"].repeat(10);
    eventually("the calls of one connection follow the routes", || {
        let call = || Library::Python.call(address, form, &[], &calls);
        let answers = stage.pod("client").enter(call);
        let wanted = ["v1: a", "v2: b"].map(|text| json!({"value": text})).to_vec();
        (answers.chunks(2).all(|answers| answers == wanted)).then_some(())
    });
    assert_called(&stage, "v1", before + 10);
}

#[test]
fn brpc_is_routed_by_method_and_request_field() {
    let mut stage = stage::take();
    serve(&mut stage, BRPC, "tcp-metaprotocol-brpc");
    let _servers = SERVERS.map(|name| {
        let server = stage.pod(name).enter(|| start_brpc(name));
        server.ask(json!({"do": "serve", "name": name, "port": BRPC.target}));
        server
    });
    let client = stage.pod("client").enter(|| start_brpc("client"));
    let before = called(&stage, "v2");
    let exact = |name: &str, value: &str| json!({"attributes": {name: {"exact": value}}});
    stage.route(
        BRPC,
        &router(
            BRPC,
            json!([
                {"name": "slow", "match": exact("method", "Slow"), "route": [to(BRPC, "v2")]},
                {"name": "gray", "match": exact("x-lane", "gray"), "route": [to(BRPC, "v2")]},
                {"name": "others", "route": [to(BRPC, "v1")]},
            ]),
        ),
    );
    let mut names = (0..).map(|number| format!("client {number}"));
    eventually("the calls of one connection follow the routes", || {
        let name = names.next()?;
        client.ask(json!({"do": "connect", "client": name, "address": BRPC.address}));
        let server = |method: &str, fields: Value| {
            let call = json!({"do": "call", "client": name, "method": method, "fields": fields});
            Some(client.send(call).wait().ok()?["server"].as_str()?.to_owned())
        };
        let servers = (0..10).map(|_| {
            Some([
                server("Echo", json!({}))?,
                server("Echo", json!({"x-lane": "gray"}))?,
                server("Slow", json!({}))?,
            ])
        });
        servers
            .collect::<Option<Vec<_>>>()?
            .iter()
            .all(|servers| servers == &["v1", "v2", "v2"])
            .then_some(())
    });
    assert_called(&stage, "v2", before + 20);
}

#[test]
fn trpc_is_routed_by_function_and_metadata() {
    let mut stage = stage::take();
    serve(&mut stage, TRPC, "tcp-trpc");
    let (_servers, client) = start_trpc(&stage);
    let before = called(&stage, "v2");
    let slow = "/trpc.meltemi.tests.Greeter/Slow";
    stage.route(
        TRPC,
        &virtual_service(
            TRPC,
            json!([
                {"name": "slow", "match": [{"headers": {"func": {"exact": slow}}}], "route": [to(TRPC, "v2")]},
                {"name": "gray", "match": [{"headers": {"x-lane": {"exact": "gray"}}}], "route": [to(TRPC, "v2")]},
                {"name": "others", "route": [to(TRPC, "v1")]},
            ]),
        ),
    );
    eventually("calls follow the routes", || {
        let text = |method: &str, meta: Value| {
            let call =
                json!({"do": "call", "address": TRPC.address, "method": method, "text": "x", "meta": meta});
            Some(client.send(call).wait().ok()?["text"].as_str()?.to_owned())
        };
        let texts = (0..10).map(|_| {
            Some([
                text("Hello", json!({}))?,
                text("Hello", json!({"x-lane": "gray"}))?,
                text("Slow", json!({}))?,
            ])
        });
        let wanted = ["v1: x", "v2: x", "v2: x"];
        texts.collect::<Option<Vec<_>>>()?.iter().all(|texts| texts == &wanted).then_some(())
    });
    assert_called(&stage, "v2", before + 20);
}

/// Starts Apache Thrift for Python in the servers' pods.
pub fn serve_thrift(stage: &Stage, form: (&str, &str)) -> [Served; 2] {
    // Pods reach no registry.
    Library::Python.install();
    SERVERS.map(|name| {
        let at = SocketAddr::from((stage.pod(name).address(), THRIFT.target));
        stage.pod(name).enter(|| Library::Python.serve_at(form, name, at))
    })
}

/// Starts trpc-go in the servers' pods, where it serves, and in the client's.
pub fn start_trpc(stage: &Stage) -> ([Remote; 2], Remote) {
    let program = go::program("trpc");
    let start = |name: &str| Remote::start(&format!("trpc-go-mesh-{name}"), &mut Command::new(&program));
    let servers = SERVERS.map(|name| {
        let server = stage.pod(name).enter(|| start(name));
        let address = SocketAddr::from((stage.pod(name).address(), TRPC.target));
        server.ask(json!({"do": "serve", "name": name, "address": address.to_string()}));
        server
    });
    (servers, stage.pod("client").enter(|| start("client")))
}

/// Courier, of which the module knows nothing but the layout.
#[test]
fn a_declared_protocol_is_routed_by_what_its_layout_reads() {
    let mut stage = stage::take();
    let protocol = files::root().join("istio-samples/private-protocol/layout/protocol.yaml");
    stage.apply(&fs::read_to_string(protocol).unwrap());
    serve(&mut stage, PARCELS, "tcp-courier");
    for name in SERVERS {
        let address = (stage.pod(name).address(), PARCELS.target);
        let listener = stage.pod(name).enter(|| TcpListener::bind(address)).unwrap();
        thread::spawn(move || courier::serve(&listener, name, |_| {}));
    }
    let before = called(&stage, "v2");
    let tracks = json!({"attributes": {"command": {"exact": "track"}}});
    stage.route(
        PARCELS,
        &router(
            PARCELS,
            json!([
                {"name": "tracks", "match": tracks, "route": [to(PARCELS, "v2")]},
                {
                    "name": "others",
                    "route": [to(PARCELS, "v1")],
                    "retries": {"attempts": 1, "retryOn": ["status"], "statuses": ["OVERLOADED"]},
                },
            ]),
        ),
    );
    eventually("the calls of one connection follow the routes", || {
        let mut client = stage.pod("client").enter(|| courier::Client::connect(PARCELS.address)).ok()?;
        let mut ask = |command: &str| {
            client.send("harbour/3", command, b"box").ok()?;
            Some(client.receive().ok()?.2)
        };
        let texts = (0..10).map(|_| Some([ask("track")?, ask("deliver")?])).collect::<Option<Vec<_>>>()?;
        let wanted = ["v2: track box at harbour/3", "v1: deliver box at harbour/3"];
        texts.iter().all(|texts| texts == &wanted).then_some(())
    });
    assert_called(&stage, "v2", before + 10);
}

/// Makes a service with a port of that name, and a subset for each version.
pub fn serve(stage: &mut Stage, service: Service, port: &str) {
    let Service { name, address, port: number, target } = service;
    let subsets = SERVERS.map(|version| json!({"name": version, "labels": {"version": version}}));
    let metadata = json!({"name": name, "namespace": SHOP});
    let objects = [
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {
                "clusterIP": address.split(':').next(),
                "selector": {"app": "demo"},
                "ports": [{"name": port, "port": number, "targetPort": target}],
            },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": metadata,
            "spec": {"host": name, "subsets": subsets},
        }),
    ];
    objects.iter().for_each(|object| stage.apply(&object.to_string()));
    // A connection from before does not pass through the sidecar's tunnel.
    let authority = format!("inbound.{}:{target}", service.host());
    let ways = SERVERS.map(|server| (server, authority.clone()));
    for (pod, authority) in [("client", format!("{}:{number}", service.host()))].into_iter().chain(ways) {
        eventually(&format!("{authority} is known"), || {
            let hostname = format!("\"hostname\":\"{authority}\"");
            stage.pod(pod).settings().to_string().contains(&hostname).then_some(())
        });
    }
}

fn virtual_service(service: Service, routes: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": service.name, "namespace": SHOP},
        "spec": {"hosts": [service.host()], "http": routes},
    })
}

/// The calls that a server's sidecar has had from the client, by mutual TLS.
const OF_CLIENT: &str = "source_principal=.=cluster.local/ns/shop/sa/client;.;source_requests_total";

pub fn called(stage: &Stage, server: &str) -> u64 {
    stage.pod(server).admin(|admin| admin.sum(OF_CLIENT)).unwrap()
}

pub fn assert_called(stage: &Stage, server: &str, least: u64) {
    stage.pod(server).admin(|admin| admin.wait(OF_CLIENT, DEADLINE, |calls| calls >= least)).unwrap();
}
