//! Balancing that keeps Envoy's weights: how often Envoy chooses each endpoint, and what a call of it costs by that.
//!
//! Nothing that Envoy says names a weight. It follows them when it chooses the endpoint of a connection: those choices are
//! counted, and endpoints get calls as often as they were chosen, once that is not what chance does to equals.

use core::time::Duration;

use super::{Endpoint, EndpointId, Endpoints};
use crate::clock::Instant;

/// What is kept of one endpoint.
#[derive(Debug)]
pub(super) struct Weight {
    /// How often Envoy has chosen it; of late, those do not count that came after the last comparison.
    asks: u32,
    /// How often it has since then.
    fresh: u32,
    /// Of how many choices of all endpoints that was, when it was last looked at.
    of: u64,
    /// What one call costs: the less, the greater the weight.
    price: u64,
    /// What its calls have cost so far.
    spent: u64,
}

/// What is kept of a pool.
#[derive(Debug)]
pub(crate) struct Weights {
    /// What an endpoint had spent when it was given the last call: who has spent less is behind.
    time: u64,
    /// Weights differ.
    is_uneven: bool,
    /// How the choices counted so far suffice.
    knowledge: Knowledge,
    /// Calls since then that no choice was asked for.
    calls: (Instant, u32),
    /// No choice is asked for before then.
    ask_at: Instant,
    /// Connections that are being opened for a choice alone, as far as there are so many.
    asked: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    /// More choices are asked for soon.
    Little,
    /// Only to notice changes.
    Enough,
    /// None: there is nothing to compare.
    Alone,
}

/// What is counted of all endpoints that have connections.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    endpoints: u64,
    asks: u64,
    fresh: u64,
}

/// The price of a call where weights do not differ.
const EVEN: u64 = 1 << 16;
/// The highest, so that sums of it stay far from the end of numbers.
const HIGHEST: u64 = EVEN << 12;

/// Parts of one that are summed.
const SHARP: u64 = 16;

/// An endpoint that was away counts as chosen so often at most.
const MOST_MISSED: u32 = 1 << 16;

/// An endpoint that could not be given calls makes up for so many.
const PATIENCE: u64 = 4;

/// One choice is asked for after so many calls, which come within this time,
const CALLS: u32 = 8;
const WITHIN: Duration = Duration::from_secs(10);
/// and not before so long after the last, when little is known, or enough.
const PAUSE: Duration = Duration::from_millis(500);
const LONG_PAUSE: Duration = Duration::from_secs(2);

impl Default for Weight {
    fn default() -> Self {
        Self { asks: 0, fresh: 0, of: 0, price: EVEN, spent: 0 }
    }
}

impl Weights {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            time: 0,
            is_uneven: false,
            knowledge: Knowledge::Little,
            calls: (now, 0),
            ask_at: now,
            asked: 0,
        }
    }

    /// Notes a call; whether Envoy is to be asked for a choice.
    pub(crate) fn called(&mut self, now: Instant) -> bool {
        let (since, calls) = &mut self.calls;
        if since.after(WITHIN) <= now {
            (*since, *calls) = (now, 0);
        }
        *calls = calls.saturating_add(1);
        if *calls < CALLS || now < self.ask_at || self.knowledge == Knowledge::Alone {
            return false;
        }
        (*since, *calls) = (now, 0);
        self.asked = self.asked.saturating_add(1);
        self.ask_at = now.after(if self.knowledge == Knowledge::Enough { LONG_PAUSE } else { PAUSE });
        true
    }
}

impl Weights {
    /// How many of the connections that are being opened are for a choice alone.
    pub(crate) fn asked(&self, connecting: usize) -> usize {
        self.asked.min(connecting)
    }

    /// Notes that one has opened, and so many others are still being: whether it was for a choice alone, unless it `is_needed`.
    pub(crate) fn was_asked(&mut self, connecting: usize, is_needed: bool) -> bool {
        let was_asked = self.asked > 0 && !is_needed;
        self.asked = self.asked.saturating_sub(usize::from(was_asked)).min(connecting);
        was_asked
    }
}

impl Weight {
    /// What it counts as having spent: it makes up for no more than a few calls.
    fn start(&self, time: u64) -> u64 {
        self.spent.max(time.saturating_sub(self.price.saturating_mul(PATIENCE)))
    }

