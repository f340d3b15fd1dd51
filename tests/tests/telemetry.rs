//! What an operator sees: metrics with labels, and a log line for each reply of the proxy's own.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use meltemi_tests::dubbo::{Frame, INTERFACE};
use meltemi_tests::{Action, Backend, Client, Setup, each_envoy, eventually};
use serde_json::{Value, json};

#[test]
fn calls_are_counted_by_service_and_method() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let late = json!([{"attributes": {"method": {"exact": "late"}, "wait": {"present": false}}}]);
        let service = json!({
            "protocol": "dubbo",
            "routes": [{"name": "late", "match": late, "cluster": "v1", "timeout": "500ms"}],
            "defaultRoute": {"cluster": "v1", "retry": {"attempts": 1, "on": ["status"], "statuses": [100]}},
        });
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        // An operation has a name once a server has answered to it with success.
        for method in ["hold", "late", "busy"] {
            client.call_with(method, "x", &[("wait", "yes")]);
        }
        v1.on("hold", Action::Hold);
        v1.on("late", Action::Ignore);
        v1.on("busy", Action::Status(100, "busy".to_owned()));
        for text in ["a", "b", "c"] {
            client.ask("sayHello", text);
        }
        client.call("busy", "x");
        client.call("late", "x");
        client.send(&Frame::request(1001, "hold", "x"));
        v1.wait_for_held(1);

        let service = format!("service=\"{INTERFACE}\"");
        let metric = |name: &str, method: &str, more: &str| {
            proxy.metric(name, &[&service, &format!("method=\"{method}\""), more])
        };
        eventually("the counts are there", || (metric("meltemi_in_flight", "hold", "") == 1).then_some(()));
        assert_eq!(metric("meltemi_requests_total", "sayHello", ""), 3);
        assert_eq!(metric("meltemi_responses_total", "sayHello", "class=\"success\""), 3);
        assert_eq!(metric("meltemi_responses_total", "busy", "class=\"error\""), 1);
        assert_eq!(metric("meltemi_retries_total", "busy", ""), 1);
        assert_eq!(metric("meltemi_timeouts_total", "late", ""), 1);
        assert_eq!(metric("meltemi_local_replies_total", "late", "reason=\"timeout\""), 1);
        assert_eq!(proxy.metric("meltemi_client_connections_active", &[]), 1);
        // Now and then it looks for more endpoints, by a connection that it closes again.
        eventually("one connection is kept", || {
            (proxy.metric("meltemi_upstream_connections_active", &[]) == 1).then_some(())
        });
        v1.release();
        client.receive();
        eventually("the call has ended", || (metric("meltemi_in_flight", "hold", "") == 0).then_some(()));
        eventually("latencies are flushed", || {
            (metric("meltemi_latency_microseconds_count", "sayHello", "") == 3).then_some(())
        });
        let buckets = |text: &str| {
            let is_one =
                |line: &&str| line.contains("latency_microseconds_bucket{") && line.contains("sayHello");
            text.lines().filter(is_one).count()
        };
        assert_eq!(buckets(&proxy.metrics()), 18, "the empty ones are there, too");
        assert_eq!(metric("meltemi_latency_microseconds_bucket", "sayHello", "le=\"+Inf\""), 3);
        assert_eq!(metric("meltemi_latency_microseconds_bucket", "sayHello", "le=\"10000000\""), 3);
        assert!(metric("meltemi_latency_microseconds_sum", "sayHello", "") > 0);
    });
}

/// The second that it is, so many later.
fn in_seconds(more: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + more
}

/// The lines of an event.
fn lines(log: &str, event: &'static str) -> impl Iterator<Item = Value> {
    let lines = log.lines().filter_map(|line| Some(line.split_once("meltemi: {")?.1));
    let values = lines.filter_map(|json| {
        serde_json::Deserializer::from_str(&format!("{{{json}")).into_iter::<Value>().next()?.ok()
    });
    values.filter(move |line| line["event"] == event)
}

