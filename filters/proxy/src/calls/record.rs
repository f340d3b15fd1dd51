use std::rc::Rc;

use meltemi_codecs::{Failure, Frame, Kind, Outcome};

use crate::clock::Instant;
use crate::endpoints::EndpointId;
use crate::lines::Said;
use crate::peers::PeerId;
use crate::plan::{Route, Service};
use crate::pool::PoolId;
use crate::source::Source;
use crate::telemetry::OperationId;
use crate::tracing::Trace;

/// What is to be said of a request: filled as it goes on its way, and read once, when that has ended.
///
/// It names what has names of its own; whoever reads it looks up what it wants.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) service: Rc<Service>,
    /// The client whose request it is, or is a copy of; `None` in tests.
    pub(crate) source: Option<Rc<Source>>,
    pub(crate) operation: OperationId,
    /// The request id that the client chose.
    pub(crate) request_id: u64,
    /// It has no answer.
    pub(crate) is_one_way: bool,
    /// It may have a line in the log.
    pub(crate) may_log: bool,
    /// It opens a stream.
    pub(crate) is_stream: bool,
    pub(crate) route: Option<Rc<Route>>,
    /// That of the cluster that was chosen.
    pub(crate) pool: Option<PoolId>,
    /// Where the last try went.
    pub(crate) endpoint: Option<EndpointId>,
    /// Number of the server that answered, where its workload or identity is known.
    pub(crate) destination: Option<PeerId>,
    /// What its line has of what it says.
    pub(crate) said: Option<Box<Said>>,
    /// The trace that it belongs to, where the service has calls traced.
    pub(crate) trace: Option<Box<Trace>>,
    pub(crate) started: Instant,
    /// A policy held it back.
    pub(crate) is_delayed: bool,
    /// Tries made; one that got no connection counts once it is made again.
    pub(crate) tries: u32,
    /// Those of them that were made again.
    pub(crate) retries: u32,
    /// Tries that took too long, and the call if that did.
    pub(crate) timeouts: u16,
    /// Tries lost with their connection.
    pub(crate) resets: u16,
    /// The length of the request as it came.
    pub(crate) request_bytes: u32,
    /// The length of the answer as the client got it; of one of the proxy's own calls, as it came.
    pub(crate) response_bytes: u32,
    /// `None` while it is on its way.
    pub(crate) end: Option<End>,
}

/// What is larger is not copied in place, but by a call of its own.
const _: () = assert!(size_of::<Record>() <= 128);

/// A length as records have it.
pub(crate) fn bytes(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By the answer of a server.
    Answered(Outcome),
    /// By an answer in the upstream's stead.
    Failed(Failure),
    /// It was sent, and has no answer.
    Sent,
    /// Nobody waits for it any more.
    Cancelled,
}

impl Record {
    /// The record of a request that was just read.
    #[inline(always)]
    pub(crate) fn new(
        service: Rc<Service>,
        source: Option<Rc<Source>>,
        operation: OperationId,
        frame: Frame,
        started: Instant,
    ) -> Self {
        Self {
            service,
            source,
            operation,
            request_id: frame.id,
            is_one_way: frame.kind == Kind::OneWay,
            may_log: true,
            is_stream: frame.kind == Kind::Opened,
            route: None,
            pool: None,
            endpoint: None,
            destination: None,
            said: None,
            trace: None,
            started,
            is_delayed: false,
            tries: 0,
            retries: 0,
            timeouts: 0,
            resets: 0,
            request_bytes: bytes(frame.len),
            response_bytes: 0,
            end: None,
        }
    }

    /// Whether anything came to pass on its way that is counted.
    #[inline]
    pub(crate) fn is_eventful(&self) -> bool {
        self.is_delayed || self.retries > 0 || self.timeouts | self.resets > 0
    }

    /// Number of the client's identity, where it has one.
    pub(crate) fn source_id(&self) -> Option<PeerId> {
        self.source.as_ref()?.id
    }
}
