//! Second tries beside one that has no answer yet.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::{SERVER_TIMEOUT, THREADPOOL_EXHAUSTED};
use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";

const MS: Duration = Duration::from_millis(1);

/// The service with these fields beside its retries, with two endpoints.
fn world_with(mut service: Value, retry: Value) -> World {
    service["protocol"] = json!("dubbo");
    service["defaultRoute"]["retry"] = retry;
    let plan = json!({"services": {"demo": service}, "accessLog": {}});
    let mut world = World::new(Setup { plan, ..Setup::default() });
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    world
}

/// Second tries after 20 ms.
fn world(mut retry: Value) -> World {
    retry["hedge"] = json!({"after": "20ms"});
    retry["backoff"] = json!({"base": "0s"});
    world_with(json!({}), retry)
}

/// A client whose pool knows all endpoints.
fn client(world: &mut World) -> usize {
    world.serve(|_, _| Reply::echo());
    let client = world.connect();
    for _ in 0..4 {
        let call = world.call_and_wait(client, Ask::new("warm-up"));
        assert_eq!((world.calls[call].error(), tries(world, call).len()), (None, 1));
    }
    client
}

/// Has the tries of a call end so, in their order; the last of these for all that follow.
fn serve(world: &mut World, replies: &[(u32, What)]) {
    let replies = replies.to_vec();
    world.serve(move |arrival, _| {
        let (after, what) = replies.get(arrival.times - 1).or(replies.last()).unwrap().clone();
        what.after(after * MS)
    });
}

/// The endpoints that saw a call, in their order.
fn tries(world: &World, call: usize) -> Vec<String> {
    world.calls[call].deliveries.iter().map(|delivery| delivery.endpoint.clone()).collect()
}

/// Milliseconds until a call was answered.
fn took(world: &World, call: usize) -> u64 {
    (world.calls[call].answer.as_ref().unwrap().at - world.calls[call].sent_at) / 1_000_000
}

/// Which try of a call was answered first, of how many, and when; both end as `replies` say.
fn ended(world: &mut World, client: usize, replies: &[(u32, What)]) -> (Result<usize, u32>, usize, u64) {
    serve(world, replies);
    let call = world.call_and_wait(client, Ask::new("echo"));
    let took = took(world, call) / 10 * 10;
    world.run_for(Duration::from_secs(1));
    let tries = tries(world, call);
    if let [first, second, ..] = &tries[..] {
        assert_ne!(first, second);
    }
    let answered = match world.calls[call].endpoint() {
        Some(endpoint) => {
            let line = world.metrics.replies.last().unwrap();
            assert_eq!((line.endpoint.as_deref(), line.tries), (Some(endpoint), tries.len() as u32));
            Ok(tries.iter().position(|tried| tried == endpoint).unwrap())
        }
        None => Err(world.calls[call].error().unwrap()),
    };
    (answered, tries.len(), took)
}

const ECHO: What = What::Echo(0);

#[test]
fn the_first_answer_is_that_of_the_call() {
    let mut world = world(json!({}));
    let client = client(&mut world);
    for _ in 0..4 {
        assert_eq!(ended(&mut world, client, &[(200, ECHO), (11, ECHO)]), (Ok(1), 2, 30));
        assert_eq!(ended(&mut world, client, &[(42, ECHO), (200, ECHO)]), (Ok(0), 2, 40));
        assert_eq!(ended(&mut world, client, &[(17, ECHO), (1, ECHO)]), (Ok(0), 1, 10));
    }
    let counted = [Metric::Hedges, Metric::Retries, Metric::UnmatchedResponses].map(|of| world.sum(of));
    assert_eq!(counted, [8, 8, 8]);
    assert_eq!(world.manager.open(), 2, "a late answer costs no connection");
}

#[test]
fn a_try_that_fails_does_not_end_a_call_that_has_another() {
    let retries = json!({"on": ["reset", "status"], "statuses": [100], "attempts": 1});
    let never = json!({"on": ["connect-failure"]});
    for (retry, retries_status) in [(retries, true), (never, false)] {
        for failed in [What::Close, What::Reset, What::Error(THREADPOOL_EXHAUSTED)] {
            let is_answer = matches!(failed, What::Error(_)) && !retries_status;
            let end = |replies: &[(u32, What)]| {
                let mut world = world(retry.clone());
                let client = client(&mut world);
                ended(&mut world, client, replies)
            };
            let first = end(&[(32, failed.clone()), (41, ECHO)]);
            let second = end(&[(71, ECHO), (11, failed.clone())]);
            let error = Err(THREADPOOL_EXHAUSTED);
            assert_eq!(first, if is_answer { (error, 2, 30) } else { (Ok(1), 2, 60) }, "{failed:?}");
            assert_eq!(second, if is_answer { (error, 2, 30) } else { (Ok(0), 2, 70) }, "{failed:?}");
        }
    }
}

