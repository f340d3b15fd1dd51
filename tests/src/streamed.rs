//! Services of gRPC to which clients stream messages, for one answer each.

use std::convert::Infallible;
use std::marker::PhantomData;

use tonic::codegen::{Body, BoxFuture, Context, Poll, Service, StdError, http};
use tonic::server::{ClientStreamingService, Grpc, NamedService};
use tonic_prost::ProstCodec;

/// Messages that have a service of their own.
pub(crate) trait Streamed: prost::Message + Default + 'static {
    /// Its name.
    const SERVICE: &'static str;
}

/// The answer of those who have nothing to say.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {}

/// The service of messages, which a receiver takes.
pub(crate) struct Receiving<S, M>(S, PhantomData<fn(M)>);

impl<S, M> Receiving<S, M> {
    pub(crate) fn new(receiver: S) -> Self {
        Self(receiver, PhantomData)
    }
}

impl<S: Clone, M> Clone for Receiving<S, M> {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl<S, M: Streamed> NamedService for Receiving<S, M> {
    const NAME: &'static str = M::SERVICE;
}

impl<S, M, B> Service<http::Request<B>> for Receiving<S, M>
where
    S: ClientStreamingService<M, Response: prost::Message + 'static> + Clone + Send + 'static,
    S::Future: Send,
    M: Streamed,
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
        let own = self.0.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).client_streaming(own, request).await) })
    }
}
