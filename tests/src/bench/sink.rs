//! A receiver of access logs that counts what it gets, and keeps nothing of it.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prost::Message;
use tonic::codegen::{Body, BoxFuture, Context, Poll, Service, StdError, http};
use tonic::server::{ClientStreamingService, Grpc, NamedService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::collector::serve;

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
        let entries: Counting<wire::Entries> = Counting(sink.clone(), PhantomData);
        let records: Counting<wire::Records> = Counting(sink.clone(), PhantomData);
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
trait Calls: Message + Default + 'static {
    /// The service that takes them.
    const SERVICE: &'static str;

    fn count(&self) -> usize;
}

/// A service that takes messages, one or many for an answer.
struct Counting<M>(Sink, PhantomData<fn(M)>);

impl<M> Clone for Counting<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<M: Calls> NamedService for Counting<M> {
    const NAME: &'static str = M::SERVICE;
}

impl<M: Calls, B> Service<http::Request<B>> for Counting<M>
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let own = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).client_streaming(own, request).await) })
    }
}

impl<M: Calls> ClientStreamingService<M> for Counting<M> {
    type Response = wire::Answer;
    type Future = BoxFuture<Response<wire::Answer>, Status>;

    fn call(&mut self, request: Request<Streaming<M>>) -> Self::Future {
        let sink = self.0.clone();
        Box::pin(async move {
            let mut messages = request.into_inner();
            while let Some(message) = messages.message().await? {
                sink.0.fetch_add(message.count(), Ordering::Relaxed);
            }
            Ok(Response::new(wire::Answer {}))
        })
    }
}

/// The parts of the messages that are counted.
mod wire {
    use prost::bytes::Bytes;

    use super::Calls;

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

    impl Calls for Entries {
        const SERVICE: &'static str = "envoy.service.accesslog.v3.AccessLogService";

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

    impl Calls for Records {
        const SERVICE: &'static str = "opentelemetry.proto.collector.logs.v1.LogsService";

        fn count(&self) -> usize {
            let scopes = self.resource_logs.iter().flat_map(|of| &of.scope_logs);
            scopes.map(|of| of.log_records.len()).sum()
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Answer {}
}
