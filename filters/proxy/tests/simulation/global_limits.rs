//! Global rate limits: calls wait for what a rate limit service says of them, and for no more than that.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::{SERVER_TIMEOUT, THREADPOOL_EXHAUSTED};
use crate::limiter::{Say, body, framed};
use crate::servers::{Endpoint, Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const LIMITER: &str = "10.0.9.1:8081";
const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn plan(limit: &Value, route: &Value) -> Value {
    let service = json!({"protocol": "dubbo", "globalRateLimits": [limit], "defaultRoute": route});
    json!({"services": {"demo": service}})
}

fn limit() -> Value {
    json!({
        "cluster": "outbound|8081||limiter.demo.svc.cluster.local", "domain": "production", "timeout": "50ms",
        "descriptors": [[{"key": "method", "attribute": "method"}]],
    })
}

fn strict() -> Value {
    let mut limit = limit();
    limit["denyOnFailure"] = json!(true);
    limit
}

fn world_of(limit: &Value, route: &Value) -> World {
    let mut world = World::new(Setup { plan: plan(limit, route), ..Setup::default() });
    world.cluster("demo", &["10.0.0.1:20880"], Policy::RoundRobin);
    world.limiter_cluster("outbound|8081||limiter.demo.svc.cluster.local", &[LIMITER]);
    world
}

fn world(limit: &Value) -> World {
    world_of(limit, &json!({"timeout": "10s"}))
}

fn says(world: &mut World, say: Say) {
    world.judge(move |_, _| (MS, say.clone()));
}

fn took(world: &World, call: usize) -> Duration {
    Duration::from_nanos(world.calls[call].answer.as_ref().unwrap().at - world.calls[call].sent_at)
}

fn refusal(world: &World, call: usize) -> Option<&str> {
    match &world.calls[call].answer.as_ref().unwrap().result {
        Ok(_) => None,
        Err((status, text)) => {
            assert_eq!(*status, THREADPOOL_EXHAUSTED, "{text}");
            assert!(world.calls[call].deliveries.is_empty());
            Some(text)
        }
    }
}

fn answers(world: &mut World, outcome: &'static str) -> i64 {
    world.sum(Metric::RateLimitAnswers(outcome))
}

#[test]
fn a_call_goes_where_the_service_lets_it() {
    let mut world = world(&limit());
    world.judge(|asked, _| match &*asked.descriptors[0][0].1 {
        "hot" => (MS, Say::Over(0)),
        _ => (10 * MS, Say::Ok),
    });
    let client = world.connect();
    let cold = world.call_and_wait(client, Ask::new("cold"));
    assert_eq!(refusal(&world, cold), None);
    assert!(took(&world, cold) >= 10 * MS, "{:?}", took(&world, cold));
    let hot = world.call_and_wait(client, Ask::new("hot"));
    assert_eq!(refusal(&world, hot), Some("meltemi: over the rate limit of the domain production"));
    assert_eq!((answers(&mut world, "ok"), answers(&mut world, "over_limit")), (1, 1));
    assert_eq!(world.sum(Metric::LocalReplies("rate_limited")), 1);
}

#[test]
fn what_is_asked_is_what_the_plan_says() {
    let limit = json!({
        "cluster": "outbound|8081||limiter.demo.svc.cluster.local", "domain": "d", "hits": 3,
        "match": [{"attributes": {"method": {"prefix": "say"}}}],
        "descriptors": [
            [{"key": "method", "attribute": "method"}, {"key": "kind", "value": "rpc"}],
            [{"key": "tenant", "attribute": "tenant"}, {"key": "kind", "value": "rpc"}],
            [{"key": "everything", "value": ""}],
        ],
    });
    let mut world = world(&limit);
    let client = world.connect();
    let asks = [Ask::new("sayA"), Ask::new("other"), Ask::new("sayB").with("tenant", "vip")];
    for ask in asks {
        let call = world.call_and_wait(client, ask);
        assert_eq!(refusal(&world, call), None);
    }
    let long = "ä".repeat(600);
    world.call_and_wait(client, Ask::new("sayC").with("tenant", &format!("x{long}")));
    let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let method = |method| vec![entry("method", method), entry("kind", "rpc")];
    let rest = || vec![entry("everything", "")];
    let tenant = |tenant| vec![entry("tenant", tenant), entry("kind", "rpc")];
    let asked: Vec<_> = world.limiter.asked.iter().map(|asked| asked.descriptors.clone()).collect();
    assert_eq!(asked[0], [method("sayA"), rest()], "no tenant");
    assert_eq!(asked[1], [method("sayB"), tenant("vip"), rest()], "the call of other is not asked about");
    assert_eq!(asked[2], [method("sayC"), tenant(&format!("x{}", &long[..1022])), rest()], "cut");
    let first = &world.limiter.asked[0];
    assert_eq!((&*first.domain, first.hits), ("d", 3));
    let of = |name: &str| first.fields.iter().find(|(key, _)| key == name).map(|(_, value)| &**value);
    assert_eq!(of(":authority"), Some("limiter.demo.svc.cluster.local"));
    assert_eq!(of("grpc-timeout"), Some("20m"), "as long as Envoy's filters wait");
}

#[test]
fn a_call_that_has_nothing_to_ask_about_is_not() {
    let mut limit = strict();
    limit["descriptors"] = json!([[{"key": "tenant", "attribute": "tenant"}]]);
    limit["cluster"] = json!("nowhere");
    let mut world = world(&limit);
    let client = world.connect();
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(refusal(&world, call), None);
    let call = world.call_and_wait(client, Ask::new("echo").with("tenant", "vip"));
    assert_eq!(refusal(&world, call), Some("meltemi: the rate limit service cannot be reached"));
}

#[test]
fn each_failure_lets_calls_pass_or_not_as_the_plan_says() {
    let truncated = || framed(&body(1, &[60])[5..9]);
    let compressed = || [&[1][..], &body(1, &[])[1..]].concat();
    let failures: Vec<(&str, Say, &str)> = vec![
        ("never", Say::Nothing, "deadline"),
        ("code of no name", Say::Body(body(7, &[])), "error"),
        ("unknown", Say::Body(body(0, &[])), "error"),
        ("empty message", Say::Body(framed(&[])), "error"),
        ("truncated message", Say::Body(truncated()), "error"),
        ("truncated number", Say::Body(framed(&[8])), "error"),
        ("truncated frame", Say::Body(body(1, &[60])[..4].to_vec()), "error"),
        ("longer than it says", Say::Body([body(1, &[]), vec![0]].concat()), "error"),
        ("compressed", Say::Body(compressed()), "error"),
        ("large", Say::Body(framed(&[0; 16_000])), "error"),
        ("unimplemented", Say::Status(12), "error"),
        ("no gRPC", Say::Http(200), "error"),
        ("error of HTTP", Say::Http(503), "error"),
        ("reset", Say::ResetStream, "reset"),
        ("closed", Say::Close(true), "reset"),
        ("broken", Say::Close(false), "reset"),
        ("gone", Say::GoAway, "reset"),
        ("garbage", Say::Garbage, "reset"),
    ];
    for (what, say, outcome) in failures {
        for limit in [limit(), strict()] {
            let mut world = world(&limit);
            says(&mut world, say.clone());
            let client = world.connect();
            let call = world.call_and_wait(client, Ask::new("echo"));
            assert_eq!(refusal(&world, call).is_some(), limit == strict(), "{what}");
            assert!(took(&world, call) < 60 * MS, "{what}: {:?}", took(&world, call));
            assert_eq!(answers(&mut world, outcome), 1, "{what}");
            // And it is asked again.
            says(&mut world, Say::Ok);
            let call = world.call_and_wait(client, Ask::new("echo"));
            assert_eq!(refusal(&world, call), None, "{what}");
            assert_eq!(answers(&mut world, "ok"), 1, "{what}");
        }
    }
}

#[test]
fn a_service_that_goes_away_is_not_pinged_while_it_answers_the_last_question() {
    let mut world = world(&limit());
    says(&mut world, Say::Leave);
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(answers(&mut world, "deadline"), 1);
    assert!(world.limiter_pinged() <= 1, "{} pings", world.limiter_pinged());
}

#[test]
fn a_service_that_cannot_be_reached_lets_calls_pass_or_not_as_the_plan_says() {
    for (what, outcome, text) in [
        ("no cluster", "no_connection", "cannot be reached"),
        ("no endpoint", "no_connection", "cannot be reached"),
        ("refused", "no_connection", "cannot be reached"),
        ("silent", "deadline", "did not answer in time"),
    ] {
        for limit in [limit(), strict()] {
            let mut world = world(&limit);
            let cluster = limit["cluster"].as_str().unwrap();
            match what {
                "no cluster" => _ = world.manager.clusters.remove(cluster),
                "no endpoint" => world.manager.clusters.get_mut(cluster).unwrap().endpoints.clear(),
                "refused" => world.set_endpoint(LIMITER, Endpoint::Refusing),
                _ => world.set_endpoint(LIMITER, Endpoint::Silent),
            }
            let client = world.connect();
            let calls = world.call_all(client, (0..100).map(|_| Ask::new("echo")));
            world.await_all(&calls);
            for &call in &calls {
                let refusal = refusal(&world, call);
                assert_eq!(
                    refusal.is_some_and(|refusal| refusal.contains(text)),
                    limit == strict(),
                    "{what}"
                );
            }
            assert_eq!(answers(&mut world, outcome), 100, "{what}");
            let opened = world.manager.asked.iter().filter(|asked| asked.cluster == cluster).count();
            assert_eq!(opened, 1, "{what}: calls that come at once share what they know");
            world.limiter_cluster(cluster, &[LIMITER]);
            world.run_for(SECOND);
            let late = (0..4).map(|_| world.call_and_wait(client, Ask::new("echo"))).last().unwrap();
            assert_eq!(refusal(&world, late), None, "{what}");
            assert!(answers(&mut world, "ok") > 0, "{what}");
        }
    }
}

#[test]
fn what_is_over_its_limit_is_known_for_as_long_as_the_service_says() {
    let mut world = world(&limit());
    world.judge(|asked, _| match &*asked.descriptors[0][0].1 {
        "hot" => (MS, Say::Body(body(2, &[3, 7, 5]))),
        "odd" => (MS, Say::Body(body(2, &[]))),
        _ => (MS, Say::Ok),
    });
    let client = world.connect();
    for method in ["hot", "hot", "hot", "odd", "odd", "cold", "cold"] {
        let call = world.call_and_wait(client, Ask::new(method));
        assert_eq!(refusal(&world, call).is_some(), method != "cold");
    }
    assert_eq!(world.limiter.asked.len(), 5, "hot once");
    assert_eq!((answers(&mut world, "cached"), answers(&mut world, "over_limit")), (2, 3));
    assert_eq!(world.sum(Metric::LocalReplies("rate_limited")), 5);
    world.run_for(5 * SECOND);
    world.call_and_wait(client, Ask::new("hot"));
    assert_eq!(world.limiter.asked.len(), 5, "for the longest of its descriptors");
    world.run_for(2 * SECOND);
    says(&mut world, Say::Ok);
    let call = world.call_and_wait(client, Ask::new("hot"));
    assert_eq!(refusal(&world, call), None);
}

#[test]
fn no_answer_is_known_for_more_than_a_minute() {
    for reset in [3600, u64::MAX >> 1] {
        let mut world = world(&limit());
        says(&mut world, Say::Over(reset));
        let client = world.connect();
        let is_refused = |world: &mut World| {
            let call = world.call_and_wait(client, Ask::new("hot"));
            refusal(world, call).is_some()
        };
        assert!(is_refused(&mut world));
        says(&mut world, Say::Ok);
        world.run_for(59 * SECOND);
        assert!(is_refused(&mut world));
        world.run_for(2 * SECOND);
        assert!(!is_refused(&mut world));
    }
}

#[test]
fn what_is_known_takes_bounded_memory() {
    let mut limit = limit();
    limit["descriptors"] = json!([[{"key": "tenant", "attribute": "tenant"}]]);
    let mut world = world(&limit);
    says(&mut world, Say::Over(3600));
    let client = world.connect();
    for n in 0..3000 {
        let call = world.call(client, Ask::new("echo").with("tenant", &n.to_string()));
        world.await_all(&[call]);
    }
    let asked = world.limiter.asked.len();
    for n in 0..3000 {
        let call = world.call(client, Ask::new("echo").with("tenant", &n.to_string()));
        world.await_all(&[call]);
    }
    let known = 3000 - (world.limiter.asked.len() - asked);
    assert!(known <= 1024, "{known}");
}

#[test]
fn the_times_of_the_route_run_while_the_service_is_asked() {
    let mut limit = strict();
    limit["timeout"] = json!("5s");
    let mut world = world_of(&limit, &json!({"timeout": "30ms"}));
    says(&mut world, Say::Nothing);
    let client = world.connect();
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), Some(SERVER_TIMEOUT));
    assert!(took(&world, call) < 50 * MS, "{:?}", took(&world, call));
    world.run_for(SECOND);
    assert_eq!(world.limiter.cancelled, 1, "the service is told");
    // What is held back after the answer has its time from then on.
    let fault = json!({"timeout": "30ms", "fault": {"delay": {"duration": "2s"}}});
    world.set_plan(&plan(&limit, &fault));
    says(&mut world, Say::Ok);
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].error(), None);
    assert!(took(&world, call) >= 2 * SECOND);
    let abort = json!({"fault": {"abort": {"message": "on purpose"}}});
    world.set_plan(&plan(&limit, &abort));
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.calls[call].deliveries.len(), 0);
}

