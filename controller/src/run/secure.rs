//! Serves by the certificate that the replicas share.

use std::net::TcpListener;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use tokio::sync::watch;
use tracing::info;

use super::turned_on;

/// How long calls that are under way may take when the process ends.
const GRACE: Duration = Duration::from_secs(5);

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
    let failed = |error: std::io::Error| format!("cannot serve the {what}: {error}");
    let server = axum_server::from_tcp_rustls(listener, tls).map_err(failed)?;
    info!("the {what} is served");
    server.handle(handle).serve(router.into_make_service()).await.map_err(failed)
}
