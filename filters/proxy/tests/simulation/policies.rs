//! What is done with calls beside routing them: rate limits and faults.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::THREADPOOL_EXHAUSTED;
use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const SERVICE_ERROR: u32 = 70;
const SECOND: Duration = Duration::from_secs(1);

fn world(service: Value) -> World {
    let mut world = World::new(Setup { plan: plan(service), ..Setup::default() });
    world.cluster("demo", &["10.0.0.1:20880"], Policy::RoundRobin);
    world
}

fn plan(mut service: Value) -> Value {
    service["protocol"] = json!("dubbo");
    json!({"services": {"demo": service}})
}

/// How many of `count` calls are answered by a server, one after the other.
fn passed(world: &mut World, client: usize, method: &str, count: usize) -> usize {
    let calls: Vec<_> = (0..count).map(|_| world.call_and_wait(client, Ask::new(method))).collect();
    let errors: Vec<_> = calls.iter().filter_map(|&call| world.calls[call].error()).collect();
    assert!(errors.iter().all(|&status| status == THREADPOOL_EXHAUSTED), "{errors:?}");
    count - errors.len()
}

/// How often servers were called.
fn deliveries(world: &World) -> usize {
    world.calls.iter().map(|call| call.deliveries.len()).sum()
}

fn limits() -> Value {
    json!({
        "tokenBucket": {"maxTokens": 5, "tokensPerFill": 3, "fillInterval": "1s"},
        "conditions": [
            {
                "match": [{"attributes": {"method": {"exact": "hot"}}}],
                "tokenBucket": {"maxTokens": 2, "fillInterval": "60s"},
            },
            {
                "match": [{"attributes": {"tenant": {"exact": "vip"}}}],
                "tokenBucket": {"maxTokens": 1000, "fillInterval": "1s"},
            },
        ],
    })
}

#[test]
fn the_first_condition_that_matches_says_how_many_calls_pass() {
    let mut world = world(json!({"localRateLimit": limits()}));
    let client = world.connect();
    assert_eq!(passed(&mut world, client, "cold", 20), 5);
    assert_eq!(passed(&mut world, client, "hot", 20), 2);
    let vip = world.call_and_wait(client, Ask::new("cold").with("tenant", "vip"));
    assert_eq!(world.calls[vip].error(), None);
    world.run_for(SECOND);
    assert_eq!(passed(&mut world, client, "cold", 20), 3, "the bucket was filled");
    world.run_for(10 * SECOND);
    assert_eq!(passed(&mut world, client, "cold", 20), 5, "and is full by now");
    assert_eq!(passed(&mut world, client, "hot", 20), 0);
    assert_eq!(world.sum(Metric::LocalReplies("rate_limited")), 15 + 18 + 17 + 15 + 20);
    let reply = world.metrics.replies.iter().find(|reply| reply.reason == "rate_limited").unwrap();
    assert_eq!(reply.detail, "over the rate limit of 3 calls in 1s");
}

#[test]
fn one_way_calls_are_limited_and_heartbeats_are_not() {
    let mut world = world(json!({"localRateLimit": {"tokenBucket": {"maxTokens": 3, "fillInterval": "1h"}}}));
    let client = world.connect();
    for _ in 0..10 {
        world.call(client, Ask::new("tell").one_way());
        world.heartbeat(client);
        world.run_for(SECOND);
    }
    assert_eq!(deliveries(&world), 3);
    assert_eq!(world.sum(Metric::Heartbeats), 10);
}

#[test]
fn a_bucket_outlives_a_plan_that_says_the_same_of_it() {
    let mut world = world(json!({"localRateLimit": limits()}));
    let client = world.connect();
    assert_eq!(passed(&mut world, client, "hot", 1), 1);
    let mut changed = json!({"localRateLimit": limits(), "idleTimeout": "1h"});
    world.set_plan(&plan(changed.clone()));
    assert_eq!(passed(&mut world, client, "hot", 5), 1);
    changed["localRateLimit"]["conditions"][0]["tokenBucket"]["maxTokens"] = json!(3);
    world.set_plan(&plan(changed));
    assert_eq!(passed(&mut world, client, "hot", 5), 3, "it is another bucket");
}

fn fault(fault: Value) -> World {
    let mut world = world(json!({"defaultRoute": {"fault": fault, "timeout": "1s"}}));
    world.serve(|_, _| Reply::echo());
    world
}

#[test]
fn a_share_of_the_calls_is_held_back() {
    let mut world = fault(json!({"delay": {"percent": 20, "duration": "3s"}}));
    let client = world.connect();
    let calls = world.call_all(client, (0..1000).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    let times = calls.iter().map(|&call| {
        let call = &world.calls[call];
        assert_eq!(call.error(), None, "the timeout begins when the call goes on");
        Duration::from_nanos(call.answer.as_ref().unwrap().at - call.sent_at)
    });
    let (late, prompt): (Vec<_>, Vec<_>) = times.partition(|time| *time >= 3 * SECOND);
    assert!(prompt.iter().all(|time| *time < SECOND), "{prompt:?}");
    // Five standard deviations.
    assert!((137..=263).contains(&late.len()), "{}", late.len());
    assert_eq!(world.sum(Metric::Delays), late.len() as i64);
}

#[test]
fn a_share_of_the_calls_is_aborted_after_its_delay() {
    let mut world = fault(json!({
        "delay": {"duration": "500ms"}, "abort": {"percent": 50, "message": "on purpose"},
    }));
    let client = world.connect();
    let calls = world.call_all(client, (0..400).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    let mut aborted = 0;
    for &call in &calls {
        let call = &world.calls[call];
        let answer = call.answer.as_ref().unwrap();
        assert!(answer.at - call.sent_at >= 500_000_000);
        if let Err((status, text)) = &answer.result {
            assert_eq!((*status, text.as_str()), (SERVICE_ERROR, "meltemi: on purpose"));
            assert!(call.deliveries.is_empty());
            aborted += 1;
        }
    }
    assert!((150..=250).contains(&aborted), "{aborted}");
    assert_eq!(world.sum(Metric::LocalReplies("fault")), aborted);
}

#[test]
fn a_client_that_leaves_takes_its_held_calls_along() {
    let mut world = fault(json!({"delay": {"duration": "10s"}}));
    let client = world.connect();
    world.call_all(client, (0..100).map(|_| Ask::new("echo")));
    world.run_for(SECOND);
    world.leave(client);
    world.run_for(20 * SECOND);
    assert_eq!(deliveries(&world), 0);
    assert_eq!((world.sum(Metric::InFlight), world.sum(Metric::Cancelled)), (0, 100));
    assert_eq!(world.kept(), 0);
}

#[test]
fn calls_that_are_held_back_wait_for_no_answer_of_others() {
    let mut world = world(json!({
        "routes": [{
            "name": "slow", "match": [{"attributes": {"method": {"exact": "slow"}}}],
            "fault": {"delay": {"duration": "5s"}},
        }],
    }));
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(10)));
    let client = world.connect();
    let slow = world.call(client, Ask::new("slow"));
    for _ in 0..10 {
        let call = world.call_and_wait(client, Ask::new("quick"));
        let time = world.calls[call].answer.as_ref().unwrap().at - world.calls[call].sent_at;
        assert!(time < 100_000_000, "{time}");
    }
    assert!(world.calls[slow].answer.is_none());
    world.await_all(&[slow]);
    assert_eq!(world.calls[slow].error(), None);
}