#[test]
fn a_client_that_leaves_takes_its_questions_along() {
    let mut world = world(&limit());
    world.judge(|_, _| (20 * MS, Say::Ok));
    let (client, other) = (world.connect(), world.connect());
    world.call_all(client, (0..50).map(|_| Ask::new("echo")));
    world.run_for(10 * MS);
    world.leave(client);
    // Its places are taken by others, for which the late answers are not.
    says(&mut world, Say::Over(0));
    let calls = world.call_all(other, (0..50).map(|_| Ask::new("other")));
    world.await_all(&calls);
    assert!(calls.iter().all(|&call| refusal(&world, call).is_some()));
    world.run_for(SECOND);
    assert_eq!(world.calls.iter().map(|call| call.deliveries.len()).sum::<usize>(), 0);
    assert_eq!((world.limiter.cancelled, world.sum(Metric::InFlight)), (50, 0));
    assert_eq!((answers(&mut world, "ok"), world.kept()), (0, 0));
}

#[test]
fn answers_that_overtake_each_other_find_their_calls() {
    let mut world = world(&limit());
    world.judge(|asked, random| {
        let is_over = asked.descriptors[0][0].1.starts_with("hot");
        (MS * random.below(40) as u32, if is_over { Say::Over(0) } else { Say::Ok })
    });
    let client = world.connect();
    let asks = (0..400).map(|n| Ask::new(&format!("{}{n}", if n % 3 == 0 { "hot" } else { "cold" })));
    let calls = world.call_all(client, asks);
    world.await_all(&calls);
    for (n, &call) in calls.iter().enumerate() {
        assert_eq!(refusal(&world, call).is_some(), n % 3 == 0, "{n}");
    }
}

