//! What is done with calls beside routing them: rate limits and faults.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use meltemi_tests::dubbo::Frame;
use meltemi_tests::{Backend, Client, Setup, each_envoy, eventually, server_of};
use serde_json::{Value, json};

const SERVICE_ERROR: u8 = 70;
const THREADPOOL_EXHAUSTED: u8 = 100;

/// A client keeps so many calls in flight.
const IN_FLIGHT: u64 = 16;

/// The answers of servers to clients that call `address` for `time`, as often as they can; and how long that took.
fn passed(address: SocketAddr, time: Duration) -> (u64, Duration) {
    let passed = AtomicU64::default();
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                (0..IN_FLIGHT).for_each(|id| client.send(&Frame::request(id, "sayHello", "x")));
                let mut waiting = IN_FLIGHT;
                while waiting > 0 {
                    let answer = client.receive();
                    match answer.message() {
                        None => _ = passed.fetch_add(1, Ordering::Relaxed),
                        Some(_) => assert_eq!(answer.status, THREADPOOL_EXHAUSTED, "{answer:?}"),
                    }
                    waiting -= 1;
                    if start.elapsed() < time {
                        client.send(&Frame::request(answer.id, "sayHello", "x"));
                        waiting += 1;
                    }
                }
            });
        }
    });
    (passed.into_inner(), start.elapsed())
}

#[test]
fn a_rate_is_right_whatever_the_number_of_workers() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        for workers in [1, 2, 4] {
            // More than the calls of a moment in which the machine does something else.
            let (most, fill, interval) = (1000, 50, Duration::from_millis(50));
            let service = json!({
                "protocol": "dubbo",
                "localRateLimit": {"tokenBucket": {"maxTokens": most, "tokensPerFill": fill, "fillInterval": "50ms"}},
            });
            let setup = Setup::new().servers(v1.address(), v2.address()).service(&service);
            let proxy = setup.concurrency(workers).start(envoy);
            let (passed, time) = passed(proxy.meltemi(), Duration::from_secs(4));
            let fills = (time.as_nanos() / interval.as_nanos()) as u64;
            let range = (most + fill * (fills - 1)) * 98 / 100..=most + fill * (fills + 1);
            assert!(range.contains(&passed), "{workers} workers: {passed} of {range:?} in {time:?}");
        }
    });
}

fn limited(most: u32) -> Value {
    json!({
        "protocol": "dubbo",
        "localRateLimit": {"conditions": [{
            "match": [{"attributes": {"method": {"exact": "sayHello"}}}],
            "tokenBucket": {"maxTokens": most, "fillInterval": "1h"},
        }]},
    })
}

#[test]
fn buckets_outlive_updates_and_other_calls_pass() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let mut proxy = Setup::new().servers(v1.address(), v2.address()).service(&limited(2)).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let passed = |client: &mut Client| {
            (0..10).filter(|_| client.call("sayHello", "x").status != THREADPOOL_EXHAUSTED).count()
        };
        assert_eq!(passed(&mut client), 2);
        server_of(&client.call("whoami", "x"), "x");
        let answer = client.call("sayHello", "x");
        assert_eq!(answer.message().as_deref(), Some("meltemi: over the rate limit of 1 calls in 1h"));
        let mut service = limited(2);
        service["defaultRoute"] = json!({"timeout": "1h"});
        proxy.update_service(&service);
        assert_eq!(passed(&mut client), 0, "the same bucket");
        proxy.update_service(&limited(3));
        assert_eq!(passed(&mut client), 3, "another bucket");
        let labels = ["method=\"sayHello\"", "reason=\"rate_limited\""];
        eventually("local replies are counted", || {
            (proxy.metric("meltemi_local_replies_total", &labels) == 8 + 1 + 10 + 7).then_some(())
        });
        assert!(proxy.log().contains("over the rate limit"), "{}", proxy.log());
    });
}

#[test]
fn workers_that_meet_at_a_new_bucket_share_it() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let methods: Vec<String> = (0..300).map(|n| format!("method{n}")).collect();
        let conditions = methods.iter().map(|method| {
            json!({
                "match": [{"attributes": {"method": {"exact": method}}}],
                "tokenBucket": {"maxTokens": 1, "fillInterval": "1h"},
            })
        });
        let service =
            json!({"protocol": "dubbo", "localRateLimit": {"conditions": conditions.collect::<Vec<_>>()}});
        let setup = Setup::new().servers(v1.address(), v2.address()).service(&service);
        let proxy = setup.concurrency(4).start(envoy);
        let clients: Vec<Client> = (0..16).map(|_| Client::connect(proxy.meltemi())).collect();
        let together = Barrier::new(clients.len());
        let calls = |mut client: Client| {
            together.wait();
            (0..).zip(&methods).for_each(|(id, method)| client.send(&Frame::request(id, method, "x")));
            let answers: Vec<_> = methods.iter().map(|_| client.receive()).collect();
            answers.iter().filter(|answer| answer.status != THREADPOOL_EXHAUSTED).count()
        };
        let passed: usize = thread::scope(|scope| {
            let calls = &calls;
            let callers: Vec<_> =
                clients.into_iter().map(|client| scope.spawn(move || calls(client))).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).sum()
        });
        assert_eq!(passed, methods.len());
    });
}

#[test]
fn faults_delay_and_abort_calls() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let route = |name: &str, fault: Value| json!({"name": name, "match": [{"attributes": {"method": {"exact": name}}}], "fault": fault});
        let service = json!({
            "protocol": "dubbo",
            "routes": [
                route("late", json!({"delay": {"duration": "300ms"}})),
                route("sayHello", json!({"abort": {"percent": 50, "message": "on purpose"}})),
            ],
        });
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let start = Instant::now();
        client.call("late", "x");
        assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
        let answers: Vec<_> = (0..400).map(|_| client.call("sayHello", "x")).collect();
        let aborted: Vec<_> = answers.iter().filter(|answer| answer.message().is_some()).collect();
        // Five standard deviations.
        assert!((150..=250).contains(&aborted.len()), "{}", aborted.len());
        for answer in aborted {
            let message = answer.message().unwrap();
            assert_eq!((answer.status, message.as_str()), (SERVICE_ERROR, "meltemi: on purpose"));
        }
    });
}
