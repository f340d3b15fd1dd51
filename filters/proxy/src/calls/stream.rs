use meltemi_codecs::Outcome;

use crate::clock::Instant;

/// How far a stream has come that was opened: which of its sides have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stream {
    /// When the last of its frames came, once the server has said its first word.
    pub(crate) active: Option<Instant>,
    /// The client sends no more.
    pub(crate) client_has_ended: bool,
    /// The server sends no more, and the call ended so.
    pub(crate) server_end: Option<Outcome>,
    /// The client has told the server that it is over.
    pub(crate) is_reset: bool,
}
