//! The admission webhook: refuses resources that could not be in force.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::conditions::said;
use super::metrics::Metrics;
use crate::check;
use crate::findings::{Finding, Severity};

/// Where the API server posts reviews.
pub const PATH: &str = "/validate";

/// The longest review that is read. It holds an object as it was and as it would be, and the API server takes 3 MiB of each.
const LONGEST_REVIEW: usize = 8 << 20;

/// How many reviews are read at a time, since anyone may post some: an object takes several times the room of its text.
const AT_ONCE: usize = 4;

/// How long a review may take: the API server waits no longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the API server calls.
pub fn router(metrics: Arc<Metrics>) -> Router {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    Router::new()
        .route(PATH, post(review))
        .layer(DefaultBodyLimit::max(LONGEST_REVIEW))
        .layer(from_fn_with_state(places, in_turn))
        .with_state(metrics)
}

/// Handles a request when there is room for it.
async fn in_turn(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let handling = async {
        let _place = places.acquire().await;
        next.run(request).await
    };
    match timeout(PATIENCE, handling).await {
        Ok(response) => response,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "no room for the review within 5 s\n").into_response(),
    }
}

async fn review(
    State(metrics): State<Arc<Metrics>>,
    review: Result<Json<AdmissionReview<DynamicObject>>, JsonRejection>,
) -> Response {
    match review {
        // What takes its time holds up neither the Lease nor the watches.
        Ok(Json(review)) => match tokio::task::spawn_blocking(move || answer(&metrics, review)).await {
            Ok(answer) => answer.into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        },
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            warn!("review too large to read; problems will show in the status of the resource");
            let message = format!("the review is too large: it has more than {} MiB\n", LONGEST_REVIEW >> 20);
            (StatusCode::PAYLOAD_TOO_LARGE, message).into_response()
        }
        Err(rejection) => rejection.into_response(),
    }
}

fn answer(metrics: &Metrics, review: AdmissionReview<DynamicObject>) -> Json<AdmissionReview<DynamicObject>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    /// Posts a review, and returns the status line and the body of the answer.
    async fn post(address: std::net::SocketAddr, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: \
             {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // Of what is too long the server does not read the rest.
        let _ = stream.write_all(body.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// The review of an update of a router, of so many bytes before and after.
    fn update(bytes: usize) -> String {
        let router = json!({
            "apiVersion": "meltemi.io/v1alpha1", "kind": "MetaRouter",
            "metadata": {"name": "a", "namespace": "shop", "annotations": {"a": "x".repeat(bytes)}},
            "spec": {"hosts": []},
        });
        let kind = json!({"group": "meltemi.io", "version": "v1alpha1", "kind": "MetaRouter"});
        let resource = json!({"group": "meltemi.io", "version": "v1alpha1", "resource": "metarouters"});
        let request = json!({
            "uid": "u", "kind": kind, "resource": resource, "name": "a", "namespace": "shop", "operation": "UPDATE",
            "userInfo": {}, "object": router, "oldObject": router, "dryRun": false,
        });
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
            .to_string()
    }

    #[tokio::test]
    async fn both_objects_of_an_update_may_be_as_large_as_objects_are() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router(Arc::default())).await });
        let (status, body) = post(address, &update(3 << 20)).await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["response"]["allowed"], false, "no host: {answer}");

        let (status, body) = post(address, &update(LONGEST_REVIEW)).await;
        assert_eq!(status, "HTTP/1.1 413 Payload Too Large");
        assert_eq!(body, "the review is too large: it has more than 8 MiB\n");
    }

    #[tokio::test(start_paused = true)]
    async fn posts_that_never_end_leave_room_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router(Arc::default())).await });
        let mut stuck = Vec::new();
        for _ in 0..AT_ONCE {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!(
                "POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stuck.push(stream);
        }
        // It waits for its turn, which comes when the others' time is over.
        loop {
            let (status, _) = post(address, &update(1)).await;
            match &*status {
                "HTTP/1.1 200 OK" => break,
                status => assert_eq!(status, "HTTP/1.1 503 Service Unavailable"),
            }
        }
    }
}
