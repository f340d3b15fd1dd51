//! The tries of a traced call, kept until the call ends and its spans are made.

use super::Trace;
use crate::calls::TryEnd;
use crate::clock::Instant;
use crate::endpoints::EndpointId;
use crate::upstream::ConnectionId;

/// A try, as its span tells of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TracedTry {
    /// Its number in the call, from 1; 0 stands for a call that was never tried.
    pub(crate) number: u32,
    /// `None` of one that has no answer.
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) endpoint: Option<EndpointId>,
    pub(crate) started: Instant,
    /// `None` while it is open.
    pub(crate) end: Option<TryEnd>,
}

/// Further tries have no spans: no call has so many.
const MOST: usize = 32;

impl TracedTry {
    /// What stands for a call that began then and was never tried.
    pub(crate) fn untried(started: Instant) -> Self {
        Self { number: 0, connection: None, endpoint: None, started, end: None }
    }
}

impl Trace {
    /// Whether its spans are sent to a collector.
    #[inline]
    pub(crate) fn is_reported(&self) -> bool {
        self.report.is_some()
    }

    /// A try was made.
    #[inline(never)]
    pub(crate) fn tried(&mut self, new: TracedTry) {
        if let Some(report) = self.report.as_mut().filter(|report| report.tries.len() < MOST) {
            report.tries.push(new);
        }
    }

    /// The try on that connection has ended.
    #[inline(never)]
    pub(crate) fn try_ended(&mut self, connection: ConnectionId, how: TryEnd) {
        // None of a trace that is not reported.
        let mut tries = self.report.iter_mut().flat_map(|report| report.tries.iter_mut().rev());
        let is_meant = |known: &&mut TracedTry| known.connection == Some(connection) && known.end.is_none();
        if let Some(ended) = tries.find(is_meant) {
            ended.end = Some(how);
        }
    }

    /// Its tries, in their order.
    pub(crate) fn tries(&self) -> &[TracedTry] {
        self.report.as_ref().map(|report| &*report.tries).unwrap_or_default()
    }

    /// Whether one of them was answered, and the answer passed on.
    pub(crate) fn is_answered(&self) -> bool {
        self.tries().iter().any(|one| one.end == Some(TryEnd::Answered))
    }
}
