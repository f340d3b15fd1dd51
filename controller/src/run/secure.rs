//! Serves by the certificate that the replicas share, to anybody: nobody gets more than a little of memory before they have
//! asked something.

use std::future::{Ready, ready};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use tokio::sync::{Semaphore, watch};
use tracing::info;

use super::turned_on;

/// How long calls that are under way may take when the process ends.
const GRACE: Duration = Duration::from_secs(5);

/// How long a client may take to ask: for its first request, and for the head of each. So long may a connection of HTTP/1 be
/// idle too.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of a request's head is read.
const HEAD: usize = 64 << 10;

/// A client of HTTP/2 that is silent for so long is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(30);

/// How many connections are open at a time; others are closed at once.
const MOST: usize = 512;

/// Serves `what` when there is a certificate, until `end`.
pub async fn serve(
    what: &'static str,
    listener: TcpListener,
    router: Router,
    mut tls: watch::Receiver<Option<RustlsConfig>>,
    mut end: watch::Receiver<bool>,
) -> Result<(), String> {
    let tls = tokio::select! {
        tls = tls.wait_for(Option::is_some) => tls.ok().and_then(|tls| tls.clone()),
        () = turned_on(&mut end) => None,
    };
    let Some(tls) = tls else { return Ok(()) };
    let handle = Handle::new();
    let ending = handle.clone();
    tokio::spawn(async move {
        turned_on(&mut end).await;
        ending.graceful_shutdown(Some(GRACE));
    });
    let failed = |error: io::Error| format!("cannot serve the {what}: {error}");
    let server = impatient(axum_server::from_tcp(listener).map_err(failed)?, PATIENCE);
    let server = server.acceptor(RustlsAcceptor::new(tls).acceptor(Places::of(MOST)));
    info!("the {what} is served");
    server.handle(handle).serve(router.into_make_service()).await.map_err(failed)
}

/// Waits no longer for what clients say, and takes no more of it, than is needed.
fn impatient(server: Server<SocketAddr>, patience: Duration) -> Server<SocketAddr> {
    let mut server = server.first_request_timeout(patience);
    let http = server.http_builder();
    http.http1().header_read_timeout(patience).max_buf_size(HEAD);
    http.http2().keep_alive_interval(SILENCE).keep_alive_timeout(patience);
    server
}

/// The places for connections.
#[derive(Debug, Clone)]
struct Places(Arc<Semaphore>);

impl Places {
    fn of(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }
}

impl<I> Accept<I, Router> for Places {
    type Stream = I;
    type Service = Router;
    type Future = Ready<io::Result<(I, Router)>>;

    fn accept(&self, stream: I, router: Router) -> Self::Future {
        let place = self.0.clone().try_acquire_owned().map_err(io::Error::other);
        // Each connection has a router of its own, and with it the place.
        ready(place.map(|place| (stream, router.layer(Extension(Arc::new(place))))))
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn served(patience: Duration, places: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = impatient(axum_server::from_tcp(listener).unwrap(), patience);
        let server = server.acceptor(Places::of(places));
        let router = Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(server.serve(router.into_make_service()));
        address
    }

    /// What is answered to `text`; nothing if the connection is closed.
    async fn answer(stream: &mut TcpStream, text: &str) -> String {
        let mut answer = [0; 512];
        let length = match stream.write_all(text.as_bytes()).await {
            Ok(()) => stream.read(&mut answer).await.unwrap_or(0),
            Err(_) => 0,
        };
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[tokio::test]
    async fn who_does_not_come_to_the_end_of_a_request_is_not_waited_for() {
        let address = served(Duration::from_millis(200), 8).await;
        for text in ["", "PRI * HTTP/2", "GET / HTTP/1.1\r\nHost: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let told = answer(&mut stream, text).await;
            assert!(!told.contains("200 OK"), "{text}: {told}");
        }
    }

    #[tokio::test]
    async fn a_head_without_an_end_is_refused() {
        let address = served(Duration::from_secs(600), 8).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let text = format!("GET / HTTP/1.1\r\nHost: {}", "a".repeat(HEAD));
        let told = answer(&mut stream, &text).await;
        assert!(told.starts_with("HTTP/1.1 431 "), "{told}");
    }

    #[tokio::test]
    async fn connections_are_so_many_at_a_time() {
        let address = served(Duration::from_secs(600), 1).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        assert!(answer(&mut first, REQUEST).await.ends_with("here"));
        let mut second = TcpStream::connect(address).await.unwrap();
        assert_eq!(answer(&mut second, REQUEST).await, "", "there is one place");
        assert!(answer(&mut first, REQUEST).await.ends_with("here"));
        drop(first);
        // It is known after a moment that the first is closed.
        let again = async {
            while !answer(&mut TcpStream::connect(address).await.unwrap(), REQUEST).await.ends_with("here") {}
        };
        tokio::time::timeout(Duration::from_secs(60), again).await.unwrap();
    }
}