#[test]
fn a_call_whose_tries_both_fail_is_tried_again_if_its_attempts_allow() {
    let error = What::Error(THREADPOOL_EXHAUSTED);
    let replies = [(32, error.clone()), (25, error), (11, ECHO)];
    let retry = |attempts| json!({"on": ["status"], "statuses": [100], "attempts": attempts});
    let mut world_of_one = world(retry(1));
    let only = client(&mut world_of_one);
    assert_eq!(ended(&mut world_of_one, only, &replies), (Err(THREADPOOL_EXHAUSTED), 2, 40));
    let mut world = world(retry(2));
    let client = client(&mut world);
    serve(&mut world, &replies);
    let call = world.call_and_wait(client, Ask::new("echo"));
    assert_eq!((world.calls[call].error(), tries(&world, call).len(), took(&world, call) / 10), (None, 3, 5));
    assert_eq!([Metric::Hedges, Metric::Retries].map(|of| world.sum(of)), [1, 2]);
}

#[test]
fn each_try_has_its_own_time() {
    let mut world = world(json!({"on": ["per-try-timeout"], "perTryTimeout": "50ms", "attempts": 3}));
    let client = client(&mut world);
    serve(&mut world, &[(0, What::Nothing)]);
    let call = world.call_and_wait(client, Ask::new("echo"));
    // The second pair begins when the first is over.
    let at =
        |n: usize| (world.calls[call].deliveries[n].at - world.calls[call].sent_at) / 1_000_000 / 10 * 10;
    assert_eq!([0, 1, 2, 3].map(at), [0, 20, 70, 90]);
    assert_eq!((world.calls[call].error(), took(&world, call) / 10), (Some(SERVER_TIMEOUT), 14));
    assert_eq!([Metric::Timeouts, Metric::Hedges].map(|of| world.sum(of)), [4, 2]);
}

#[test]
fn the_time_of_the_call_is_that_of_both_tries() {
    let service = json!({"defaultRoute": {"timeout": "50ms"}});
    let mut world = world_with(service, json!({"hedge": {"after": "20ms"}}));
    let client = client(&mut world);
    assert_eq!(ended(&mut world, client, &[(100, ECHO), (100, ECHO)]), (Err(SERVER_TIMEOUT), 2, 50));
    assert_eq!(world.sum(Metric::UnmatchedResponses), 2);
}

#[test]
fn endpoints_whose_weights_are_kept_get_second_tries_too() {
    let service = json!({"upstream": {"keepWeights": true}});
    let mut world = world_with(service, json!({"hedge": {"after": "20ms"}}));
    let client = client(&mut world);
    assert_eq!(ended(&mut world, client, &[(100, ECHO), (11, ECHO)]), (Ok(1), 2, 30));
}

#[test]
fn a_client_that_leaves_takes_both_tries_with_it() {
    let mut world = world(json!({}));
    let client = client(&mut world);
    serve(&mut world, &[(100, ECHO)]);
    let call = world.call(client, Ask::new("echo"));
    world.run_for(30 * MS);
    assert_eq!(tries(&world, call).len(), 2);
    world.leave(client);
    world.run_for(Duration::from_secs(1));
    let counted = [Metric::Cancelled, Metric::UnmatchedResponses, Metric::InFlight];
    assert_eq!(counted.map(|of| world.sum(of)), [1, 2, 0]);
    assert_eq!(world.manager.open(), 2);
}

#[test]
fn a_call_of_a_proxy_that_drains_is_answered() {
    let mut world = world(json!({}));
    let client = client(&mut world);
    serve(&mut world, &[(100, ECHO)]);
    let before = world.call(client, Ask::new("echo"));
    world.run_for(10 * MS);
    world.go_away();
    let after = world.call(client, Ask::new("echo"));
    world.await_all(&[before, after]);
    assert_eq!([before, after].map(|call| world.calls[call].error()), [None, None]);
}

