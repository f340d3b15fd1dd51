//! What is known of a method's calls, or of those of many.

use std::collections::BTreeMap;

/// How many bounds are kept: more than the module has.
const MOST: usize = 32;

/// Calls of one interval, by the second.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Figures {
    /// Requests.
    pub(crate) requests: f64,
    /// Answers of success.
    pub(crate) successes: f64,
    /// All answers, those of the proxy among them.
    pub(crate) answers: f64,
    /// Retries.
    pub(crate) retries: f64,
    /// Calls that are not answered yet, now.
    pub(crate) in_flight: u64,
    /// Answers by the bound that they took at most, in microseconds; the last is without one.
    buckets: BTreeMap<u64, f64>,
}

impl Figures {
    /// So many more answers took at most `bound` microseconds (`None`: any time), by the second.
    pub(crate) fn took(&mut self, bound: Option<u64>, answers: f64) {
        let bound = bound.unwrap_or(u64::MAX);
        if self.buckets.len() < MOST || self.buckets.contains_key(&bound) {
            *self.buckets.entry(bound).or_default() += answers;
        }
    }

    /// Those of others too.
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.successes += other.successes;
        self.answers += other.answers;
        self.retries += other.retries;
        self.in_flight = self.in_flight.saturating_add(other.in_flight);
        other.buckets.iter().for_each(|(bound, answers)| self.took(Some(*bound), *answers));
    }

    /// The share of answers that are of success, if there were any.
    pub(crate) fn success(&self) -> Option<f64> {
        (self.answers > 0.0).then(|| (self.successes / self.answers).min(1.0))
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        // A tree has room for twice what is in it.
        size_of::<Self>() + 2 * self.buckets.len() * size_of::<(u64, f64)>()
    }

    /// The bounds of answers that are known, in microseconds.
    pub(crate) fn bounds(&self) -> Vec<u64> {
        self.buckets.keys().copied().filter(|bound| *bound != u64::MAX).collect()
    }

    /// How many answers took at most each of these bounds, and more than the one before it; and at last how many more than
    /// all.
    pub(crate) fn heat(&self, bounds: &[u64]) -> Vec<f64> {
        let mut below = 0.0;
        let until = bounds.iter().copied().chain([u64::MAX]);
        let mut between = |bound| {
            let answers = self.buckets.get(&bound).copied().unwrap_or(below);
            (answers - std::mem::replace(&mut below, answers)).max(0.0)
        };
        until.map(&mut between).collect()
    }

    /// The time in microseconds that this share of answers took at most, as Prometheus tells it: evenly within a bucket, and
    /// the last bound for what is over it.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let total = *self.buckets.get(&u64::MAX)?;
        let wanted = total * share;
        let (mut below, mut start) = (0.0, 0.0);
        for (bound, answers) in self.buckets.range(..u64::MAX) {
            let bound = *bound as f64;
            if total > 0.0 && *answers >= wanted && *answers > below {
                return Some(start + (bound - start) * (wanted - below) / (answers - below));
            }
            (below, start) = (*answers, bound);
        }
        (total > 0.0).then_some(start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_prometheus() {
        let mut figures = Figures::default();
        assert_eq!(figures.quantile(0.5), None);
        for (bound, answers) in [(Some(100), 0.0), (Some(200), 6.0), (Some(500), 10.0), (None, 10.0)] {
            figures.took(bound, answers);
        }
        assert_eq!(figures.quantile(0.3), Some(150.0));
        assert_eq!(figures.quantile(0.8), Some(350.0));
        figures.took(None, 90.0);
        assert_eq!(figures.quantile(0.99), Some(500.0), "the last bound that is one");
    }

    #[test]
    fn what_was_not_answered_is_no_success_and_no_failure() {
        let mut figures = Figures { requests: 3.0, ..Figures::default() };
        assert_eq!(figures.success(), None);
        figures.add(&Figures { answers: 4.0, successes: 3.0, ..Figures::default() });
        assert_eq!((figures.success(), figures.requests), (Some(0.75), 3.0));
    }
}
