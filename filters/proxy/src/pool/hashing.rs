//! Where the calls of a pool go that are hashed.

use core::time::Duration;

use super::{EXPLORE_PAUSE, IDLE_AGES, Pool};
use crate::clock::Instant;
use crate::endpoints::EndpointId;
use crate::plan::HashKey;
use crate::policy::{Bucket, Buckets};
use crate::upstream::ConnectionId;

/// How long a bucket leads to an endpoint, where connections are not renewed.
const BUCKET_AGE: Duration = Duration::from_secs(600);

impl Pool {
    /// By what its calls are hashed.
    pub(crate) fn hash_key(&self) -> Option<&HashKey> {
        self.policy.as_ref()?.hash.as_ref()
    }

    /// Where calls go that are hashed.
    pub(crate) fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    pub(crate) fn buckets_mut(&mut self) -> &mut Buckets {
        &mut self.buckets
    }

    /// Notes that Envoy has connected a bucket to an endpoint; to none where that does not take calls.
    pub(crate) fn lead(&mut self, bucket: Bucket, to: Option<(EndpointId, ConnectionId)>, now: Instant) {
        let time = match to {
            Some(_) => self.renewal_time().map_or(BUCKET_AGE, |age| age.saturating_mul(IDLE_AGES)),
            None => self.options().ejection_time.unwrap_or(EXPLORE_PAUSE),
        };
        let (endpoint, connection) = to.unzip();
        self.endpoints.note_lead(endpoint);
        self.buckets.put(bucket, endpoint, connection, now, now.after(time));
    }
}