#[test]
fn the_retry_budget_holds_for_second_tries() {
    for (budget, wanted) in [(0, 0), (3, 3)] {
        let service = json!({"retryBudget": {"percent": 0, "minRetries": budget}});
        let mut world = world_with(service, json!({"hedge": {"after": "20ms"}}));
        let client = client(&mut world);
        for _ in 0..2 {
            serve(&mut world, &[(100, ECHO)]);
            let calls = world.call_all(client, (0..10).map(|_| Ask::new("echo")));
            world.await_all(&calls);
            let hedged = calls.iter().filter(|call| tries(&world, **call).len() == 2).count();
            assert_eq!(hedged, wanted, "what was taken is given back");
        }
    }
}

#[test]
fn a_circuit_breaker_counts_both_tries() {
    let service = |most| json!({"upstream": {"circuitBreaker": {"maxCalls": most}}});
    let retry = json!({"hedge": {"after": "20ms"}, "attempts": 1});
    let mut world = world_with(service(2), retry.clone());
    let caller = client(&mut world);
    for _ in 0..3 {
        serve(&mut world, &[(100, ECHO)]);
        let call = world.call(caller, Ask::new("echo"));
        world.run_for(30 * MS);
        assert_eq!(tries(&world, call).len(), 2);
        let other = world.call_and_wait(caller, Ask::new("echo"));
        assert_eq!(world.calls[other].error(), Some(THREADPOOL_EXHAUSTED));
        world.await_all(&[call]);
        assert_eq!(world.calls[call].error(), None);
    }
    let mut full = world_with(service(1), retry);
    let client = client(&mut full);
    assert_eq!(ended(&mut full, client, &[(100, ECHO), (1, ECHO)]), (Ok(0), 1, 100));
}

#[test]
fn an_endpoint_that_hangs_is_left_out_though_second_tries_are_answered_and_a_slow_one_is_not() {
    let detection = json!({"consecutiveFailures": 3});
    let budget = json!({"percent": 100});
    // Where no time is said, it is that of Envoy's routes.
    for (route, pause) in [(json!({"timeout": "500ms"}), 4 * MS), (json!({}), 100 * MS)] {
        for (does, is_left_out) in [(What::Nothing.now(), true), (ECHO.after(100 * MS), false)] {
            let service = json!({"defaultRoute": route, "retryBudget": budget,
                "upstream": {"outlierDetection": detection}});
            let mut world = world_with(service, json!({"hedge": {"after": "20ms"}}));
            let client = client(&mut world);
            world.serve(move |arrival, _| if arrival.endpoint == A { does.clone() } else { Reply::echo() });
            let mut calls = Vec::new();
            for _ in 0..400 {
                calls.push(world.call(client, Ask::new("echo")));
                world.run_for(pause);
            }
            world.await_all(&calls);
            assert!(calls.iter().all(|call| world.calls[*call].error().is_none()));
            let late = calls.split_off(200);
            let is_tried = late.iter().any(|call| tries(&world, *call).iter().any(|endpoint| endpoint == A));
            let ejections = world.sum(Metric::OutlierEjections);
            assert_eq!((is_tried, ejections), (!is_left_out, i64::from(is_left_out)), "{route}");
        }
    }
}

#[test]
fn the_endpoints_of_both_tries_are_judged_when_the_time_of_the_call_is_over() {
    let service = json!({"defaultRoute": {"timeout": "50ms"}, "retryBudget": {"percent": 100},
        "upstream": {"outlierDetection": {"consecutiveFailures": 3}}});
    // The second has less time than the call: it is no failure of a server that answers now and then.
    for (hangs, wanted) in [(true, 1), (false, 0)] {
        let mut world = world_with(service.clone(), json!({"hedge": {"after": "20ms"}}));
        world.cluster("demo", &[A, B, "10.0.0.3:20880"], Policy::RoundRobin);
        let client = client(&mut world);
        // Each endpoint gets two of the first tries.
        for _ in 0..6 {
            serve(&mut world, &[(0, What::Nothing)]);
            let call = world.call_and_wait(client, Ask::new("echo"));
            assert_eq!((world.calls[call].error(), tries(&world, call).len()), (Some(SERVER_TIMEOUT), 2));
            if !hangs {
                serve(&mut world, &[(5, ECHO)]);
                let calls = world.call_all(client, [Ask::new("echo"), Ask::new("echo")]);
                world.await_all(&calls);
            }
        }
        assert_eq!(world.sum(Metric::OutlierEjections), wanted);
    }
}

#[test]
fn a_second_try_is_made_where_one_more_endpoint_is_and_never_on_the_same_connection() {
    let mut world = world(json!({}));
    world.cluster("demo", &[A], Policy::RoundRobin);
    let client = client(&mut world);
    assert_eq!(world.manager.open(), 1);
    assert_eq!(ended(&mut world, client, &[(100, ECHO), (1, ECHO)]), (Ok(0), 1, 100));
    assert_eq!(world.sum(Metric::Hedges), 0);
}

