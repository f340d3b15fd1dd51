//! Who calls and who answers: what Envoy reports of both, and what a client says of itself.

use meltemi_tests::dubbo::{Frame, INTERFACE};
use meltemi_tests::{Backend, Client, Setup, each_envoy, eventually};
use serde_json::{Value, json};

const PRINCIPAL: &str = "cluster.local/ns/dubbo/sa/client";

/// The shipped configuration with `value` as the client's identity.
fn identity(setup: Setup, value: &str) -> Setup {
    setup.change(|bootstrap| {
        let listeners = bootstrap["static_resources"]["listeners"].as_array_mut().unwrap();
        let demo = listeners.iter_mut().find(|listener| listener["name"] == "demo").unwrap();
        let tunnel = &mut demo["filter_chains"][0]["filters"][0]["typed_config"]["tunneling_config"];
        let headers = tunnel["headers_to_add"].as_array_mut().unwrap();
        let header = headers.iter_mut().find(|header| header["header"]["key"] == "x-meltemi-peer-identity");
        header.unwrap()["header"]["value"] = json!(value);
    })
}

/// Calls of the one client go to v2, all others to v1.
fn service() -> Value {
    json!({
        "protocol": "dubbo",
        "routes": [{
            "name": "client",
            "match": [{"attributes": {"source.principal": {"exact": PRINCIPAL}}}],
            "cluster": "v2",
        }],
        "defaultRoute": {"cluster": "v1"},
    })
}

#[test]
fn routes_match_who_calls() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let setup = Setup::new().servers(v1.address(), v2.address()).service(&service());
        let uris = format!("spiffe://{PRINCIPAL},spiffe://cluster.local/ns/other/sa/other");
        let mut proxy = identity(setup, &uris).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        assert_eq!(client.ask("sayHello", "x"), "v2");
        let labels = [format!("service=\"{INTERFACE}\""), format!("source_principal=\"{PRINCIPAL}\"")];
        eventually("the call is counted", || {
            let labels = labels.each_ref().map(String::as_str);
            (proxy.metric("meltemi_source_requests_total", &labels) == 1).then_some(())
        });

        proxy.update_service(&json!({"protocol": "dubbo", "onNoMatch": "reject"}));
        let line = eventually("a call is answered under the new plan, with a log line", || {
            client.call("sayHello", "x");
            proxy.log().lines().find(|line| line.contains("local_reply")).map(str::to_owned)
        });
        assert!(line.contains(&format!("\"sourcePrincipal\":\"{PRINCIPAL}\"")), "{line}");
    });
}

/// A server learns from the proxy who calls, whatever the client says of itself.
#[test]
fn servers_are_told_who_calls() {
    each_envoy(|envoy| {
        let who = "%DOWNSTREAM_PEER_URI_SAN% of %REQ(source.namespace)% at %REQ(source.ip)%";
        let service = json!({"protocol": "dubbo", "defaultRoute": {"requestAttachments": {"set": {
            "who": who, "principal": "%REQ(source.principal)%",
        }}}});
        let known = format!("spiffe://{PRINCIPAL} of dubbo at 127.0.0.1");
        for (identity_is, expected) in [
            (format!("spiffe://{PRINCIPAL}"), [Some(known), Some(PRINCIPAL.to_owned())]),
            ("-".to_owned(), [Some(" of  at 127.0.0.1".to_owned()), None]),
        ] {
            let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
            let setup = Setup::new().servers(v1.address(), v2.address()).service(&service);
            let proxy = identity(setup, &identity_is).start(envoy);
            let mut client = Client::connect(proxy.meltemi());
            client.call_with(
                "sayHello",
                "x",
                &[("who", "root"), ("principal", "cluster.local/ns/a/sa/root")],
            );
            let sent =
                [&v1, &v2].into_iter().flat_map(Backend::received).find(|frame| frame.call().is_some());
            let attachments = sent.unwrap().call().unwrap().attachments;
            let value = |name: &str| {
                let found = attachments.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone())
            };
            assert_eq!(["who", "principal"].map(value), expected, "{attachments:?}");
        }
    });
}

