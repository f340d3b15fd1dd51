//! Calls from outside the mesh.

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use meltemi_mesh_tests::{Proxy, Workload};
use meltemi_tests::{Client, DEADLINE, Frame, at_last, eventually, files, server_of};
use serde_json::json;
use tempfile::TempDir;

use crate::stage::{self, DEMO, count, router, to};

const NAMESPACE: &str = "istio-system";
const NAME: &str = "ingressgateway";

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP}, hosts: ['*']}
  - {port: {number: 20443, name: tcp-metaprotocol-dubbo-tls, protocol: TLS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: edge}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: ingressgateway, namespace: istio-system}
rules: [{apiGroups: [''], resources: [secrets], verbs: [get, watch, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: ingressgateway, namespace: istio-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: ingressgateway}
subjects: [{kind: ServiceAccount, name: ingressgateway, namespace: istio-system}]
";

#[test]
fn calls_from_outside_are_routed_by_the_gateway() {
    let mut stage = stage::take();
    let mut gateway = Workload::new(NAMESPACE, NAME).label("istio", "ingressgateway");
    gateway.proxy = Proxy::Gateway;
    stage.mesh.start_pods([gateway]);
    let mut router = router(
        DEMO,
        json!([
            {"name": "writes", "match": {"attributes": {"method": {"prefix": "write"}}}, "route": [to(DEMO, "v1")]},
            {"name": "tagged", "match": {"attributes": {"tag": {"exact": "gray"}}}, "route": [to(DEMO, "v2")]},
        ]),
    );
    router["spec"]["gateways"] = json!(["istio-system/edge"]);
    router["spec"]["onNoMatch"] = json!("reject");
    let certificate = Certificate::new("edge.example.org");
    stage.apply(&certificate.secret());
    stage.apply(GATEWAY);
    stage.apply(&router.to_string());

    let pod = stage.mesh.pod(NAMESPACE, NAME);
    let address = SocketAddr::from((pod.address(), 20880));
    let outside = stage.mesh.network().control();
    pod.wait_for_plan(|plan| {
        let routes = &plan["services"]["gateway.edge.istio-system:20880"]["routes"];
        routes.as_array().is_some_and(|routes| !routes.is_empty())
    });
    outside.enter(|| eventually("the gateway listens", || TcpStream::connect(address).ok().map(drop)));
    // Envoy's workers learn of listeners and plans one after the other.
    let mut connection = at_last("calls follow the routes", || {
        let mut connection = outside.enter(|| Client::connect(address));
        let answers = (0..40).map(|_| connection.try_ask("writeOrder", "x"));
        let servers = answers.collect::<io::Result<Vec<_>>>()?;
        let by_route = servers == ["v1"; 40];
        by_route.then_some(connection).ok_or_else(|| io::Error::other(format!("{servers:?}")))
    });
    let mut servers = |method: &str, attachments: &[(&str, &str)]| {
        count(40, || server_of(&connection.call_with(method, "x", attachments), "x"))
    };
    assert_eq!(servers("writeOrder", &[]), [("v1".to_owned(), 40)].into());
    assert_eq!(servers("read", &[("tag", "gray")]), [("v2".to_owned(), 40)].into());
    let answer = connection.call("read", "x");
    assert!(answer.message().is_some_and(|message| message.contains("route")), "{answer:?}");

    let mut encrypted = eventually("encrypted calls follow the routes", || {
        let mut encrypted = outside.enter(|| certificate.connect((pod.address(), 20443).into()));
        let answer = encrypted.try_call(&Frame::request(1, "writeOrder", "x"))?;
        (answer.text().as_deref() == Some("v1:x")).then_some(encrypted)
    });
    let mut servers = |call: &Frame| count(10, || server_of(&encrypted.call(call), "x"));
    assert_eq!(servers(&Frame::request(1, "writeOrder", "x")), [("v1".to_owned(), 10)].into());
    let tagged = Frame::request_with(2, "read", "x", &[("tag", "gray")]);
    assert_eq!(servers(&tagged), [("v2".to_owned(), 10)].into());

    // The gateway is the one that calls, by mutual TLS. Clients in the mesh do not follow its routes.
    let name = "source_principal=.=cluster.local/ns/istio-system/sa/ingressgateway;.;source_requests_total";
    stage.pod("v1").admin(|admin| admin.wait(name, DEADLINE, |calls| calls >= 40)).unwrap();
    assert_eq!(stage.balanced(DEMO.address).len(), 2);
    stage.mesh.kill_pod(NAMESPACE, NAME);
}

/// The certificate of a host, and its key.
struct Certificate {
    host: &'static str,
    folder: TempDir,
}

impl Certificate {
    fn new(host: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        files::run(
            Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
                .args(["-subj", &format!("/CN={host}"), "-addext", &format!("subjectAltName=DNS:{host}")])
                .args(["-keyout", "tls.key", "-out", "tls.crt"])
                .current_dir(&folder),
        );
        Self { host, folder }
    }

    /// The secret that the gateway names.
    fn secret(&self) -> String {
        let [key, certificate] =
            ["tls.key", "tls.crt"].map(|name| fs::read_to_string(self.folder.path().join(name)).unwrap());
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "edge", "namespace": NAMESPACE},
            "type": "kubernetes.io/tls",
            "stringData": {"tls.key": key, "tls.crt": certificate},
        })
        .to_string()
    }

    /// Connects to the host at `address`, which has to have the certificate.
    fn connect(&self, address: SocketAddr) -> Encrypted {
        let child = Command::new("openssl")
            .args(["s_client", "-quiet", "-verify_return_error", "-CAfile", "tls.crt"])
            .args(["-servername", self.host, "-connect", &address.to_string()])
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Encrypted(child.unwrap())
    }
}

/// A connection by TLS, which `openssl` keeps.
struct Encrypted(Child);

impl Encrypted {
    fn call(&mut self, request: &Frame) -> Frame {
        self.try_call(request).expect("an answer")
    }

    /// `None` where the connection is lost.
    fn try_call(&mut self, request: &Frame) -> Option<Frame> {
        self.0.stdin.as_mut()?.write_all(&request.bytes()).ok()?;
        Frame::read(self.0.stdout.as_mut()?).ok()?
    }
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
