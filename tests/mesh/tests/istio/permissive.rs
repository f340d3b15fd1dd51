//! Where mutual TLS is not asked of clients: who has an identity then, and who may call.

use std::io;
use std::net::SocketAddr;

use meltemi_tests::{Client, Frame, eventually};
use serde_json::{Value, json};

use crate::stage::{self, DEMO, SHOP, Stage};

/// Of the servers alone: the namespace stays strict.
const PERMISSIVE: &str = "
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: permissive, namespace: shop}
spec: {selector: {matchLabels: {app: demo}}, mtls: {mode: PERMISSIVE}}
";

#[test]
fn clients_without_mutual_tls_are_served_but_are_nobody() {
    let mut stage = stage::take();
    stage.apply(PERMISSIVE);
    eventually("plain text is taken", || {
        without_identity(&stage).ok().filter(|answer| answer.message().is_none())
    });
    assert_eq!(with_identity(&stage).message(), None);

    // Rules that ask who calls: the last one shuts out what has no identity, whoever else may call.
    for (action, source, is_client_denied) in [
        ("ALLOW", json!({"principals": ["cluster.local/ns/shop/sa/client"]}), false),
        ("DENY", json!({"namespaces": [SHOP]}), true),
        ("DENY", json!({"notPrincipals": ["*"]}), false),
    ] {
        stage.apply(&policy(action, &source).to_string());
        let is_nobody_denied = source["namespaces"].is_null();
        eventually(&format!("{action} {source} is in force"), || {
            let denied = [is_denied(&with_identity(&stage)), is_denied(&without_identity(&stage).ok()?)];
            (denied == [is_client_denied, is_nobody_denied]).then_some(())
        });
    }
}

/// Whether a policy has refused a call.
pub fn is_denied(answer: &Frame) -> bool {
    answer.message().is_some_and(|message| message.contains("RBAC: access denied"))
}

/// A policy of the servers' namespace, with one rule about who calls.
pub fn policy(action: &str, source: &Value) -> Value {
    json!({
        "apiVersion": "dubbo.aeraki.io/v1alpha1",
        "kind": "DubboAuthorizationPolicy",
        "metadata": {"name": "who", "namespace": SHOP},
        "spec": {"action": action, "rules": [{"from": [{"source": source}]}]},
    })
}

/// A call by the client's sidecar.
fn with_identity(stage: &Stage) -> Frame {
    stage.connect(DEMO.address).call("sayHello", "x")
}

/// A call from outside of the mesh, straight to a server.
fn without_identity(stage: &Stage) -> io::Result<Frame> {
    let address = SocketAddr::from((stage.pod("v1").address(), DEMO.target));
    let mut client = stage.mesh.network().control().enter(|| Client::connect(address));
    client.try_send(&Frame::request(1, "sayHello", "x").bytes())?;
    client.try_receive()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
