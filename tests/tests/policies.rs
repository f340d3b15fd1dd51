//! What is done with calls beside routing them: rate limits, faults and mirrors.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use meltemi_tests::dubbo::{Frame, INTERFACE};
use meltemi_tests::{Action, Backend, Client, DEADLINE, Setup, each_envoy, eventually, server_of};
use serde_json::{Value, json};

const SERVICE_ERROR: u8 = 70;
const THREADPOOL_EXHAUSTED: u8 = 100;

/// A client keeps so many calls in flight.
const IN_FLIGHT: u64 = 16;

/// What came of clients that called as often as they could.
struct Calls {
    began: Instant,
    /// When the first answer came.
    first: Instant,
    /// When the last call was made that was refused.
    refused: Instant,
    ended: Instant,
    passed: u64,
}

/// Lets clients call `address` as often as they can, until one is refused that was made after `time`.
fn call_all(address: SocketAddr, time: Duration) -> Calls {
    let began = Instant::now();
    let (passed, is_over) = (AtomicU64::default(), AtomicBool::default());
    let client = || {
        let mut client = Client::connect(address);
        let send = |client: &mut Client, id| client.send(&Frame::request(id, "sayHello", "x"));
        (0..IN_FLIGHT).for_each(|id| send(&mut client, id));
        let mut sent = [began; IN_FLIGHT as usize];
        let (mut waiting, mut first, mut refused) = (IN_FLIGHT, None, began);
        while waiting > 0 {
            let answer = client.receive();
            first = first.or_else(|| Some(Instant::now()));
            let made = &mut sent[answer.id as usize];
            if answer.message().is_none() {
                passed.fetch_add(1, Ordering::Relaxed);
            } else {
                assert_eq!(answer.status, THREADPOOL_EXHAUSTED, "{answer:?}");
                refused = refused.max(*made);
                is_over.fetch_or(*made >= began + time, Ordering::Relaxed);
            }
            waiting -= 1;
            assert!(began.elapsed() < time + DEADLINE, "no call is refused");
            if !is_over.load(Ordering::Relaxed) {
                *made = Instant::now();
                send(&mut client, answer.id);
                waiting += 1;
            }
        }
        (first.unwrap(), refused)
    };
    let times: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let first = times.iter().map(|(first, _)| *first).min().unwrap();
    let refused = times.iter().map(|(_, refused)| *refused).max().unwrap();
    Calls { began, first, refused, ended: Instant::now(), passed: passed.into_inner() }
}

#[test]
fn a_rate_is_right_whatever_the_number_of_workers() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        for workers in [1, 2, 4] {
            // More than comes in a moment in which the machine does something else, and less than is called for.
            let (most, fill, interval) = (1000, 10, Duration::from_millis(50));
            let service = json!({
                "protocol": "dubbo",
                "localRateLimit": {"tokenBucket": {"maxTokens": most, "tokensPerFill": fill, "fillInterval": "50ms"}},
            });
            let setup = Setup::new().servers(v1.address(), v2.address()).service(&service);
            let proxy = setup.concurrency(workers).start(envoy);
            let calls = call_all(proxy.meltemi(), Duration::from_secs(4));
            let fills = |time: Duration| (time.as_nanos() / interval.as_nanos()) as u64;
            // The bucket is new when the first call comes, and empty when one is refused.
            let least = fills(calls.refused.saturating_duration_since(calls.first)).saturating_sub(1);
            let range = most + fill * least..=most + fill * (fills(calls.ended - calls.began) + 1);
            assert!(range.contains(&calls.passed), "{workers} workers: {} of {range:?}", calls.passed);
        }
    });
}

/// Makes calls until both servers have answered one.
fn know_both(mut call: impl FnMut() -> Option<String>) {
    let mut known = BTreeSet::new();
    eventually("both endpoints are known", || {
        known.extend(call());
        (known.len() == 2).then_some(())
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
        // Six standard deviations.
        assert!((140..=260).contains(&aborted.len()), "{}", aborted.len());
        for answer in aborted {
            let message = answer.message().unwrap();
            assert_eq!((answer.status, message.as_str()), (SERVICE_ERROR, "meltemi: on purpose"));
        }
    });
}

