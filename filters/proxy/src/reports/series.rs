//! What is counted of calls with the same labels, until it is reported.

use core::time::Duration;

use super::Way;
use super::parties::PartyId;

/// What the calls of a series have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) source: PartyId,
    pub(super) destination: PartyId,
    /// How they ended.
    pub(super) verdict: u32,
}

/// Calls with the same labels.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) key: Key,
    /// It has counts that are not reported.
    pub(super) is_dirty: bool,
    calls: u64,
    /// By time, by the length of the request and by that of the answer.
    families: [Family; 3],
    /// The way that every bucket was reported once: between buckets that are not there Prometheus would guess.
    complete: Option<Way>,
    /// The host's numbers of what it counts, where it counts by names.
    pub(super) counters: Vec<Option<u32>>,
}

/// A part of what is told of a series.
#[derive(Debug)]
pub(super) struct Part {
    /// The upper bound of the buckets, by its place and as the label `le`; without one these are the sums.
    pub(super) bound: Option<(usize, &'static str)>,
    /// How many calls there were.
    pub(super) calls: u64,
    /// For each histogram.
    pub(super) values: [u64; 3],
}

/// One histogram, in thousandths of its unit.
#[derive(Debug, Default)]
struct Family {
    /// Values in each bucket and in none of those before it.
    buckets: [u64; BOUNDS.len()],
    sum: u64,
}

/// Upper bounds of buckets, in thousandths, and as the label `le` has them: those of Envoy's own histograms.
const BOUNDS: [(u64, &str); 19] = [
    (500, "0.5"),
    (1_000, "1"),
    (5_000, "5"),
    (10_000, "10"),
    (25_000, "25"),
    (50_000, "50"),
    (100_000, "100"),
    (250_000, "250"),
    (500_000, "500"),
    (1_000_000, "1000"),
    (2_500_000, "2500"),
    (5_000_000, "5000"),
    (10_000_000, "10000"),
    (30_000_000, "30000"),
    (60_000_000, "60000"),
    (300_000_000, "300000"),
    (600_000_000, "600000"),
    (1_800_000_000, "1800000"),
    (3_600_000_000, "3600000"),
];

/// The bound that all values are under.
const ANY: &str = "+Inf";

/// Buckets of a histogram.
pub(super) const BUCKETS: usize = BOUNDS.len() + 1;

/// The upper bound of the bucket at that place.
pub(super) fn bound(place: usize) -> &'static str {
    BOUNDS.get(place).map_or(ANY, |(_, bound)| bound)
}

/// The fields for the histograms' numbers.
const FIELDS: [&str; 3] = ["x-duration", "x-request", "x-response"];

/// The field that tells the loggers which report it is.
const REPORT: &str = "x-meltemi-report";

impl Series {
    pub(super) fn new(key: Key) -> Self {
        Self {
            key,
            is_dirty: false,
            calls: 0,
            families: Default::default(),
            complete: None,
            counters: Vec::new(),
        }
    }

    /// Counts a call.
    pub(super) fn add(&mut self, time: Duration, request: usize, response: usize) {
        self.calls = self.calls.saturating_add(1);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bytes = [request, response].map(|bytes| (bytes as u64).saturating_mul(1000));
        let [of_time, of_request, of_response] = &mut self.families;
        of_time.add(micros);
        of_request.add(bytes[0]);
        of_response.add(bytes[1]);
    }

    /// What there is to tell since it was told last: the sums, and what is new in each bucket.
    pub(super) fn take(&mut self, way: Way) -> Vec<Part> {
        let calls = core::mem::take(&mut self.calls);
        let mut parts = Vec::with_capacity(BOUNDS.len());
        let is_complete = self.complete.replace(way) == Some(way);
        parts.push(Part { bound: None, calls, values: self.families.each_mut().map(Family::take_sum) });
        let mut below = [0_u64; 3];
        for (at, (_, bound)) in BOUNDS.iter().enumerate() {
            for (below, family) in below.iter_mut().zip(&mut self.families) {
                let values = family.buckets.get_mut(at).map(core::mem::take);
                *below = below.saturating_add(values.unwrap_or(0));
            }
            if !is_complete || below.iter().any(|n| *n > 0) {
                parts.push(Part { bound: Some((at, bound)), calls, values: below });
            }
        }
        parts.push(Part { bound: Some((BOUNDS.len(), ANY)), calls, values: [calls; 3] });
        parts
    }
}

impl Part {
    /// The fields of its report.
    pub(super) fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = match self.bound {
            None => vec![(REPORT, "sums".to_owned()), ("x-calls", self.calls.to_string())],
            Some((_, bound)) => vec![(REPORT, "bucket".to_owned()), ("x-le", bound.to_owned())],
        };
        fields.extend(FIELDS.into_iter().zip(self.values.map(|n| n.to_string())));
        fields
    }
}

impl Family {
    /// Counts a value, in thousandths.
    fn add(&mut self, value: u64) {
        self.sum = self.sum.saturating_add(value);
        let at = BOUNDS.partition_point(|(bound, _)| *bound < value);
        if let Some(values) = self.buckets.get_mut(at) {
            *values = values.saturating_add(1);
        }
    }

    /// Takes the sum in whole units, and leaves the rest.
    fn take_sum(&mut self) -> u64 {
        let rest = self.sum % 1000;
        core::mem::replace(&mut self.sum, rest) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(series: &mut Series) -> Vec<Vec<String>> {
        let fields = series.take(Way::Streams).into_iter().map(|part| part.fields());
        fields.map(|fields| fields.into_iter().map(|(_, value)| value).collect()).collect()
    }

    #[test]
    fn all_buckets_come_first_and_then_those_that_have_grown() {
        let mut series = Series::new(Key::default());
        series.add(Duration::from_micros(1500), 100, 0);
        series.add(Duration::from_micros(5000), 101, 7_000_000);
        let first = reports(&mut series);
        assert_eq!(first[0], ["sums", "2", "6", "201", "7000000"]);
        let buckets: Vec<_> = first[1..].iter().map(|fields| fields[1].as_str()).collect();
        let bounds: Vec<_> = BOUNDS.iter().map(|(_, bound)| *bound).chain(["+Inf"]).collect();
        assert_eq!(buckets, bounds);
        let at = |bound: &str| {
            let fields = first.iter().find(|fields| fields[1] == bound).unwrap();
            [2, 3, 4].map(|place| fields[place].parse::<u64>().unwrap())
        };
        assert_eq!(at("0.5"), [0, 0, 1]);
        assert_eq!(at("1"), [0, 0, 1]);
        assert_eq!(at("5"), [2, 0, 1]);
        assert_eq!(at("100"), [2, 1, 1]);
        assert_eq!(at("250"), [2, 2, 1]);
        assert_eq!(at("3600000"), [2, 2, 1]);
        assert_eq!(at("+Inf"), [2, 2, 2]);

        series.add(Duration::from_micros(1_000_500), 3_600_001, 4_000_000);
        let second = reports(&mut series);
        assert_eq!(second[0], ["sums", "1", "1001", "3600001", "4000000"], "half a millisecond was left");
        assert_eq!(second[1], ["bucket", "2500", "1", "0", "0"]);
        assert_eq!(second.last().unwrap()[..], ["bucket", "+Inf", "1", "1", "1"]);
        assert_eq!(second.len(), 11);
    }
}
