//! Limits, faults and mirrors of routers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use meltemi_mesh_tests::Workload;
use meltemi_tests::dubbo::{Call, Frame, INTERFACE};
use meltemi_tests::limiter::Limiter;
use meltemi_tests::{Action, Client, DEADLINE, eventually};
use serde_json::{Value, json};

use crate::stage::{self, DEMO, SERVERS, SHOP, Stage, router, to};

const SERVICE_ERROR: u8 = 70;
const THREADPOOL_EXHAUSTED: u8 = 100;

/// The method that shows whether the limit of so many calls is in force.
fn probe(most: usize) -> String {
    format!("probe{most}")
}

/// A router that leads all calls to one server.
fn unlimited() -> Value {
    router(DEMO, json!([{"name": "only", "route": [to(DEMO, "v1")]}]))
}

/// The same router, by which that server takes `most` of the calls to one method, and one of its probe.
fn limited(most: usize) -> Value {
    let condition = |method: String, most: usize| {
        json!({
            "match": {"attributes": {"method": {"exact": method}}},
            "tokenBucket": {"maxTokens": most, "tokensPerFill": 1, "fillInterval": "100h"},
        })
    };
    let mut router = unlimited();
    let conditions = [condition("limited".to_owned(), most), condition(probe(most), 1)];
    router["spec"]["localRateLimit"] = json!({"conditions": conditions});
    router
}

/// Applies the limit, and waits until it holds on a connection.
fn limit(stage: &mut Stage, most: usize, client: &mut Client) {
    stage.route(DEMO, &limited(most));
    let key = format!("inbound.{}:{}", DEMO.host(), DEMO.target);
    stage.pod("v1").wait_for_plan(|plan| {
        let limit = &plan["services"][&key]["localRateLimit"];
        limit["conditions"][0]["tokenBucket"]["maxTokens"] == most
    });
    follow(client);
    enforced(most, client);
}

/// Waits until the server's workers follow the limit on a connection.
fn enforced(most: usize, client: &mut Client) {
    eventually("the limit is in force", || {
        (0..50).all(|_| client.call(&probe(most), "x").status == THREADPOOL_EXHAUSTED).then_some(())
    });
}

/// Waits until the calls of a connection go to the one server: Envoy's workers learn of a plan one after the other.
fn follow(client: &mut Client) {
    eventually("calls go to one server", || {
        (0..50).all(|_| client.ask("sayHello", "x") == "v1").then_some(())
    });
}

/// How many of `calls` calls the server answers. The others get an error that clients understand.
fn passed(client: &mut Client, calls: usize) -> usize {
    let answers = (0..calls).map(|_| client.call("limited", "x"));
    let (limited, passed): (Vec<_>, Vec<_>) =
        answers.partition(|answer| answer.status == THREADPOOL_EXHAUSTED);
    for answer in limited {
        let message = answer.message();
        assert_eq!(message.as_deref(), Some("meltemi: over the rate limit of 1 calls in 100h"), "{answer:?}");
    }
    assert!(passed.iter().all(|answer| answer.message().is_none()), "{passed:?}");
    passed.len()
}

#[test]
fn a_server_takes_as_many_calls_as_a_router_says() {
    let mut stage = stage::take();
    let mut client = stage.connect(DEMO.address);
    limit(&mut stage, 5, &mut client);
    assert_eq!(passed(&mut client, 15), 5);
    let refused = |stage: &Stage, least: u64| {
        // A worker of Envoy has no name for a method until a call of it was answered there.
        let name =
            "^wasmcustom.meltemi.*method=.=(limited|other);.*reason=.=rate_limited;.*local_replies_total";
        stage.pod("v1").admin(|admin| admin.wait(name, DEADLINE, |replies| replies >= least)).unwrap()
    };
    assert_eq!(refused(&stage, 10), 10);
    // By whichever connection they come.
    let mut other = stage.connect(DEMO.address);
    follow(&mut other);
    enforced(5, &mut other);
    assert_eq!(passed(&mut other, 10), 0);
    assert_eq!(other.ask("sayHello", "x"), "v1");
    // And what shows that its worker follows the limit, which is another method there.
    refused(&stage, 10 + 10);

    // A change holds for the connections that there are.
    limit(&mut stage, 7, &mut client);
    assert_eq!(passed(&mut client, 10), 7);
    enforced(7, &mut other);
    assert_eq!(passed(&mut other, 10), 0);
    stage.route(DEMO, &unlimited());
    eventually("nothing is limited", || {
        (0..50).all(|_| client.call("limited", "x").message().is_none()).then_some(())
    });
}