#[test]
fn an_endpoint_that_fails_gets_no_calls_for_a_time() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        v1.on("sayHello", Action::Status(THREADPOOL_EXHAUSTED, "busy".to_owned()));
        let time = Duration::from_secs(3);
        let detection = json!({"consecutiveFailures": 3, "baseEjectionTime": "3s"});
        let service = json!({"protocol": "dubbo", "upstream": {"outlierDetection": detection}});
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let mut call = |method: &str| {
            let answer = client.call(method, "x");
            answer.message().is_none().then(|| server_of(&answer, "x"))
        };
        know_both(|| call("other"));
        let third = eventually("three calls fail", || {
            let start = Instant::now();
            (call("sayHello").is_none() && v1.calls("sayHello") == 3).then_some(start)
        });
        for _ in 0..200 {
            let passes = call("sayHello").is_some();
            if third.elapsed() >= time {
                // A busy machine.
                break;
            }
            assert!(passes, "it still gets calls");
        }
        eventually("Envoy counts it", || {
            (proxy.metric("meltemi_outlier_ejections_total", &[]) > 0).then_some(())
        });
        v1.on("sayHello", Action::Answer);
        eventually("it takes part again", || (call("sayHello")? == "v1").then_some(()));
    });
}

#[test]
fn an_endpoint_that_hangs_gets_few_calls() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        v1.on("sayHello", Action::Hold);
        let detection = json!({"consecutiveFailures": 3, "baseEjectionTime": "1h", "maxEjectionTime": "1h"});
        let hello = json!([{"attributes": {"method": {"exact": "sayHello"}}}]);
        let service = json!({
            "protocol": "dubbo",
            "routes": [{"name": "hello", "match": hello, "timeout": "1s"}],
            "upstream": {"outlierDetection": detection},
        });
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        know_both(|| Some(client.ask("other", "x")));
        for _ in 0..200 {
            client.call("sayHello", "x");
        }
        let calls = v1.calls("sayHello");
        assert!((1..=3).contains(&calls), "{calls}");
    });
}

#[test]
fn an_endpoint_of_which_fewer_calls_succeed_than_of_others_gets_none() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        v1.on("sayHello", Action::Status(THREADPOOL_EXHAUSTED, "busy".to_owned()));
        // Of two, each is one deviation from the mean.
        let detection = json!({
            "consecutiveFailures": 0, "successRateStdevFactor": 900, "successRateMinimumHosts": 2,
            "successRateRequestVolume": 10, "interval": "1s", "baseEjectionTime": "1h", "maxEjectionTime": "1h",
        });
        let service = json!({"protocol": "dubbo", "upstream": {"outlierDetection": detection}});
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        eventually("one is left out", || {
            (0..100).for_each(|_| _ = client.call("sayHello", "x"));
            (proxy.metric("meltemi_outlier_ejections_total", &[]) == 1).then_some(())
        });
        let calls = v1.calls("sayHello");
        for _ in 0..100 {
            assert_eq!(server_of(&client.call("sayHello", "x"), "x"), "v2");
        }
        assert_eq!(v1.calls("sayHello"), calls);
    });
}

#[test]
fn calls_over_a_circuit_breaker_are_answered_at_once() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        for backend in [&v1, &v2] {
            backend.on("held", Action::Hold);
        }
        let service = json!({"protocol": "dubbo", "upstream": {"circuitBreaker": {"maxCalls": 5}}});
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        (0..8).for_each(|id| client.send(&Frame::request(id, "held", "x")));
        for _ in 0..3 {
            let answer = client.receive();
            assert_eq!(answer.status, THREADPOOL_EXHAUSTED);
            assert!(answer.message().unwrap().contains("circuit breaker"), "{:?}", answer.message());
        }
        eventually("the others arrive", || (v1.received().len() + v2.received().len() == 5).then_some(()));
        v1.release();
        v2.release();
        (0..5).for_each(|_| assert_eq!(client.receive().message(), None));
        assert_eq!(client.call("sayHello", "x").message(), None);
    });
}

