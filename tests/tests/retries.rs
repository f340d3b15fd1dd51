//! Calls whose server fails them.

use std::time::{Duration, Instant};

use meltemi_tests::dubbo::{Frame, OK};
use meltemi_tests::{Action, Backend, Client, Setup, Traffic, each_envoy, eventually, java};
use serde_json::{Value, json};

const SERVER_TIMEOUT: u8 = 31;
const SERVER_ERROR: u8 = 80;
const EXHAUSTED: u8 = 100;

/// The service with these triggers of retries.
fn retrying(on: &[&str]) -> Value {
    json!({
        "protocol": "dubbo",
        "defaultRoute": {"retry": {
            "attempts": 3,
            "on": on,
            "backoff": {"base": "5ms", "max": "20ms"},
        }},
        "retryBudget": {"percent": 100, "minRetries": 100},
        "upstream": {"ejectionTime": "300ms", "maxConnectionAge": "1s"},
    })
}

#[test]
fn a_server_killed_under_load_costs_no_call() {
    each_envoy(|envoy| {
        let address = java::free_address();
        let (v1, v2) = (Backend::start("v1"), Backend::start_at("v2", address));
        let service = retrying(&["connect-failure", "reset"]);
        let proxy = Setup::new().servers(v1.address(), address).service(&service).start(envoy);
        let traffic = Traffic::start(proxy.meltemi(), 8, 4);
        v2.wait_for_calls("sayHello", 200);
        v2.kill();
        traffic.wait_for_answers(2000);
        let v2 = Backend::start_at("v2", address);
        v2.wait_for_calls("sayHello", 200);
        traffic.finish();
    });
}

#[test]
fn a_refused_connection_is_tried_elsewhere() {
    each_envoy(|envoy| {
        let (v1, dead) = (Backend::start("v1"), java::refusing_address());
        let service = retrying(&["connect-failure"]);
        let proxy = Setup::new().servers(v1.address(), dead).service(&service).start(envoy);
        for number in 0..20 {
            let text = number.to_string();
            assert_eq!(Client::connect(proxy.meltemi()).ask("sayHello", &text), "v1");
        }
    });
}

#[test]
fn a_call_that_no_server_takes_is_answered() {
    each_envoy(|envoy| {
        let (dead, other) = (java::refusing_address(), java::refusing_address());
        let service = retrying(&["connect-failure"]);
        let proxy = Setup::new().servers(dead, other).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        for text in ["first", "second"] {
            let answer = client.call("sayHello", text);
            assert_eq!(answer.status, SERVER_ERROR, "{:?}", answer.message());
        }
    });
}

/// Each failure on `v1` sends the call to `v2`, and only if the plan says so.
#[test]
fn calls_are_retried_as_the_plan_says() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let exhausted = Action::Status(EXHAUSTED, "busy".to_owned());
        let mut retry = retrying(&["reset", "status"]);
        // Tries at the good server may take their time on a busy machine.
        let mut timed = retry["defaultRoute"].clone();
        timed["retry"]["on"] = json!(["per-try-timeout"]);
        timed["retry"]["perTryTimeout"] = json!("1s");
        timed["retry"]["attempts"] = json!(9);
        timed["name"] = json!("timed");
        timed["match"] = json!([{"attributes": {"method": {"exact": "timed"}}}]);
        retry["routes"] = json!([timed]);
        retry["defaultRoute"]["retry"]["statuses"] = json!(["SERVER_THREADPOOL_EXHAUSTED_ERROR"]);
        let setup = Setup::new().servers(v1.address(), v2.address()).service(&retry);
        let mut proxy = setup.start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        for action in [Action::Close, Action::Reset, exhausted.clone()] {
            v1.on("sayHello", action.clone());
            for number in 0..6 {
                assert_eq!(client.ask("sayHello", &number.to_string()), "v2", "{action:?}");
            }
        }
        v1.on("timed", Action::Ignore);
        eventually("v1 had one of these", || {
            assert_eq!(client.ask("timed", "x"), "v2");
            (v1.calls("timed") > 0).then_some(())
        });
        // A status that is not listed is an answer like any other.
        v1.on("sayHello", Action::Status(SERVER_ERROR, "broken".to_owned()));
        let broken = eventually("v1 takes a call", || {
            Some(client.call("sayHello", "x")).filter(|answer| answer.status != OK)
        });
        assert_eq!((broken.status, broken.message().as_deref()), (SERVER_ERROR, Some("broken")));

        proxy.update_service(&json!({"protocol": "dubbo", "defaultRoute": {"cluster": "v1"}}));
        v1.on("sayHello", exhausted);
        eventually("no call is retried any more", || {
            (client.call("sayHello", "x").status == EXHAUSTED).then_some(())
        });
        v1.on("sayHello", Action::Reset);
        let answer = client.call("sayHello", "x");
        assert_eq!(answer.status, SERVER_ERROR, "{:?}", answer.message());
        v1.on("sayHello", Action::Answer);
        assert_eq!(client.ask("sayHello", "x"), "v1");
    });
}

#[test]
fn one_way_calls_are_not_sent_twice() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let service = retrying(&["connect-failure", "reset"]);
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        for id in 0..50 {
            client.send(&Frame::request(id, "note", "x").one_way());
        }
        eventually("the notes arrive", || (v1.calls("note") + v2.calls("note") >= 50).then_some(()));
        v1.reset_connections();
        v2.reset_connections();
        for text in ["a", "b", "c", "d"] {
            client.ask("sayHello", text);
        }
        assert_eq!(v1.calls("note") + v2.calls("note"), 50);
    });
}

#[test]
fn a_late_call_is_answered_in_time_and_its_late_answer_dropped() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        v1.on("hold", Action::Hold);
        let hold = json!([{"attributes": {"method": {"exact": "hold"}}}]);
        let service = json!({
            "protocol": "dubbo",
            "routes": [{"name": "hold", "match": hold, "cluster": "v1", "timeout": "300ms"}],
            "defaultRoute": {"cluster": "v1"},
        });
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        for text in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            client.ask("sayHello", text);
        }
        let kept = v1.wait_for_kept();
        let start = Instant::now();
        let answer = client.call("hold", "late");
        let took = start.elapsed();
        assert_eq!(answer.status, SERVER_TIMEOUT, "{:?}", answer.message());
        // It is answered although the server keeps it, and not before its time.
        assert!(took >= Duration::from_millis(290), "{took:?}");
        v1.release();
        for text in ["a", "b", "c"] {
            assert_eq!(client.ask("sayHello", text), "v1");
        }
        assert!(v1.is_open(kept), "a time-out costs no connection");
    });
}