#[test]
fn an_endpoint_that_hangs_is_left() {
    let mut world = world(&limit());
    let cluster = "outbound|8081||limiter.demo.svc.cluster.local";
    world.limiter_cluster(cluster, &["10.0.9.2:8081", LIMITER]);
    world.judge(|asked, _| (MS, if asked.endpoint == LIMITER { Say::Nothing } else { Say::Ok }));
    let client = world.connect();
    for _ in 0..20 {
        world.call_and_wait(client, Ask::new("echo"));
    }
    assert_eq!((answers(&mut world, "deadline"), answers(&mut world, "ok")), (3, 17));
    assert!(world.manager.streams_to(LIMITER).is_empty());
}

#[test]
fn a_service_that_pings_and_reads_nothing_is_left() {
    let mut world = world(&limit());
    says(&mut world, Say::Ok);
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let [stream] = world.manager.streams_to(LIMITER)[..] else { panic!("one connection") };
    world.set_server_reading(stream, false);
    for _ in 0..200 {
        world.limiter_pings(stream, 1000);
        world.run_for(MS);
    }
    assert!(!world.manager.streams_to(LIMITER).contains(&stream));
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(refusal(&world, call), None);
    assert_eq!(answers(&mut world, "ok"), 2);
}

#[test]
fn one_way_calls_are_asked_about_and_copies_and_retries_are_not() {
    let route = json!({
        "mirrors": [{"cluster": "shadow"}],
        "retry": {"attempts": 2, "on": ["status"], "statuses": [80], "backoff": {"base": "1ms", "max": "1ms"}},
    });
    let mut world = world_of(&limit(), &route);
    world.cluster("shadow", &["10.0.1.1:20880"], Policy::RoundRobin);
    world.serve(|arrival, _| match arrival.method {
        "broken" if arrival.endpoint.starts_with("10.0.0") => What::Error(80).now(),
        _ => Reply::echo(),
    });
    let client = world.connect();
    let broken = world.call_and_wait(client, Ask::new("broken"));
    assert_eq!((world.calls[broken].error(), world.limiter.asked.len()), (Some(80), 1));
    let tell = world.call(client, Ask::new("tell").one_way());
    world.run_for(SECOND);
    assert_eq!((world.calls[tell].deliveries.len(), world.limiter.asked.len()), (2, 2));
    says(&mut world, Say::Over(0));
    let tell = world.call(client, Ask::new("tell").one_way());
    let refused = world.call_and_wait(client, Ask::new("echo"));
    world.run_for(SECOND);
    assert!(refusal(&world, refused).is_some());
    assert!(world.calls[tell].deliveries.is_empty(), "no copy of it either");
}

