//! Which server a request goes to.

use std::collections::HashMap;

use meltemi_tests::dubbo::Frame;
use meltemi_tests::{Action, Backend, Client, Setup, each_envoy, server_of};
use serde_json::json;

const SERVICE_NOT_FOUND: u8 = 60;

#[test]
fn the_requests_of_one_connection_are_balanced() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = Setup::new().servers(v1.address(), v2.address()).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let mut servers: HashMap<String, usize> = HashMap::new();
        for number in 0..100 {
            *servers.entry(client.ask("sayHello", &number.to_string())).or_default() += 1;
        }
        assert!(
            servers.len() == 2 && servers.values().all(|calls| *calls >= 20),
            "one after the other: {servers:?}"
        );

        for id in 1001..1101 {
            client.send(&Frame::request(id, "sayHello", "all at once"));
        }
        servers.clear();
        for _ in 0..100 {
            let server = server_of(&client.receive(), "all at once");
            *servers.entry(server).or_default() += 1;
        }
        assert!(servers.len() == 2 && servers.values().all(|calls| *calls >= 20), "all at once: {servers:?}");
    });
}

#[test]
fn routes_match_methods_and_attachments() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let service = json!({
            "protocol": "dubbo",
            "routes": [
                {"name": "method", "match": [{"attributes": {"method": {"prefix": "say"}}}], "cluster": "v1"},
                {"name": "attachment", "match": [
                    {"attributes": {"tag": {"exact": "blue"}, "level": {"range": {"start": 1, "end": 10}}}},
                    {"attributes": {"tag": {"regex": "gr(e|a)y"}}},
                ], "cluster": "v2"},
            ],
            "defaultRoute": {"cluster": "v1"},
        });
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        for (method, attachments, server) in [
            ("sayHello", vec![("tag", "gray")], "v1"),
            ("whoami", vec![("tag", "gray")], "v2"),
            ("whoami", vec![("other", "x"), ("tag", "grey")], "v2"),
            ("whoami", vec![("tag", "blue"), ("level", "9")], "v2"),
            ("whoami", vec![("tag", "blue"), ("level", "10")], "v1"),
            ("whoami", vec![("tag", "blue")], "v1"),
            ("whoami", vec![], "v1"),
        ] {
            for text in ["once", "twice", "thrice"] {
                let answer = client.call_with(method, text, &attachments);
                assert_eq!(server_of(&answer, text), server, "{method} {attachments:?}");
            }
        }
    });
}

#[test]
fn weights_split_requests() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let clusters = json!([{"cluster": "v1", "weight": 90}, {"cluster": "v2", "weight": 10}]);
        let service = json!({"protocol": "dubbo", "defaultRoute": {"weightedClusters": clusters}});
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let calls = 2000;
        for id in 0..calls {
            client.send(&Frame::request(id, "sayHello", "split"));
        }
        for _ in 0..calls {
            server_of(&client.receive(), "split");
        }
        // The expected share is 200 with a standard deviation of 13.4: six of them are left.
        let share = v2.calls("sayHello");
        assert!((119..=281).contains(&share), "v2 had {share} of {calls}");
    });
}

#[test]
fn calls_that_no_route_takes_are_answered() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let service = json!({
            "protocol": "dubbo",
            "routes": [
                {"name": "hello", "match": [{"attributes": {"method": {"exact": "sayHello"}}}], "cluster": "v1"},
                {"name": "nowhere", "match": [{"attributes": {"method": {"exact": "nowhere"}}}], "cluster": "none"},
            ],
            "onNoMatch": "reject",
        });
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        assert_eq!(client.ask("sayHello", "before"), "v1");
        let answer = client.call("whoami", "x");
        assert_eq!(answer.status, SERVICE_NOT_FOUND, "{answer:?}");
        assert!(answer.message().is_some_and(|text| text.contains("route")), "{:?}", answer.message());
        let answer = client.call("nowhere", "x");
        assert!(answer.status > 20 && answer.message().is_some(), "{answer:?}");
        // A one-way call that no route takes ends there; nothing comes back.
        client.send(&Frame::request(77, "whoami", "x").one_way());
        assert_eq!(client.ask("sayHello", "after"), "v1");
        assert_eq!((v1.calls("whoami"), v2.calls("whoami")), (0, 0));
    });
}

#[test]
fn attachments_are_set_and_removed_on_the_way() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let long = "\u{e9}".repeat(300);
        let service = json!({"protocol": "dubbo", "defaultRoute": {
            "requestAttachments": {"set": {"zone": "north", "long": long}, "remove": ["secret"]},
        }});
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        client.call_with("sayHello", "x", &[("zone", "south"), ("secret", "s"), ("kept", "k")]);
        let sent = [&v1, &v2].into_iter().flat_map(Backend::received).next().unwrap();
        let mut attachments = sent.call().unwrap().attachments;
        attachments.retain(|(name, _)| !["path", "interface", "version"].contains(&name.as_str()));
        attachments.sort();
        let expected = [("kept", "k"), ("long", long.as_str()), ("zone", "north")];
        assert_eq!(attachments, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    });
}

/// A client of a service that the plan does not name is passed through whole.
#[test]
fn services_that_the_plan_does_not_name_are_passed_through() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        v1.on("hold", Action::Hold);
        v2.on("hold", Action::Hold);
        let proxy =
            Setup::new().servers(v1.address(), v2.address()).plan(&json!({"services": {}})).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        let server = client.ask("sayHello", "first");
        for text in ["second", "third", "fourth"] {
            assert_eq!(client.ask("sayHello", text), server, "one connection, one server");
        }
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        assert_eq!(client.call("echoBytes", bytes.clone()).value(), Some(bytes.into()));
        client.end_writing();
        client.receive_end();
    });
}
