//! Endpoints that Envoy does not choose any more, though it would connect to them by name: those of a zone that stepped in for
//! another, which is back.

use super::{Endpoint, EndpointId, Endpoints};

/// How unlikely it has to be that an endpoint was left out by chance, as the power of e.
const UNLIKELY: usize = 7;
/// How many times as seldom as others an endpoint may be chosen, by weights that the plan does not ask to be kept.
const UNEVEN: usize = 4;

impl Endpoints {
    /// Notes that Envoy has chosen an endpoint among all of them.
    pub(crate) fn note_choice(&mut self, id: Option<EndpointId>) {
        self.choices = self.choices.wrapping_add(1);
        self.note_lead(id);
    }

    /// Notes that Envoy has chosen an endpoint for what has led there, and leads there each time.
    pub(crate) fn note_lead(&mut self, id: Option<EndpointId>) {
        let choices = self.choices;
        if let Some(endpoint) = self.get_mut(id) {
            endpoint.chosen_at = choices;
        }
    }

    /// How many choices there have been since Envoy chose an endpoint.
    pub(super) fn since(&self, endpoint: &Endpoint) -> u32 {
        self.choices.wrapping_sub(endpoint.chosen_at)
    }

    /// Whether Envoy passes over an endpoint: had it chosen among it and all that have connections with chances that are not too
    /// unlike, it would hardly have left out this one so often, with as many others.
    ///
    /// The chance that `choices` leave out some given ones, `out` of `all`, is no more than `exp(-choices * out / all / UNEVEN)`,
    /// and there are at most `exp(out * (1 + ln(all / out)))` such groups.
    pub(crate) fn is_passed_over(&self, id: Option<EndpointId>) -> bool {
        let Some(choices) = id.and_then(|id| self.known.get(id)).map(|endpoint| self.since(endpoint)) else {
            return false;
        };
        let (mut all, mut out) = (0_usize, 0_usize);
        let is_there = |other, endpoint: &Endpoint| endpoint.connections > 0 || Some(other) == id;
        for (_, endpoint) in self.known.iter().filter(|(other, endpoint)| is_there(*other, endpoint)) {
            all = all.saturating_add(1);
            out = out.saturating_add(usize::from(self.since(endpoint) >= choices));
        }
        let Some(share) = all.checked_div(out) else { return false };
        let groups = out.saturating_mul(share.checked_ilog2().unwrap_or(0).saturating_add(1) as usize);
        let times = usize::try_from(choices).unwrap_or(usize::MAX);
        let least = all.saturating_mul(groups.saturating_add(UNLIKELY)).saturating_mul(UNEVEN);
        out < all && times.saturating_mul(out) >= least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: usize) -> (Endpoints, Vec<Option<EndpointId>>) {
        let mut endpoints = Endpoints::default();
        let ids = Vec::from_iter((0..count).map(|number| endpoints.find(&number.to_string())));
        ids.iter().for_each(|id| endpoints.connected(*id));
        (endpoints, ids)
    }

    #[test]
    fn what_is_not_chosen_any_more_is_passed_over_in_the_end() {
        for count in [2, 4, 20, 100] {
            let (mut endpoints, ids) = endpoints(count);
            let mut random = fastrand::Rng::with_seed(1);
            let mut choices = 0;
            while !ids[count / 2..].iter().all(|id| endpoints.is_passed_over(*id)) {
                endpoints.note_choice(ids[random.usize(..count / 2)]);
                choices += 1;
                assert!(choices <= UNEVEN * (20 + 3 * count), "{count}");
            }
            assert!(!endpoints.is_passed_over(ids[0]), "{count}");
        }
        let (mut one, ids) = endpoints(1);
        (0..1000).for_each(|_| one.note_choice(None));
        assert!(!one.is_passed_over(ids[0]), "there is no other");
    }

    #[test]
    fn chance_passes_over_next_to_none() {
        for count in [2, 3, 10, 100, 1000] {
            let (mut endpoints, ids) = endpoints(count);
            let mut random = fastrand::Rng::with_seed(2);
            let mut looks = 0;
            let mut over = 0;
            for choice in 0..100 * count {
                endpoints.note_choice(ids[random.usize(..count)]);
                if choice % 17 == 0 {
                    looks += 1;
                    over += usize::from(endpoints.is_passed_over(ids[random.usize(..count)]));
                }
            }
            assert!(over * 100 <= looks, "{over} of {looks} looks at {count}");
        }
    }

    #[test]
    fn a_low_weight_is_not_taken_for_none() {
        for (others, weight) in [(1, 10), (4, 5), (9, 4)] {
            let (mut endpoints, ids) = endpoints(others + 1);
            let mut random = fastrand::Rng::with_seed(3);
            let over = (0..100_000).filter(|_| {
                let chosen = random.usize(..others * weight + 1).div_ceil(weight);
                endpoints.note_choice(ids[chosen]);
                endpoints.is_passed_over(ids[0])
            });
            assert!(over.count() < 1000, "1:{weight} of {others}");
        }
    }

    #[test]
    fn what_is_passed_over_is_not_named() {
        let (mut endpoints, ids) = endpoints(2);
        (0..72).for_each(|_| endpoints.note_choice(ids[0]));
        assert!(endpoints.living(ids[0]).is_some(), "it has a connection");
        endpoints.left(ids[1]);
        assert!(endpoints.is_passed_over(ids[1]));
        assert_eq!(endpoints.living(ids[0]), None);
        let third = endpoints.find("2");
        assert_eq!(endpoints.living(ids[0]).map(|address| &**address), Some("2"), "it may be chosen yet");
        endpoints.left(ids[0]);
        assert!(endpoints.living(third).is_some(), "there is no other");
    }

    #[test]
    fn where_a_bucket_leads_is_chosen() {
        let (mut endpoints, ids) = endpoints(2);
        for _ in 0..100 * UNEVEN {
            endpoints.note_choice(ids[0]);
            endpoints.note_lead(ids[1]);
        }
        assert!(!endpoints.is_passed_over(ids[1]));
    }
}