/// The line of an event about a call, once there is one.
fn line(log: &str, event: &'static str, method: &str) -> Option<Value> {
    lines(log, event).find(|line| line["method"] == method)
}

/// A tap tells of the calls that it takes, and stops by the clock of the proxy, whatever its plan.
#[test]
fn taps_tell_of_calls_until_they_end() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let service = json!({"protocol": "dubbo", "defaultRoute": {"cluster": "v1"}});
        let plan = |until: u64| {
            let mut plan = meltemi_tests::proxy::plan_of(&service);
            let matches = json!([{"attributes": {"method": {"prefix": "say"}}}]);
            plan["taps"] = json!([
                {"name": "now", "until": until, "match": matches, "attributes": ["tenant"]},
                {"name": "past", "until": 1},
                {"name": "elsewhere", "until": u32::MAX, "pods": ["another"]},
            ]);
            // By its line a call shows that there is none of a tap.
            plan["accessLog"] = json!({});
            plan
        };
        let mut proxy =
            Setup::new().servers(v1.address(), v2.address()).plan(&plan(u32::MAX.into())).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        client.call_with("sayHello", "x", &[("tenant", "a\u{1b}[31m\n"), ("password", "s3cret")]);
        client.call("other", "x");
        let told = eventually("the calls have lines", || {
            line(&proxy.log(), "call", "other")?;
            line(&proxy.log(), "tap", "sayHello")
        });
        assert_eq!(told["taps"], json!({"now": {"tenant": "a\u{1b}[31m\n"}}));
        let of = |field: &str| told[field].as_str();
        let told = ["detail", "reason", "cluster"].map(of);
        assert_eq!(told, ["defaultRoute", "success", "v1"].map(Some));
        let log = proxy.log();
        assert!(!log.contains('\u{1b}') && !log.contains("s3cret"), "{log}");
        assert_eq!(line(&log, "tap", "other"), None);
        let of_past: Vec<Value> = lines(&log, "tap").filter(|line| !line["taps"]["past"].is_null()).collect();
        assert!(of_past.len() == 1 && of_past[0]["reason"] == "ended", "{of_past:?}");
        assert!(!log.contains("elsewhere\":"), "{log}");

        // What is over while nobody says so: the first calls may have lines yet, a later one has none.
        proxy.update(&plan(in_seconds(2)));
        let mut number = 0;
        eventually("a call has no line of a tap", || {
            number += 1;
            let method = format!("say{number}");
            client.ask(&method, "x");
            let log = eventually("it has its own", || {
                let log = proxy.log();
                line(&log, "call", &method).map(|_| log)
            });
            line(&log, "tap", &method).is_none().then_some(())
        });
    });
}

/// However many calls a tap takes, each is told of or counted, and there are no more lines than there may be.
#[test]
fn a_tap_of_many_calls_tells_of_few_and_counts_the_others() {
    const CALLS: u64 = 10_000;
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let mut plan = meltemi_tests::proxy::plan_of(&json!({"protocol": "dubbo"}));
        plan["taps"] = json!([{"name": "all", "until": u32::MAX}]);
        let proxy = Setup::new().servers(v1.address(), v2.address()).plan(&plan).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let start = Instant::now();
        for _ in 0..CALLS / 100 {
            (0..100).for_each(|number| client.send(&Frame::request(number, "sayHello", "x")));
            (0..100).for_each(|_| _ = client.receive());
        }
        let (lines, left_out) = eventually("all calls are told of or counted", || {
            let log = proxy.log();
            let lines: Vec<Value> = lines(&log, "tap").collect();
            let left_out: u64 = lines.iter().filter_map(|line| line["suppressedByTap"]["all"].as_u64()).sum();
            let told = lines.iter().filter(|line| line["reason"] == "success").count() as u64;
            assert!(told + left_out <= CALLS, "{told} and {left_out}");
            (told + left_out == CALLS).then_some((told, left_out))
        });
        // A hundred in each second that began.
        let most = 100 * (start.elapsed().as_secs() + 2);
        assert!((100..=most).contains(&lines) && left_out > 0, "{lines} lines, {left_out} left out");
    });
}