    fn chosen(&self) -> u64 {
        u64::from(self.asks).saturating_add(self.fresh.into())
    }

    /// How often it would have been chosen of so many times that others were, `sums.endpoints` of them: for the share that it
    /// had, or the mean.
    fn missed(&self, times: u64, sums: Sums) -> u32 {
        let own = self.chosen();
        let of_share = times.saturating_mul(own).checked_div(self.of.saturating_sub(own));
        let mean = times.checked_div(sums.endpoints).unwrap_or(0);
        u32::try_from(of_share.filter(|_| own > 0).unwrap_or(mean))
            .map_or(MOST_MISSED, |own| own.min(MOST_MISSED))
    }
}

impl Sums {
    /// So many choices say something of each endpoint.
    fn are_few(self) -> bool {
        self.all() < self.endpoints.saturating_mul(5).max(16)
    }

    fn all(self) -> u64 {
        self.asks.saturating_add(self.fresh)
    }

    /// So many are enough for a weight to be near.
    fn enough(self) -> u64 {
        self.endpoints.saturating_mul(16).max(192)
    }

    /// What Pearson's chi-squared sums to by chance, at most: once in some ten thousand times, or quite likely.
    fn chance(self, is_likely: bool) -> u64 {
        let freedom = self.endpoints.saturating_sub(1);
        let (roots, more) = if is_likely { (2, 1) } else { (8, 6) };
        freedom.saturating_add(freedom.isqrt().saturating_mul(roots)).saturating_add(more)
    }
}

impl Endpoints {
    /// Forgets what was counted.
    pub(crate) fn forget_weights(&mut self) {
        self.known.iter_mut().for_each(|(_, endpoint)| endpoint.weight = Weight::default());
    }

    /// How much a call to an endpoint that has `load` calls in flight on one connection would be too many: the least takes it.
    pub(crate) fn rank(&self, id: Option<EndpointId>, load: usize, weights: &Weights) -> u64 {
        let weight = id.and_then(|id| self.known.get(id)).map(|endpoint| &endpoint.weight);
        let (start, price) =
            weight.map_or((weights.time, EVEN), |weight| (weight.start(weights.time), weight.price));
        start.saturating_add(price.saturating_mul(load as u64))
    }

    /// Notes that an endpoint is given a call.
    pub(crate) fn pay(&mut self, id: Option<EndpointId>, weights: &mut Weights) {
        if let Some(endpoint) = self.get_mut(id) {
            let weight = &mut endpoint.weight;
            let start = weight.start(weights.time);
            weights.time = weights.time.max(start);
            weight.spent = start.saturating_add(weight.price);
        }
    }

    /// Notes that an endpoint which had no connections takes calls. It has the weight that it had, or one like others.
    pub(crate) fn joined(&mut self, id: Option<EndpointId>, weights: &mut Weights) {
        let mut sums = self.sums(id);
        if sums.are_few() {
            self.taking(id).for_each(|endpoint| (endpoint.weight.asks, endpoint.weight.fresh) = (0, 0));
            (sums.asks, sums.fresh) = (0, 0);
        }
        weights.knowledge = Knowledge::Little;
        if let Some(endpoint) = self.get_mut(id) {
            let weight = &mut endpoint.weight;
            // Likewise of those before the last comparison and since, so that it makes no difference to the next.
            (weight.asks, weight.fresh) = (weight.missed(sums.asks, sums), weight.missed(sums.fresh, sums));
        }
    }

