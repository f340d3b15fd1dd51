//! Lines of Envoy's log for calls: for those that a plan means, and that Istio's resources mean.

use std::time::{Duration, Instant, SystemTime};

use meltemi::generate::{IstioVersion, Options, generate};
use meltemi::world::{World, documents};
use meltemi_tests::dubbo::INTERFACE;
use meltemi_tests::{Action, Backend, Client, Proxy, Setup, each_envoy, eventually};
use serde_json::{Value, json};

/// From when on a call is slow enough for the log.
const SLOW: Duration = Duration::from_millis(100);

/// The plan of a service with that access log.
fn plan(access_log: &Value) -> Value {
    let mut plan = meltemi_tests::proxy::plan_of(&json!({"protocol": "dubbo"}));
    plan["accessLog"] = access_log.clone();
    plan
}

/// The lines of calls that the log has so far.
fn lines(proxy: &Proxy) -> Vec<Value> {
    let log = proxy.log();
    let objects = log.lines().filter_map(|line| line.get(line.find(r#"{"event":"call""#)?..));
    // Envoy may add a word of its own after the object, and the last may not be whole yet.
    objects.filter_map(|text| serde_json::Deserializer::from_str(text).into_iter().next()?.ok()).collect()
}

/// The methods of the calls that have lines, in the order of their ends, up to that of `last`, for which it waits.
fn methods(proxy: &Proxy, last: &str) -> Vec<String> {
    eventually("the last call has its line", || {
        let lines = lines(proxy);
        let methods = lines.iter().map(|line| line["method"].as_str().unwrap_or_default().to_owned());
        let methods: Vec<_> = methods.collect();
        methods.iter().any(|method| method == last).then_some(methods)
    })
}

#[test]
fn calls_are_logged_where_the_plan_says_so() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let plan = plan(&json!({"slowerThan": format!("{}ms", SLOW.as_millis())}));
        let proxy = Setup::new().servers(v1.address(), v2.address()).plan(&plan).start(envoy);
        for server in [&v1, &v2] {
            server.on("slow", Action::Delay(SLOW * 3 / 2));
        }
        let mut client = Client::connect(proxy.meltemi());
        // On a busy machine, the one or the other may be slow.
        let mut names = (0..).map(|number| format!("quick{number}"));
        let quick = eventually("a call is quick", || {
            let (name, start) = (names.next()?, Instant::now());
            client.ask(&name, "x");
            (start.elapsed() < SLOW).then_some(name)
        });
        client.ask("slow", "x");
        assert!(!methods(&proxy, "slow").contains(&quick), "it was quick");
        let lines = lines(&proxy);
        let entry = lines.iter().find(|line| line["method"] == "slow").unwrap();
        for (name, value) in [
            ("reason", json!("success")),
            ("authority", json!("demo")),
            ("service", json!(INTERFACE)),
            ("route", json!("default")),
            ("cluster", json!("demo")),
            ("tries", json!(1)),
        ] {
            assert_eq!(entry[name], value, "{name} in {entry}");
        }
        let endpoints = [&v1, &v2].map(|server| json!(server.address().to_string()));
        assert!(endpoints.contains(&entry["endpoint"]), "{entry}");
        assert!(entry["elapsedMicros"].as_u64().is_some_and(|time| time >= 100_000), "{entry}");
    });
}

#[test]
fn calls_are_logged_by_what_they_say_and_who_makes_them() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let of = |attribute: &str, matcher: Value| json!({"attributes": {attribute: matcher}});
        let meant = json!({"match": [
            of("method", json!({"prefix": "get"})),
            of("tag", json!({"exact": "gray"})),
            of("source.ip", json!({"cidr": ["192.0.2.0/24"]})),
        ]});
        let setup = Setup::new().servers(v1.address(), v2.address());
        let mut proxy = setup.plan(&plan(&meant)).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        // One call after the other: their lines are in that order.
        for (method, tag) in
            [("list", "gray"), ("put", "blue"), ("getAll", "blue"), ("drop", ""), ("get", "")]
        {
            client.call_with(method, "x", &[("tag", tag)]);
        }
        assert_eq!(methods(&proxy, "get"), ["list", "getAll", "get"]);

        // All of this client's, on the connection that is open.
        proxy.update(&plan(&json!({"match": [of("source.ip", json!({"cidr": ["127.0.0.0/8"]}))]})));
        let mut names = (0..).map(|number| format!("local{number}"));
        eventually("the worker has the new plan", || {
            let name = names.next()?;
            client.call_with(&name, "x", &[("tag", "blue")]);
            lines(&proxy).iter().any(|line| line["method"].as_str() == Some(&name)).then_some(())
        });
    });
}

