//! Apache Dubbo for Java on both sides.

use meltemi_tests::eventually;
use meltemi_tests::java::Peer;
use serde_json::json;

use crate::stage::{self, JAVA, count, router, to};

const VERSION: &str = "3.3.5";

#[test]
fn java_servers_are_called_by_a_java_client() {
    let mut stage = stage::take();
    // Pods reach no registry.
    Peer::install(VERSION);
    let peers = ["v1", "v2", "client"].map(|pod| stage.pod(pod).enter(|| Peer::start(VERSION)));
    let [v1, v2, client] = &peers;
    for (name, server) in [("v1", v1), ("v2", v2)] {
        server.serve_at(name, (stage.pod(name).address(), JAVA.target).into());
    }
    let whoami = |reference: &str, attachments| {
        let answer = client.call(reference, "whoami", &json!({"attachments": attachments})).unwrap();
        answer.as_str().unwrap().to_owned()
    };
    // A connection of its own each time: which worker of Envoy it gets, and what that one has found, is chance.
    let mut references = (0..).map(|number| format!("greeter-{number}"));
    let reference = eventually("calls on one connection go to both servers", || {
        let reference = references.next()?;
        client.connect(&reference, JAVA.address.parse().unwrap(), "connections=1");
        let servers = count(20, || whoami(&reference, json!({})));
        (servers.len() == 2).then_some(reference)
    });

    stage.route(
        JAVA,
        &router(
            JAVA,
            json!([{
                "name": "canary",
                "match": {"attributes": {"method": {"exact": "whoami"}, "user": {"exact": "canary"}}},
                "route": [to(JAVA, "v2")],
            }]),
        ),
    );
    // Envoy's workers learn of the plan one after the other.
    eventually("calls follow the route", || {
        let servers = count(20, || whoami(&reference, json!({"user": "canary"})));
        (servers == [("v2".to_owned(), 20)].into()).then_some(())
    });
    let hello = client.call(&reference, "sayHello", &json!({"text": "Ada"})).unwrap();
    assert!(hello.as_str().unwrap().starts_with("Hello, Ada, from v"), "{hello}");
}