    /// Notes that Envoy has chosen an endpoint, and nobody named it.
    pub(crate) fn chosen(&mut self, id: Option<EndpointId>, weights: &mut Weights) {
        let Some(endpoint) = self.get_mut(id) else { return };
        endpoint.weight.fresh = endpoint.weight.fresh.saturating_add(1);
        let mut sums = self.sums(None);
        if sums.fresh >= sums.endpoints.saturating_mul(4).max(32) {
            let has_changed = sums.asks > 0 && self.difference(sums) > sums.chance(false);
            let is_half = sums.all() > sums.enough().saturating_mul(4) && !has_changed;
            for Endpoint { weight, .. } in self.taking(None) {
                let asks = if has_changed { 0 } else { weight.asks };
                let asks = asks.saturating_add(core::mem::take(&mut weight.fresh));
                weight.asks = if is_half { asks.div_ceil(2) } else { asks };
            }
            sums = self.sums(None);
        }
        weights.knowledge = match sums.all() {
            all if sums.endpoints <= 1 && all >= 32 => Knowledge::Alone,
            all if all >= sums.enough() => Knowledge::Enough,
            _ => Knowledge::Little,
        };
        if sums.are_few() {
            return;
        }
        let squares = self.taking(None).map(|endpoint| endpoint.weight.chosen().saturating_pow(2));
        let squares = squares.fold(0_u64, u64::saturating_add).saturating_mul(sums.endpoints);
        let unevenness = squares.checked_div(sums.all()).unwrap_or(0).saturating_sub(sums.all());
        weights.is_uneven = unevenness > sums.chance(weights.is_uneven);
        let is_uneven = weights.is_uneven;
        let all = sums.all().saturating_mul(EVEN);
        for Endpoint { weight, .. } in self.taking(None) {
            let asks = weight.chosen().max(1).saturating_mul(sums.endpoints);
            let price = all.checked_div(asks).unwrap_or(EVEN).clamp(1, HIGHEST);
            weight.of = sums.all();
            weight.price = if is_uneven { price } else { EVEN };
        }
    }

    /// How much the choices since the last comparison differ from those before, as Pearson's chi-squared.
    fn difference(&mut self, Sums { asks, fresh, .. }: Sums) -> u64 {
        let both = asks.saturating_mul(fresh);
        let one = |weight: &Weight| {
            let [before, after] = [(weight.asks, fresh), (weight.fresh, asks)]
                .map(|(count, of_others)| u64::from(count).saturating_mul(of_others));
            let square = before.abs_diff(after).saturating_pow(2).saturating_mul(SHARP);
            square.checked_div(both.saturating_mul(weight.chosen())).unwrap_or(0)
        };
        let sum = self.taking(None).map(|endpoint| one(&endpoint.weight)).fold(0, u64::saturating_add);
        sum.checked_div(SHARP).unwrap_or(0)
    }

    fn sums(&mut self, but: Option<EndpointId>) -> Sums {
        self.taking(but).fold(Sums::default(), |sums, Endpoint { weight, .. }| Sums {
            endpoints: sums.endpoints.saturating_add(1),
            asks: sums.asks.saturating_add(weight.asks.into()),
            fresh: sums.fresh.saturating_add(weight.fresh.into()),
        })
    }

