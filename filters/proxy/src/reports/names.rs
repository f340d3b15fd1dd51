//! Counts as counters whose names have the labels, in the form that Istio's `extraStatTags` make labels of.
//!
//! Envoy looks for each label in each new name, which takes milliseconds: names are made a few at a time.

use super::parties::{
    DESTINATION, DESTINATION_PRINCIPAL, POLICY, PROTOCOL, REPORTER, SERVICE, SOURCE, SOURCE_PRINCIPAL,
};
use super::series::{self, Part};
use super::verdict;

/// Counters of the host's.
#[derive(Debug, Clone, Copy)]
pub struct Counters {
    /// Defines a counter, or finds the one of that name.
    pub define: fn(&str) -> Option<u32>,
    /// Adds to one.
    pub add: fn(u32, u64),
}

/// How the proxy's own counters are made.
#[derive(Debug, Default)]
pub(super) struct Counting {
    counters: Option<Counters>,
    /// What all names begin with.
    front: String,
}

/// Labels of a series, as fields of its reports.
pub(super) type Labels<'a> = [&'a [(&'static str, String)]; 3];

/// The histograms, in the order of a part's values.
const FAMILIES: [&str; 3] =
    ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"];

/// Counters of a series beside those of buckets: of calls, and a sum and a count of each histogram.
const SUMS: usize = 7;
/// Counters of a series.
const COUNTERS: usize = SUMS + FAMILIES.len() * series::BUCKETS;

/// All that calls have in common: it is the one kind of RPC that tools know.
const REQUEST_PROTOCOL: [&str; 2] = ["request_protocol", "grpc"];

/// The label of a histogram's buckets.
const BOUND: &str = "le";

/// So long names are made at once, in nanoseconds, and one at least: calls wait meanwhile.
const SLICE: u64 = 1_000_000;

/// The fields that labels are for.
const FIELDS: [&[&str]; 5] = [
    &[REPORTER, POLICY, PROTOCOL, SOURCE_PRINCIPAL, DESTINATION_PRINCIPAL],
    &SOURCE,
    &DESTINATION,
    &SERVICE,
    &verdict::FIELDS,
];

/// All labels that there are.
#[inline(never)]
pub fn labels() -> Vec<String> {
    let mut all = vec![BOUND.to_owned(), REQUEST_PROTOCOL[0].to_owned()];
    for field in FIELDS.into_iter().flatten() {
        all.push(label(field));
    }
    all
}

/// The label that a field of reports is for.
#[inline(never)]
fn label(field: &str) -> String {
    let letters = field.strip_prefix("x-").unwrap_or(field).chars();
    letters.map(|letter| if letter == '-' { '_' } else { letter }).collect()
}

impl Counting {
    /// Envoy looks for labels anywhere in a name. Those that `shadows` names, which end as some of ours, are found first
    /// where they have no value.
    pub(super) fn new(counters: Counters, shadows: &[&str]) -> Self {
        let mut front = String::new();
        for name in shadows {
            push(&mut front, name, "");
        }
        Self { counters: Some(counters), front }
    }

    /// Makes counters of a series, after those that are `known`; whether these are all now.
    #[inline(never)]
    pub(super) fn define(
        &self,
        labels: &Labels<'_>,
        known: &mut Vec<Option<u32>>,
        clock: fn() -> u64,
    ) -> bool {
        let Some(Counters { define, .. }) = self.counters else { return true };
        let mut name = self.front.clone();
        for (field, value) in labels.iter().copied().flatten() {
            push(&mut name, &label(field), value);
        }
        push(&mut name, REQUEST_PROTOCOL[0], REQUEST_PROTOCOL[1]);
        let (front, began) = (name.len(), clock());
        while known.len() < COUNTERS {
            push_counter(&mut name, known.len());
            known.push(define(&name));
            name.truncate(front);
            if clock().saturating_sub(began) >= SLICE {
                break;
            }
        }
        self.has_all(known)
    }

    /// Whether these are all counters of a series.
    pub(super) fn has_all(&self, known: &[Option<u32>]) -> bool {
        self.counters.is_none() || known.len() >= COUNTERS
    }

    /// Counts what there is of a series, whose counters are `known`.
    pub(super) fn count(&self, parts: &[Part], known: &[Option<u32>]) {
        let Some(Counters { add, .. }) = self.counters else { return };
        for Part { bound, calls, values } in parts {
            let [time, request, response] = *values;
            let sums = [*calls, time, request, response, *calls, *calls, *calls];
            let (at, values) = match bound {
                None => (0, &sums[..]),
                Some((at, _)) => (at.saturating_mul(FAMILIES.len()).saturating_add(SUMS), &values[..]),
            };
            for (counter, n) in known.iter().skip(at).zip(values) {
                if let Some(counter) = counter {
                    add(*counter, *n);
                }
            }
        }
    }
}

/// Adds what the counter at that place is called.
fn push_counter(name: &mut String, place: usize) {
    let (family, ending) = match place.checked_sub(SUMS) {
        None if place == 0 => return name.push_str("istio_requests_total"),
        None => (place.saturating_sub(1), if place <= FAMILIES.len() { "_sum" } else { "_count" }),
        Some(place) => {
            push(name, BOUND, series::bound(place.checked_div(FAMILIES.len()).unwrap_or(0)));
            (place, "_bucket")
        }
    };
    name.push_str(family.checked_rem(FAMILIES.len()).and_then(|at| FAMILIES.get(at)).unwrap_or(&""));
    name.push_str(ending);
}

/// Adds a label. What could end its value early, or begin another label, becomes `_`.
fn push(name: &mut String, label: &str, value: &str) {
    push_label(name, label, value, |letter| !matches!(letter, ';' | '='));
}

/// Adds a label to the name of a metric. In its value, what is not plain becomes `_`.
#[inline(never)]
pub fn push_label(name: &mut String, label: &str, value: &str, is_plain: fn(char) -> bool) {
    name.push_str(label);
    name.push_str("=.=");
    for letter in value.chars() {
        name.push(if is_plain(letter) { letter } else { '_' });
    }
    name.push_str(";.;");
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects)]
mod tests {
    use super::*;
    use crate::reports::Way;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::series::{Key, Series};

    thread_local! {
        static HOST: RefCell<Vec<(String, u64)>> = RefCell::default();
        static TIME: RefCell<u64> = RefCell::default();
    }

    fn define(name: &str) -> Option<u32> {
        TIME.with_borrow_mut(|time| *time += SLICE / 2);
        HOST.with_borrow_mut(|host| {
            assert!(host.iter().all(|(known, _)| known != name), "{name} is defined once");
            host.push((name.to_owned(), 0));
            u32::try_from(host.len() - 1).ok()
        })
    }

    fn add(id: u32, n: u64) {
        HOST.with_borrow_mut(|host| host[id as usize].1 += n);
    }

    const COUNTING: Counters = Counters { define, add };

    #[test]
    fn a_series_has_all_its_counters_before_it_counts() {
        let counting = Counting::new(COUNTING, &[]);
        let source = [("x-source-app", "a;.;reporter=.=x;.".to_owned())];
        let ends = [("x-rpc-outcome", "success".to_owned())];
        let labels = [&source[..], &[], &ends];
        let mut series = Series::new(Key::default());
        series.add(Duration::from_micros(700), 30, 2_000);
        series.add(Duration::from_millis(3), 30, 1);
        let clock = || TIME.with_borrow(|time| *time);
        let mut slices = 1;
        while !counting.define(&labels, &mut series.counters, clock) {
            slices += 1;
        }
        assert_eq!(slices, 34, "two in a slice");
        counting.count(&series.take(Way::Names), &series.counters);
        series.add(Duration::from_millis(3), 30, 1);
        assert!(counting.define(&labels, &mut series.counters, clock));
        counting.count(&series.take(Way::Names), &series.counters);
        let front = "source_app=.=a_._reporter_._x_.;.;rpc_outcome=.=success;.;request_protocol=.=grpc;.;";
        let counters = HOST.with_borrow(Clone::clone).into_iter();
        let counters: BTreeMap<_, _> =
            counters.map(|(name, n)| (name.strip_prefix(front).unwrap().to_owned(), n)).collect();
        assert_eq!(counters.len(), 1 + 3 * (20 + 2));
        for (name, n) in [
            ("istio_requests_total", 3),
            ("istio_request_duration_milliseconds_sum", 6),
            ("istio_request_duration_milliseconds_count", 3),
            ("le=.=0.5;.;istio_request_duration_milliseconds_bucket", 0),
            ("le=.=1;.;istio_request_duration_milliseconds_bucket", 1),
            ("le=.=5;.;istio_request_duration_milliseconds_bucket", 3),
            ("le=.=3600000;.;istio_request_duration_milliseconds_bucket", 3),
            ("le=.=+Inf;.;istio_request_duration_milliseconds_bucket", 3),
            ("istio_request_bytes_sum", 90),
            ("le=.=25;.;istio_request_bytes_bucket", 0),
            ("le=.=50;.;istio_request_bytes_bucket", 3),
            ("istio_response_bytes_sum", 2002),
            ("istio_response_bytes_count", 3),
            ("le=.=1000;.;istio_response_bytes_bucket", 2),
            ("le=.=2500;.;istio_response_bytes_bucket", 3),
        ] {
            assert_eq!(counters[name], n, "{name}");
        }
    }

    #[test]
    fn what_ends_as_a_label_is_found_first() {
        let counting = Counting::new(COUNTING, &["service"]);
        let labels = [("x-destination-service", "demo".to_owned())];
        counting.define(&[&labels, &[], &[]], &mut Vec::new(), || 0);
        let first = HOST.with_borrow(|host| host[0].0.clone());
        assert!(first.starts_with("service=.=;.;destination_service=.=demo;.;"), "{first}");
    }

    /// Reports have the same labels.
    #[test]
    fn labels_are_those_of_the_loggers() {
        let config = include_str!("../../../../envoy-configs/istio-metrics.yaml");
        let (_, bucket) = config.split_once("tags: &bucket").unwrap();
        let names =
            bucket.lines().filter_map(|line| line.trim().strip_prefix("- {name: ")?.split(',').next());
        let mut loggers: Vec<_> = names.map(str::to_owned).collect();
        let mut labels = labels();
        loggers.sort_unstable();
        labels.sort_unstable();
        assert_eq!(labels, loggers);
    }
}
