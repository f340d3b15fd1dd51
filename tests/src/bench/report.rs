//! From samples to what people and programs read: medians over the rounds, the table, the targets, the JSON.

use serde::Serialize;

use super::load::Measurement;
use super::{Case, Protocol, markdown};

/// One measurement under one case, of which every round makes one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// What is measured: a proxy, or a way to run it.
    pub what: &'static str,
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
    pub fn new(what: &'static str, case: Case, measurement: &Measurement) -> Self {
        Self {
            what,
            case,
            cpu: measurement.cpu_micros(),
            per_second: measurement.per_second(),
            p50: measurement.latency_micros(0.5),
            p99: measurement.latency_micros(0.99),
            errors: measurement.errors,
        }
    }
}

/// The samples of one thing under one case, put together: medians, and the sum of the errors.
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
    protocol: &'static str,
    what: &'static str,
    clients: usize,
    in_flight: usize,
    body_bytes: usize,
    cpu_micros_per_request: f64,
    requests_per_second: f64,
    p50_micros: f64,
    p99_micros: f64,
    errors: u64,
}

/// Puts the samples together: a row for each thing under each case, cases and things in the order in which they first appear.
#[must_use]
pub fn rows(samples: &[Sample]) -> Vec<Row> {
    let (mut cases, mut things) = (Vec::new(), Vec::new());
    for sample in samples {
        if !cases.contains(&sample.case) {
            cases.push(sample.case);
        }
        if !things.contains(&sample.what) {
            things.push(sample.what);
        }
    }
    let row = |case: Case, what: &'static str| {
        let own: Vec<_> =
            samples.iter().filter(|sample| (sample.case, sample.what) == (case, what)).copied().collect();
        let of = |value: fn(&Sample) -> f64| median(own.iter().map(value).collect());
        let cpu = |sample: &Sample| sample.cpu;
        Some(Row {
            median: Sample {
                what,
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
    cases.iter().flat_map(|&case| things.iter().filter_map(move |&what| row(case, what))).collect()
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
            protocol: median.case.protocol.name(),
            what: median.what,
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

/// The row of a thing under a case.
#[must_use]
pub fn find<'a>(rows: &'a [Row], what: &str, case: &Case) -> Option<&'a Row> {
    rows.iter().find(|row| row.median.what == what && row.median.case == *case)
}

/// The table, in Markdown. Ratios are to the first row under the same case.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let Sample { what, case, cpu, per_second, p50, p99, errors } = row.median;
        let first = &rows.iter().find(|other| other.median.case == case).unwrap_or(row).median;
        let target = cpu_target(&case).filter(|_| what == "meltemi" && first.what != what);
        let (low, high) = row.cpu_range;
        vec![
            case.protocol.name().to_owned(),
            case.shape(),
            case.size(),
            what.to_owned(),
            format!("{cpu:.2}"),
            format!("{:.0}%", (high - low) / cpu * 100.0),
            format!("{:.2}", cpu / first.cpu),
            target.map_or(String::new(), |limit| format!("≤ {limit:.2}")),
            format!("{per_second:.0}"),
            format!("{:.2}", per_second / first.per_second),
            format!("{:.1}", per_second * case.body as f64 / 1e6),
            format!("{p50:.0}"),
            format!("{p99:.0}"),
            errors.to_string(),
        ]
    };
    let columns = [
        "protocol",
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
        "errors",
    ];
    markdown::table(4, &columns, &rows.iter().map(line).collect::<Vec<_>>())
}

/// At most how much of the CPU time of Envoy's own proxy of the protocol Meltemi is to take per request.
fn cpu_target(case: &Case) -> Option<f64> {
    let targets: &[(usize, usize, usize, f64)] = match case.protocol {
        Protocol::Dubbo => &[
            (1, 1, 64, 1.2),
            (1, 32, 64, 0.2),
            (16, 8, 64, 0.22),
            (256, 1, 64, 0.45),
            (1, 1, 16 << 10, 1.25),
            (1, 32, 16 << 10, 0.8),
            (16, 8, 16 << 10, 0.95),
            (256, 1, 16 << 10, 1.1),
        ],
        Protocol::Thrift => &[(1, 32, 64, 0.4), (64, 1, 64, 0.8)],
        Protocol::Brpc | Protocol::Trpc => &[],
    };
    let is_of = |target: &&(usize, usize, usize, f64)| {
        (target.0, target.1, target.2) == (case.clients, case.in_flight, case.body)
    };
    targets.iter().find(is_of).map(|target| target.3)
}

