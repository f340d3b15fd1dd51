//! Clients that address one server, as on the inbound side of a mesh and in headless services: Envoy's cluster goes where
//! the tunnel says.

use std::net::SocketAddr;

use meltemi_tests::java::free_address;
use meltemi_tests::{Backend, Client, Frame, Proxy, Setup, each_envoy, eventually};
use serde_json::{Value, json};

/// Listeners `demo` and `other`, whose tunnels address one server each, in one cluster of type ORIGINAL_DST.
fn setup(addresses: [SocketAddr; 2], service: &Value) -> Setup {
    Setup::new().service(service).change(|bootstrap| {
        let resources = &mut bootstrap["static_resources"];
        resources["clusters"].as_array_mut().unwrap().push(json!({
            "name": "inbound",
            "type": "ORIGINAL_DST",
            "lb_policy": "CLUSTER_PROVIDED",
            "connect_timeout": "1s",
            "original_dst_lb_config": {"use_http_header": true},
        }));
        let listeners = resources["listeners"].as_array_mut().unwrap();
        let mut demo = listeners.iter().find(|listener| listener["name"] == "demo").unwrap().clone();
        listeners.retain(|listener| listener["name"] != "demo");
        for (name, address) in ["demo", "other"].into_iter().zip(addresses) {
            demo["name"] = json!(name);
            let tunnel = &mut demo["filter_chains"][0]["filters"][0]["typed_config"]["tunneling_config"];
            tunnel["headers_to_add"] = json!([
                {"header": {"key": "x-meltemi-cluster", "value": "inbound"}},
                {"header": {"key": "x-envoy-original-dst-host", "value": address.to_string()}},
            ]);
            listeners.push(demo.clone());
        }
    })
}

fn clients(proxy: &Proxy) -> [Client; 2] {
    ["demo", "other"].map(|listener| Client::connect(proxy.listener(listener)))
}

#[test]
fn calls_go_to_the_server_that_the_client_addressed() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        // Connections are renewed all the time.
        let service = json!({"protocol": "dubbo", "upstream": {"maxConnectionAge": "50ms"}});
        let proxy = setup([v1.address(), v2.address()], &service).start(envoy);
        let [mut first, mut second] = clients(&proxy);
        for n in 0..500 {
            assert_eq!(first.ask("sayHello", &n.to_string()), "v1");
            assert_eq!(second.ask("sayHello", &n.to_string()), "v2");
        }
        eventually("connections were renewed", || {
            second.ask("sayHello", "x");
            (v2.accepted() > 2).then_some(())
        });
    });
}

/// A Dubbo server that stops says READONLY. What is in front of this proxy must hear of it to send its calls elsewhere.
#[test]
fn a_server_that_asks_for_no_new_calls_is_heard_by_those_who_address_it() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = setup([v1.address(), v2.address()], &json!({"protocol": "dubbo"})).start(envoy);
        let [mut first, mut second] = clients(&proxy);
        assert_eq!(first.ask("sayHello", "x"), "v1");
        assert_eq!(second.ask("sayHello", "x"), "v2");
        v1.send(&Frame::read_only().bytes());
        assert_eq!(first.receive(), Frame::read_only());
        assert_eq!(first.ask("sayHello", "what is on its way is served"), "v1");
        assert_eq!(second.ask("sayHello", "nothing came in between"), "v2");
    });
}

#[test]
fn a_retry_goes_to_no_other_server() {
    each_envoy(|envoy| {
        let address = free_address();
        let (v1, v2) = (Backend::start_at("v1", address), Backend::start("v2"));
        let retry = json!({"attempts": 3, "on": ["connect-failure", "reset"], "backoff": {"base": "1ms"}});
        let service = json!({"protocol": "dubbo", "defaultRoute": {"retry": retry}});
        let proxy = setup([address, v2.address()], &service).start(envoy);
        let [mut first, mut second] = clients(&proxy);
        assert_eq!(first.ask("sayHello", "x"), "v1");
        assert_eq!(second.ask("sayHello", "x"), "v2");
        v1.kill();
        let answer = first.call("sayHello", "lost");
        assert!(answer.message().is_some(), "{answer:?}");
        assert_eq!(second.ask("sayHello", "x"), "v2");
        assert_eq!(v2.calls("sayHello"), 2);
        let _back = Backend::start_at("v1 again", address);
        eventually("the server is back", || {
            let answer = first.call("sayHello", "x");
            assert!(answer.text().is_none_or(|text| text == "v1 again:x"), "{answer:?}");
            answer.text()
        });
    });
}
