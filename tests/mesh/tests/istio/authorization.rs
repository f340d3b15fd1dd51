//! MeltemiAuthorizationPolicies, which hold for every protocol: what clients of Thrift and tRPC are told by the sidecars of
//! the servers, which know who calls by mutual TLS.

use std::io;
use std::net::SocketAddr;

use meltemi_codecs::thrift::{Content, Protocol, Transport};
use meltemi_mesh_tests::Workload;
use meltemi_tests::remote::Exception;
use meltemi_tests::thrift::{Client, call, peers::Library};
use meltemi_tests::{DEADLINE, at_last, eventually};
use serde_json::{Value, json};

use crate::protocols::{THRIFT, TRPC, serve, serve_thrift, start_trpc};
use crate::stage::{self, SHOP, router, to};

/// A policy of the servers' namespace for the services of one protocol.
fn policy(protocol: &str, more: &Value) -> String {
    let mut spec = json!({"protocols": [protocol]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "apiVersion": "meltemi.io/v1alpha1",
        "kind": "MeltemiAuthorizationPolicy",
        "metadata": {"name": "who", "namespace": SHOP},
        "spec": spec,
    })
    .to_string()
}

#[test]
fn thrift_calls_are_allowed_and_denied_on_connections_that_were_open() {
    const GUEST: &str = "guest";
    const FORM: (&str, &str) = ("framed", "binary");
    let mut stage = stage::take();
    serve(&mut stage, THRIFT, "tcp-thrift");
    stage.mesh.start_pods([Workload::new(SHOP, GUEST)]);
    let _servers = serve_thrift(&stage, FORM);
    let echo = json!({"attributes": {"method": {"exact": "echo"}}});
    let routes = json!([
        {"name": "echo", "match": echo, "route": [to(THRIFT, "v2")]},
        {"name": "others", "route": [to(THRIFT, "v1")]},
    ]);
    stage.route(THRIFT, &router(THRIFT, routes));
    let address: SocketAddr = THRIFT.address.parse().unwrap();

    // Every call goes by the connections that there are, from the first one on that leads through Meltemi.
    let mut ids = 0..;
    let mut try_ask = |client: &mut Client, method: &str| {
        let form = (Transport::Framed, Protocol::Binary);
        client.try_ask(&call(form, ids.next().unwrap(), method, "x"))
    };
    let allowed = |text: &str| Content::Value(text.as_bytes().to_vec().into());
    let denied = |text: &str| Content::Error { status: 6, text: format!("meltemi: {text}").into() };
    let hello = allowed("v1: x");
    // Envoy's workers learn of the plan one after the other.
    let mut open = at_last("calls follow the route", || {
        let mut open = stage.pod("client").enter(|| Client::connect(address));
        let answers = (0..40).map(|_| try_ask(&mut open, "sayHello")).collect::<io::Result<Vec<_>>>()?;
        let other = answers.into_iter().find(|answer| *answer != hello);
        other.map_or(Ok(open), |answer| Err(io::Error::other(format!("{answer:?}"))))
    });
    let mut ask = |client: &mut Client, method: &str| try_ask(client, method).unwrap();
    assert_eq!(ask(&mut open, "echo"), allowed("x"));
    let deny = json!({
        "action": "DENY",
        "message": "ask the shop's team",
        "rules": [{"when": [{"key": "method", "values": ["ec*", "fail"]}]}],
    });
    stage.apply(&policy("thrift", &deny));
    eventually("a connection from before is covered", || {
        let answers = (0..20).map(|_| ask(&mut open, "echo"));
        answers.into_iter().all(|answer| answer == denied("ask the shop's team")).then_some(())
    });
    assert_eq!(ask(&mut open, "sayHello"), hello);

    // Those who are not the guest may do all but one thing.
    let allow = json!({
        "action": "ALLOW",
        "rules": [{
            "from": [{"source": {
                "namespaces": [SHOP],
                "notPrincipals": [format!("cluster.local/ns/{SHOP}/sa/{GUEST}")],
                "notIpBlocks": ["192.0.2.0/24"],
            }}],
            "when": [{"key": "method", "notValues": ["sayHello"]}],
        }],
    });
    stage.apply(&policy("thrift", &allow));
    eventually("another policy is in its place", || {
        let mut all = |method: &str, wanted: Content<'_>| (0..20).all(|_| ask(&mut open, method) == wanted);
        (all("echo", allowed("x")) && all("sayHello", denied("RBAC: access denied"))).then_some(())
    });
    let calls = ["echo=x", "sayHello=x"];
    let library = |pod: &str| stage.pod(pod).enter(|| Library::Python.call(address, FORM, &[], &calls));
    let refused = json!({"error": 6, "text": "meltemi: RBAC: access denied"});
    assert_eq!(library("client"), [json!({"value": "x"}), refused.clone()]);
    assert_eq!(library(GUEST), [refused.clone(), refused]);
    let name = "^wasmcustom.meltemi.*reason=.=denied;.*local_replies_total";
    stage.pod("v1").admin(|admin| admin.wait(name, DEADLINE, |count| count >= 20)).unwrap();
    stage.mesh.kill_pod(SHOP, GUEST);
}

#[test]
fn trpc_calls_are_denied_when_a_policy_is_no_longer_tried_out() {
    let mut stage = stage::take();
    serve(&mut stage, TRPC, "tcp-trpc");
    let (_servers, client) = start_trpc(&stage);
    stage.route(TRPC, &router(TRPC, json!([{"name": "only", "route": [to(TRPC, "v1")]}])));
    let ask = |lane: &str| {
        let meta = json!({"x-lane": lane});
        let call =
            json!({"do": "call", "address": TRPC.address, "method": "Hello", "text": "x", "meta": meta});
        client.send(call).wait().map(|answer| answer["text"].clone())
    };
    let hello = Ok(json!("v1: x"));
    eventually("calls are served", || (ask("gray") == hello).then_some(()));
    let gray = |is_dry: bool| {
        let caller = json!({"source": {"principals": ["cluster.local/ns/shop/sa/client"]}});
        let when = json!([{"key": "x-lane", "values": ["gray"]}]);
        let rules = json!([{"from": [caller], "when": when}]);
        policy("trpc", &json!({"action": "DENY", "dryRun": is_dry, "rules": rules, "message": "not there"}))
    };
    stage.apply(&gray(true));
    let would_be_denied = || {
        let name = "^wasmcustom.meltemi.*dry_run_denied_total";
        stage.pod("v1").admin(|admin| admin.sum(name)).unwrap()
    };
    let denied = |answer: Result<Value, Exception>| {
        let error = answer.err()?;
        let told = (&*error.class, error.code, &*error.message);
        (told == ("callee framework", Some(41), "meltemi: not there")).then_some(())
    };
    // The servers' sidecars get other sockets for it, and close connections for that.
    eventually("the policy is tried out", || {
        let answer = ask("gray");
        let is_served = answer == hello;
        assert!(denied(answer).is_none());
        (is_served && would_be_denied() > 0).then_some(())
    });
    stage.apply(&gray(false));
    eventually("the policy is enforced", || (0..20).all(|_| denied(ask("gray")).is_some()).then_some(()));
    assert_eq!(ask("blue"), hello);
}
