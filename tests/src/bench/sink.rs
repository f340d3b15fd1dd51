//! A receiver of access logs that counts what it gets, and keeps nothing of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tonic::codegen::BoxFuture;
use tonic::server::ClientStreamingService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::collector::serve;
use crate::streamed::{Answer, Receiving, Streamed};

/// What a running receiver got. It runs as long as the process.
#[derive(Debug, Clone, Default)]
pub struct Sink(Arc<AtomicUsize>);

impl Sink {
    /// Starts one on a free port, for Envoy's own service and for OpenTelemetry's, and gives its address as well.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub fn start() -> (Self, SocketAddr) {
        let sink = Self::default();
        let entries: Receiving<_, wire::Entries> = Receiving::new(sink.clone());
        let records: Receiving<_, wire::Records> = Receiving::new(sink.clone());
        let address = serve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), async |listener| {
            let server = Server::builder().add_service(entries).add_service(records);
            server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
        });
        (sink, address)
    }

    /// How many calls it was told of.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Messages with calls.
trait Calls: Streamed {
    fn count(&self) -> usize;
}

impl<M: Calls> ClientStreamingService<M> for Sink {
    type Response = Answer;
    type Future = BoxFuture<Response<Answer>, Status>;

    fn call(&mut self, request: Request<Streaming<M>>) -> Self::Future {
        let sink = self.clone();
        Box::pin(async move {
            let mut messages = request.into_inner();
            while let Some(message) = messages.message().await? {
                sink.0.fetch_add(message.count(), Ordering::Relaxed);
            }
            Ok(Response::new(Answer {}))
        })
    }
}

/// The parts of the messages that are counted.
mod wire {
    use prost::bytes::Bytes;

    use super::Calls;
    use crate::streamed::Streamed;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Entries {
        #[prost(message, optional, tag = "2")]
        http_logs: Option<HttpLogs>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct HttpLogs {
        #[prost(bytes = "bytes", repeated, tag = "1")]
        log_entry: Vec<Bytes>,
    }

    impl Streamed for Entries {
        const SERVICE: &'static str = "envoy.service.accesslog.v3.AccessLogService";
    }

    impl Calls for Entries {
        fn count(&self) -> usize {
            self.http_logs.as_ref().map_or(0, |logs| logs.log_entry.len())
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Records {
        #[prost(message, repeated, tag = "1")]
        resource_logs: Vec<ResourceLogs>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct ResourceLogs {
        #[prost(message, repeated, tag = "2")]
        scope_logs: Vec<ScopeLogs>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct ScopeLogs {
        #[prost(bytes = "bytes", repeated, tag = "2")]
        log_records: Vec<Bytes>,
    }

    impl Streamed for Records {
        const SERVICE: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";
    }

    impl Calls for Records {
        fn count(&self) -> usize {
            let scopes = self.resource_logs.iter().flat_map(|of| &of.scope_logs);
            scopes.map(|of| of.log_records.len()).sum()
        }
    }
}
