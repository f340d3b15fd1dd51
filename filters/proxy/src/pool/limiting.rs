//! How many calls a cluster takes at a time, where that follows the times of its answers.

use super::Pool;
use crate::clock::Instant;
use crate::policy::Concurrency;

impl Pool {
    /// Follows what the plan says of that. What a client has for itself is not limited so, nor copies of calls.
    pub(super) fn adapt(&mut self, now: Instant) {
        let rule = self.policy.as_ref().and_then(|policy| policy.adaptive_concurrency.as_ref());
        let rule = rule.filter(|_| self.owner.is_none() && !self.is_mirror);
        match (rule, &mut self.concurrency) {
            (None, concurrency) => *concurrency = None,
            (Some(rule), Some(concurrency)) => concurrency.follow(rule),
            (Some(rule), concurrency) => *concurrency = Some(Box::new(Concurrency::new(rule, now))),
        }
    }

    /// Whether it takes no more calls for how long answers take.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        let Some(concurrency) = &mut self.concurrency else { return false };
        let Some(rule) = self.policy.as_ref().and_then(|policy| policy.adaptive_concurrency.as_ref()) else {
            return false;
        };
        concurrency.keep_time(rule, now);
        self.calls.answered_soon() >= concurrency.limit()
    }

    /// Notes that an answer came to what was sent then, or that it `is_late` and was given up. `random` is any number.
    pub(crate) fn timed(&mut self, sent: Instant, is_late: bool, now: Instant, random: u32) {
        let Some(concurrency) = &mut self.concurrency else { return };
        if let Some(rule) = self.policy.as_ref().and_then(|policy| policy.adaptive_concurrency.as_ref()) {
            concurrency.note(sent, is_late, self.calls.answered_soon(), rule, now, random);
        }
    }

    /// Whether its calls are limited so.
    pub(crate) fn is_adaptive(&self) -> bool {
        self.concurrency.is_some()
    }

    /// By how much its limit has changed since the last time, one that is gone being none.
    pub(crate) fn limit_change(&mut self) -> i64 {
        let limit = self.concurrency.as_ref().map_or(0, |concurrency| concurrency.limit());
        let before = core::mem::replace(&mut self.told_limit, limit);
        // Neither is more than a million.
        (limit as i64).saturating_sub(before as i64)
    }

    /// The limit that was reported last.
    pub(crate) fn told_limit(&self) -> i64 {
        self.told_limit as i64
    }

    /// It is limited no more.
    pub(crate) fn end_limit(&mut self) {
        self.concurrency = None;
    }
}