#[test]
fn without_an_identity_a_client_cannot_claim_one() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = Setup::new().servers(v1.address(), v2.address()).service(&service()).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        client.call_with("sayHello", "x", &[("source.principal", PRINCIPAL)]);
        assert_eq!((v1.calls("sayHello"), v2.calls("sayHello")), (1, 0));
        eventually("the call is counted", || {
            (proxy.metric("meltemi_requests_total", &[]) == 1).then_some(())
        });
        assert_eq!(proxy.metric("meltemi_source_requests_total", &[]), 0);
    });
}

/// What authorization policies become: routes by who calls what, and a default route that rejects.
#[test]
fn calls_are_denied_by_who_makes_them() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let service = json!({
            "protocol": "dubbo",
            "routes": [{
                "name": "client",
                "match": [{"attributes": {
                    "source.namespace": {"exact": "dubbo"},
                    "interface": {"exact": INTERFACE},
                    "method": {"exact": "sayHello"},
                }}],
                "cluster": "v1",
            }],
            "defaultRoute": {"reject": {"message": "access denied"}},
        });
        let setup = || Setup::new().servers(v1.address(), v2.address()).service(&service);
        let proxy = identity(setup(), &format!("spiffe://{PRINCIPAL}")).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        assert_eq!(client.ask("sayHello", "x"), "v1");
        client.send(&Frame::request(900, "erase", "x").one_way());
        let denied = client.call("erase", "x");
        assert_eq!(denied.message().as_deref(), Some("meltemi: access denied"), "{denied:?}");
        assert_eq!(client.ask("sayHello", "y"), "v1");
        eventually("the denials are counted", || {
            // No server has answered to it: it has no name in metrics.
            let labels = ["method=\"other\"", "reason=\"denied\""];
            (proxy.metric("meltemi_local_replies_total", &labels) == 2).then_some(())
        });
        let log = proxy.log();
        let line = log.lines().find(|line| line.contains("local_reply")).unwrap();
        assert!(line.contains("\"reason\":\"denied\"") && line.contains("\"route\":\"default\""), "{line}");

        let proxy = setup().start(envoy);
        let mut stranger = Client::connect(proxy.meltemi());
        let denied = stranger.call_with("sayHello", "x", &[("source.namespace", "dubbo")]);
        assert_eq!(denied.message().as_deref(), Some("meltemi: access denied"), "{denied:?}");
        assert_eq!(v1.calls("erase") + v2.calls("erase"), 0);
    });
}

#[test]
fn responses_are_counted_by_who_answers() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let service = json!({
            "protocol": "dubbo",
            "routes": [{"name": "v2", "match": [{"attributes": {"method": {"exact": "other"}}}], "cluster": "v2"}],
            "defaultRoute": {"cluster": "v1"},
        });
        let setup = Setup::new().servers(v1.address(), v2.address()).service(&service);
        // As istiod describes a workload to Envoy. Of v2 nothing is known.
        let proxy = setup.change(|bootstrap| {
            let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
            let v1 = clusters.iter_mut().find(|cluster| cluster["name"] == "v1").unwrap();
            let metadata = json!({"filter_metadata": {"istio": {"workload": "v1;dubbo;demo;v1;Kubernetes"}}});
            v1["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["metadata"] = metadata;
        });
        let proxy = proxy.start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        for text in ["a", "b"] {
            assert_eq!(client.ask("sayHello", text), "v1");
            assert_eq!(client.ask("other", text), "v2");
        }
        let counted = |labels: &[&str]| proxy.metric("meltemi_destination_requests_total", labels);
        let service = format!("service=\"{INTERFACE}\"");
        let labels = [&*service, "destination_workload=\"v1\"", "destination_principal=\"-\""];
        eventually("the responses are counted", || (counted(&labels) == 2).then_some(()));
        assert_eq!(counted(&[]), 2);
    });
}
