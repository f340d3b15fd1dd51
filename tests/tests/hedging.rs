//! Calls whose server is slow, and which have a second try.

use std::time::{Duration, Instant};

use meltemi_tests::dubbo::Frame;
use meltemi_tests::{Action, Backend, Client, Proxy, Setup, each_envoy, eventually, server_of};
use serde_json::json;

/// What the slow server takes: far more than any of these calls on any machine.
const SLOW: Duration = Duration::from_secs(30);

const CALLS: u64 = 60;

/// How often each server was asked, and the second tries that were made, once they agree.
fn count(proxy: &Proxy, [v1, v2]: [&Backend; 2], calls: usize) -> (usize, usize) {
    eventually("what the servers got is counted", || {
        let hedges = proxy.metric("meltemi_hedges_total", &[r#"method="sayHello""#]) as usize;
        let got = v1.calls("sayHello") + v2.calls("sayHello");
        (got == calls + hedges).then_some((v1.calls("sayHello"), hedges))
    })
}

#[test]
fn a_slow_server_slows_no_call_that_has_a_second_try() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let service = json!({
            "protocol": "dubbo",
            "defaultRoute": {"retry": {"hedge": {"after": "50ms"}}},
            "retryBudget": {"percent": 100, "minRetries": 1000},
        });
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let mut calls = 0;
        eventually("both servers get calls", || {
            client.ask("sayHello", "x");
            calls += 1;
            (v1.calls("sayHello") > 1 && v2.calls("sayHello") > 1).then_some(())
        });

        v1.on("sayHello", Action::Delay(SLOW));
        let mut times: Vec<Duration> = (0..CALLS)
            .map(|number| {
                let start = Instant::now();
                assert_eq!(client.ask("sayHello", &number.to_string()), "v2");
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        let p99 = times[times.len() * 99 / 100];
        assert!(p99 < SLOW / 4, "{p99:?}");
        calls += times.len();
        let (slow, hedges) = count(&proxy, [&v1, &v2], calls);
        assert!(slow >= 10 && hedges >= 10, "{slow} calls to the slow one, {hedges} second tries");

        // Many at a time: each has its own answer, and none gets that of another when the late ones come.
        v1.on("sayHello", Action::Hold);
        while v1.calls("sayHello") < slow + 5 {
            let frames: Vec<u8> = (0..CALLS)
                .flat_map(|id| Frame::request(id, "sayHello", format!("call {id}")).bytes())
                .collect();
            client.send_bytes(&frames);
            let answer = |_| {
                let answer = client.receive();
                assert_eq!(server_of(&answer, &format!("call {}", answer.id)), "v2");
                answer.id
            };
            let mut ids: Vec<u64> = (0..CALLS).map(answer).collect();
            ids.sort_unstable();
            assert_eq!(ids, (0..CALLS).collect::<Vec<_>>());
            calls += ids.len();
        }
        let (held, _) = count(&proxy, [&v1, &v2], calls);
        let unmatched = || proxy.metric("meltemi_unmatched_responses_total", &[]);
        let wanted = unmatched() + (held - slow) as u64;
        v1.on("sayHello", Action::Answer);
        v1.release();
        eventually("the late answers are dropped", || (unmatched() >= wanted).then_some(()));
        for text in ["a", "b", "c", "d"] {
            client.ask("sayHello", text);
        }
    });
}
