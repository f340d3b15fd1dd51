//! Calls that are hashed, through Envoys whose clusters have a ring.

use std::collections::BTreeMap;

use meltemi_tests::dubbo::Frame;
use meltemi_tests::java::free_address;
use meltemi_tests::{Backend, Client, Envoy, Proxy, Setup, each_envoy, eventually, server_of};
use serde_json::{Value, json};

const USERS: u64 = 300;

/// An Envoy whose cluster `demo` has these servers on a ring.
fn start(envoy: &Envoy, policy: &str, servers: &[&Backend], service: &Value) -> Proxy {
    let addresses: Vec<_> = servers.iter().map(|server| server.address()).collect();
    let setup = Setup::new().servers(addresses[0], addresses[0]).cluster("demo", &addresses);
    let policy = json!(policy);
    let setup = setup.change(move |bootstrap| {
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
        let demo = clusters.iter_mut().find(|cluster| cluster["name"] == "demo").unwrap();
        demo["lb_policy"] = policy;
    });
    setup.service(service).start(envoy)
}

fn service() -> Value {
    json!({"protocol": "dubbo", "upstream": {"hashBy": ["user"], "maxConnectionAge": "2s"}})
}

/// The server that each user's call goes to.
fn places(client: &mut Client) -> Vec<String> {
    for user in 0..USERS {
        let name = format!("user-{user}");
        client.send(&Frame::request_with(user, "sayHello", "x", &[("user", &name)]));
    }
    let answers: BTreeMap<u64, String> = (0..USERS)
        .map(|_| {
            let answer = client.receive();
            (answer.id, server_of(&answer, "x"))
        })
        .collect();
    answers.into_values().collect()
}

fn moved(before: &[String], after: &[String]) -> usize {
    before.iter().zip(after).filter(|(before, after)| before != after).count()
}

#[test]
fn all_proxies_agree_on_the_endpoint_of_a_key() {
    each_envoy(|envoy| {
        let servers = ["v1", "v2", "v3"].map(Backend::start);
        let all = servers.each_ref();
        for policy in ["RING_HASH", "MAGLEV"] {
            // In whichever order they learn of the servers, by whichever worker.
            let mut reversed = all;
            reversed.reverse();
            let proxies =
                [start(envoy, policy, &all, &service()), start(envoy, policy, &reversed, &service())];
            let first = places(&mut Client::connect(proxies[0].meltemi()));
            for proxy in &proxies {
                for _ in 0..3 {
                    let other = places(&mut Client::connect(proxy.meltemi()));
                    assert_eq!(moved(&first, &other), 0, "{policy}");
                }
            }
            for server in &servers {
                let share = first.iter().filter(|place| *place == server.name()).count();
                assert!((50..150).contains(&share), "{policy}: {share} of {USERS} go to {}", server.name());
            }
            // Without a key, to all.
            let mut client = Client::connect(proxies[0].meltemi());
            for server in &servers {
                let mut answers = (0..60).map(|_| client.ask("sayHello", "x"));
                assert!(answers.any(|answer| answer == server.name()), "{policy}: none to {}", server.name());
            }
        }
    });
}

#[test]
fn few_keys_move_when_an_endpoint_comes_or_goes() {
    each_envoy(|envoy| {
        let servers = ["v1", "v2", "v3", "v4"].map(|name| Backend::start_at(name, free_address()));
        let [v1, v2, v3, v4] = &servers;
        // Envoy's rings have as many places with three endpoints as with four, so that more keys move there.
        let proxy = start(envoy, "MAGLEV", &[v1, v2, v3, v4], &service());
        let mut client = Client::connect(proxy.meltemi());
        let all = places(&mut client);
        // A quarter has to move; were keys dealt out anew, three quarters would.
        let few = USERS as usize / 2;
        let smaller = start(envoy, "MAGLEV", &[v1, v2, v3], &service());
        let of_three = moved(&all, &places(&mut Client::connect(smaller.meltemi())));
        assert!((1..=few).contains(&of_three), "{of_three} of {USERS}");

        let [.., v4] = servers;
        let address = v4.address();
        let own = all.iter().filter(|place| *place == "v4").count();
        v4.kill();
        let without = eventually("calls go to the others", || {
            let places = places_or_errors(&mut client);
            places.iter().all(Option::is_some).then(|| places.into_iter().flatten().collect::<Vec<_>>())
        });
        assert!(!without.contains(&"v4".to_owned()));
        assert_eq!(moved(&all, &without), own, "others stay");
        let _v4 = Backend::start_at("v4", address);
        eventually("its keys are back", || (moved(&all, &places(&mut client)) == 0).then_some(()));
    });
}

/// The same, with nothing for what was lost with its server.
fn places_or_errors(client: &mut Client) -> Vec<Option<String>> {
    let call = |user| {
        let answer = client.call_with("sayHello", "x", &[("user", &format!("user-{user}"))]);
        answer.text().is_some().then(|| server_of(&answer, "x"))
    };
    (0..USERS).map(call).collect()
}
