//! What a client is written, and what of it or of its requests is passed on while it comes.

use super::Client;
use crate::calls::CallId;
use crate::client::turns::Turns;
use crate::clock::Instant;
use crate::download::Arrival;
use crate::net::Net;
use crate::upload::Upload;

impl Client {
    /// The request that is passed on while it comes.
    #[inline]
    pub(crate) fn upload(&self) -> Option<Upload> {
        self.upload
    }

    pub(crate) fn set_upload(&mut self, upload: Option<Upload>) {
        self.upload = upload;
    }

    /// The answer that is passed on while it comes.
    #[inline]
    pub(crate) fn arrival(&self) -> Option<&Arrival> {
        self.arrival.as_deref()
    }

    /// Another is passed on, or none; gives back the one before.
    pub(crate) fn set_arrival(&mut self, arrival: Option<Arrival>) -> Option<Box<Arrival>> {
        core::mem::replace(&mut self.arrival, arrival.map(Box::new))
    }

    /// Notes that more of it came, or that it could not because of the client.
    pub(crate) fn touch_arrival(&mut self, now: Instant) {
        if let Some(arrival) = &mut self.arrival {
            arrival.touch(now);
        }
    }

    /// Corrects the sum of unread bytes by the answers that wait behind another.
    #[inline]
    pub(crate) fn count_behind(&mut self, sum: &mut usize) {
        if let Some(arrival) = &mut self.arrival {
            arrival.count(sum);
        }
        self.turns.count(sum);
    }

    /// What the sum of unread bytes has of it.
    pub(crate) fn counted(&self) -> usize {
        let behind = self.arrival.as_ref().map_or(0, |arrival| arrival.counted());
        self.intake.counted().saturating_add(behind).saturating_add(self.turns.counted())
    }

    /// Where to append an answer, if anything more can be written: behind the one that is passed on while it comes.
    #[inline]
    pub(crate) fn write<'a>(&'a mut self, net: &'a mut Net) -> Option<&'a mut Vec<u8>> {
        match &mut self.arrival {
            Some(arrival) => Some(arrival.behind_mut()),
            None => net.write(self.socket),
        }
    }

    /// Writes the answer of a call, or of a request that became none, in its turn.
    #[inline]
    pub(crate) fn answer(&mut self, net: &mut Net, call: Option<CallId>, write: impl FnOnce(&mut Vec<u8>)) {
        let must_wait = call.map_or(self.turns.len() > 0, |call| self.turns.must_wait(call));
        if must_wait {
            self.turns.hold(call, write);
        } else if let Some(out) = self.write(net) {
            write(out);
        }
    }

    /// The order in which it gets its answers.
    #[inline]
    pub(crate) fn turns(&self) -> &Turns {
        &self.turns
    }

    #[inline]
    pub(crate) fn turns_mut(&mut self) -> &mut Turns {
        &mut self.turns
    }

    /// Bytes of answers that have not left, and wait for no others.
    #[inline]
    pub(crate) fn unsent(&self, net: &Net) -> usize {
        let behind = self.arrival.as_ref().map_or(0, |arrival| arrival.behind().len());
        net.queued(self.socket).saturating_add(behind)
    }
}
