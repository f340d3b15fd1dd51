//! `/metrics`, `/healthz` and `/readyz`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::cache::Cache;
use super::metrics::Metrics;
use super::turned_on;

/// What the endpoints report.
#[derive(Clone)]
pub struct Views {
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The caches, which a replica that is ready has filled.
    pub cache: Arc<Cache>,
    /// Whether the webhook can be called.
    pub has_webhook: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Serves the endpoints until `end`.
pub async fn serve(
    listener: TcpListener,
    views: Views,
    mut end: watch::Receiver<bool>,
) -> Result<(), String> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(views);
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { turned_on(&mut end).await })
        .await
        .map_err(|error| format!("cannot serve the metrics: {error}"))
}

async fn metrics(State(views): State<Views>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, TYPE)], views.metrics.text()).into_response()
}

async fn ready(State(views): State<Views>) -> Response {
    let unsettled = views.cache.unsettled();
    if !unsettled.is_empty() {
        let kinds = Vec::from_iter(unsettled).join(", ");
        return (StatusCode::SERVICE_UNAVAILABLE, format!("not listed yet: {kinds}\n")).into_response();
    }
    if !(views.has_webhook)() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the webhook has no certificate yet\n").into_response();
    }
    "ok\n".into_response()
}
