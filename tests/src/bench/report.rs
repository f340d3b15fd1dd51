//! From samples to what people and programs read: medians over the rounds, the table, the targets, the JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::load::Measurement;
use super::{Case, Proxy};

/// One measurement of one proxy under one case, of which every round makes one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The proxy.
    pub proxy: Proxy,
    /// The case.
    pub case: Case,
    /// CPU time of the proxy per request, in microseconds.
    pub cpu: f64,
    /// Right answers per second.
    pub per_second: f64,
    /// Median latency, in microseconds.
    pub p50: f64,
    /// The latency that one request in a hundred exceeds, in microseconds.
    pub p99: f64,
    /// Wrong, missing and failed answers.
    pub errors: u64,
}

impl Sample {
    /// The sample that a measurement gives.
    #[must_use]
    pub fn new(proxy: Proxy, case: Case, measurement: &Measurement) -> Self {
        Self {
            proxy,
            case,
            cpu: measurement.cpu_micros(),
            per_second: measurement.per_second(),
            p50: measurement.latency_micros(0.5),
            p99: measurement.latency_micros(0.99),
            errors: measurement.errors,
        }
    }
}

/// The samples of one proxy under one case, put together: medians, and the sum of the errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The medians.
    pub median: Sample,
    /// Lowest and highest CPU time per request of any round, in microseconds.
    pub cpu_range: (f64, f64),
}

/// The element of the JSON report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    proxy: &'static str,
    clients: usize,
    in_flight: usize,
    body_bytes: usize,
    cpu_micros_per_request: f64,
    requests_per_second: f64,
    p50_micros: f64,
    p99_micros: f64,
    errors: u64,
}

/// Puts the samples together: a row for each proxy under each case, in the order of [`Case::all`].
#[must_use]
pub fn rows(samples: &[Sample]) -> Vec<Row> {
    let mut keys: Vec<(Case, Proxy)> = Vec::new();
    for case in Case::all() {
        for proxy in Proxy::ALL {
            keys.push((case, proxy));
        }
    }
    let row = |(case, proxy)| {
        let own: Vec<_> =
            samples.iter().filter(|sample| (sample.case, sample.proxy) == (case, proxy)).copied().collect();
        let of = |value: fn(&Sample) -> f64| median(own.iter().map(value).collect());
        let cpu = |sample: &Sample| sample.cpu;
        Some(Row {
            median: Sample {
                proxy,
                case,
                cpu: of(cpu)?,
                per_second: of(|sample| sample.per_second)?,
                p50: of(|sample| sample.p50)?,
                p99: of(|sample| sample.p99)?,
                errors: own.iter().map(|sample| sample.errors).sum(),
            },
            cpu_range: (
                own.iter().map(cpu).fold(f64::INFINITY, f64::min),
                own.iter().map(cpu).fold(f64::NEG_INFINITY, f64::max),
            ),
        })
    };
    keys.into_iter().filter_map(row).collect()
}

/// The middle value; of an even number, the mean of the two in the middle. None of none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

/// The JSON report: a list with one object per row.
#[must_use]
pub fn json(rows: &[Row]) -> String {
    let entries: Vec<_> = rows
        .iter()
        .map(|Row { median, .. }| Entry {
            proxy: median.proxy.name(),
            clients: median.case.clients,
            in_flight: median.case.in_flight,
            body_bytes: median.case.body,
            cpu_micros_per_request: rounded(median.cpu),
            requests_per_second: rounded(median.per_second),
            p50_micros: rounded(median.p50),
            p99_micros: rounded(median.p99),
            errors: median.errors,
        })
        .collect();
    let mut text = serde_json::to_string_pretty(&entries).expect("plain data");
    text.push('\n');
    text
}

/// To a nanosecond, which is more than is known.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The row of a proxy under a case.
#[must_use]
pub fn find<'a>(rows: &'a [Row], proxy: Proxy, case: &Case) -> Option<&'a Row> {
    rows.iter().find(|row| row.median.proxy == proxy && row.median.case == *case)
}