/// Names come from clients: there are only so many, and they cannot break the form of the metrics.
#[test]
fn metrics_are_bounded() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let mut plan = meltemi_tests::proxy::plan_of(&json!({"protocol": "dubbo"}));
        plan["metrics"] = json!({"maxOperations": 5});
        let proxy = Setup::new().servers(v1.address(), v2.address()).plan(&plan).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        // A scan: what no server answers to with success takes no name.
        for number in 0..50 {
            let method = format!("scan{number}");
            v1.on(&method, Action::Status(70, "no such method".to_owned()));
            v2.on(&method, Action::Status(70, "no such method".to_owned()));
            client.call(&method, "x");
        }
        client.ask("bad\"name;.;\n", "x");
        for number in 0..20 {
            client.ask(&format!("method{number}"), "x");
        }
        let series = || {
            let text = proxy.metrics();
            let requests = text.lines().filter(|line| line.starts_with("meltemi_requests_total{"));
            requests.map(str::to_owned).collect::<Vec<_>>()
        };
        eventually("all calls are counted", || {
            (proxy.metric("meltemi_requests_total", &[]) == 71).then_some(())
        });
        assert_eq!(series().len(), 6, "five operations, and the others: {:#?}", series());
        assert_eq!(proxy.metric("meltemi_requests_total", &["method=\"other\""]), 66);
    });
}

#[test]
fn local_replies_are_logged_as_json() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let service = json!({"protocol": "dubbo", "onNoMatch": "reject", "routes": []});
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        client.send(&Frame::request(4711, "sayHello", "x"));
        client.receive();
        let line = eventually("the log line", || {
            let log = proxy.log();
            let line = log.lines().find(|line| line.contains("local_reply"))?;
            Some(line.get(line.find('{')?..)?.to_owned())
        });
        // Envoy may add a word of its own after the line.
        let mut values = serde_json::Deserializer::from_str(&line).into_iter::<Value>();
        let entry = values.next().unwrap().unwrap();
        for (name, value) in [
            ("reason", json!("no_route")),
            ("authority", json!("demo")),
            ("service", json!(INTERFACE)),
            ("method", json!("sayHello")),
            ("requestId", json!(4711)),
        ] {
            assert_eq!(entry[name], value, "{name} in {entry}");
        }
        assert!(entry["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{entry}");
    });
}

/// Istio's bootstrap looks for tags anywhere in a name: in values, too.
#[test]
fn names_survive_the_tags_of_istio() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let setup = Setup::new().servers(v1.address(), v2.address()).service(&json!({"protocol": "dubbo"}));
        let proxy = setup.change(|bootstrap| {
            let tags = bootstrap["stats_config"]["stats_tags"].as_array_mut().unwrap();
            for (name, regex) in [
                ("response_code", r"_rq(_(\d{3}))$"),
                ("cache", r"(cache\.(.+?)\.)"),
                ("component", r"(component\.(.+?)\.)"),
                ("tag", r"(tag\.(.+?);\.)"),
                ("wasm_filter", r"(wasm_filter\.(.+?)\.)"),
            ] {
                tags.push(json!({"tag_name": name, "regex": regex}));
            }
        });
        let proxy = proxy.start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let methods =
            ["com.acme.cache.Component", "a.component.B", "a.tag.B", "tag.wasm_filter.B", "x_rq_200"];
        for method in methods {
            client.ask(method, "x");
        }
        let service = format!("service=\"{INTERFACE}\"");
        eventually("each has its name", || {
            let is_there = |method: &&str| {
                proxy.metric("meltemi_requests_total", &[&service, &format!("method=\"{method}\"")]) == 1
            };
            methods.iter().all(is_there).then_some(())
        });
    });
}
