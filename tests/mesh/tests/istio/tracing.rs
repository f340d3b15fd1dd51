//! Spans of the sidecars of both sides, as Istio's own resources ask for them.

use std::net::Ipv4Addr;

use meltemi_mesh_tests::{Jaeger, Seen};
use meltemi_tests::collector::{Collector, Span, hex, values};
use meltemi_tests::java::{Peer, VERSIONS};
use meltemi_tests::{Client, Frame, eventually};
use serde_json::{Value, json};

use crate::stage::{self, DEMO, JAVA, SERVERS, SHOP, Service, Stage, router, to};

/// A trace whose caller wants it sampled.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// The port of the collector.
const PORT: u16 = 4317;

/// The cluster of a collector's service at that port.
fn cluster(port: u16) -> String {
    format!("outbound|{port}||otel.example.org")
}

const CLIENT: i32 = 3;
const SERVER: i32 = 2;

/// The collector's service, whose one endpoint is a pod of another namespace, and the mesh that names it.
fn collector_at(address: Ipv4Addr, port: u16) -> [Value; 2] {
    let service = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "otel", "namespace": "plain"},
        "spec": {
            "hosts": ["otel.example.org"],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"name": "grpc-otlp", "number": port, "protocol": "GRPC"}],
            // The sidecar there speaks mutual TLS.
            "endpoints": [{"address": address, "labels": {"security.istio.io/tlsMode": "istio"}}],
        },
    });
    let mesh = json!({
        "extensionProviders": [{"name": "otel", "opentelemetry": {"service": "otel.example.org", "port": port}}],
    });
    let map = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": mesh.to_string()},
    });
    [service, map]
}

fn telemetry(rule: Value) -> String {
    let metadata = json!({"name": "traces", "namespace": SHOP});
    let spec = json!({"tracing": [rule]});
    let telemetry = json!({
        "apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": metadata, "spec": spec,
    });
    telemetry.to_string()
}

/// Waits until the sidecars of a service's client and of its servers give spans to that collector, or to none.
fn wait_for_collector(stage: &Stage, service: Service, wanted: Option<&str>) {
    let (of_client, of_server) = (
        format!("{}:{}", service.host(), service.port),
        format!("inbound.{}:{}", service.host(), service.target),
    );
    let has = |plan: &Value, service: &str| {
        let service = &plan["services"][service];
        service.is_object() && service["tracing"]["collector"].as_str() == wanted
    };
    stage.pod("client").wait_for_plan(|plan| has(plan, &of_client));
    for server in SERVERS {
        stage.pod(server).wait_for_plan(|plan| has(plan, &of_server));
    }
}

/// Calls a method within the trace.
fn call(connection: &mut Client, method: &str) {
    connection.call_with(method, "x", &[("traceparent", &format!("00-{TRACE}-{PARENT}-01"))]);
}

/// What servers were told of the traces of a method's calls.
fn told(stage: &Stage, method: &str) -> Vec<String> {
    let frames = SERVERS.into_iter().flat_map(|server| stage.backend(server, DEMO).received());
    let frames: Vec<Frame> = frames.collect();
    let calls = frames.iter().filter_map(Frame::call).filter(|call| call.method == method);
    let attachments = calls.flat_map(|call| call.attachments);
    attachments.filter(|(name, _)| name == "traceparent").map(|(_, value)| value).collect()
}

/// A span of the client's sidecar for a method, and that of the server's which is its child: each proxy's workers have a new
/// plan when they get to it.
fn pair(collector: &Collector, method: &str) -> Option<[Span; 2]> {
    let mut spans = collector.spans();
    spans.retain(|span| span.name.ends_with(&format!("/{method}")));
    let of = |kind| spans.iter().filter(move |span| span.kind == kind);
    let child = |client: &Span| of(SERVER).find(|server| server.parent_span_id == client.span_id).cloned();
    of(CLIENT).find_map(|client| Some([client.clone(), child(client)?]))
}