/// At least how much of the throughput of `dubbo_proxy` Meltemi is to reach.
fn throughput_target(case: &Case) -> Option<f64> {
    match (case.protocol, case.clients, case.in_flight, case.body) {
        (Protocol::Dubbo, 16, 8, 16_384) | (Protocol::Dubbo, 1, 32, 16_384) => Some(1.0),
        _ => None,
    }
}

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

    /// One line of a list: `- PASS dubbo 1x32 64 B: CPU per request of dubbo_proxy's: 0.18 (at most 0.20)`.
    #[must_use]
    pub fn line(&self) -> String {
        let word = if self.met() { "PASS" } else { "FAIL" };
        let (side, limit) = match self.limit {
            Limit::AtMost(limit) => ("at most", limit),
            Limit::AtLeast(limit) => ("at least", limit),
        };
        format!("- {word} {}: {:.2} ({side} {limit:.2})", self.what, self.value)
    }
}

/// The targets of which both sides were measured.
#[must_use]
pub fn verdicts(rows: &[Row]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for meltemi in rows.iter().map(|row| row.median).filter(|median| median.what == "meltemi") {
        let case = meltemi.case;
        let of = |what| find(rows, what, &case).map(|row| row.median);
        if let Some(native) = of("dubbo_proxy").or_else(|| of("thrift_proxy")) {
            if let Some(limit) = cpu_target(&case) {
                let what = format!("{case}: CPU per request, of {}'s", native.what);
                verdicts.push(Verdict { what, value: meltemi.cpu / native.cpu, limit: Limit::AtMost(limit) });
            }
            if let Some(limit) = throughput_target(&case) {
                let what = format!("{case}: throughput, of {}'s", native.what);
                let value = meltemi.per_second / native.per_second;
                verdicts.push(Verdict { what, value, limit: Limit::AtLeast(limit) });
            }
        }
        // Where the bytes are the price, what can be had is what the tunnel costs by itself.
        if let Some(tunnel) = of("pass-through").filter(|_| case.body == 1 << 20) {
            let verdict = |what: &str, value, limit| Verdict {
                what: format!("{case}: {what}, of pass-through's"),
                value,
                limit,
            };
            let throughput = meltemi.per_second / tunnel.per_second;
            verdicts.extend([
                verdict("CPU per request", meltemi.cpu / tunnel.cpu, Limit::AtMost(1.1)),
                verdict("throughput", throughput, Limit::AtLeast(0.95)),
            ]);
        }
        if let Some(tcp) = of("tcp_proxy").filter(|_| (case.clients, case.body) == (256, 64)) {
            let what = format!("{case}: CPU per request, of tcp_proxy's");
            verdicts.push(Verdict { what, value: meltemi.cpu / tcp.cpu, limit: Limit::AtMost(1.0) });
        }
    }
    verdicts
}

