//! The way to an Envoy's admin interface: a TCP connection, or one that the API server forwards to a pod.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
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

/// Where the admin interface of Istio's sidecars listens, in the pod alone.
const ADMIN_PORT: u16 = 15000;

/// What an admin interface is asked. What answers may be anything that a tenant runs in a container of that name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    pub(super) path: &'static str,
    /// How many bytes the answer may have.
    pub(super) most: usize,
}

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
    /// The answer; none if it has nothing there.
    ///
    /// # Errors
    ///
    /// There is none in time, or it is an error.
    pub(super) async fn find(&self, question: Question) -> Result<Option<String>, String> {
        match tokio::time::timeout(PATIENCE, self.answer(question)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn answer(&self, Question { path, most }: Question) -> Result<Option<String>, String> {
        let lost = |error: hyper::Error| format!("the connection is lost: {}", words::innermost(&error));
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(self.open().await?)).await.map_err(lost)?;
        tokio::spawn(connection);
        let request = Request::get(path).header(HOST, "localhost").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(lost)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), most).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return format!("its answer to {path} has more than {} MiB", most >> 20);
            }
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

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_answer_has_no_more_than_its_question_lets_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let reach = Reach::Address(listener.local_addr().unwrap().to_string());
        let router = Router::new().route("/stats", get(|| async { "a".repeat(2 << 20) }));
        tokio::spawn(axum::serve(listener, router).into_future());
        let ask = |path, most| reach.find(Question { path, most });
        assert_eq!(ask("/stats", 2 << 20).await.unwrap().map(|text| text.len()), Some(2 << 20));
        assert_eq!(ask("/stats", 1 << 20).await.unwrap_err(), "its answer to /stats has more than 1 MiB");
        assert_eq!(ask("/other", 1 << 20).await, Ok(None));
    }
}