#[test]
fn telemetries_have_both_sidecars_report_spans_of_one_tree() {
    let mut stage = stage::take();
    let pod = stage.mesh.pod("plain", "bystander");
    let (collector, _) = pod.enter(|| Collector::start((pod.address(), PORT).into()));
    let objects = collector_at(pod.address(), PORT);
    // It is there before, and stays.
    let mut connection = stage.connect(DEMO.address);
    connection.ask("sayHello", "x");
    objects.iter().for_each(|object| stage.apply(&object.to_string()));
    stage.apply(&telemetry(json!({"providers": [{"name": "otel"}], "randomSamplingPercentage": 100})));
    wait_for_collector(&stage, DEMO, Some(&cluster(PORT)));

    let [client, server] = eventually("the collector has spans of both sidecars", || {
        call(&mut connection, "traced");
        pair(&collector, "traced")
    });
    let ids = |span: &Span| [&span.trace_id, &span.span_id, &span.parent_span_id].map(|id| hex(id));
    let [of_client, of_server] = [ids(&client), ids(&server)];
    assert_eq!([&*of_client[0], &*of_client[2]], [TRACE, PARENT]);
    assert_eq!(of_server[0], TRACE);
    let wanted = format!("00-{TRACE}-{}-01", of_server[1]);
    assert!(told(&stage, "traced").contains(&wanted), "the server is told of its parent");
    assert!(client.start_time_unix_nano <= server.start_time_unix_nano);
    assert!(values(&server.attributes)["upstream_cluster"].starts_with("inbound|"));

    // Those that nobody else begins or samples.
    let [client, server] = eventually("the sidecar of the client begins a trace", || {
        connection.ask("begun", "x");
        pair(&collector, "begun")
    });
    assert_eq!((client.parent_span_id.len(), &client.trace_id), (0, &server.trace_id));
    assert_ne!(hex(&client.trace_id), TRACE);

    stage.mesh.apply(&telemetry(json!({"providers": [{"name": "otel"}], "disableSpanReporting": true})));
    wait_for_collector(&stage, DEMO, None);
    eventually("what the caller says goes on as it came", || {
        call(&mut connection, "untraced");
        told(&stage, "untraced").contains(&format!("00-{TRACE}-{PARENT}-01")).then_some(())
    });
}

/// The spans of a call, each the child of the one before: by its caller's agent, by both sidecars, and by the server's agent.
fn chain(trace: &[Seen]) -> Option<[&Seen; 4]> {
    let of = |service: &str, kind: &str| {
        let is_meant = |span: &&Seen| span.service == service && span.tags["span.kind"] == kind;
        trace.iter().find(is_meant)
    };
    let child = |parent: &Seen, kind: &str| {
        let is_meant = |span: &&Seen| {
            span.parent.as_ref() == Some(&parent.id)
                && span.tags["span.kind"] == kind
                && span.tags.contains_key("meltemi.try")
        };
        trace.iter().find(is_meant)
    };
    let caller = of(CALLER, "client")?;
    let by_client = child(caller, "client")?;
    let by_server = child(by_client, "server")?;
    let called = of(CALLED, "server").filter(|called| called.parent.as_ref() == Some(&by_server.id))?;
    Some([caller, by_client, by_server, called])
}

/// The services that OpenTelemetry's agents name.
const CALLER: &str = "java-caller";
const CALLED: &str = "java-called";

#[test]
fn jaeger_has_java_peers_and_both_sidecars_in_one_tree() {
    let mut stage = stage::take();
    // Pods reach no registry. Each version is on one side.
    VERSIONS.into_iter().for_each(Peer::install);
    let [of_client, of_server] = VERSIONS;
    let jaeger = stage.mesh.start_jaeger("plain", "bystander");
    let address = stage.mesh.pod("plain", "bystander").address();
    let start = |pod: &str, version, name| {
        stage.pod(pod).enter(|| Peer::start_traced(version, name, (address, Jaeger::PORT).into()))
    };
    let (client, server) = (start("client", of_client, CALLER), start("v1", of_server, CALLED));
    server.serve_at("v1", (stage.pod("v1").address(), JAVA.target).into());
    collector_at(address, Jaeger::PORT).iter().for_each(|object| stage.apply(&object.to_string()));
    let tags = json!({"zone": {"literal": {"value": "eu"}}, "who": {"header": {"name": "user", "defaultValue": "nobody"}}});
    stage.apply(&telemetry(json!({"providers": [{"name": "otel"}], "customTags": tags})));
    stage.route(JAVA, &router(JAVA, json!([{"name": "v1", "route": [to(JAVA, "v1")]}])));
    wait_for_collector(&stage, JAVA, Some(&cluster(Jaeger::PORT)));

    client.connect("greeter", JAVA.address.parse().unwrap(), "");
    let spans = eventually("Jaeger has the spans of a call in one tree", || {
        let attachments = json!({"user": "ada"});
        // A worker of a sidecar may not have the route yet.
        let _ = client.call("greeter", "sayHello", &json!({"text": "Ada", "attachments": attachments}));
        let traces = stage.mesh.pod("plain", "bystander").enter(|| jaeger.traces(CALLER))?;
        traces.iter().find_map(|trace| chain(trace).map(|spans| spans.map(Seen::clone)))
    });
    let [caller, by_client, by_server, called] = &spans;
    assert_eq!(caller.parent, None);
    for span in &spans {
        assert_eq!(span.name, "org.meltemi.demo.Greeter/sayHello");
        assert!(!span.tags.contains_key("error"), "{span:?}");
    }
    for span in [by_client, by_server] {
        let of = |tag: &str| span.tags.get(tag).map(String::as_str);
        assert_eq!(
            [of("zone"), of("who"), of("rpc.system")],
            [Some("eu"), Some("ada"), Some("apache_dubbo")]
        );
    }
    for span in [caller, called] {
        assert!(!span.tags.contains_key("zone"), "{span:?}");
    }
}
