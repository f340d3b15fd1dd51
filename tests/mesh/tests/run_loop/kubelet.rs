//! What of a kubelet an API server needs to forward a port to a pod, here one of this machine, and to read a pod's log, here
//! a file.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::api::Api;

/// The port that pods listen on, as far as anybody can tell.
const PORT: u16 = 15000;

/// A kubelet on loopback. Ends when dropped.
pub struct Kubelet {
    port: u16,
    _runtime: Runtime,
}

impl Kubelet {
    /// Starts one whose pods, by name, listen there.
    pub fn start(pods: HashMap<String, SocketAddr>) -> Self {
        Self::start_with(pods, HashMap::new())
    }

    /// The same, with the logs of pods by name.
    pub fn start_with(pods: HashMap<String, SocketAddr>, logs: HashMap<String, PathBuf>) -> Self {
        let identity = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(identity.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let runtime = Runtime::new().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let known = Arc::new((pods, logs));
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, known) = (acceptor.clone(), known.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream, &known.0, &known.1).await;
                    }
                });
            }
        });
        Self { port, _runtime: runtime }
    }

    /// Makes its node, called as the namespace, and pods on it that run, with a sidecar each: by name and app.
    pub fn run(&self, api: &Api, namespace: &str, pods: &[(&str, &str)]) {
        api.apply(&format!("apiVersion: v1\nkind: Node\nmetadata: {{name: {namespace}}}\n"));
        let status = json!({
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
        });
        api.patch(&format!("/api/v1/nodes/{namespace}/status"), &json!({"status": status}));
        for (pod, app) in pods {
            api.apply(&format!(
                "
apiVersion: v1
kind: Pod
metadata: {{name: {pod}, namespace: {namespace}, labels: {{app: {app}}}}}
spec:
  nodeName: {namespace}
  containers: [{{name: app, image: app}}]
  initContainers: [{{name: istio-proxy, image: proxyv2, restartPolicy: Always, args: [proxy, sidecar]}}]
"
            ));
            let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/status");
            api.patch(&path, &json!({"status": {"phase": "Running"}}));
        }
    }
}

/// Answers the one question of a connection.
async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    pods: &HashMap<String, SocketAddr>,
    logs: &HashMap<String, PathBuf>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    // /containerLogs/NAMESPACE/POD/CONTAINER?...
    if let Some(path) = text.strip_prefix("GET /containerLogs/") {
        let pod = path.split('/').nth(1).unwrap_or_default();
        return tail(&mut stream, logs.get(pod)).await;
    }
    let (read, write) = tokio::io::split(stream);
    forward(tokio::io::join(std::io::Cursor::new(head).chain(read), write), pods).await;
}

/// The last line of a container that ends.
pub const LAST: &str = "(ended)\n";

/// Sends the lines of a log, those that come too, each after its time, until the container has ended.
async fn tail(stream: &mut (impl AsyncWrite + Unpin), log: Option<&PathBuf>) {
    let Some(log) = log else {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
        return;
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    let mut sent = 0;
    loop {
        let text = std::fs::read_to_string(log).unwrap();
        let whole: Vec<&str> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
        for line in whole.iter().skip(sent) {
            let line = format!("2026-01-01T00:00:00.{sent:09}Z {line}");
            let chunk = format!("{:x}\r\n{line}\r\n", line.len());
            if stream.write_all(chunk.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            sent += 1;
        }
        if whole.last() == Some(&LAST) {
            let _ = stream.write_all(b"0\r\n\r\n").await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Carries the bytes of one WebSocket to the pod that its path names: on channel 0 those of the port, on channel 1 what is
/// wrong with it.
async fn forward(stream: impl AsyncRead + AsyncWrite + Unpin, pods: &HashMap<String, SocketAddr>) {
    let mut path = String::new();
    // The type is the library's.
    #[allow(clippy::result_large_err)]
    let accept = |request: &Request, mut answer: Response| {
        path = request.uri().path().to_owned();
        answer.headers_mut().insert("sec-websocket-protocol", "v4.channel.k8s.io".parse().unwrap());
        Ok(answer)
    };
    let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, accept).await else { return };
    let (mut tell, mut told) = socket.split();
    let [low, high] = PORT.to_le_bytes();
    for channel in [0, 1] {
        tell.send(Message::binary(vec![channel, low, high])).await.unwrap();
    }
    let pod = path.rsplit('/').next().and_then(|pod| pods.get(pod));
    let connected = match pod {
        Some(address) => TcpStream::connect(address).await.ok(),
        None => None,
    };
    let Some(pod) = connected else {
        let _ = tell.send(Message::binary([&[1], &b"connection refused"[..]].concat())).await;
        let _ = tell.close().await;
        return;
    };
    let (mut from_pod, mut to_pod) = pod.into_split();
    let up = async {
        while let Some(Ok(message)) = told.next().await {
            let Message::Binary(bytes) = message else { continue };
            if let Some((0, bytes)) = bytes.split_first().map(|(channel, bytes)| (*channel, bytes)) {
                to_pod.write_all(bytes).await.unwrap();
            }
        }
    };
    let down = async {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_pod.read(&mut bytes).await {
            let message = Message::binary([&[0], &bytes[..count]].concat());
            if tell.send(message).await.is_err() {
                return;
            }
        }
        let _ = tell.close().await;
    };
    futures::future::select(Box::pin(up), Box::pin(down)).await;
}
