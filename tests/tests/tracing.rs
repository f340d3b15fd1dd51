//! Traces that cross a proxy: what a server gets of them, and what the proxy's own log says.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use meltemi_tests::collector::{Collector, hex, values};
use meltemi_tests::dubbo::Frame;
use meltemi_tests::zipkin::Zipkin;
use meltemi_tests::{Action, Backend, Client, Setup, each_envoy, eventually};
use serde_json::{Value, json};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// What servers got under a name by the calls of a method.
fn received(servers: &[&Backend], method: &str, name: &str) -> Vec<String> {
    let frames: Vec<Frame> = servers.iter().flat_map(|server| server.received()).collect();
    let calls = frames.iter().filter_map(Frame::call).filter(|call| call.method == method);
    let values = calls.flat_map(|call| call.attachments);
    values.filter(|(known, _)| known == name).map(|(_, value)| value).collect()
}

#[test]
fn a_trace_goes_on_to_the_server_with_a_span_for_each_try() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let service = json!({
            "protocol": "dubbo",
            "tracing": {"sampling": 0},
            "defaultRoute": {"cluster": "v1", "retry": {"attempts": 1, "on": ["status"], "statuses": [100]}},
        });
        let mut plan = meltemi_tests::proxy::plan_of(&service);
        plan["accessLog"] = json!({});
        let proxy = Setup::new().servers(v1.address(), v2.address()).plan(&plan).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let servers = [&v1, &v2];

        v1.on("busy", Action::Status(100, "busy".to_owned()));
        let given = [("traceparent", &*parent), ("tracestate", "vendor=1"), ("baggage", "user=7")];
        client.call_with("busy", "x", &given);
        let tries = received(&servers, "busy", "traceparent");
        let spans: Vec<_> = tries.iter().map(|value| value.split('-').nth(2).unwrap()).collect();
        assert_eq!(spans.len(), 2, "{tries:?}");
        assert!(spans[0] != spans[1] && !spans.contains(&SPAN), "{tries:?}");
        assert!(tries.iter().all(|value| value.starts_with(&format!("00-{TRACE}-"))), "{tries:?}");
        assert!(tries.iter().all(|value| value.ends_with("-01")), "{tries:?}");
        assert_eq!(received(&servers, "busy", "tracestate"), ["vendor=1"; 2]);
        assert_eq!(received(&servers, "busy", "baggage"), ["user=7"; 2]);
        let line = eventually("the call has a line with its trace", || {
            let log = proxy.log();
            let line = log.lines().find(|line| line.contains("\"event\":\"call\""))?;
            Some(line.get(line.find('{')?..)?.to_owned())
        });
        // Envoy may add a word of its own after the line.
        let mut values = serde_json::Deserializer::from_str(&line).into_iter::<Value>();
        assert_eq!(values.next().unwrap().unwrap()["traceId"], TRACE);

        client.call_with("zipkin", "x", &[("b3", &format!("{TRACE}-{SPAN}-1"))]);
        let values = received(&servers, "zipkin", "b3");
        let is_next = |value: &String| {
            value.starts_with(&format!("{TRACE}-")) && value.ends_with(&format!("-1-{SPAN}"))
        };
        assert!(values.len() == 1 && values.iter().all(is_next), "{values:?}");

        // One that the proxy begins, and that nobody wants sampled.
        client.call("alone", "x");
        let values = received(&servers, "alone", "traceparent");
        assert!(values.len() == 1 && values[0].ends_with("-00") && !values[0].contains(TRACE), "{values:?}");
    });
}

#[test]
fn a_collector_gets_the_spans_between_a_client_and_its_servers() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let (collector, address) = Collector::start((Ipv4Addr::LOCALHOST, 0).into());
        let service = json!({
            "protocol": "dubbo",
            "tracing": {"sampling": 0, "collector": "collector"},
            "defaultRoute": {"cluster": "v1", "retry": {"attempts": 1, "on": ["status"], "statuses": [100]}},
        });
        let setup = Setup::new().servers(v1.address(), v2.address()).cluster("collector", &[address]);
        let proxy = setup.service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        v1.on("busy", Action::Status(100, "busy".to_owned()));
        client.call_with("busy", "x", &[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]);
        client.call("alone", "x");

        let spans = eventually("the collector has both spans", || {
            let spans = collector.spans();
            (spans.len() >= 2).then_some(spans)
        });
        let tries = received(&[&v1, &v2], "busy", "traceparent");
        let told: Vec<_> = tries.iter().map(|value| value.split('-').nth(2).unwrap().to_owned()).collect();
        let ids: Vec<_> = spans.iter().map(|span| hex(&span.span_id)).collect();
        assert_eq!(ids, told, "none of the call that is not sampled");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        for span in &spans {
            assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.to_owned(), SPAN.to_owned()));
            assert_eq!((span.kind, span.status.as_ref().unwrap().code), (3, 2), "{span:?}");
            let [start, end] = [span.start_time_unix_nano, span.end_time_unix_nano].map(Duration::from_nanos);
            assert!(start <= end && end <= now, "{span:?}");
            assert!(now - start < Duration::from_secs(600), "{span:?}");
            let values = values(&span.attributes);
            assert_eq!((&*values["rpc.system"], &*values["rpc.method"]), ("apache_dubbo", "busy"));
            assert_eq!(span.name, format!("{}/busy", values["rpc.service"]));
            assert_eq!((&*values["upstream_cluster"], &*values["rpc.response.status_code"]), ("v1", "100"));
            let server = format!("{}:{}", values["server.address"], values["server.port"]);
            assert_eq!(server, v1.address().to_string());
        }
        eventually("they are counted", || {
            (proxy.metric("meltemi_spans_total", &["outcome=\"exported\""]) == 2).then_some(())
        });
    });
}

