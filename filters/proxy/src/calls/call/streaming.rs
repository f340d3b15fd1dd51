//! Calls that are streams.

use meltemi_codecs::Outcome;

use super::{Call, Stream};
use crate::clock::Instant;

impl Call {
    /// What has become of it if it is a stream.
    #[inline]
    pub(crate) fn stream(&self) -> Option<&Stream> {
        self.stream.as_ref()
    }

    #[inline]
    pub(crate) fn stream_mut(&mut self) -> Option<&mut Stream> {
        self.stream.as_mut()
    }

    /// Whether its server waits for more of a stream that is given up.
    pub(crate) fn needs_reset(&self) -> bool {
        self.stream.is_some_and(|stream| !stream.is_reset && stream.server_end.is_none())
    }

    /// How a stream ended whose client did not say that it has.
    pub(crate) fn lingered(&self, now: Instant) -> Option<Outcome> {
        let end = self.stream?.server_end?;
        self.deadline.is_some_and(|deadline| deadline <= now).then_some(end)
    }
}
