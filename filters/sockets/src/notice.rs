use std::collections::VecDeque;

use crate::{Event, SocketId};

/// Events that wait for the next call of `receive`.
pub(crate) type Notices = VecDeque<Notice>;

/// An event that was found while something else was done, or as the second of one frame.
#[derive(Debug)]
pub(crate) enum Notice {
    /// Told if the socket is still the caller's.
    Live(SocketId, Event<'static>),
    /// The same, and the id is stale from then on.
    Last(SocketId, Event<'static>),
    /// Of no socket.
    Plain(Event<'static>),
}
