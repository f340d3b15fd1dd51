//! A connection to a server.

use std::rc::Rc;

use crate::toy::WIDE;
use crate::wire::Wire;

/// What clients say first who speak no protocol.
pub const STRANGE: u8 = b'S';

/// A connection to a server.
pub struct Upstream {
    pub endpoint: String,
    pub is_open: bool,
    pub(super) inbox: Vec<u8>,
    /// What its client speaks.
    pub wire: Rc<dyn Wire>,
    /// Bytes that came, where no protocol is spoken.
    pub raw: Option<Vec<u8>>,
    pub received: usize,
    pub heartbeats_answered: usize,
    /// What waits behind an answer of which a part was written.
    pub(super) halted: Option<Vec<u8>>,
    /// Its client speaks no protocol, and gets back what it says.
    pub is_stranger: bool,
    /// The worker sends no more.
    pub has_ended: bool,
    /// Requests without an answer.
    pub in_flight: usize,
    /// When the last of their answers comes, where they come in order; `None` if one never does.
    pub(super) answers_until: Option<u64>,
}

impl Upstream {
    /// One that is not open.
    pub(super) fn new(endpoint: String, wire: Rc<dyn Wire>, is_raw: bool) -> Self {
        Self {
            endpoint,
            is_open: false,
            inbox: Vec::new(),
            wire,
            raw: is_raw.then(Vec::new),
            received: 0,
            heartbeats_answered: 0,
            halted: None,
            is_stranger: false,
            has_ended: false,
            in_flight: 0,
            answers_until: Some(0),
        }
    }

    /// Knows by its first bytes what a client speaks.
    pub(super) fn tell_apart(&mut self, first: &[u8]) {
        match first[0] {
            STRANGE => self.is_stranger = true,
            // No frame of Dubbo's.
            0 if self.wire.codec().name() == "dubbo" => self.wire = Rc::new(&WIDE),
            _ => {}
        }
    }

    /// Whether its client can hear of frames.
    pub fn has_protocol(&self) -> bool {
        self.received > 0 && !self.is_stranger
    }

    /// What has come of a request that is not complete.
    pub fn part(&self) -> &[u8] {
        &self.inbox
    }
}
