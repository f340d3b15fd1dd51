//! Global rate limits by the reference server of Envoy's rate limit service, which counts in Redis.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::thread;
use std::time::{Instant, SystemTime};

use meltemi_tests::limiter::Limiter;
use meltemi_tests::{Backend, Client, Setup, each_envoy, eventually, server_of};
use serde_json::{Value, json};

const THREADPOOL_EXHAUSTED: u8 = 100;

/// Calls a second.
const RATE: u64 = 40;

/// In so many seconds calls are made at that rate.
const SECONDS: usize = 8;

/// The server's own configuration: that of Aeraki's tutorial, but by the year, whose end hardly comes in between; and a rate.
const LIMITS: &str = "
domain: production
descriptors:
- {key: method, value: sayHello, rate_limit: {unit: year, requests_per_unit: 5}}
- {key: method, value: quick, rate_limit: {unit: second, requests_per_unit: 40}}
- key: method
  value: pair
  descriptors:
  - {key: lane, value: blue, rate_limit: {unit: year, requests_per_unit: 9}}
";

fn service(denies: bool) -> Value {
    json!({
        "protocol": "dubbo",
        "globalRateLimits": [
            {
                "match": [{"attributes": {"method": {"exact": "pair"}}}],
                "cluster": "limiter", "domain": "production", "timeout": "5s", "hits": 2, "denyOnFailure": denies,
                "descriptors": [[{"key": "method", "attribute": "method"}, {"key": "lane", "value": "blue"}]],
            },
            {
                "cluster": "limiter", "domain": "production", "timeout": "5s", "denyOnFailure": denies,
                "descriptors": [[{"key": "method", "attribute": "method"}]],
            },
        ],
    })
}

/// How many of `count` calls pass.
fn passed(client: &mut Client, method: &str, count: usize) -> usize {
    let passes = |answer: meltemi_tests::dubbo::Frame| answer.status != THREADPOOL_EXHAUSTED;
    (0..count).filter(|_| passes(client.call(method, "x"))).count()
}

#[test]
fn calls_pass_as_the_reference_server_counts_them() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let mut limiter = Limiter::start(LIMITS, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        // A cluster that Envoy takes for TCP, as Istio makes it for a port called tcp-rate-limit-server.
        let setup = Setup::new().servers(v1.address(), v2.address()).cluster("limiter", &[limiter.address()]);
        let mut proxy = setup.service(&service(true)).concurrency(2).start(envoy);
        let mut clients: Vec<Client> = (0..8).map(|_| Client::connect(proxy.meltemi())).collect();

        let all: usize = clients.iter_mut().map(|client| passed(client, "sayHello", 5)).sum();
        assert_eq!(all, 5, "of all workers");
        let refused = clients[0].call("sayHello", "x");
        assert_eq!(
            refused.message().as_deref(),
            Some("meltemi: over the rate limit of the domain production")
        );
        assert_eq!(passed(&mut clients[0], "pair", 10), 4, "nine hits, two at a time");
        server_of(&clients[0].call("whoami", "x"), "x");

        // The server counts by the seconds of its clock. In some, a busy machine may make no call.
        let (start, used) = (Instant::now(), Mutex::new(BTreeSet::new()));
        let call = |mut client: Client| {
            let mut passes = 0;
            while used.lock().unwrap().len() < SECONDS {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
                used.lock().unwrap().insert(now.as_secs());
                passes += passed(&mut client, "quick", 1) as u64;
            }
            passes
        };
        let passes: u64 = thread::scope(|scope| {
            let call = &call;
            let clients: Vec<_> =
                clients.into_iter().map(|client| scope.spawn(move || call(client))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum()
        });
        // A worker that was refused asks again a second later, whose beginning the others have used up by then; and some
        // seconds are not whole.
        let range = RATE * (SECONDS as u64 - 3)..=RATE * (start.elapsed().as_secs() + 2);
        assert!(range.contains(&passes), "{passes} of {range:?}");

        let count = |outcome: &str| {
            proxy.metric("meltemi_rate_limit_answers_total", &[&format!("outcome=\"{outcome}\"")])
        };
        let let_pass = 5 + 4 + 1 + passes;
        eventually("answers are counted", || (count("ok") == let_pass).then_some(()));
        assert!(count("over_limit") > 0 && count("cached") > 0);
        for failure in ["no_connection", "reset", "deadline"] {
            assert_eq!(count(failure), 0, "{failure}");
        }
        let errors = limiter.errors();
        assert_eq!(count("error"), errors.len() as u64, "{errors:#?}");

        limiter.stop();
        let mut client = Client::connect(proxy.meltemi());
        let refused = client.call("whoami", "x");
        assert_eq!(refused.status, THREADPOOL_EXHAUSTED);
        assert!(
            refused.message().unwrap().contains("the rate limit service cannot be reached"),
            "{refused:?}"
        );
        proxy.update_service(&service(false));
        eventually("calls pass without the service", || {
            (passed(&mut client, "whoami", 1) == 1).then_some(())
        });
    });
}
