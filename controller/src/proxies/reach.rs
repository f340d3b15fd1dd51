//! The way to an Envoy's admin interface: a TCP connection, or one that the API server forwards to a pod.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::words;

/// How long an answer may take. A dump of a large sidecar takes a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// How large an answer may be.
const MOST: usize = 64 << 20;

/// Where the admin interface of Istio's sidecars listens, in the pod alone.
const ADMIN_PORT: u16 = 15000;

/// How an admin interface is reached.
#[derive(Debug, Clone)]
pub(super) enum Reach {
    /// It listens at `host:port`.
    Address(String),
    /// It is a sidecar's or a gateway's.
    Pod(Box<Api<Pod>>, String),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Reach {
    /// The answer to `GET path`; none if it has nothing there.
    ///
    /// # Errors
    ///
    /// There is none in time, or it is an error.
    pub(super) async fn find(&self, path: &str) -> Result<Option<String>, String> {
        match tokio::time::timeout(PATIENCE, self.answer(path)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn answer(&self, path: &str) -> Result<Option<String>, String> {
        let lost = |error: hyper::Error| format!("the connection is lost: {}", words::innermost(&error));
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(self.open().await?)).await.map_err(lost)?;
        tokio::spawn(connection);
        let request = Request::get(path).header(HOST, "localhost").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(lost)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MOST).collect().await;
        let body = body.map_err(|error| {
            let error: &(dyn Error + 'static) = &*error;
            format!("its answer is cut short: {}", words::innermost(error))
        })?;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        match status.as_u16() {
            200 => Ok(Some(text)),
            404 => Ok(None),
            status => Err(format!(
                "status {status} for {path}: is this an admin interface of Envoy? {}",
                words::shortened(text.trim(), 200)
            )),
        }
    }

    async fn open(&self) -> Result<Box<dyn Stream>, String> {
        match self {
            Self::Address(address) => match TcpStream::connect(address).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(format!(
                    "nothing answers at {address}: {}; --admin names the address of Envoy's `admin`",
                    words::file(&error)
                )),
            },
            Self::Pod(pods, name) => {
                let mut forwarder = pods.portforward(name, &[ADMIN_PORT]).await.map_err(|error| {
                    format!(
                        "the API server does not forward to it: {}; `create` on pods/portforward is needed",
                        words::cluster(&error)
                    )
                })?;
                match forwarder.take_stream(ADMIN_PORT) {
                    Some(stream) => Ok(Box::new(stream)),
                    None => Err("the API server gives no stream to it".to_owned()),
                }
            }
        }
    }
}