#[test]
fn a_collector_may_be_called_by_http() {
    each_envoy(|envoy| {
        let v1 = Backend::start("v1");
        let path = "/v1/traces";
        let (collector, address) = Collector::start_http((Ipv4Addr::LOCALHOST, 0).into(), path);
        let mut service = json!({
            "protocol": "dubbo",
            "tracing": {"sampling": 100, "collector": "collector", "path": path},
            "defaultRoute": {"cluster": "v1"},
        });
        let setup = Setup::new().servers(v1.address(), v1.address()).cluster("collector", &[address]);
        let mut proxy = setup.service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let calls = 300;
        (0..calls).for_each(|_| _ = client.call("many", "x"));
        let ids = eventually("the collector has all spans", || {
            let spans = collector.spans();
            let ids: BTreeSet<_> = spans.iter().map(|span| hex(&span.span_id)).collect();
            (ids.len() >= calls).then_some(ids)
        });
        let told = received(&[&v1], "many", "traceparent");
        let told = told.iter().map(|value| value.split('-').nth(2).unwrap().to_owned());
        assert_eq!(ids, told.collect());
        eventually("they are counted", || {
            let exported = proxy.metric("meltemi_spans_total", &["outcome=\"exported\""]);
            (exported == u64::try_from(calls).unwrap()).then_some(())
        });
        // Nobody takes them at another path.
        service["tracing"]["path"] = json!("/v2");
        proxy.update_service(&service);
        eventually("the collector refuses spans", || {
            client.call("more", "x");
            (proxy.metric("meltemi_spans_total", &["outcome=\"error\""]) > 0).then_some(())
        });
        assert!(proxy.log().contains("HTTP status 404"), "{}", proxy.log());
    });
}

#[test]
fn zipkin_has_the_spans_between_a_client_and_its_servers() {
    let zipkin = Zipkin::start();
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let hostile = "\"}],\u{2028}\\";
        let service = json!({
            "protocol": "dubbo",
            "tracing": {
                "sampling": 100, "collector": "zipkin", "format": "zipkin",
                "tags": {"zone": {"value": "eu"}, "user": {"attribute": "user"}},
            },
            "defaultRoute": {"cluster": "v1", "retry": {"attempts": 1, "on": ["status"], "statuses": [100]}},
        });
        let setup = Setup::new().servers(v1.address(), v2.address()).cluster("zipkin", &[zipkin.address()]);
        let proxy = setup.service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        v1.on("busy", Action::Status(100, "busy".to_owned()));
        // Each Envoy has a trace of its own.
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        let trace = format!("1{nanos:031x}");
        let user = format!("{hostile}{}", "x".repeat(60_000));
        client.call_with("busy", "x", &[("b3", &format!("{trace}-{SPAN}-1")), ("user", &user)]);
        client.call("alone", "x");

        let told = received(&[&v1, &v2], "busy", "b3");
        let ids: Vec<_> = told.iter().map(|value| value.split('-').nth(1).unwrap()).collect();
        let spans = eventually("Zipkin has both spans", || {
            zipkin.trace(&trace).filter(|spans| spans.len() == ids.len())
        });
        assert_eq!(ids.len(), 2, "{told:?}");
        for id in &ids {
            let span =
                spans.iter().find(|span| span["id"] == **id).unwrap_or_else(|| panic!("{id}: {spans:?}"));
            let wanted = [("traceId", &*trace), ("parentId", SPAN), ("kind", "CLIENT")];
            wanted.iter().for_each(|(name, value)| assert_eq!(span[name], *value, "{span}"));
            // Zipkin writes names in small letters.
            assert!(span["name"].as_str().unwrap().ends_with("/busy"), "{span}");
            assert_eq!(span["localEndpoint"]["serviceName"], "meltemi", "{span}");
            assert_eq!(
                span["remoteEndpoint"],
                json!({"ipv4": "127.0.0.1", "port": v1.address().port()}),
                "{span}"
            );
            let tags = &span["tags"];
            assert_eq!((&tags["error"], &tags["rpc.response.status_code"]), (&json!("error"), &json!("100")));
            assert_eq!((&tags["rpc.system"], &tags["zone"]), (&json!("apache_dubbo"), &json!("eu")));
            let user = tags["user"].as_str().unwrap();
            assert!(user.starts_with(hostile) && user.len() == 256, "{user}");
            let (start, took) = (span["timestamp"].as_u64().unwrap(), span["duration"].as_u64().unwrap());
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            let end = Duration::from_micros(start + took);
            assert!(end <= now && now - end < Duration::from_secs(600), "{span}");
        }
        // One that the proxy begins.
        let values = received(&[&v1, &v2], "alone", "b3");
        let [begun] = &values[..] else { panic!("{values:?}") };
        let begun: Vec<_> = begun.split('-').collect();
        let spans = eventually("Zipkin has the trace that was begun", || zipkin.trace(begun[0]));
        assert_eq!((&spans[0]["id"], &spans[0]["parentId"]), (&json!(begun[1]), &Value::Null));
        assert!(spans[0]["tags"].get("error").is_none() && spans.len() == 1, "{spans:?}");
        eventually("they are counted", || {
            (proxy.metric("meltemi_spans_total", &["outcome=\"exported\""]) == 3).then_some(())
        });
    });
}
