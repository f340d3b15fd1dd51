//! The ports beside Meltemi's, which a reader of `envoy-configs/dubbo.yaml` compares it with.

use std::collections::BTreeSet;

use meltemi_tests::{Backend, Client, Setup, each_envoy};

#[test]
fn dubbo_proxy_and_tcp_proxy_reach_both_servers() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = Setup::new().servers(v1.address(), v2.address()).without_module().start(envoy);
        for address in [proxy.dubbo_proxy(), proxy.tcp_proxy()] {
            let servers: BTreeSet<_> =
                (0..8).map(|_| Client::connect(address).ask("sayHello", "compared")).collect();
            assert_eq!(servers, BTreeSet::from(["v1".to_owned(), "v2".to_owned()]));
        }
    });
}

/// A mesh whose module cannot be fetched goes on with plain TCP to the tunnel's cluster.
#[test]
fn without_the_module_connections_are_passed_on_whole() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = Setup::new().servers(v1.address(), v2.address()).without_module().start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let server = client.ask("sayHello", "first");
        for text in ["second", "third", "fourth"] {
            assert_eq!(client.ask("sayHello", text), server, "one connection, one server");
        }
        client.end_writing();
        client.receive_end();
    });
}
