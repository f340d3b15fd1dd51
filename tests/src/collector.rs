//! A collector of spans, as OpenTelemetry's are called by gRPC or by HTTP.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use prost::Message;
use tokio::net;
use tokio::runtime::Builder;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

pub use opentelemetry_proto::tonic::trace::v1::Span;

/// What a running collector got. It runs as long as the process.
#[derive(Debug, Clone, Default)]
pub struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Starts one that listens on an address, and gives that as well; on a free port if the address has none.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub fn start(address: SocketAddr) -> (Self, SocketAddr) {
        let collector = Self::default();
        let service = TraceServiceServer::new(collector.clone());
        let address = serve(address, async |listener| {
            let server = Server::builder().add_service(service);
            server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
        });
        (collector, address)
    }

    /// The same, called by HTTP/1.1 at a path.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub fn start_http(address: SocketAddr, path: &str) -> (Self, SocketAddr) {
        let collector = Self::default();
        let own = collector.clone();
        let take = async move |headers: HeaderMap, body: Bytes| {
            let is_protobuf = headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/x-protobuf");
            match ExportTraceServiceRequest::decode(body) {
                Ok(request) if is_protobuf => own.0.lock().unwrap().push(request),
                _ => return (StatusCode::BAD_REQUEST, Vec::new()),
            }
            (StatusCode::OK, ExportTraceServiceResponse::default().encode_to_vec())
        };
        let router = Router::new().route(path, post(take));
        let address = serve(address, async |listener| axum::serve(listener, router).await.unwrap());
        (collector, address)
    }

    /// The spans that it got.
    pub fn spans(&self) -> Vec<Span> {
        let given = self.0.lock().unwrap();
        let resources = given.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|of| &of.scope_spans).flat_map(|of| of.spans.clone()).collect()
    }
}

/// Listens on an address, and serves in a thread of its own; the address with its port.
pub(crate) fn serve(
    address: SocketAddr,
    serve: impl AsyncFnOnce(net::TcpListener) + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { serve(net::TcpListener::from_std(listener).unwrap()).await });
    });
    address
}

/// An id in hexadecimal digits.
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The values of attributes, as texts.
///
/// # Panics
///
/// When one is neither a text nor a number.
pub fn values(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |pair: &KeyValue| match pair.value.clone().and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|pair| (&*pair.key, text(pair))).collect()
}
