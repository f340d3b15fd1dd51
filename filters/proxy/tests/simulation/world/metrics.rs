//! What the worker counts and logs, summed.

use std::collections::BTreeMap;

use meltemi_proxy::{Labels, LocalReply, Metric, Sink};

/// What the worker counted.
#[derive(Debug, Default)]
pub struct Metrics {
    sums: BTreeMap<String, i64>,
    labelled: BTreeMap<(String, Labels), u64>,
    pub replies: Vec<LocalReply>,
}

impl Metrics {
    /// The sum of a counter or gauge over all operations, as far as the worker has reported it.
    pub fn sum(&self, metric: Metric) -> i64 {
        self.sums.get(&format!("{metric:?}")).copied().unwrap_or(0)
    }

    /// A counter by its labels, as far as the worker has reported it.
    pub fn counted(&self, metric: Metric) -> Vec<(&Labels, u64)> {
        let name = format!("{metric:?}");
        let counts = self.labelled.iter().filter(|((metric, _), _)| *metric == name);
        counts.map(|((_, labels), n)| (labels, *n)).collect()
    }

    fn add(&mut self, metric: Metric, n: i64) {
        *self.sums.entry(format!("{metric:?}")).or_default() += n;
    }
}

impl Sink for Metrics {
    fn count(&mut self, metric: Metric, labels: Option<&Labels>, n: u64) {
        self.add(metric, n as i64);
        if let Some(labels) = labels {
            *self.labelled.entry((format!("{metric:?}"), labels.clone())).or_default() += n;
        }
    }

    fn change(&mut self, metric: Metric, labels: Option<&Labels>, change: i64) {
        self.add(metric, change);
        assert!(self.sum(metric) >= 0, "{metric:?} of {labels:?} is negative");
    }

    fn log(&mut self, reply: &LocalReply) {
        self.replies.push(reply.clone());
    }
}
