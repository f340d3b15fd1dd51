//! Local rate limits: how many calls a proxy lets pass.
//!
//! A worker takes tokens of the buckets that it shares with others as a lease, so that not every call asks for one. Leases
//! grow with what the worker has spent in the same interval, to a 64th of it: what it does not use is no more than that.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::bucket::Ledger;
use crate::clock::Instant;
use crate::plan::{Plan, TokenBucket};

/// What this worker has taken of each bucket.
#[derive(Debug, Default)]
pub(super) struct Leases(FxHashMap<Rc<str>, Box<Lease>>);

/// Tokens of a bucket, until it is filled again.
#[derive(Debug, Default)]
struct Lease {
    tokens: u32,
    spent: u32,
    is_dry: bool,
    until: Instant,
}

/// The part of what was spent that is taken at once.
const SHARE: u32 = 64;

impl Leases {
    /// Takes a token of a bucket for one call; whether there was one.
    pub(super) fn spend(&mut self, bucket: &TokenBucket, ledger: &dyn Ledger, now: Instant) -> bool {
        let lease = match self.0.get_mut(&bucket.name) {
            Some(lease) => lease,
            None => self.0.entry(bucket.name.clone()).or_default(),
        };
        if lease.until <= now {
            **lease = Lease::default();
        }
        if lease.tokens == 0 && !lease.is_dry {
            let wanted = lease.spent.checked_div(SHARE).unwrap_or(1).max(1);
            let grant = ledger.take(bucket, wanted, now);
            **lease =
                Lease { tokens: grant.tokens, until: grant.until, is_dry: grant.tokens == 0, ..**lease };
        }
        let has_token = lease.tokens > 0;
        lease.tokens = lease.tokens.saturating_sub(1);
        lease.spent = lease.spent.saturating_add(u32::from(has_token));
        has_token
    }

    /// Forgets the buckets that `plan` does not name.
    pub(super) fn set_plan(&mut self, plan: &Plan) {
        if self.0.is_empty() {
            return;
        }
        let limits = plan.services().filter_map(|service| service.local_rate_limit.as_deref());
        let mut before = core::mem::take(&mut self.0);
        for bucket in limits.flat_map(|limit| limit.buckets()) {
            if let Some((name, lease)) = before.remove_entry(&bucket.name) {
                self.0.insert(name, lease);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use core::time::Duration;

    use super::*;
    use crate::policy::bucket::{Grant, OwnLedger};

    /// A ledger that counts how often it is asked.
    #[derive(Default)]
    struct Counted(OwnLedger, Cell<u32>);

    impl Ledger for Counted {
        fn take(&self, bucket: &TokenBucket, wanted: u32, now: Instant) -> Grant {
            self.1.set(self.1.get().saturating_add(1));
            self.0.take(bucket, wanted, now)
        }
    }

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    fn bucket(tokens: u32) -> TokenBucket {
        TokenBucket {
            name: "demo".into(),
            max_tokens: tokens,
            tokens_per_fill: tokens,
            fill_interval: Duration::from_secs(1),
            refusal: "".into(),
        }
    }

    #[test]
    fn workers_together_spend_what_the_bucket_holds() {
        for (count, tokens) in [(1, 3), (4, 5), (2, 10_000), (8, 10_000)] {
            let ledger = Counted::default();
            let mut workers: Vec<Leases> = (0..count).map(|_| Leases::default()).collect();
            let bucket = bucket(tokens);
            for second in 0..5 {
                let before = ledger.1.get();
                let mut spent = 0;
                // Twice as many calls as there are tokens, the first worker has half of them.
                for n in 0..tokens * 2 {
                    let now = at(1000 * second + u64::from(n * 400 / tokens));
                    let worker = if n % 2 == 0 { 0 } else { n as usize / 2 % workers.len() };
                    spent += u32::from(workers[worker].spend(&bucket, &ledger, now));
                }
                assert!(spent <= tokens && spent * 100 >= tokens * 98, "{count}: {spent} of {tokens}");
                let asked = ledger.1.get() - before;
                assert!(asked <= 64 * count as u32 * 8 && asked <= tokens + count as u32, "{asked}");
            }
        }
    }

    #[test]
    fn an_idle_worker_keeps_little_from_the_others() {
        let ledger = OwnLedger::default();
        let [mut idle, mut busy] = [Leases::default(), Leases::default()];
        let bucket = bucket(1000);
        (0..100).for_each(|_| assert!(idle.spend(&bucket, &ledger, at(0))));
        let spent = (0..2000).filter(|_| busy.spend(&bucket, &ledger, at(1))).count();
        assert!((899..=900).contains(&spent), "{spent}");
    }

    #[test]
    fn buckets_that_no_plan_names_are_forgotten() {
        let plan = |service: &str| {
            let json = format!(
                r#"{{"services": {{"{service}": {{"protocol": "dubbo", "localRateLimit":
                {{"tokenBucket": {{"maxTokens": 1, "fillInterval": "1h"}}}}}}}}}}"#
            );
            Plan::parse(json.as_bytes(), &meltemi_codecs::Codecs::all()).unwrap()
        };
        let ledger = OwnLedger::default();
        let mut leases = Leases::default();
        let first = plan("demo");
        let bucket = first.service("demo").unwrap().local_rate_limit.as_ref().unwrap().buckets().next();
        assert!(leases.spend(bucket.unwrap(), &ledger, at(0)));
        leases.set_plan(&plan("demo"));
        assert!(!leases.spend(bucket.unwrap(), &ledger, at(1)));
        leases.set_plan(&plan("other"));
        assert!(leases.0.is_empty());
    }
}
