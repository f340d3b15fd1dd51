//! The search for endpoints of a cluster: Envoy names one with each connection that it opens, and never says how many
//! there are.

use core::time::Duration;

use crate::clock::{Instant, earliest};

/// How the search of one pool goes: connections are opened until the endpoints repeat, and again some time later.
#[derive(Debug)]
pub(crate) struct Exploration {
    /// Endpoints seen again in a row.
    repeats: u32,
    /// Searches that ended since one found an endpoint.
    searches: u32,
    /// When the next begins.
    next: Option<Instant>,
    /// When the last began.
    began: Instant,
}

/// So many repeats in a row end a search: this share of the endpoints that are known, and two at least. The longer the
/// search, the more likely a repeat while others are not found yet.
const ENOUGH_REPEATS: usize = 12;
const LEAST_REPEATS: u32 = 2;

/// Chance may repeat endpoints while there are others: so many searches more follow, the first after this pause and each
/// after twice the one before.
const MORE_SEARCHES: u32 = 3;
const SEARCH_PAUSE: Duration = Duration::from_secs(1);

impl Exploration {
    /// A search that begins.
    pub(crate) fn new(now: Instant) -> Self {
        Self { repeats: 0, searches: 0, next: None, began: now }
    }

    /// Whether it goes on, with so many endpoints known.
    pub(crate) fn is_under_way(&self, known: usize) -> bool {
        self.repeats < enough_repeats(known)
    }

    /// Notes a connection that it was good for.
    pub(crate) fn found(&mut self) {
        self.repeats = 0;
        self.searches = 0;
    }

    /// Notes an endpoint that has enough connections. Where that ends the search: when the next begins.
    pub(crate) fn repeated(&mut self, known: usize, now: Instant) -> Option<Instant> {
        self.missed();
        if self.repeats != enough_repeats(known) || self.searches >= MORE_SEARCHES {
            return None;
        }
        let pause = SEARCH_PAUSE.saturating_mul(2_u32.saturating_pow(self.searches));
        self.searches = self.searches.saturating_add(1);
        Some(self.plan(now.after(pause)))
    }

    /// Notes an endpoint that refused.
    pub(crate) fn missed(&mut self) {
        self.repeats = self.repeats.saturating_add(1);
    }

    /// Has the next search begin at that time, or when it would have anyway; says when.
    pub(crate) fn plan(&mut self, at: Instant) -> Instant {
        let next = earliest(self.next, Some(at)).unwrap_or(at);
        self.next = Some(next);
        next
    }

    /// The same for one that two more follow, where it is short.
    pub(crate) fn plan_thoroughly(&mut self, known: usize, at: Instant) -> Instant {
        self.have_more_follow(known);
        self.plan(at)
    }

    /// When the next search begins.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Begins to search anew.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.repeats = 0;
        self.next = None;
        self.began = now;
    }

    /// Begins to search for endpoints that are new. Where a search is short, two more follow.
    pub(crate) fn begin_for_new(&mut self, known: usize, now: Instant) {
        self.begin(now);
        self.have_more_follow(known);
    }

    fn have_more_follow(&mut self, known: usize) {
        if enough_repeats(known) <= LEAST_REPEATS {
            self.searches = self.searches.min(MORE_SEARCHES.saturating_sub(2));
        }
    }

    /// Whether the last search began less than `time` ago.
    pub(crate) fn is_younger_than(&self, time: Duration, now: Instant) -> bool {
        now < self.began.after(time)
    }
}

fn enough_repeats(known: usize) -> u32 {
    let share = known.checked_div(ENOUGH_REPEATS).unwrap_or(0);
    u32::try_from(share).unwrap_or(u32::MAX).max(LEAST_REPEATS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    #[test]
    fn a_search_ends_when_endpoints_repeat_and_begins_again() {
        let mut search = Exploration::new(at(0));
        assert!(search.is_under_way(0));
        (0..LEAST_REPEATS).for_each(|_| search.missed());
        assert!(!search.is_under_way(0));
        assert!(search.is_under_way(3 * ENOUGH_REPEATS), "among many, more repeats are chance");
        assert_eq!(search.plan(at(3000)), at(3000));
        assert_eq!(search.plan(at(4000)), at(3000), "the first loss says when");
        search.begin(at(3000));
        assert!(search.is_under_way(0));
        assert_eq!(search.next(), None);
        assert!(search.is_younger_than(Duration::from_secs(1), at(3999)));
        assert!(!search.is_younger_than(Duration::from_secs(1), at(4000)));
    }

    #[test]
    fn some_more_searches_follow_the_first_until_one_finds() {
        let mut search = Exploration::new(at(0));
        let run = |search: &mut Exploration| {
            search.begin(at(0));
            (0..=ENOUGH_REPEATS).filter_map(|_| search.repeated(1, at(0))).collect::<Vec<_>>()
        };
        for seconds in [1, 2, 4] {
            assert_eq!(run(&mut search), [at(seconds * 1000)]);
        }
        assert_eq!(run(&mut search), []);
        search.found();
        assert_eq!(run(&mut search), [at(1000)]);
    }

    #[test]
    fn a_search_for_new_or_lost_endpoints_is_followed_by_two_where_it_is_short() {
        let run = |known| {
            let mut search = Exploration::new(at(0));
            let end = |search: &mut Exploration| {
                (0..100).find_map(|_| search.repeated(known, at(0))).inspect(|_| search.begin(at(0)))
            };
            while end(&mut search).is_some() {}
            search.begin_for_new(known, at(0));
            let for_new = core::iter::from_fn(|| end(&mut search)).count();
            assert_eq!(search.plan_thoroughly(known, at(5000)), at(5000));
            search.begin(at(5000));
            [for_new, core::iter::from_fn(|| end(&mut search)).count()]
        };
        assert_eq!([1, 100 * ENOUGH_REPEATS].map(run), [[2, 2], [0, 0]]);
    }
}