/// Whatever a mirror does: answer, hang, die, lie, fail, or not be there.
#[test]
fn mirrors_get_copies_and_touch_no_call() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let gone = "127.0.0.1:1".parse().unwrap();
        let kinds = [
            ("sayHello", Action::Answer, "success"),
            ("hangs", Action::Ignore, "timeout"),
            ("dies", Action::Reset, "connection_lost"),
            ("lies", Action::Raw(b"this is no frame of any protocol".to_vec()), "bad_response"),
            ("fails", Action::Status(THREADPOOL_EXHAUSTED, "the shadow is full".to_owned()), "error"),
        ];
        // Operations that routes name have metrics of their own, whether they are answered or not.
        let route = |method: &str, mirrors: Value| {
            json!({
                "name": method,
                "match": [{"attributes": {"interface": {"exact": INTERFACE}, "method": {"exact": method}}}],
                "cluster": "v1", "mirrors": mirrors, "requestAttachments": {"set": {"lane": "blue"}},
            })
        };
        let all = |timeout| json!([{"cluster": "v2", "timeout": timeout}, {"cluster": "gone"}, {"cluster": "none"}]);
        // Only who never answers is given up soon: others may take their time on a busy machine.
        let time = |action: &Action| if *action == Action::Ignore { "300ms" } else { "60s" };
        let mut routes: Vec<_> =
            kinds.iter().map(|(method, action, _)| route(method, all(time(action)))).collect();
        routes.push(route("tell", json!([{"cluster": "v2"}])));
        routes.push(route("half", json!([{"cluster": "v2", "percent": 50}])));
        let service = json!({"protocol": "dubbo", "routes": routes});
        let setup = Setup::new().servers(v1.address(), v2.address()).cluster("gone", &[gone]);
        let proxy = setup.service(&service).start(envoy);
        let counted = |method: &str, outcome: &str, count: u64| {
            let labels = [&*format!("method=\"{method}\""), &*format!("outcome=\"{outcome}\"")];
            eventually(&format!("copies are counted as {labels:?}"), || {
                (proxy.metric("meltemi_mirrored_total", &labels) == count).then_some(())
            });
        };
        let mut client = Client::connect(proxy.meltemi());
        for (method, action, outcome) in kinds {
            v2.on(method, action);
            for number in 0..20 {
                let text = format!("{method} {number}");
                let answer = client.call(method, text.as_str());
                assert_eq!(server_of(&answer, &text), "v1", "{answer:?}");
            }
            counted(method, outcome, 20);
            counted(method, "no_endpoint", 40);
        }
        client.send(&Frame::request(77, "tell", "x").one_way());
        v2.wait_for_calls("tell", 1);
        client.send(&Frame::heartbeat(78));
        assert!(client.receive().is_event());
        let is_copy = |frame: &Frame| frame.call().is_some_and(|call| call.method == "sayHello");
        let copy = v2.wait_for_frame("a copy", is_copy).call().unwrap();
        assert!(copy.attachments.contains(&("lane".to_owned(), "blue".to_owned())), "{copy:?}");
        assert_eq!(proxy.metric("meltemi_requests_total", &["method=\"sayHello\""]), 20);
        assert_eq!(proxy.metric("meltemi_local_replies_total", &[]), 0);

        for _ in 0..400 {
            server_of(&client.call("half", "x"), "x");
        }
        // Six standard deviations.
        eventually("half of the calls are copied", || (140..=260).contains(&v2.calls("half")).then_some(()));
        assert_eq!(v1.calls("half"), 400);
    });
}