    /// Those that have connections, `but` for one.
    fn taking(&mut self, but: Option<EndpointId>) -> impl Iterator<Item = &mut Endpoint> {
        let all =
            self.known.iter_mut().filter(move |(id, endpoint)| endpoint.connections > 0 && Some(*id) != but);
        all.map(|(_, endpoint)| endpoint)
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    /// So many endpoints that have a connection each, and what is kept of them.
    fn known(count: usize) -> (Endpoints, Vec<Option<EndpointId>>, Weights) {
        let (mut endpoints, mut weights) = (Endpoints::default(), Weights::new(at(0)));
        let join = |n: usize| {
            let id = endpoints.find(&format!("10.0.0.{n}:1"));
            endpoints.connected(id);
            endpoints.joined(id, &mut weights);
            id
        };
        let ids = (0..count).map(join).collect();
        (endpoints, ids, weights)
    }

    /// Envoy chooses each so many times, as evenly as can be.
    fn choose(
        (endpoints, ids, weights): &mut (Endpoints, Vec<Option<EndpointId>>, Weights),
        times: &[usize],
    ) {
        let all: usize = times.iter().sum();
        let mut had = vec![0; times.len()];
        for step in 1..=all {
            let next =
                (0..times.len()).max_by_key(|&n| (times[n] * step).saturating_sub(had[n] * all)).unwrap();
            had[next] += 1;
            endpoints.chosen(ids[next], weights);
        }
    }

    fn prices((endpoints, ids, _): &(Endpoints, Vec<Option<EndpointId>>, Weights)) -> Vec<f64> {
        let of = |id: &Option<EndpointId>| endpoints.known.get(id.unwrap()).unwrap().weight.price;
        ids.iter().map(|id| of(id) as f64 / EVEN as f64).collect()
    }

    /// How many of so many calls each gets, one after the other.
    fn calls(
        (endpoints, ids, weights): &mut (Endpoints, Vec<Option<EndpointId>>, Weights),
        count: usize,
    ) -> Vec<usize> {
        let mut had = vec![0; ids.len()];
        for _ in 0..count {
            let next = (0..ids.len()).min_by_key(|n| endpoints.rank(ids[*n], 0, weights)).unwrap();
            endpoints.pay(ids[next], weights);
            had[next] += 1;
        }
        had
    }

    #[test]
    fn equals_stay_equals_for_all_that_chance_does() {
        let mut random = fastrand::Rng::with_seed(1);
        for count in [2, 3, 10, 100] {
            let mut world = known(count);
            for _ in 0..20_000 {
                let (endpoints, ids, weights) = &mut world;
                endpoints.chosen(ids[random.usize(..count)], weights);
                assert!(!weights.is_uneven, "of {count}");
            }
            assert!(prices(&world).iter().all(|price| *price == 1.0));
        }
    }

    #[test]
    fn calls_follow_the_choices_and_what_they_become() {
        let mut world = known(3);
        choose(&mut world, &[10, 20, 70]);
        let near = |shares: &[usize], wanted: [usize; 3]| {
            shares.iter().zip(wanted).all(|(share, wanted)| share.abs_diff(wanted) <= 60)
        };
        let shares = calls(&mut world, 1000);
        assert!(near(&shares, [100, 200, 700]), "{shares:?}");
        choose(&mut world, &[200, 400, 1400]);
        // What is new shows soon, and those that become equals are.
        choose(&mut world, &[210, 60, 30]);
        let shares = calls(&mut world, 1000);
        assert!(near(&shares, [700, 200, 100]), "{shares:?}");
        choose(&mut world, &[100, 100, 100]);
        assert_eq!(prices(&world), [1.0; 3]);
    }

    #[test]
    fn one_that_comes_is_like_others_and_one_that_comes_back_as_it_was() {
        let mut world = known(3);
        choose(&mut world, &[30, 60, 210]);
        let before = prices(&world);
        let (endpoints, ids, weights) = &mut world;
        endpoints.left(ids[2]);
        endpoints.chosen(ids[0], weights);
        endpoints.connected(ids[2]);
        endpoints.joined(ids[2], weights);
        endpoints.chosen(ids[2], weights);
        let after = prices(&world);
        let is_near = |(before, after): (&f64, &f64)| (before / after - 1.0).abs() < 0.15;
        assert!(before.iter().zip(&after).all(is_near), "{before:?} {after:?}");
        let (endpoints, ids, weights) = &mut world;
        let new = endpoints.find("10.1.0.1:1");
        endpoints.connected(new);
        endpoints.joined(new, weights);
        endpoints.chosen(new, weights);
        ids.push(new);
        let price = prices(&world)[3];
        assert!((0.8..1.2).contains(&price), "{price}");
        // It has no more to make up for than any.
        let had = calls(&mut world, 100)[3];
        assert!((20..=32).contains(&had), "{had}");
    }

    #[test]
    fn one_that_is_busy_is_left_alone_and_makes_up_for_a_few_calls() {
        let (mut endpoints, ids, mut weights) = known(2);
        let mut busy = 0;
        for _ in 0..1000 {
            match endpoints.rank(ids[0], busy, &weights) <= endpoints.rank(ids[1], 0, &weights) {
                true => {
                    busy += 1;
                    endpoints.pay(ids[0], &mut weights);
                }
                false => endpoints.pay(ids[1], &mut weights),
            }
        }
        assert!((1..=6).contains(&busy), "{busy}");
        let had = calls(&mut (endpoints, ids, weights), 100);
        assert!((50..=56).contains(&had[0]), "{had:?}");
    }

    #[test]
    fn choices_are_asked_for_where_calls_are_many() {
        let asks = |every: u64| {
            let mut weights = Weights::new(at(0));
            (0..1000).filter(|call| weights.called(at(call * every))).count()
        };
        assert_eq!([60_000, 2000, 1000, 100, 10, 1].map(asks), [0, 0, 125, 125, 20, 2]);
        let mut world = known(1);
        choose(&mut world, &[32]);
        assert!((0..1000).all(|second| !world.2.called(at(second * 10))), "there is nothing to compare");
    }
}
