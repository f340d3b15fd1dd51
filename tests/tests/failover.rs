//! Zones of a cluster, as Envoy has them by priorities.

use std::net::SocketAddr;

use meltemi_tests::java::free_address;
use meltemi_tests::{Backend, Client, Setup, each_envoy, eventually};
use serde_json::{Value, json};

/// A zone of one server. Envoy chooses it where those of lower priorities are not well.
fn zone(priority: u32, server: SocketAddr) -> Value {
    let address = json!({"address": server.ip().to_string(), "port_value": server.port()});
    json!({
        "priority": priority,
        "locality": {"zone": priority.to_string()},
        "lb_endpoints": [{"endpoint": {"address": {"socket_address": address}}}],
    })
}

/// Waits until twenty calls in a row are answered by that server. Some may fail while a zone is on its way out.
fn wait_for_server(client: &mut Client, name: &str) {
    eventually(&format!("calls go to {name} alone"), || {
        let answers = (0..20).map(|_| client.call("sayHello", "x").text());
        let mut servers = answers.map(|answer| Some(answer?.split_once(':')?.0.to_owned()));
        servers.all(|server| server.as_deref() == Some(name)).then_some(())
    });
}

#[test]
fn another_zone_steps_in_while_the_own_is_away_and_no_longer() {
    each_envoy(|envoy| {
        let address = free_address();
        let near = Backend::start_at("near", address);
        let far = Backend::start("far");
        let zones = json!([zone(0, address), zone(1, far.address())]);
        let proxy = Setup::new()
            .servers(address, far.address())
            .change(|bootstrap| {
                let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
                let demo = clusters.iter_mut().find(|cluster| cluster["name"] == "demo").unwrap();
                demo["load_assignment"]["endpoints"] = zones;
                demo["health_checks"] = json!([{
                    "timeout": "10s", "interval": "0.1s", "no_traffic_interval": "0.1s",
                    "unhealthy_threshold": 1, "healthy_threshold": 1, "tcp_health_check": {},
                }]);
            })
            // Connections are renewed all the time, so that a renewal need not be waited for.
            .service(
                &json!({"protocol": "dubbo", "upstream": {"maxConnectionAge": "200ms", "connectTimeout": "2s"}}),
            )
            .start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        wait_for_server(&mut client, "near");
        drop(near);
        wait_for_server(&mut client, "far");
        let _near = Backend::start_at("near", address);
        wait_for_server(&mut client, "near");
    });
}
