//! Calls in logs of the connection manager: files, Envoy's access log service and OpenTelemetry's.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::{fs, thread};

use meltemi::envoy::Config;
use meltemi_tests::dubbo::{Frame, INTERFACE};
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
    let file = file.to_str().unwrap().to_owned();
    let text = fs::read_to_string(files::root().join(CONFIG)).unwrap();
    let config = Config::parse(CONFIG, &text).unwrap();
    let mut loggers = config.value()["access_log"].clone();
    for logger in loggers.as_array_mut().unwrap() {
        if logger["name"] == "envoy.access_loggers.file" {
            logger["typed_config"]["path"] = file.as_str().into();
        }
    }
    let setup = Setup::new().servers(server, server).cluster("collector", &[receiver]);
    setup.change(move |bootstrap| {
        let resources = &mut bootstrap["static_resources"];
        let manager = &mut at(&mut resources["listeners"], "meltemi")["filter_chains"][0]["filters"];
        let manager = &mut at(manager, "envoy.filters.network.http_connection_manager")["typed_config"];
        manager["access_log"] = loggers;
        let routes = &mut manager["route_config"]["virtual_hosts"][0]["routes"];
        let first = config.value()["routes"].as_array().unwrap();
        routes.as_array_mut().unwrap().splice(..0, first.iter().cloned());
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
        let rules = json!({"log": false, "files": true, "textFormat": "  %REQ(method)% \"%REQ(tag)%\" %RESPONSE_CODE_DETAILS%\n", "fields": {
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
        // Lines in the file, and entries.
        eventually("they are counted", || (logged() == 2 * wanted.len() as u64).then_some(()));
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
        let rules = json!({"log": false, "files": true, "textFormat": "%REQ(tag)%", "fields": {"x-call-line": "%LINE%"}});
        let file = folder.path().join("calls.log");
        let proxy = setup(server.address(), &file, address).plan(&plan(&rules)).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let wanted: Vec<_> = (0..2000).map(|number| number.to_string()).collect();
        for number in &wanted {
            client.call_with("sayHello", "x", &[("tag", number)]);
        }
        // Each once, and in the order of the calls, however many came together.
        let text = || fs::read_to_string(&file).unwrap_or_default();
        eventually("all calls are in the file", || (text().lines().count() >= 2000).then_some(()));
        assert_eq!(text().lines().collect::<Vec<_>>(), wanted);
        eventually("they are counted", || {
            (proxy.metric("meltemi_log_entries_total", &["outcome=\"logged\""]) == 4000).then_some(())
        });
    });
}

/// Few of them go together, so that Envoy takes the request.
#[test]
fn long_lines_are_whole() {
    each_envoy(|envoy| {
        let (server, folder) = (Backend::start("v1"), tempfile::tempdir().unwrap());
        let format = format!("%REQ(method)%{}", " %REQ(tag)%".repeat(12));
        let rules = json!({"log": false, "files": true, "textFormat": format});
        let file = folder.path().join("calls.log");
        let setup = setup(server.address(), &file, server.address()).concurrency(1);
        let proxy = setup.plan(&plan(&rules)).start(envoy);
        let (mut client, tag) = (Client::connect(proxy.meltemi()), "x".repeat(1000));
        let method = |number: usize| format!("say{number}");
        for number in 0..20 {
            client.call_with(&method(number), "x", &[("tag", &tag)]);
        }
        let text = || fs::read_to_string(&file).unwrap_or_default();
        eventually("all calls are in the file", || (text().lines().count() >= 20).then_some(()));
        let line = |number| method(number) + &format!(" {tag}").repeat(12);
        assert!(text().lines().eq((0..20).map(line)), "Envoy {}", envoy.version);
    });
}

/// What a connection leaves behind when its last client leaves is in the file, too; and lines are bare, also where the file is
/// what Envoy itself prints to.
#[test]
fn lines_on_standard_output_are_bare() {
    each_envoy(|envoy| {
        let server = Backend::start("v1");
        let rules = json!({"log": false, "files": true, "textFormat": "bare %REQ(tag)%"});
        let setup = setup(server.address(), Path::new("/dev/stdout"), server.address());
        let proxy = setup.plan(&plan(&rules)).start(envoy);
        let mut wanted = Vec::new();
        for number in 0..21 {
            let mut client = Client::connect(proxy.meltemi());
            client.call_with("sayHello", "x", &[("tag", &number.to_string())]);
            wanted.push(format!("bare {number}"));
        }
        let lines = eventually("all calls are in the log", || {
            let log = proxy.log();
            let lines: Vec<_> =
                log.lines().filter(|line| line.starts_with("bare ")).map(str::to_owned).collect();
            (lines.len() >= wanted.len()).then_some(lines)
        });
        let number = |line: &String| line.rsplit_once(' ').unwrap().1.parse::<u32>().unwrap();
        let mut sorted = lines;
        sorted.sort_by_key(number);
        assert_eq!(sorted, wanted, "Envoy {}", envoy.version);
        assert!(!proxy.log().contains("meltemi: bare"), "lines are for the file alone");
    });
}

/// However many end in one of Envoy's reads.
#[test]
fn calls_that_are_refused_at_once_have_all_their_lines() {
    const COUNT: u64 = 10_000;
    each_envoy(|envoy| {
        let (server, folder) = (Backend::start("v1"), tempfile::tempdir().unwrap());
        let service = json!({"protocol": "dubbo", "onNoMatch": "reject", "routes": [
            {"name": "rest", "match": [{"attributes": {"method": {"prefix": "e"}}}]},
        ]});
        let mut plan = meltemi_tests::proxy::plan_of(&service);
        plan["accessLog"] = json!({"log": false, "files": true, "textFormat": "%REQ(tag)%"});
        let file = folder.path().join("calls.log");
        let proxy = setup(server.address(), &file, server.address()).concurrency(1).plan(&plan).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let ask = |id: u64| Frame::request_with(id, "lost", "x", &[("tag", &id.to_string())]).bytes();
        let (mut sender, calls) = (client.sender(), (0..COUNT).flat_map(ask).collect::<Vec<u8>>());
        let sends = thread::spawn(move || sender.write_all(&calls));
        for _ in 0..COUNT {
            client.receive();
        }
        sends.join().unwrap().unwrap();
        let counted =
            |outcome: &str| proxy.metric("meltemi_log_entries_total", &[&format!("outcome=\"{outcome}\"")]);
        eventually("all are counted", || (counted("logged") + counted("full") >= COUNT).then_some(()));
        assert_eq!(counted("full"), 0, "Envoy {}", envoy.version);
        let text = || fs::read_to_string(&file).unwrap_or_default();
        eventually("all are in the file", || (text().lines().count() as u64 >= COUNT).then_some(()));
        assert!(text().lines().eq((0..COUNT).map(|id| id.to_string())), "Envoy {}", envoy.version);
    });
}
