use meltemi_proxy::plan::TokenBucket;
use meltemi_proxy::{Grant, Instant, Ledger, Level};

use crate::host;

/// The token buckets that all VMs of this Envoy share.
#[derive(Debug)]
pub(crate) struct SharedLedger;

/// Another VM may be quicker so often in a row. With each try one of them has what it wants.
const MOST_TRIES: u32 = 1000;

impl Ledger for SharedLedger {
    fn take(&self, bucket: &TokenBucket, wanted: u32, now: Instant) -> Grant {
        let key = [b"meltemi.bucket.", bucket.name.as_bytes()].concat();
        let mut level = Level::full(bucket, now);
        for _ in 0..MOST_TRIES {
            let Some((bytes, change)) = host::shared_data(&key) else {
                // Whoever comes first fills the bucket. Then all take from it, even if this one was late.
                host::set_shared_data(&key, &level.to_bytes(), host::NO_CHANGE);
                continue;
            };
            level = Level::from_bytes(&bytes).unwrap_or(level);
            let grant = level.take(bucket, wanted, now);
            if host::set_shared_data(&key, &level.to_bytes(), change) {
                return grant;
            }
        }
        Grant { tokens: 0, until: now }
    }
}
