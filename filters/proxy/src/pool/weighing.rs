//! Calls by the weights that Envoy gives endpoints.

use super::Pool;
use crate::clock::Instant;
use crate::endpoints::{EndpointId, Weights};
use crate::upstream::ConnectionId;

impl Pool {
    /// Follows what the plan says of weights. Where nothing is left to choose, there are none.
    pub(super) fn weigh(&mut self, now: Instant) {
        let keeps_weights = self.policy.as_ref().is_some_and(|policy| policy.keeps_weights);
        let keeps_weights = keeps_weights && self.destination.is_none() && self.owner.is_none();
        if keeps_weights != self.weights.is_some() {
            self.weights = keeps_weights.then(|| Box::new(Weights::new(now)));
            self.endpoints.forget_weights();
            self.open.rank(keeps_weights);
        }
    }

    /// Whether calls are given to endpoints by weight.
    pub(crate) fn has_weights(&self) -> bool {
        self.weights.is_some()
    }

    /// The connection to the endpoint that has had the fewest calls for its weight, those in flight counted twice, of
    /// those that have a `load` and can take one more. `None` also where there are no weights.
    pub(crate) fn choose_by_weight(
        &mut self,
        load: &dyn Fn(ConnectionId) -> Option<(usize, Option<EndpointId>)>,
    ) -> Option<ConnectionId> {
        let weights = self.weights.as_deref_mut()?;
        let endpoints = &mut self.endpoints;
        let rank = |key| load(key).map(|(load, endpoint)| endpoints.rank(endpoint, load, weights));
        let chosen = self.open.choose_by_rank(&rank)?;
        endpoints.pay(load(chosen)?.1, weights);
        Some(chosen)
    }

    /// Notes a call that was given to an endpoint by weight; whether Envoy is to be asked for a choice.
    pub(crate) fn is_to_ask(&mut self, now: Instant) -> bool {
        self.weights.as_mut().is_some_and(|weights| weights.called(now))
    }

    /// Notes that an endpoint which had no connections has one.
    pub(super) fn joined(&mut self, endpoint: Option<EndpointId>) {
        // One that is left out takes no calls.
        if let Some(weights) = &mut self.weights
            && !self.endpoints.is_ejected(endpoint)
        {
            self.endpoints.joined(endpoint, weights);
        }
    }

    /// Notes that Envoy has chosen an endpoint, and nobody named it. Whether the connection was opened for nothing else, as far
    /// as is known.
    pub(crate) fn chosen(&mut self, endpoint: Option<EndpointId>) -> bool {
        self.endpoints.note_choice(endpoint);
        let Some(weights) = &mut self.weights else { return false };
        if !self.endpoints.is_ejected(endpoint) {
            self.endpoints.chosen(endpoint, weights);
        }
        // Whichever was opened for a call that waits, that gets the first.
        weights.was_asked(self.connecting, !self.waiting.is_empty())
    }

    /// How many of the connections that are being opened are for calls, or to find endpoints.
    pub(crate) fn connecting_for_calls(&self) -> usize {
        let asked = self.weights.as_ref().map_or(0, |weights| weights.asked(self.connecting));
        self.connecting.saturating_sub(asked).saturating_sub(self.buckets.asked())
    }
}