#[test]
fn what_has_no_one_answer_or_one_endpoint_gets_no_second_try() {
    let slow = |world: &mut World, ask: Ask| {
        let client = client(world);
        serve(world, &[(100, ECHO)]);
        let call = world.call(client, ask.with("key", "k"));
        world.run_for(Duration::from_secs(1));
        assert_eq!((tries(world, call).len(), world.sum(Metric::Hedges)), (1, 0));
    };
    slow(&mut world(json!({})), Ask::new("log").one_way());
    let retry = json!({"hedge": {"after": "20ms"}});
    slow(&mut world_with(json!({"upstream": {"sharing": "pinned"}}), retry.clone()), Ask::new("echo"));
    let hashed = json!({"defaultRoute": {"hashBy": ["key"]}});
    slow(&mut world_with(hashed, retry.clone()), Ask::new("echo"));
    // It passes through, since nothing but a connect failure has it sent again.
    let cut = json!({"limits": {"cutThroughBytes": 1024}});
    slow(&mut world_with(cut.clone(), retry.clone()), Ask::new("echo").size(200_000));
    // This one is stored, and its answer passes through.
    let mut world = world_with(cut, json!({"hedge": {"after": "20ms"}, "on": ["reset"]}));
    let client = client(&mut world);
    for tail in [60_000, 100_000] {
        serve(&mut world, &[(35, What::Echo(tail)), (15, What::Echo(tail))]);
        let call = world.call_and_wait(client, Ask::new("echo").size(20_000));
        assert_eq!((world.calls[call].error(), tries(&world, call).len()), (None, 2));
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.proxy.clients[client].reset, None);
}

#[test]
fn a_percentile_is_known_after_a_hundred_calls_and_kept_in_the_next_plan() {
    let hedge = json!({"hedge": {"percentile": 90}});
    let mut world = world_with(json!({}), hedge.clone());
    let client = client(&mut world);
    let usual = |world: &mut World, count| {
        serve(world, &[(5, ECHO)]);
        for _ in 0..count {
            let call = world.call_and_wait(client, Ask::new("echo"));
            assert_eq!(tries(world, call).len(), 1);
        }
    };
    usual(&mut world, 90);
    assert_eq!(ended(&mut world, client, &[(400, ECHO), (1, ECHO)]), (Ok(0), 1, 400), "too few calls");
    usual(&mut world, 20);
    let second = |world: &mut World| ended(world, client, &[(400, ECHO), (2, ECHO)]);
    let (answered, count, took) = second(&mut world);
    assert!(answered == Ok(1) && count == 2 && took <= 20, "{took}");
    for (name, is_kept) in [("demo", true), ("other", false)] {
        let route = json!({"name": name, "retry": hedge});
        let own = if is_kept { json!({"retry": hedge}) } else { json!({}) };
        let service = json!({"protocol": "dubbo", "routes": if is_kept { json!([]) } else { json!([route]) },
            "defaultRoute": own});
        world.set_plan(&json!({"services": {"demo": service}, "accessLog": {}}));
        let (answered, count, _) = second(&mut world);
        let wanted = if is_kept { (Ok(1), 2) } else { (Ok(0), 1) };
        assert_eq!((answered, count), wanted, "{name}");
    }
}

#[test]
fn a_second_try_goes_elsewhere_where_connections_that_have_one_call_were_renewed() {
    let service = json!({"protocol": "ordered", "upstream": {"maxConnectionAge": "2s"},
        "defaultRoute": {"retry": {"hedge": {"after": "20ms"}}}});
    let plan = json!({"services": {"demo": service}});
    let wire = std::rc::Rc::new(&crate::toy::ORDERED);
    let mut world = World::new(Setup { plan, wire, ..Setup::default() });
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    let clients = [(); 4].map(|()| world.connect());
    for _ in 0..20 {
        serve(&mut world, &[(5, ECHO)]);
        let calls = clients.map(|client| world.call(client, Ask::new("echo")));
        world.await_all(&calls);
        world.run_for(500 * MS);
        serve(&mut world, &[(100, ECHO), (5, ECHO)]);
        let call = world.call_and_wait(clients[0], Ask::new("echo"));
        world.run_for(200 * MS);
        let tries = tries(&world, call);
        assert!(tries.len() == 2 && tries[0] != tries[1], "{tries:?}, {} open", world.manager.open());
    }
}
