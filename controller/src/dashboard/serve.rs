//! The page and what it asks for, over HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;

use super::ask::Sources;
use super::history::History;
use crate::proxies::Which;

/// The files of the page: it asks for nothing else.
const FILES: [(&str, &str, &str); 5] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/app.js", "text/javascript; charset=utf-8", include_str!("page/app.js")),
    ("/views.js", "text/javascript; charset=utf-8", include_str!("page/views.js")),
    ("/charts.js", "text/javascript; charset=utf-8", include_str!("page/charts.js")),
];

/// What a browser may do with the page: load what is here, and nothing from elsewhere; and no other page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Serves it on this machine until something fails.
///
/// # Errors
///
/// Connections cannot be accepted any more.
pub(super) async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    which: Arc<Which>,
    history: Arc<Mutex<History>>,
) -> Result<(), String> {
    let router = router(which, history, |api| api).layer(middleware::from_fn_with_state(address, guard));
    axum::serve(listener, router).await.map_err(|error| format!("cannot serve the page: {error}"))
}

/// The page for everybody, and what it asks for as `gate` lets it.
pub(super) fn router(
    which: Arc<Which>,
    history: Arc<Mutex<History>>,
    gate: impl FnOnce(Router) -> Router,
) -> Router {
    let api = Router::new()
        .route("/api/overview", get(overview))
        .route("/api/calls/{service}", get(calls))
        .route("/api/services", get(services))
        .route("/api/services/{authority}", get(routes))
        .route("/api/endpoints", get(endpoints))
        .route("/api/proxies", get(standings))
        .route("/api/resources", get(resources))
        .with_state(Arc::new(Sources::new(which, history)));
    let mut router = gate(api);
    for (path, kind, text) in FILES {
        router = router.route(path, get(move || async move { ([(header::CONTENT_TYPE, kind)], text) }));
    }
    router.layer(middleware::from_fn(confined))
}

/// Refuses what comes by a name that is not this machine's own: a page from elsewhere whose name leads here would see what
/// is told here.
async fn guard(State(address): State<SocketAddr>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if address.ip().is_loopback() && !is_own(host) {
        let text = "this page is asked for by the address that `meltemi dashboard` prints\n";
        return (StatusCode::MISDIRECTED_REQUEST, text).into_response();
    }
    next.run(request).await
}

/// Says in each answer what browsers may do with it.
async fn confined(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, axum::http::HeaderValue::from_static(value));
    }
    response
}

/// Whether a browser on this machine asks by this machine's own name. The port may be another: of a tunnel of ssh's, say.
fn is_own(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

type All = State<Arc<Sources>>;

async fn overview(State(sources): All) -> Response {
    Json(sources.history().overview()).into_response()
}

async fn calls(State(sources): All, Path(service): Path<String>) -> Response {
    let detail = sources.history().detail(&service);
    found(detail, || format!("no call of {service} was counted"))
}

async fn services(State(sources): All) -> Response {
    told(sources.services().await)
}

async fn routes(State(sources): All, Path(authority): Path<String>) -> Response {
    match sources.routes(&authority).await {
        Ok(routes) => found(routes, || format!("no plan has a service {authority}")),
        Err(why) => failed(why),
    }
}

async fn endpoints(State(sources): All) -> Response {
    told(sources.endpoints().await.as_deref())
}

async fn standings(State(sources): All) -> Response {
    told(sources.standings().await.as_deref())
}

async fn resources(State(sources): All) -> Response {
    told(sources.resources().await.as_deref())
}

fn told<T: Serialize, E: ToString>(answer: Result<T, E>) -> Response {
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(why) => failed(why.to_string()),
    }
}

fn found<T: Serialize>(answer: Option<T>, why: impl FnOnce() -> String) -> Response {
    match answer {
        Some(answer) => Json(answer).into_response(),
        None => (StatusCode::NOT_FOUND, why()).into_response(),
    }
}

fn failed(why: String) -> Response {
    (StatusCode::BAD_GATEWAY, why).into_response()
}

#[cfg(test)]
mod tests {
    use super::is_own;

    #[test]
    fn only_names_of_this_machine_lead_to_the_page() {
        for host in ["localhost", "localhost:15080", "127.0.0.1:1", "[::1]:15080", "127.0.0.2"] {
            assert!(is_own(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:15080", "localhost.evil.example:15080", "10.0.0.1:80"]
        {
            assert!(!is_own(host), "{host}");
        }
    }
}