/// What is generated as the access log of a service's clients, where a Telemetry of their namespace has this expression.
fn by_telemetry(expression: &str) -> Value {
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "shop", "labels": {"istio-injection": "enabled"}}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "demo", "namespace": "shop"},
            "spec": {"clusterIP": "10.0.0.1", "selector": {"app": "demo"},
                "ports": [{"name": "tcp-metaprotocol-dubbo", "port": 20880}]}}),
        json!({"apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry",
        "metadata": {"name": "some", "namespace": "shop"},
        "spec": {"accessLogging": [
            {"providers": [{"name": "envoy"}], "filter": {"expression": expression}},
        ]}}),
    ];
    let mut world = World::default();
    for document in objects.iter().flat_map(|object| documents("mesh.yaml", &object.to_string()).unwrap()) {
        world.add(&document.object).unwrap();
    }
    let output =
        generate(&world, &Options::new(IstioVersion(30), "oci://registry.example.org/meltemi".into()));
    let of_clients = |object: &&meltemi::generate::Object| {
        object.kind == "WasmPlugin" && object.metadata.name == "meltemi"
    };
    let plugin = output.objects.iter().find(of_clients).unwrap();
    let mut rules = json!(plugin.spec)["pluginConfig"]["accessLog"].clone();
    // Which calls have lines is seen in Envoy's own log as well.
    for (name, value) in [("files", true), ("log", false)] {
        assert_eq!(rules.as_object_mut().unwrap().remove(name), Some(json!(value)));
    }
    rules
}

#[test]
fn a_telemetry_says_which_calls_are_logged() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        for server in [&v1, &v2] {
            server.on("refused", Action::Status(70, "no such method".to_owned()));
            server.on("slow", Action::Delay(SLOW * 3 / 2));
        }
        let slow = format!("request.duration > duration('{}ms')", SLOW.as_millis());
        let either = format!("response.code >= 500 || {slow}");
        for (expression, wanted) in [
            ("response.code >= 400", &["refused"][..]),
            ("response.grpc_status != 0", &["refused"]),
            (&slow, &["slow"]),
            (&either, &["refused", "slow"]),
        ] {
            let setup = Setup::new().servers(v1.address(), v2.address());
            let proxy = setup.plan(&plan(&by_telemetry(expression))).start(envoy);
            let mut client = Client::connect(proxy.meltemi());
            let others = ["answered", "refused", "slow"].into_iter().filter(|name| !wanted.contains(name));
            let mut late = Vec::new();
            // The last has a line: that is the end of what there is to see.
            for method in others.chain(wanted.iter().copied()) {
                let start = Instant::now();
                client.call(method, "x");
                late.extend((start.elapsed() >= SLOW).then_some(method));
            }
            let mut logged = methods(&proxy, wanted.last().unwrap());
            // On a busy machine, any call may be slow.
            let may_be = |method: &str| expression.contains("duration") && late.contains(&method);
            logged.retain(|method| wanted.contains(&&**method) || !may_be(method));
            assert_eq!(logged, wanted, "{expression}");
        }
    });
}

/// Each worker of Envoy writes whole lines, whatever clients say.
#[test]
fn lines_have_the_format_of_the_plan() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let format = "%START_TIME% \"%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \"%REQ(tag)%\" \
                      %UPSTREAM_CLUSTER% end\n";
        let setup = Setup::new().servers(v1.address(), v2.address());
        let mut proxy = setup.plan(&plan(&json!({"textFormat": format}))).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let before = SystemTime::now();
        let forged = "gray\" 200 -\n[2026-01-01][warning][wasm] meltemi: forged\u{85}";
        client.call_with("sayHello", "x", &[("tag", forged)]);
        let line = eventually("the line is there", || {
            let log = proxy.log();
            let line = log.lines().find(|line| line.contains(" end"))?;
            Some(format!("20{}", line.split_once("meltemi: 20")?.1))
        });
        let (time, rest) = line.split_once(' ').unwrap();
        let escaped = "gray\\\" 200 -\\u000a[2026-01-01][warning][wasm] meltemi: forged\\u0085";
        let wanted = format!("\"POST /{INTERFACE}/sayHello dubbo\" 200 - \"{escaped}\" demo end");
        // Envoy may add a word of its own after the line.
        assert!(rest.starts_with(&wanted), "{rest}");
        // Envoy's clock and ours are one.
        let seconds = before.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert!(time.len() == "1970-01-01T00:00:00.000Z".len() && time.ends_with('Z'), "{time}");
        assert!(!proxy.log().lines().any(|line| line.starts_with("[2026-01-01]")), "a line was forged");

        let object = json!({"seconds": "%START_TIME(%s)%", "tag": "%REQ(tag)%", "bytes": "%BYTES_SENT%",
            "none": "%REQ(none)%", "host": "%UPSTREAM_HOST%", "service": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"});
        proxy.update(&plan(&json!({"jsonFormat": object})));
        let entry = eventually("the worker has the new plan", || {
            client.call_with("sayHello", "x", &[("tag", forged)]);
            let log = proxy.log();
            let line = log.lines().find(|line| line.contains("\"seconds\""))?;
            let text = line.get(line.find('{')?..)?;
            serde_json::Deserializer::from_str(text).into_iter::<Value>().next()?.ok()
        });
        assert_eq!((&entry["tag"], &entry["none"]), (&json!(forged), &Value::Null));
        let of_service = entry["service"].as_str().and_then(|millis| millis.parse::<u32>().ok());
        assert!(of_service.is_some(), "{entry}");
        assert!(entry["bytes"].as_u64().is_some_and(|bytes| bytes > 16), "{entry}");
        assert!(entry["seconds"].as_str().unwrap().parse::<u64>().unwrap() >= seconds, "{entry}");
        let hosts = [&v1, &v2].map(|server| json!(server.address().to_string()));
        assert!(hosts.contains(&entry["host"]), "{entry}");
    });
}