/// What the rate limit service is configured with.
const LIMITS: &str = "
domain: shop
descriptors:
- {key: method, value: probe, rate_limit: {unit: day, requests_per_unit: 1}}
- {key: method, value: limited, rate_limit: {unit: day, requests_per_unit: 5}}
";

/// A service whose port Istio takes for TCP, as that of Aeraki's tutorial.
const LIMITER: &str = "
apiVersion: v1
kind: Service
metadata: {name: limiter, namespace: shop}
spec:
  selector: {app: limiter}
  ports: [{name: tcp-rate-limit, port: 8081}]
";

#[test]
fn servers_take_as_many_calls_together_as_a_rate_limit_service_says() {
    const NAME: &str = "limiter";
    let mut stage = stage::take();
    stage.mesh.start_pods([Workload::new(SHOP, NAME).label("app", NAME)]);
    stage.apply(LIMITER);
    let address = SocketAddr::from((stage.pod(NAME).address(), 8081));
    Limiter::build();
    let mut limiter = stage.pod(NAME).enter(|| Limiter::start(LIMITS, address));
    let asking = |denies: bool| {
        let both = json!({"destination": {"host": DEMO.host()}});
        let mut router = router(DEMO, json!([{"name": "both", "route": [both]}]));
        router["spec"]["globalRateLimit"] = json!({
            "domain": "shop",
            "rateLimitService": "outbound|8081||limiter.shop.svc.cluster.local",
            "requestTimeout": "5s",
            "denyOnFail": denies,
            "match": {"attributes": {"method": {"regex": "probe|limited|free"}}},
            "descriptors": [{"property": "method", "descriptorKey": "method"}],
        });
        router
    };
    stage.route(DEMO, &asking(true));
    let [mut client, mut other] = [(); 2].map(|()| stage.connect_balanced(DEMO.address).0);
    let mut is_asked_for =
        |client: &mut Client| (0..50).all(|_| client.call("probe", "x").status == THREADPOOL_EXHAUSTED);
    eventually("both servers ask, whichever of their workers has the call", || {
        [&mut client, &mut other].into_iter().all(&mut is_asked_for).then_some(())
    });

    let answers: Vec<_> =
        (0..20).flat_map(|_| [&mut client, &mut other].map(|c| c.call("limited", "x"))).collect();
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.message()).collect();
    assert_eq!(answers.len() - refused.len(), 5, "{refused:?}");
    assert!(
        refused.iter().all(|message| message == "meltemi: over the rate limit of the domain shop"),
        "{refused:?}"
    );
    assert_eq!(client.ask("free", "x").len(), 2, "no limit is set for it");
    let passed = "^wasmcustom.meltemi.*outcome=.=ok;.*rate_limit_answers_total";
    eventually("both servers have counted what passed", || {
        let counts = SERVERS.map(|server| stage.pod(server).admin(|admin| admin.sum(passed)).unwrap());
        (counts.iter().sum::<u64>() == 1 + 5 + 1).then_some(())
    });

    limiter.stop();
    eventually("calls are refused without the service", || {
        let refused = client.call("free", "x").message()?;
        // Its sidecar still accepts connections.
        assert_eq!(refused, "meltemi: the connection to the rate limit service was lost");
        Some(())
    });
    stage.apply(&asking(false).to_string());
    eventually("calls pass without the service", || {
        (0..50).all(|_| client.call("free", "x").message().is_none()).then_some(())
    });
    drop(limiter);
    stage.mesh.kill_pod(SHOP, NAME);
}

