//! Where the calls of a bucket go: keys fall into buckets, and Envoy says where each of those leads.

use core::num::NonZeroU16;

use crate::clock::Instant;
use crate::endpoints::EndpointId;
use crate::upstream::ConnectionId;

/// A part of all keys, the same in every proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bucket(NonZeroU16);

/// How many there are. Each costs a connection that is opened to ask, and is one part that an endpoint has more or less than
/// another.
const BUCKETS: u64 = 2048;

/// Buckets that calls wait for and that are asked about at a time, and those that are just looked at again.
const MOST_ASKED: usize = 64;
const MOST_REFRESHED: usize = 8;

impl Bucket {
    pub(crate) fn of(hash: u64) -> Self {
        let number = u16::try_from(hash.checked_rem(BUCKETS).unwrap_or_default()).unwrap_or_default();
        Self(NonZeroU16::MIN.saturating_add(number))
    }

    /// Its number, as Envoy hashes it.
    pub(crate) fn number(self) -> u16 {
        self.0.get()
    }
}

/// What is known of the buckets of a pool.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    /// In the order of the buckets.
    places: Vec<(Bucket, Place)>,
    /// How many are asked about.
    asked: usize,
    /// When an endpoint came: some buckets may lead there from then on.
    changed: Instant,
}

/// Where a bucket leads.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    /// The endpoint; none if it takes no calls for now, so that they go anywhere.
    pub(crate) endpoint: Option<EndpointId>,
    /// A connection to it, if that is still there.
    pub(crate) connection: Option<ConnectionId>,
    /// When Envoy said so; until when it holds.
    known: Option<(Instant, Instant)>,
    is_asked: bool,
}

impl Buckets {
    /// Where a bucket leads, if that is known, and whether it is certain.
    #[inline]
    pub(crate) fn find(&self, bucket: Bucket, now: Instant) -> Option<(Place, bool)> {
        let (_, place) = self.places.get(self.position(bucket).ok()?)?;
        let (since, until) = place.known?;
        let is_current = now < until && (since >= self.changed || place.endpoint.is_none());
        Some((*place, is_current))
    }

    /// Whether Envoy is to be asked about a bucket now, for calls that wait or just to be certain. It is asked then.
    pub(crate) fn ask(&mut self, bucket: Bucket, is_waited_for: bool) -> bool {
        let most = if is_waited_for { MOST_ASKED } else { MOST_REFRESHED };
        if self.asked >= most {
            return false;
        }
        let is_new = self.place(bucket).is_some_and(|place| !core::mem::replace(&mut place.is_asked, true));
        self.asked = self.asked.saturating_add(usize::from(is_new));
        is_new
    }

    /// Whether calls are hashed, or were.
    pub(crate) fn are_used(&self) -> bool {
        !self.places.is_empty()
    }

    /// How many buckets are asked about.
    pub(crate) fn asked(&self) -> usize {
        self.asked
    }

    /// The question has ended, with whatever answer.
    pub(crate) fn ended(&mut self, bucket: Bucket) {
        let was_asked = self.place(bucket).is_some_and(|place| core::mem::take(&mut place.is_asked));
        self.asked = self.asked.saturating_sub(usize::from(was_asked));
    }

    /// A bucket leads to that endpoint from now on, at most until then. Without one, its calls go anywhere.
    pub(crate) fn put(
        &mut self,
        bucket: Bucket,
        endpoint: Option<EndpointId>,
        connection: Option<ConnectionId>,
        now: Instant,
        until: Instant,
    ) {
        if let Some(place) = self.place(bucket) {
            *place = Place { endpoint, connection, known: Some((now, until)), is_asked: place.is_asked };
        }
    }

    /// The connection that its calls go on.
    pub(crate) fn share(&mut self, bucket: Bucket, connection: ConnectionId) {
        if let Some(place) = self.place(bucket) {
            place.connection = Some(connection);
        }
    }

    /// An endpoint has come.
    pub(crate) fn change(&mut self, now: Instant) {
        self.changed = now;
    }

    fn position(&self, bucket: Bucket) -> Result<usize, usize> {
        self.places.binary_search_by_key(&bucket, |(bucket, _)| *bucket)
    }

    fn place(&mut self, bucket: Bucket) -> Option<&mut Place> {
        let at = self.position(bucket).unwrap_or_else(|at| {
            self.places.insert(at, (bucket, Place::default()));
            at
        });
        self.places.get_mut(at).map(|(_, place)| place)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::arena::Id;

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    #[test]
    fn every_hash_has_a_bucket_and_no_number_is_nothing() {
        let numbers = [0, 1, 2046, 2047, 2048, u64::MAX].map(|hash| Bucket::of(hash).number());
        assert_eq!(numbers, [1, 2, 2047, 2048, 1, 2048]);
    }

    #[test]
    fn a_bucket_leads_where_envoy_said_until_that_is_old_or_an_endpoint_comes() {
        let mut buckets = Buckets::default();
        let [first, second] = [7, 3].map(Bucket::of);
        let endpoint = Some(Id::new(1, 1));
        assert!(!buckets.are_used() && buckets.find(first, at(0)).is_none());
        buckets.put(first, endpoint, None, at(10), at(100));
        buckets.put(second, None, None, at(10), at(20));
        let find = |buckets: &Buckets, bucket, now| {
            buckets.find(bucket, at(now)).map(|(place, is_current)| (place.endpoint, is_current))
        };
        assert_eq!(find(&buckets, first, 99), Some((endpoint, true)));
        assert_eq!(find(&buckets, first, 100), Some((endpoint, false)));
        buckets.change(at(11));
        assert_eq!(find(&buckets, first, 12), Some((endpoint, false)));
        assert_eq!(find(&buckets, second, 19), Some((None, true)), "an endpoint that takes none is no other");
        assert_eq!(find(&buckets, second, 20), Some((None, false)));
        buckets.put(first, endpoint, None, at(12), at(100));
        assert_eq!(find(&buckets, first, 12), Some((endpoint, true)));
        assert_eq!(find(&buckets, Bucket::of(4), 12), None);
    }

    #[test]
    fn each_is_asked_about_once_and_few_are_at_a_time() {
        let mut buckets = Buckets::default();
        let refreshed = (0..20).filter(|n| buckets.ask(Bucket::of(*n), false)).count();
        assert_eq!((refreshed, buckets.asked()), (MOST_REFRESHED, MOST_REFRESHED));
        assert!(!buckets.ask(Bucket::of(0), true), "it is asked about");
        let waited_for = (8..200).filter(|n| buckets.ask(Bucket::of(*n), true)).count();
        assert_eq!((waited_for, buckets.asked()), (MOST_ASKED - MOST_REFRESHED, MOST_ASKED));
        [0, 0, 199].into_iter().for_each(|n| buckets.ended(Bucket::of(n)));
        assert_eq!(buckets.asked(), MOST_ASKED - 1);
        assert!(buckets.ask(Bucket::of(0), true));
    }
}
