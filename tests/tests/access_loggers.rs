//! Calls in logs of the connection manager: files, Envoy's access log service and OpenTelemetry's.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::{fs, thread};

use meltemi::envoy::Config;
use meltemi_tests::dubbo::INTERFACE;
use meltemi_tests::logs::LogReceiver;
use meltemi_tests::{Action, Backend, Client, Setup, each_envoy, eventually, files};
use serde_json::{Value, json};

/// What the connection manager has more for these logs.
const CONFIG: &str = "envoy-configs/access-loggers.yaml";

/// The item of that name.
fn at<'a>(list: &'a mut Value, name: &str) -> &'a mut Value {
    list.as_array_mut().unwrap().iter_mut().find(|item| item["name"] == name).unwrap()
}

/// A proxy whose connection manager logs to that file and that receiver.
fn setup(server: SocketAddr, file: &Path, receiver: SocketAddr) -> Setup {
    let text = fs::read_to_string(files::root().join(CONFIG)).unwrap();
    let config = Config::parse(CONFIG, &text).unwrap();
    let mut loggers = config.value()["access_log"].clone();
    at(&mut loggers, "envoy.access_loggers.file")["typed_config"]["path"] = file.to_str().into();
    let setup = Setup::new().servers(server, server).cluster("collector", &[receiver]);
    setup.change(move |bootstrap| {
        let resources = &mut bootstrap["static_resources"];
        let manager = &mut at(&mut resources["listeners"], "meltemi")["filter_chains"][0]["filters"];
        let manager = &mut at(manager, "envoy.filters.network.http_connection_manager")["typed_config"];
        manager["access_log"] = loggers;
        let routes = &mut manager["route_config"]["virtual_hosts"][0]["routes"];
        routes.as_array_mut().unwrap().insert(0, config.value()["route"].clone());
        at(&mut resources["clusters"], "collector")["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        });
    })
}

fn plan(access_log: &Value) -> Value {
    let mut plan = meltemi_tests::proxy::plan_of(&json!({"protocol": "dubbo"}));
    plan["accessLog"] = access_log.clone();
    plan
}

#[test]
fn loggers_of_each_kind_are_told_of_calls() {
    each_envoy(|envoy| {
        let (server, folder) = (Backend::start("v1"), tempfile::tempdir().unwrap());
        server.on("refused", Action::Status(70, "no such method".to_owned()));
        let file = folder.path().join("calls.log");
        let (receiver, address) = LogReceiver::start("127.0.0.1:0".parse().unwrap());
        let rules = json!({"log": false, "textFormat": "  %REQ(method)% \"%REQ(tag)%\" %RESPONSE_CODE_DETAILS%\n", "fields": {
            "x-call-line": "%LINE%", "x-call-outcome": "%RESPONSE_CODE_DETAILS%", "x-call-duration": "%DURATION%",
            "x-call-cluster": "%UPSTREAM_CLUSTER%", "x-call-trace": "%TRACE_ID%",
        }});
        let proxy = setup(server.address(), &file, address).concurrency(2).plan(&plan(&rules)).start(envoy);
        let forged = "é\" 200\r\nx-call-outcome: forged\u{85}";
        // By several connections, so that each worker of Envoy has calls.
        let mut wanted = Vec::new();
        for number in 0..8 {
            let mut client = Client::connect(proxy.meltemi());
            for (method, outcome) in [("sayHello", "success"), ("refused", "error")] {
                let method = format!(
                    "{method}{}",
                    if method == "refused" { String::new() } else { number.to_string() }
                );
                client.call_with(&method, "x", &[("tag", forged)]);
                let tag = "é\\\" 200\\u000d\\u000ax-call-outcome: forged\\u0085";
                wanted.push(format!("{method} \"{tag}\" {outcome}"));
            }
        }
        wanted.sort();
        let lines = eventually("all calls are in the file", || {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            (lines.len() >= wanted.len()).then_some(lines)
        });
        assert_eq!(lines, wanted, "Envoy {}", envoy.version);
        let entries = eventually("the service has all of them", || {
            let entries = receiver.entries();
            (entries.len() >= wanted.len()).then_some(entries)
        });
        for entry in &entries {
            let method = entry.path.strip_prefix(&format!("/{INTERFACE}/")).expect(&entry.path);
            let outcome = if method == "refused" { "error" } else { "success" };
            assert_eq!((&*entry.log, &*entry.authority, entry.code), ("calls", "demo", 200));
            let mut headers = entry.headers.clone();
            assert!(
                headers.remove("x-call-duration").is_some_and(|took| took.parse::<u32>().is_ok()),
                "{entry:?}"
            );
            let known = [("x-call-outcome", outcome), ("x-call-cluster", "demo")];
            assert_eq!(
                headers,
                HashMap::from(known.map(|(name, value)| (name.to_owned(), value.to_owned())))
            );
        }
        let mut bodies = eventually("OpenTelemetry has all of them", || {
            let records = receiver.records();
            (records.len() >= wanted.len())
                .then(|| records.into_iter().map(|record| record.body).collect::<Vec<_>>())
        });
        bodies.sort();
        assert_eq!(bodies, wanted);
        let logged = || proxy.metric("meltemi_log_entries_total", &["outcome=\"logged\""]);
        eventually("they are counted", || (logged() == wanted.len() as u64).then_some(()));
        assert!(
            !proxy.log().contains("\"event\":\"call\"") && !proxy.log().contains("sayHello"),
            "lines are for loggers alone"
        );
    });
}

/// Nobody listens at the address: Envoy starts and serves, and calls are as without loggers.
#[test]
fn calls_do_not_wait_for_who_takes_no_logs() {
    each_envoy(|envoy| {
        let (server, folder) = (Backend::start("v1"), tempfile::tempdir().unwrap());
        // It takes connections, and reads nothing of what comes.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        thread::spawn(move || silent.incoming().collect::<Vec<_>>());
        let rules = json!({"log": false, "fields": {"x-call-line": "%LINE%"}});
        let file = folder.path().join("calls.log");
        let proxy = setup(server.address(), &file, address).plan(&plan(&rules)).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        for _ in 0..2000 {
            client.call("sayHello", "x");
        }
        let lines = || fs::read_to_string(&file).unwrap_or_default().lines().count();
        eventually("all calls are in the file", || (lines() == 2000).then_some(()));
        eventually("they are counted", || {
            (proxy.metric("meltemi_log_entries_total", &["outcome=\"logged\""]) == 2000).then_some(())
        });
    });
}