#[test]
fn calls_are_delayed_and_aborted_as_a_router_says() {
    let mut stage = stage::take();
    // Operations that routes name have metrics of their own, whether they are answered or not.
    let fault = |method: &str, fault: Value| {
        json!({
            "name": method,
            "match": {"attributes": {"interface": {"exact": INTERFACE}, "method": {"exact": method}}},
            "route": [to(DEMO, "v1")],
            "fault": fault,
        })
    };
    let delay = Duration::from_millis(700);
    let faults = json!([
        fault("late", json!({"delay": {"percentage": {"value": 100}, "fixedDelay": "700ms"}})),
        fault("broken", json!({"abort": {"percentage": {"value": 100}, "message": "on purpose"}})),
        fault("spared", json!({"abort": {"percentage": {"value": 0}}})),
    ]);
    stage.route(DEMO, &router(DEMO, faults));
    let mut client = stage.connect(DEMO.address);
    // Envoy's workers learn of the plan one after the other.
    eventually("calls are aborted", || {
        let answer = client.call("broken", "x");
        let message = answer.message()?;
        assert_eq!((answer.status, &*message), (SERVICE_ERROR, "meltemi: on purpose"));
        Some(())
    });
    let start = Instant::now();
    assert_eq!(client.ask("late", "x"), "v1");
    assert!(start.elapsed() >= delay, "{:?}", start.elapsed());
    assert_eq!(client.ask("spared", "x"), "v1");
    for (method, counted) in [("broken", "reason=.=fault;.*local_replies_total"), ("late", "delays_total")] {
        let name = format!("^wasmcustom.meltemi.*method=.={method};.*{counted}");
        stage.pod("client").admin(|admin| admin.wait(&name, DEADLINE, |count| count > 0)).unwrap();
    }
}

#[test]
fn a_share_of_the_calls_is_mirrored_as_a_router_says() {
    let mut stage = stage::take();
    let copied = |method: &str, more: Value| {
        let mut route = json!({
            "name": method,
            "match": {"attributes": {"interface": {"exact": INTERFACE}, "method": {"exact": method}}},
            "route": [to(DEMO, "v1")],
            "mirror": to(DEMO, "v2")["destination"],
            "requestMutation": [{"key": "lane", "value": "blue"}],
        });
        route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        route
    };
    let routes = json!([
        copied("all", json!({})),
        copied("half", json!({"mirrorPercentage": {"value": 50}})),
        copied("refused", json!({"fault": {"abort": {"percentage": {"value": 100}}}})),
    ]);
    stage.route(DEMO, &router(DEMO, routes));
    let mut client = stage.connect(DEMO.address);
    // Envoy's workers learn of the plan one after the other.
    eventually("calls are refused", || client.call("refused", "x").message());
    for method in ["all", "half"] {
        for _ in 0..200 {
            assert_eq!(client.ask(method, "x"), "v1");
        }
    }
    let shadow = stage.backend("v2", DEMO);
    eventually("the copies arrive", || (shadow.calls("all") == 200).then_some(()));
    // Five standard deviations.
    eventually("half of the calls are copied", || (65..=135).contains(&shadow.calls("half")).then_some(()));
    assert_eq!(shadow.calls("refused"), 0);
    let copy = shadow.wait_for_frame("a copy", |frame| frame.call().is_some_and(|call| call.method == "all"));
    let copy = copy.call().unwrap();
    assert!(copy.attachments.contains(&("lane".to_owned(), "blue".to_owned())), "{copy:?}");
    let name = "^wasmcustom.meltemi.*method=.=all;.*outcome=.=success;.*mirrored_total";
    let copies = stage.pod("client").admin(|admin| admin.wait(name, DEADLINE, |count| count >= 200));
    assert_eq!(copies.unwrap(), 200);
}