/// The table, its columns aligned. Ratios are to `dubbo_proxy` under the same case.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<8} {:<7} {:<12} {:>10} {:>7} {:>7} {:>8} {:>9} {:>6} {:>7} {:>9} {:>9} {:>6}",
        "clients",
        "body",
        "proxy",
        "CPU µs/req",
        "spread",
        "ratio",
        "target",
        "req/s",
        "ratio",
        "MB/s",
        "p50 µs",
        "p99 µs",
        "errors"
    );
    let mut last = None;
    for row in rows {
        let Sample { proxy, case, cpu, per_second, p50, p99, errors } = row.median;
        if last.is_some_and(|last| last != case) {
            out.push('\n');
        }
        last = Some(case);
        let reference = find(rows, Proxy::Dubbo, &case).map(|row| &row.median);
        let ratio = |of: fn(&Sample) -> f64| match reference {
            Some(reference) => format!("{:.2}", of(&row.median) / of(reference)),
            None => "-".to_owned(),
        };
        let target = match cpu_target(&case) {
            Some(limit) if proxy == Proxy::Meltemi => format!("≤ {limit:.2}"),
            _ => String::new(),
        };
        let (low, high) = row.cpu_range;
        let _ = writeln!(
            out,
            "{:<8} {:<7} {:<12} {:>10.2} {:>6.0}% {:>7} {:>8} {:>9.0} {:>6} {:>7.1} {:>9.0} {:>9.0} {:>6}",
            case.shape(),
            case.size(),
            proxy.name(),
            cpu,
            (high - low) / cpu * 100.0,
            ratio(|sample| sample.cpu),
            target,
            per_second,
            ratio(|sample| sample.per_second),
            per_second * case.body as f64 / 1e6,
            p50,
            p99,
            errors
        );
    }
    out
}

/// At most how much of the CPU time of `dubbo_proxy` Meltemi is to take per request.
fn cpu_target(case: &Case) -> Option<f64> {
    match (case.clients, case.in_flight, case.body) {
        (_, _, 1_048_576) => Some(1.0 / THROUGHPUT_TARGET),
        (1, 1, 64) => Some(1.3),
        (1, 32, 64) | (16, 8, 64) => Some(0.25),
        (256, 1, 64) => Some(0.6),
        _ => None,
    }
}

/// At least how much of the throughput of `dubbo_proxy` Meltemi is to reach with bodies of 1 MiB.
const THROUGHPUT_TARGET: f64 = 0.9;

/// A target, and what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What is compared.
    pub what: String,
    /// The value measured.
    pub value: f64,
    /// The bound.
    pub limit: Limit,
}

/// A bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Verdict {
    /// Whether the target is met. A value that is not a number meets none.
    #[must_use]
    pub fn met(&self) -> bool {
        match self.limit {
            Limit::AtMost(limit) => self.value <= limit,
            Limit::AtLeast(limit) => self.value >= limit,
        }
    }

    /// One line: `PASS  1x32 64 B: CPU per request of dubbo_proxy's: 0.21 (at most 0.25)`.
    #[must_use]
    pub fn line(&self) -> String {
        let word = if self.met() { "PASS" } else { "FAIL" };
        let (side, limit) = match self.limit {
            Limit::AtMost(limit) => ("at most", limit),
            Limit::AtLeast(limit) => ("at least", limit),
        };
        format!("{word}  {}: {:.2} ({side} {limit:.2})", self.what, self.value)
    }
}