/// The page with the report between its marks; none if it has no marks.
#[must_use]
pub fn insert(page: &str, report: &str) -> Option<String> {
    const MARKS: [&str; 2] = ["<!-- report -->\n", "<!-- end of report -->\n"];
    let (before, rest) = page.split_once(MARKS[0])?;
    let (_, after) = rest.split_once(MARKS[1])?;
    Some([before, MARKS[0], "\n", report, "\n", MARKS[1], after].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUBBO: Protocol = Protocol::Dubbo;
    const BUSY: Case = Case { protocol: DUBBO, clients: 1, in_flight: 32, body: 64 };
    const MANY: Case = Case { protocol: DUBBO, clients: 256, in_flight: 1, body: 64 };
    const LARGE: Case = Case { protocol: DUBBO, clients: 1, in_flight: 1, body: 1 << 20 };

    fn sample(what: &'static str, case: Case, cpu: f64) -> Sample {
        Sample { what, case, cpu, per_second: 1e6 / cpu, p50: 10.0 * cpu, p99: 20.0 * cpu, errors: 1 }
    }

    fn three_rounds(what: &'static str, case: Case, cpu: f64) -> [Sample; 3] {
        [1.1, 0.5, 1.0].map(|noise| sample(what, case, cpu * noise))
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
        let samples = three_rounds("tcp_proxy", BUSY, 10.0);
        assert_eq!(
            rows(&samples),
            [Row { median: Sample { errors: 3, ..sample("tcp_proxy", BUSY, 10.0) }, cpu_range: (5.0, 11.0) }]
        );
    }

    #[test]
    fn the_table_has_a_line_per_row_and_ratios() {
        let mut samples = three_rounds("dubbo_proxy", BUSY, 25.0).to_vec();
        samples.extend(three_rounds("meltemi", BUSY, 5.0));
        samples.extend(three_rounds("meltemi", LARGE, 1000.0));
        let table = table(&rows(&samples));
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        let cells: Vec<String> = lines.iter().map(|line| line.join(" ").replace("| ", "")).collect();
        assert_eq!(cells.len(), 5, "{table}");
        assert_eq!(cells[2], "dubbo 1x32 64 B dubbo_proxy 25.00 60% 1.00 40000 1.00 2.6 250 500 3 |");
        assert_eq!(cells[3], "dubbo 1x32 64 B meltemi 5.00 60% 0.20 ≤ 0.20 200000 5.00 12.8 50 100 3 |");
        assert_eq!(cells[4], "dubbo 1x1 1 MiB meltemi 1000.00 60% 1.00 1000 1.00 1048.6 10000 20000 3 |");
    }

    #[test]
    fn targets_are_judged_where_both_sides_were_measured() {
        let samples = [
            sample("meltemi", BUSY, 5.0),
            sample("dubbo_proxy", BUSY, 25.0),
            sample("meltemi", MANY, 21.0),
            sample("dubbo_proxy", MANY, 30.0),
            sample("tcp_proxy", MANY, 20.0),
            sample("meltemi", LARGE, 1000.0),
            sample("dubbo_proxy", LARGE, 500.0),
            sample("pass-through", LARGE, 960.0),
        ];
        let lines: Vec<_> = verdicts(&rows(&samples)).iter().map(Verdict::line).collect();
        assert_eq!(
            lines,
            [
                "- PASS dubbo 1x32 64 B: CPU per request, of dubbo_proxy's: 0.20 (at most 0.20)",
                "- FAIL dubbo 256x1 64 B: CPU per request, of dubbo_proxy's: 0.70 (at most 0.45)",
                "- FAIL dubbo 256x1 64 B: CPU per request, of tcp_proxy's: 1.05 (at most 1.00)",
                "- PASS dubbo 1x1 1 MiB: CPU per request, of pass-through's: 1.04 (at most 1.10)",
                "- PASS dubbo 1x1 1 MiB: throughput, of pass-through's: 0.96 (at least 0.95)",
            ]
        );
    }

    #[test]
    fn a_report_takes_the_place_of_the_one_before() {
        let page = "Before.\n<!-- report -->\nold\n<!-- end of report -->\nAfter.\n";
        let new = "Before.\n<!-- report -->\n\nnew\n\n<!-- end of report -->\nAfter.\n";
        assert_eq!(insert(page, "new\n").as_deref(), Some(new));
        assert_eq!(insert("no marks", "new\n"), None);
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
            serde_json::from_str(&json(&rows(&[sample("dubbo_proxy", BUSY, 25.0)]))).unwrap();
        let expected = serde_json::json!([{
            "protocol": "dubbo", "what": "dubbo_proxy", "clients": 1, "inFlight": 32, "bodyBytes": 64,
            "cpuMicrosPerRequest": 25.0, "requestsPerSecond": 40000.0, "p50Micros": 250.0, "p99Micros": 500.0, "errors": 1
        }]);
        assert_eq!(list, expected);
    }
}