#[test]
fn attachments_say_where_calls_go_as_routers_say() {
    let mut stage = stage::take();
    let values = |values: &[(&str, &str)]| -> Vec<Value> {
        values.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
    };
    let routes = json!([{
        "name": "told",
        "match": {"attributes": {"method": {"exact": "told"}}},
        "route": [to(DEMO, "v1")],
        "mirror": to(DEMO, "v2")["destination"],
        "requestMutation": values(&[
            ("way", "%REQ(method)% by %ROUTE_NAME% to %UPSTREAM_CLUSTER% at %UPSTREAM_HOST%"),
            ("caller", "%REQ(source.principal)%"),
        ]),
        "requestAddIfAbsent": values(&[("lane", "gray"), ("kind", "test")]),
        "requestAppend": values(&[("seen", "%REQ(lane?none):4%")]),
        "responseMutation": values(&[("by", "%UPSTREAM_CLUSTER% for %REQ(method)%")]),
        "responseAddIfAbsent": values(&[("zone", "none"), ("kind", "answer")]),
        "responseAppend": values(&[("seen", "proxy")]),
        "responseRemove": ["internal"],
    }, {"name": "rest", "route": [to(DEMO, "v1")]}]);
    stage.route(DEMO, &router(DEMO, routes));
    let mut client = stage.connect(DEMO.address);
    let servers = ["v1", "v2"].map(|version| (version, stage.backend(version, DEMO)));
    const OWN: Action = Action::Attach(&[("zone", "a"), ("seen", "server"), ("internal", "x"), ("by", "me")]);
    servers[0].1.on("told", OWN);
    let forged = [("lane", "purple"), ("seen", "a"), ("caller", "cluster.local/ns/root/sa/root")];
    // Envoy's workers learn of the plan one after the other.
    let answer = eventually("calls are copied", || {
        let answer = client.call_with("told", "x", &forged);
        (servers[1].1.calls("told") > 0).then_some(answer)
    });
    let mut told = answer.attachments().unwrap();
    told.sort_unstable();
    let by = format!("outbound|20880|v1|{} for told", DEMO.host());
    let wanted = [("by", &*by), ("kind", "answer"), ("seen", "server,proxy"), ("zone", "a")];
    assert_eq!(told, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    for (version, server) in servers {
        let is_told = |frame: &Frame| {
            let has_way = |call: Call| call.attachments.iter().any(|(name, _)| name == "way");
            frame.call().is_some_and(has_way)
        };
        let call = server.wait_for_frame("a call", is_told).call().unwrap();
        let value = |name: &str| {
            let found = call.attachments.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        let way = value("way").unwrap();
        let start = format!("told by shop/demo/told to outbound|20880|{version}|{} at ", DEMO.host());
        let host =
            way.strip_prefix(&*start).unwrap_or_else(|| panic!("{way:?} does not begin with {start:?}"));
        assert!(host.ends_with(&format!(":{}", DEMO.target)), "{host}");
        assert_eq!(
            (value("lane"), value("kind"), value("seen")),
            (Some("purple"), Some("test"), Some("a,purp"))
        );
        assert_eq!(value("caller"), None, "a sidecar knows no identity of its own application");
    }
}

#[test]
fn calls_at_a_time_are_limited_by_how_long_answers_take_as_a_router_says() {
    const METHOD: &str = "adaptive";
    const CALLS: usize = 8;
    let mut stage = stage::take();
    let both = json!([{"name": "both", "route": [{"destination": {"host": DEMO.host()}}]}]);
    let mut router = router(DEMO, both);
    router["spec"]["adaptiveConcurrency"] = json!({"minConcurrency": 3, "minRttCalcRequestCount": 20});
    stage.route(DEMO, &router);
    for server in SERVERS {
        stage.backend(server, DEMO).on(METHOD, Action::Delay(Duration::from_millis(200)));
    }
    let mut client = stage.connect(DEMO.address);
    let mut passed = || {
        (0..CALLS as u64).for_each(|id| client.send(&Frame::request(id, METHOD, "x")));
        let answers = (0..CALLS).map(|_| client.receive());
        let refused = answers.filter(|answer| answer.status == THREADPOOL_EXHAUSTED);
        CALLS - refused.inspect(|answer| assert!(answer.message().unwrap().contains("in good time"))).count()
    };
    // Envoy's workers learn of the plan one after the other.
    eventually("three pass while the least time is measured", || (passed() == 3).then_some(()));
    let name = "^wasmcustom.meltemi.*concurrency_blocked_total";
    stage.pod("client").admin(|admin| admin.wait(name, DEADLINE, |count| count >= 5)).unwrap();
    eventually("all pass, as answers take no longer for it", || (passed() == CALLS).then_some(()));
}
