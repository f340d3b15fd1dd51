//! Balancing that keeps the weights of Envoy's endpoints.

use std::thread;
use std::time::{Duration, Instant};

use meltemi_tests::{Backend, Client, Envoy, Proxy, Setup, each_envoy};
use serde_json::{Value, json};

/// An Envoy whose cluster `demo` has these servers, each with a weight.
fn start(envoy: &Envoy, policy: &'static str, servers: [(&Backend, u32); 2], service: &Value) -> Proxy {
    let addresses = servers.map(|(server, _)| server.address());
    let setup = Setup::new().servers(addresses[0], addresses[0]).cluster("demo", &addresses);
    let weights = servers.map(|(_, weight)| weight);
    let setup = setup.change(move |bootstrap| {
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
        let demo = clusters.iter_mut().find(|cluster| cluster["name"] == "demo").unwrap();
        demo["lb_policy"] = json!(policy);
        for (at, weight) in weights.into_iter().enumerate() {
            let endpoint = &mut demo["load_assignment"]["endpoints"][0]["lb_endpoints"][at];
            endpoint["load_balancing_weight"] = json!(weight);
        }
    });
    setup.service(service).start(envoy)
}

/// How many of so many calls the server `v2` answers.
fn share(client: &mut Client, count: usize) -> usize {
    (0..count).filter(|_| client.ask("sayHello", "x") == "v2").count()
}

#[test]
fn endpoints_get_calls_by_their_weights() {
    each_envoy(|envoy| {
        let servers = ["v1", "v2"].map(Backend::start);
        let [v1, v2] = &servers;
        let service = json!({"protocol": "dubbo", "upstream": {"clusters": {"demo": {"keepWeights": true}}}});
        let proxies =
            ["ROUND_ROBIN", "LEAST_REQUEST"].map(|policy| start(envoy, policy, [(v1, 1), (v2, 3)], &service));
        let even = start(envoy, "LEAST_REQUEST", [(v1, 3), (v2, 3)], &service);
        let mut clients = proxies.each_ref().map(|proxy| Client::connect(proxy.meltemi()));
        let mut of_even = Client::connect(even.meltemi());
        // Envoy is asked for a choice twice a second; a minute is what chance needs to be ruled out. Now and then it finds
        // equals uneven for a while.
        let begun = Instant::now();
        loop {
            let shares = clients.each_mut().map(|client| share(client, 100));
            share(&mut of_even, 100);
            if shares.iter().all(|share| (65..=85).contains(share)) {
                let shares = clients.each_mut().map(|client| share(client, 1000));
                let even = share(&mut of_even, 1000);
                if shares.iter().all(|share| (620..=880).contains(share)) && (440..=560).contains(&even) {
                    break;
                }
                println!("{shares:?} and {even} of 1000");
            }
            assert!(begun.elapsed() < Duration::from_secs(300), "{shares:?} of 100");
            thread::sleep(Duration::from_millis(100));
        }
    });
}