/// The targets of which both sides were measured.
#[must_use]
pub fn verdicts(rows: &[Row]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for case in Case::all() {
        let Some(limit) = cpu_target(&case) else {
            continue;
        };
        let of = |proxy| find(rows, proxy, &case).map(|row| row.median);
        let Some(meltemi) = of(Proxy::Meltemi) else {
            continue;
        };
        if let Some(dubbo) = of(Proxy::Dubbo) {
            verdicts.push(Verdict {
                what: format!("{case}: CPU per request, of dubbo_proxy's"),
                value: meltemi.cpu / dubbo.cpu,
                limit: Limit::AtMost(limit),
            });
            if case.body == 1 << 20 {
                verdicts.push(Verdict {
                    what: format!("{case}: throughput, of dubbo_proxy's"),
                    value: meltemi.per_second / dubbo.per_second,
                    limit: Limit::AtLeast(THROUGHPUT_TARGET),
                });
            }
        }
        if let Some(tcp) = of(Proxy::Tcp).filter(|_| (case.clients, case.body) == (256, 64)) {
            verdicts.push(Verdict {
                what: format!("{case}: CPU per request, of tcp_proxy's"),
                value: meltemi.cpu / tcp.cpu,
                limit: Limit::AtMost(1.0),
            });
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: Case = Case { clients: 1, in_flight: 32, body: 64 };
    const MANY: Case = Case { clients: 256, in_flight: 1, body: 64 };
    const LARGE: Case = Case { clients: 1, in_flight: 1, body: 1 << 20 };

    fn sample(proxy: Proxy, case: Case, cpu: f64) -> Sample {
        Sample { proxy, case, cpu, per_second: 1e6 / cpu, p50: 10.0 * cpu, p99: 20.0 * cpu, errors: 1 }
    }

    fn three_rounds(proxy: Proxy, case: Case, cpu: f64) -> [Sample; 3] {
        [1.1, 0.5, 1.0].map(|noise| sample(proxy, case, cpu * noise))
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
        assert_eq!(median(vec![f64::INFINITY, 1.0, 2.0]), Some(2.0));
    }

    #[test]
    fn rows_hold_medians_and_all_errors() {
        let samples = three_rounds(Proxy::Tcp, BUSY, 10.0);
        assert_eq!(
            rows(&samples),
            [Row { median: Sample { errors: 3, ..sample(Proxy::Tcp, BUSY, 10.0) }, cpu_range: (5.0, 11.0) }]
        );
    }

    #[test]
    fn the_table_has_a_line_per_row_and_ratios() {
        let mut samples = three_rounds(Proxy::Meltemi, BUSY, 5.0).to_vec();
        samples.extend(three_rounds(Proxy::Dubbo, BUSY, 25.0));
        samples.extend(three_rounds(Proxy::Meltemi, LARGE, 1000.0));
        let table = table(&rows(&samples));
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 5, "{table}");
        assert_eq!(lines[1].join(" "), "1x32 64 B dubbo_proxy 25.00 60% 1.00 40000 1.00 2.6 250 500 3");
        assert_eq!(lines[2].join(" "), "1x32 64 B meltemi 5.00 60% 0.20 ≤ 0.25 200000 5.00 12.8 50 100 3");
        assert!(lines[3].is_empty());
        assert_eq!(lines[4].join(" "), "1x1 1 MiB meltemi 1000.00 60% - ≤ 1.11 1000 - 1048.6 10000 20000 3");
        let widths: Vec<_> =
            table.lines().map(|line| line.chars().count()).filter(|&width| width > 0).collect();
        assert!(widths.iter().all(|&width| width == widths[0]), "{table}");
    }

    #[test]
    fn targets_are_judged_where_both_sides_were_measured() {
        let samples = [
            sample(Proxy::Meltemi, BUSY, 5.0),
            sample(Proxy::Dubbo, BUSY, 25.0),
            sample(Proxy::Meltemi, MANY, 21.0),
            sample(Proxy::Dubbo, MANY, 30.0),
            sample(Proxy::Tcp, MANY, 20.0),
            sample(Proxy::Meltemi, LARGE, 1000.0),
        ];
        let lines: Vec<_> = verdicts(&rows(&samples)).iter().map(Verdict::line).collect();
        assert_eq!(
            lines,
            [
                "PASS  1x32 64 B: CPU per request, of dubbo_proxy's: 0.20 (at most 0.25)",
                "FAIL  256x1 64 B: CPU per request, of dubbo_proxy's: 0.70 (at most 0.60)",
                "FAIL  256x1 64 B: CPU per request, of tcp_proxy's: 1.05 (at most 1.00)",
            ]
        );
    }

    #[test]
    fn what_is_not_a_number_meets_no_target() {
        let verdict = |limit| Verdict { what: String::new(), value: f64::NAN, limit };
        assert!(!verdict(Limit::AtMost(1.0)).met());
        assert!(!verdict(Limit::AtLeast(1.0)).met());
    }

    #[test]
    fn the_json_is_a_list_of_objects() {
        let list: serde_json::Value =
            serde_json::from_str(&json(&rows(&[sample(Proxy::Dubbo, BUSY, 25.0)]))).unwrap();
        let expected = serde_json::json!([{
            "proxy": "dubbo_proxy", "clients": 1, "inFlight": 32, "bodyBytes": 64, "cpuMicrosPerRequest": 25.0,
            "requestsPerSecond": 40000.0, "p50Micros": 250.0, "p99Micros": 500.0, "errors": 1
        }]);
        assert_eq!(list, expected);
    }
}