#[test]
fn connections_are_renewed_and_none_is_kept_for_nothing() {
    let mut world = world(&strict());
    let cluster = "outbound|8081||limiter.demo.svc.cluster.local";
    world.limiter_cluster(cluster, &[LIMITER, "10.0.9.2:8081"]);
    world.manager.connect_time = (40_000_000, 40_000_000);
    let client = world.connect();
    for _ in 0..300 {
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(refusal(&world, call), None, "the old one serves until the new one is open");
        world.run_for(SECOND);
    }
    let opened = |world: &World| world.manager.asked.iter().filter(|asked| asked.cluster == cluster).count();
    assert_eq!(opened(&world), 5);
    world.run_for(70 * SECOND);
    let open = [LIMITER, "10.0.9.2:8081"].map(|endpoint| world.manager.streams_to(endpoint).len());
    assert_eq!(open, [0, 0], "not used for a minute");
    world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(opened(&world), 6);
    world.set_plan(&json!({"services": {"demo": {"protocol": "dubbo"}}}));
    world.run_for(SECOND);
    let open = [LIMITER, "10.0.9.2:8081"].map(|endpoint| world.manager.streams_to(endpoint).len());
    assert_eq!(open, [0, 0], "no plan names it");
}

#[test]
fn what_is_asked_when_the_proxy_drains_is_answered() {
    let mut world = world(&strict());
    world.judge(|_, _| (30 * MS, Say::Ok));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let call = world.call(client, Ask::new("echo"));
    world.run_for(5 * MS);
    world.give_notice();
    world.go_away();
    world.await_all(&[call]);
    assert_eq!(refusal(&world, call), None);
    // While the connection is there it is asked.
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(refusal(&world, call), None);
    for stream in world.manager.streams_to(LIMITER) {
        world.close_upstream(stream, true);
    }
    world.run_for(10 * MS);
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(refusal(&world, call), Some("meltemi: the rate limit service cannot be reached"));
}
