//! What is counted of calls with the same labels, until it is reported.

use core::time::Duration;

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
    /// Every bucket was reported once: between buckets that are not there Prometheus would guess.
    is_complete: bool,
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

/// The fields for the histograms' numbers.
const FIELDS: [&str; 3] = ["x-duration", "x-request", "x-response"];

/// The field that tells the loggers which report it is.
const REPORT: &str = "x-meltemi-report";

impl Series {
    pub(super) fn new(key: Key) -> Self {
        Self { key, is_dirty: false, calls: 0, families: Default::default(), is_complete: false }
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

    /// Gives the fields of each report to `send`: one of the sums, and one for each bucket.
    pub(super) fn report(&mut self, mut send: impl FnMut(&[(&'static str, String)])) {
        let calls = core::mem::take(&mut self.calls);
        let mut counts = Vec::with_capacity(5);
        counts.push((REPORT, "sums".to_owned()));
        counts.push(("x-calls", calls.to_string()));
        for (name, family) in FIELDS.into_iter().zip(&mut self.families) {
            counts.push((name, family.take_sum().to_string()));
        }
        send(&counts);
        let mut below = [0_u64; 3];
        for (at, (_, bound)) in BOUNDS.iter().enumerate() {
            for (below, family) in below.iter_mut().zip(&mut self.families) {
                let values = family.buckets.get_mut(at).map(core::mem::take);
                *below = below.saturating_add(values.unwrap_or(0));
            }
            if !self.is_complete || below.iter().any(|n| *n > 0) {
                send(&bucket(bound, below));
            }
        }
        send(&bucket("+Inf", [calls; 3]));
        self.is_complete = true;
    }
}

/// The fields of a bucket's report.
fn bucket(bound: &str, values: [u64; 3]) -> Vec<(&'static str, String)> {
    let mut fields = vec![(REPORT, "bucket".to_owned()), ("x-le", bound.to_owned())];
    fields.extend(FIELDS.into_iter().zip(values.map(|n| n.to_string())));
    fields
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
        let mut all = Vec::new();
        series.report(|fields| all.push(fields.iter().map(|(_, value)| value.clone()).collect()));
        all
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
