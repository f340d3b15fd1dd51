//! When a pool looks for endpoints.

use core::time::Duration;

use super::{EXPLORE_PAUSE, Pool};
use crate::clock::Instant;
use crate::endpoints::EndpointId;
use crate::matching::Matching;

impl Pool {
    /// Whether connections should still be opened to find endpoints that are not known yet.
    #[inline]
    pub(crate) fn is_exploring(&self) -> bool {
        self.exploration.is_under_way(self.endpoints.len())
    }

    /// Notes a connection to an endpoint that has not enough of them; `chosen`, if Envoy chose it freely. One that ends each
    /// says no more than one that has enough. Where that ends the search: when the next begins.
    pub(crate) fn found(&mut self, chosen: Option<EndpointId>, now: Instant) -> Option<Instant> {
        if self.endpoints.goes_on_and_on(chosen, now) {
            return self.repeated(now);
        }
        self.exploration.found();
        None
    }

    /// Notes a connection to an endpoint that has enough of them. Where that ends the search: when the next begins.
    pub(crate) fn repeated(&mut self, now: Instant) -> Option<Instant> {
        self.exploration.repeated(self.endpoints.len(), now)
    }

    /// Looks for endpoints that are new, when connections are renewed: once within any renewal, so that they take part by
    /// then.
    pub(crate) fn explore_anew(&mut self, now: Instant) {
        let half = self.renewal_time().and_then(|time| time.checked_div(2));
        if !half.is_some_and(|half| self.exploration.is_younger_than(half, now)) {
            self.exploration.begin_for_new(self.endpoints.len(), now);
            self.plan_for_those_away(now);
        }
    }

    /// Looks for endpoints again some time after one refused: it may be back then. Says when.
    pub(crate) fn explore_later(&mut self, now: Instant) -> Instant {
        self.exploration.plan(now.after(self.ejection_time()))
    }

    /// The same, more thoroughly, after an endpoint has ended a connection, or asked for that: it may have got no more than
    /// another listener of its proxy.
    pub(crate) fn lost(&mut self, endpoint: Option<EndpointId>, now: Instant) -> Instant {
        match self.endpoints.went(endpoint, self.ejection_time(), now) {
            (back, true) => self.exploration.plan_thoroughly(self.endpoints.len(), back),
            (back, false) => self.exploration.plan(back),
        }
    }

    /// Whether Envoy chooses what takes the place of a connection to that endpoint: where there is no search for endpoints, since
    /// connections have one call each, and where it passes over that one. By weight, that gets few calls then.
    pub(crate) fn leaves_renewal(&self, endpoint: Option<EndpointId>) -> bool {
        let is_searched =
            Matching::new(self.service.sharing).needs_few_connections() || self.buckets.are_used();
        self.weights.is_none() && (!is_searched || self.endpoints.is_passed_over(endpoint))
    }

    fn ejection_time(&self) -> Duration {
        self.options().ejection_time.unwrap_or(EXPLORE_PAUSE)
    }

    /// Looks for endpoints again if it is time to; whether it is.
    pub(crate) fn explore_if_due(&mut self, now: Instant) -> bool {
        let is_due = self.next_search().is_some_and(|at| at <= now);
        if is_due {
            self.exploration.begin(now);
            self.plan_for_those_away(now);
        }
        is_due
    }

    /// A search finds none that come back later.
    fn plan_for_those_away(&mut self, now: Instant) {
        if let Some(back) = self.endpoints.next_back(now) {
            self.exploration.plan(back);
        }
    }

    /// When the next search begins.
    pub(crate) fn next_search(&self) -> Option<Instant> {
        self.exploration.next()
    }
}
