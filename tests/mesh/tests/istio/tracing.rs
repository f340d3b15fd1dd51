//! Spans of the sidecars of both sides, as Istio's own resources ask for them.

use meltemi_mesh_tests::Pod;
use meltemi_tests::collector::{Collector, Span, hex, values};
use meltemi_tests::{Client, Frame, eventually};
use serde_json::{Value, json};

use crate::stage::{self, DEMO, SERVERS, SHOP, Stage};

/// A trace whose caller wants it sampled.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

const CLUSTER: &str = "outbound|4317||otel.example.org";

const CLIENT: i32 = 3;
const SERVER: i32 = 2;

/// The collector's service, whose one endpoint is a pod of another namespace, and the mesh that names it.
fn collector_in(pod: &Pod) -> [Value; 2] {
    let service = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "otel", "namespace": "plain"},
        "spec": {
            "hosts": ["otel.example.org"],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"name": "grpc-otlp", "number": 4317, "protocol": "GRPC"}],
            // The sidecar there speaks mutual TLS.
            "endpoints": [{"address": pod.address(), "labels": {"security.istio.io/tlsMode": "istio"}}],
        },
    });
    let mesh = json!({
        "extensionProviders": [{"name": "otel", "opentelemetry": {"service": "otel.example.org", "port": 4317}}],
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

/// Waits until the sidecars of the client and of the servers give spans to that collector, or to none.
fn wait_for_collector(stage: &Stage, wanted: Option<&str>) {
    let (of_client, of_server) =
        (format!("{}:{}", DEMO.host(), DEMO.port), format!("inbound.{}:{}", DEMO.host(), DEMO.target));
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
    let (collector, _) = pod.enter(|| Collector::start((pod.address(), 4317).into()));
    let objects = collector_in(pod);
    // It is there before, and stays.
    let mut connection = stage.connect(DEMO.address);
    connection.ask("sayHello", "x");
    objects.iter().for_each(|object| stage.apply(&object.to_string()));
    stage.apply(&telemetry(json!({"providers": [{"name": "otel"}], "randomSamplingPercentage": 100})));
    wait_for_collector(&stage, Some(CLUSTER));

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
    wait_for_collector(&stage, None);
    eventually("what the caller says goes on as it came", || {
        call(&mut connection, "untraced");
        told(&stage, "untraced").contains(&format!("00-{TRACE}-{PARENT}-01")).then_some(())
    });
}
