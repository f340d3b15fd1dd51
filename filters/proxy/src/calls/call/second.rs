//! Second tries beside one that has no answer yet.

use core::time::Duration;

use super::{Call, Cause, Stage, Try};
use crate::clock::Instant;
use crate::plan::USUAL_TIMEOUT;

impl Call {
    /// Its only try was sent: says when a second is to follow, where the route makes such.
    #[inline(never)]
    pub(crate) fn expect_second(&mut self, now: Instant) {
        let Some(hedge) = self.route.retry.as_ref().and_then(|retry| retry.hedge) else { return };
        if self.is_alone_for_good() {
            return;
        }
        let delay = hedge.delay(&self.route.latencies).filter(|_| self.retry(Cause::Slow).is_some());
        self.stage = match delay {
            Some(delay) => Stage::Hedging { sent: now, until: now.after(delay) },
            None => Stage::Sent { sent: now, is_hedged: false },
        };
    }

    /// Whether it never has a second try beside the first, which may have one already: it has no answer, may have several, or
    /// is to go to one endpoint. Calls of one key go to one endpoint as long as that is there, slow or not: what it keeps of
    /// the key is why they do.
    fn is_alone_for_good(&self) -> bool {
        let has_two = !self.tries.have_room();
        has_two || self.record.is_one_way || self.stream.is_some() || self.bucket.is_some() || !self.is_whole
    }

    /// Notes how long its answer took, where second tries ask for that.
    pub(crate) fn note_latency(&self, time: Duration) {
        let hedge = self.route.retry.as_ref().and_then(|retry| retry.hedge);
        if hedge.is_some_and(|hedge| hedge.percentile.is_some()) {
            self.route.latencies.record(time);
        }
    }

    /// No second try follows on the one that was sent then, or it was made.
    pub(crate) fn expect_no_second(&mut self, sent: Instant, is_hedged: bool) {
        self.stage = Stage::Sent { sent, is_hedged };
    }

    /// The later of two tries that are open.
    pub(crate) fn second_try(&self) -> Option<Try> {
        self.tries.second()
    }

    /// How long the answer to a try may take, as servers are judged.
    pub(crate) fn longest(&self) -> Duration {
        self.per_try_timeout().or(self.route.timeout).unwrap_or(USUAL_TIMEOUT)
    }

    /// Whether its answer is dropped for its status, as another try is still open.
    pub(crate) fn is_refused(&self, status: u32) -> bool {
        let retry = self.route.retry.as_ref();
        !self.tries.have_room()
            && retry.is_some_and(|retry| retry.on.status && retry.statuses.contains(&status))
    }
}
