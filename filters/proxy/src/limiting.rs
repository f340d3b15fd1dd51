//! Clusters that take only so many calls at a time, as their answers take long.

use crate::calls::Try;
use crate::clock::Instant;
use crate::pool::PoolId;
use crate::telemetry::Metric;
use crate::worker::Worker;

impl Worker {
    /// Why a pool takes no more calls for how long its answers take; counts it.
    #[inline(never)]
    pub(crate) fn excess(&mut self, pool_key: PoolId) -> Option<String> {
        let pool = self.pools.get_mut(pool_key).filter(|pool| pool.is_adaptive())?;
        let is_full = pool.is_full(self.now);
        let change = pool.limit_change();
        let why = is_full.then(|| {
            ["cluster ", pool.cluster(), " has as many calls in flight as it answers in good time"].concat()
        });
        self.tell_limit(change);
        if is_full {
            self.telemetry.add_global(Metric::ConcurrencyBlocked, 1);
        }
        why
    }

    /// Notes that an answer of a pool came to what was sent then, or that it `is_late` and was given up.
    pub(crate) fn time_answer(&mut self, pool_key: PoolId, sent: Instant, is_late: bool) {
        let Some(pool) = self.pools.get_mut(pool_key).filter(|pool| pool.is_adaptive()) else { return };
        pool.timed(sent, is_late, self.now, self.random.u32(..));
        let change = pool.limit_change();
        self.tell_limit(change);
    }

    /// A try has run out of time.
    pub(crate) fn note_late(&mut self, pool_key: PoolId, late: Try, is_stream: bool) {
        if !is_stream {
            self.time_answer(pool_key, late.sent_at, true);
        }
        self.judge(pool_key, late.endpoint, true);
    }

    /// Reports how the limits of all pools have changed; they end if it `is_over`.
    pub(crate) fn tell_limits(&mut self, is_over: bool) {
        let change = self.pools.limit_change(is_over);
        self.tell_limit(change);
    }

    fn tell_limit(&mut self, change: i64) {
        if change != 0 {
            self.telemetry.add_global(Metric::ConcurrencyLimit, change);
        }
    }
}
