use crate::clock::Instant;
use crate::inquiries::InquiryId;
use crate::queue::Place;

/// What the next try of a call waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// None is to come: the call has just been read, or was sent.
    Settled,
    /// The first try, sent then, to have no answer until then.
    Hedging { sent: Instant, until: Instant },
    /// None is to come of a call whose route makes second tries: its first was sent then, and its second with it if it
    /// `is_hedged`.
    Sent { sent: Instant, is_hedged: bool },
    /// An upstream connection: the call is in that place of its pool's queue.
    Waiting(Place),
    /// A service was asked about the call, and has until then to answer.
    Asking { inquiry: InquiryId, until: Instant },
    /// A policy holds the call back until then, before its first try.
    Held { until: Instant },
    /// The pause between two tries.
    Backoff { until: Instant },
}

/// What ended a try, in the words of a route's retry policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The request was never written: no connection could be opened.
    ConnectFailure,
    /// The connection was lost, or useless, before the answer.
    Reset,
    /// No answer within the route's time for one try.
    PerTryTimeout,
    /// The answer had this status.
    Status(u32),
    /// None has: it has no answer yet.
    Slow,
}
