use super::{Layout, template::LONGEST_TEXT};
use crate::{Codec, Failure, Frame, Kind, Outcome, Peer, Step};

/// A frame of a layout's own that the layout itself does not read as what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The answer to failures.
    ErrorReply(&'static str),
    /// The answer to heartbeats.
    HeartbeatReply(&'static str),
    /// The word that a connection is about to close.
    DrainNotice(&'static str),
}

/// The longest frame that a layout makes.
const LIMIT: usize = 64 << 10;

impl Layout {
    /// Reads every kind of frame that the layout makes with the layout itself.
    ///
    /// # Errors
    ///
    /// The first that is not what it should be, and why.
    pub fn check(&self) -> Result<(), Fault> {
        use super::template::{Said, render};

        let long = "x".repeat(LONGEST_TEXT);
        for id in [0, 1, self.max_id()].into_iter().filter(|id| *id <= self.max_id()) {
            let read = |frame: &[u8], is_right: &dyn Fn(Kind) -> bool, id: u64| match self.split(
                Peer::Server,
                frame,
                LIMIT,
            ) {
                Ok(Step::Frame(Frame { len, .. })) if len != frame.len() => {
                    Err("is longer than its length says")
                }
                Ok(Step::Frame(Frame { kind, .. })) if !is_right(kind) => {
                    Err("is read as another kind of frame")
                }
                Ok(Step::Frame(Frame { id: found, .. })) if found != id => {
                    Err("has another id than the request")
                }
                Ok(Step::Frame(_)) => Ok(()),
                Ok(Step::NeedMore { .. }) => Err("is shorter than its length says"),
                Err(_) => Err("cannot be read by the layout itself"),
            };
            let mut frame = Vec::new();
            for (failure, text) in Failure::ALL.iter().flat_map(|failure| [(failure, ""), (failure, &*long)])
            {
                let Some(reply) = &self.error_reply else { break };
                let own = reply.statuses.iter().find(|(known, _)| known == failure);
                let status = own.map_or(reply.otherwise, |(_, status)| *status);
                frame.clear();
                render(&reply.frame, Said { id, status, text }, &mut frame);
                let is_right = |kind| matches!(kind, Kind::Response(Outcome::Error(_)));
                read(&frame, &is_right, id).map_err(Fault::ErrorReply)?;
            }
            if !self.heartbeat_reply.is_empty() {
                frame.clear();
                render(&self.heartbeat_reply, Said { id, status: 0, text: "" }, &mut frame);
                read(&frame, &|kind| kind == Kind::HeartbeatResponse, id).map_err(Fault::HeartbeatReply)?;
            }
            if !self.drain_notice.is_empty() {
                frame.clear();
                render(&self.drain_notice, Said { id: 0, status: 0, text: "" }, &mut frame);
                read(&frame, &|kind| kind == Kind::Drain, 0).map_err(Fault::DrainNotice)?;
            }
        }
        Ok(())
    }
}
