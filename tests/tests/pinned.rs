//! Clients that have upstream connections for themselves, through real Envoys.

use meltemi_tests::{Action, Backend, Client, Frame, Setup, each_envoy, eventually};
use serde_json::json;

#[test]
fn a_client_and_its_connection_end_together() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        v1.on("hold", Action::Hold);
        let service = json!({"protocol": "dubbo", "upstream": {"sharing": "pinned"}});
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let connections = || v1.connections() + v2.connections();

        let mut clients: Vec<Client> = (0..12).map(|_| Client::connect(proxy.meltemi())).collect();
        let servers: Vec<String> = clients.iter_mut().map(|client| client.ask("sayHello", "first")).collect();
        assert!(servers.iter().any(|name| name == "v1") && servers.iter().any(|name| name == "v2"));
        for n in 0..20 {
            for (client, server) in clients.iter_mut().zip(&servers) {
                assert_eq!(client.ask("sayHello", &n.to_string()), *server, "it stays where it is");
            }
        }
        assert_eq!(connections(), 12);

        let (mut of_v1, mut of_v2): (Vec<_>, Vec<_>) =
            clients.into_iter().zip(servers).partition(|(_, server)| server == "v1");
        drop(of_v2.pop());
        eventually("the connection ends with its client", || (connections() == 11).then_some(()));

        for (client, _) in &mut of_v1 {
            client.send(&Frame::request(7, "hold", "waits"));
        }
        v1.wait_for_held(of_v1.len());
        v1.close_connections();
        for (client, _) in &mut of_v1 {
            let answer = client.receive();
            assert!(answer.id == 7 && answer.message().is_some(), "{answer:?}");
            client.receive_end();
        }
        for (client, server) in &mut of_v2 {
            assert_eq!(client.ask("sayHello", "others go on"), *server);
        }
        assert_eq!(Client::connect(proxy.meltemi()).ask("sayHello", "who comes back").len(), 2);
    });
}
