//! The admission webhook: refuses resources that could not be in force.

use std::net::TcpListener;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::conditions::said;
use super::metrics::Metrics;
use super::turned_on;
use crate::check;
use crate::generate::{Finding, Severity};

/// Where the API server posts reviews.
pub const PATH: &str = "/validate";

/// How long calls that are under way may take when the process ends.
const GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// Serves the webhook when there is a certificate, until `end`.
pub async fn serve(
    listener: TcpListener,
    mut tls: watch::Receiver<Option<RustlsConfig>>,
    metrics: Arc<Metrics>,
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
    let router = Router::new().route(PATH, post(review)).with_state(metrics);
    let failed = |error: std::io::Error| format!("cannot serve the webhook: {error}");
    let server = axum_server::from_tcp_rustls(listener, tls).map_err(failed)?;
    info!("the webhook is served");
    server.handle(handle).serve(router.into_make_service()).await.map_err(failed)
}

async fn review(
    State(metrics): State<Arc<Metrics>>,
    Json(review): Json<AdmissionReview<DynamicObject>>,
) -> Json<AdmissionReview<DynamicObject>> {
    let request: AdmissionRequest<DynamicObject> = match review.try_into() {
        Ok(request) => request,
        Err(error) => {
            warn!(%error, "the API server sent no request");
            return Json(AdmissionResponse::invalid(error).into_review());
        }
    };
    let mut response = AdmissionResponse::from(&request);
    // What a resource that goes says is nobody's concern.
    let Some(object) = request.object.as_ref().filter(|object| object.metadata.deletion_timestamp.is_none())
    else {
        return Json(response.into_review());
    };
    let (errors, others) = judged(object);
    metrics.reviewed(errors.is_empty());
    if !others.is_empty() {
        response.warnings = Some(others);
    }
    if !errors.is_empty() {
        let why = errors.join("; ");
        debug!(kind = request.kind.kind, name = request.name, why, "refused");
        response = response.deny(why);
    }
    Json(response.into_review())
}

/// What is wrong with an object, for which it is refused, and what else its writer should know.
fn judged(object: &DynamicObject) -> (Vec<String>, Vec<String>) {
    let findings = match serde_json::to_value(object) {
        Ok(object) => check::object(&object).unwrap_or_default(),
        Err(error) => return (vec![error.to_string()], Vec::new()),
    };
    let (errors, others): (Vec<Finding>, Vec<Finding>) =
        findings.into_iter().partition(|finding| finding.severity == Severity::Error);
    let told = |findings: Vec<Finding>| findings.iter().map(said).collect();
    (told(errors), told(others))
}
