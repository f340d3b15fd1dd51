//! What is compared: proxies, and Meltemi with more workers, more endpoints and more routes.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::load::{self, Measurement, Span};
use super::report::{Limit, Sample, Verdict, median, rows};
use super::sink::Sink;
use super::subject::{self, Loggers, Parts, Subject};
use super::{Case, Protocol, Proxy, markdown};

/// How often, and how long, each thing is measured under each case.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// How often.
    pub rounds: u32,
    /// How long.
    pub span: Span,
}

/// What one part of the benchmark found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What there is to read, in Markdown.
    pub text: String,
    /// The targets.
    pub verdicts: Vec<Verdict>,
    /// Wrong answers.
    pub errors: u64,
}

/// One of the things that are compared with each other.
#[derive(Debug, Clone, Copy)]
pub struct Contender<'a> {
    /// What it is called.
    pub name: &'static str,
    /// The Envoy.
    pub subject: &'a Subject,
    /// Which of its proxies.
    pub proxy: Proxy,
}

const fn dubbo(clients: usize, in_flight: usize) -> Case {
    Case { protocol: Protocol::Dubbo, clients, in_flight, body: 64 }
}

/// What routes and endpoints are compared under.
pub const BUSY: Case = dubbo(1, 32);
/// What workers are compared under, and proxies are warmed up with.
pub const SPREAD: Case = dubbo(16, 8);

/// Measures all of them under each case, round after round.
///
/// # Errors
///
/// A proxy that cannot be measured.
pub fn compare(contenders: &[Contender], cases: &[Case], effort: Effort) -> Result<Vec<Sample>> {
    let warm = Span { warm_up: Duration::from_millis(500), measured: Duration::ZERO };
    for contender in contenders {
        for case in cases.iter().take(1) {
            measure(contender, &Case { body: 64, ..*case }, warm)?;
        }
    }
    let mut samples = Vec::new();
    for round in 0..effort.rounds {
        for case in cases {
            // Each round another one begins, lest one of them always follows the same other.
            for turn in 0..contenders.len() {
                let contender = &contenders[(turn + round as usize) % contenders.len()];
                let measurement = measure(contender, case, effort.span)?;
                samples.push(Sample::new(contender.name, *case, &measurement));
            }
        }
    }
    let place = |sample: &Sample| contenders.iter().position(|contender| contender.name == sample.what);
    samples.sort_by_key(place);
    Ok(samples)
}

fn measure(contender: &Contender, case: &Case, span: Span) -> Result<Measurement> {
    let Contender { name, subject, proxy } = contender;
    let clock = subject.clock();
    let measurement = load::run(subject.address(*proxy), case, span, || clock.now())
        .with_context(|| format!("{name}, {case}"))?;
    if let Some(error) = &measurement.first_error {
        eprintln!(
            "{name}, {case}: {} errors; the first: {error}\nthe end of Envoy's log:\n{}",
            measurement.errors,
            subject.log_tail()
        );
    }
    Ok(measurement)
}

/// One worker and two.
///
/// # Errors
///
/// An Envoy that does not start or cannot be measured.
pub fn workers(parts: &Parts, effort: Effort) -> Result<Findings> {
    let (one, two) = (Subject::start(parts)?, Subject::start(&Parts { workers: 2, ..*parts })?);
    let contender = |name, subject| Contender { name, subject, proxy: Proxy::Meltemi };
    let contenders = [contender("1 worker", &one), contender("2 workers", &two)];
    brief(&compare(&contenders, &[dubbo(256, 1), SPREAD], effort)?)
}

/// Two endpoints and a thousand.
///
/// # Errors
///
/// An Envoy that does not start or cannot be measured.
pub fn endpoints(parts: &Parts, effort: Effort) -> Result<Findings> {
    let (few, many) = (Subject::start(parts)?, Subject::start(&Parts { endpoints: 1000, ..*parts })?);
    let contender = |name, subject| Contender { name, subject, proxy: Proxy::Meltemi };
    let contenders = [contender("2 endpoints", &few), contender("1000 endpoints", &many)];
    brief(&compare(&contenders, &[BUSY, SPREAD], effort)?)
}

/// Ten routes and ten thousand.
///
/// # Errors
///
/// An Envoy that does not start or cannot be measured.
pub fn routes(parts: &Parts, effort: Effort) -> Result<Findings> {
    let (few, many) = (subject::routes(10), subject::routes(10_000));
    let few = Subject::start(&Parts { plan: &few, ..*parts })?;
    let many = Subject::start(&Parts { plan: &many, ..*parts })?;
    let contender = |name, subject| Contender { name, subject, proxy: Proxy::Meltemi };
    let contenders = [contender("10 routes", &few), contender("10000 routes", &many)];
    let samples = compare(&contenders, &[BUSY], Effort { rounds: 2 * effort.rounds, ..effort })?;
    let mut findings = brief(&samples)?;
    findings.verdicts.push(Verdict {
        what: format!("{BUSY}: µs per request that 10000 routes cost more than 10"),
        value: difference(&samples, "10 routes", "10000 routes"),
        limit: Limit::AtMost(1.0),
    });
    Ok(findings)
}

/// Calls that nothing is told of, and traces, a line in the log for each call, one in a format, one in a file of a logger, one
/// for an access log service and for OpenTelemetry, and lines of a tap.
///
/// # Errors
///
/// An Envoy that does not start or cannot be measured.
pub fn telemetry(parts: &Parts, effort: Effort) -> Result<Findings> {
    let text = "[%START_TIME%] %REQ(:PATH)% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %UPSTREAM_HOST%";
    let plain = subject::logged(&json!({}));
    let formatted = subject::logged(&json!({"textFormat": text}));
    let none = Subject::start(&Parts { plan: &subject::routes(1), ..*parts })?;
    let traced = Subject::start(&Parts { plan: &subject::traced(), ..*parts })?;
    let plain = Subject::start(&Parts { plan: &plain, ..*parts })?;
    let formatted = Subject::start(&Parts { plan: &formatted, ..*parts })?;
    let told =
        subject::logged(&json!({"textFormat": text, "fields": {"x-call-line": "%LINE%"}, "log": false}));
    let told = |loggers| Subject::start(&Parts { plan: &told, loggers, ..*parts });
    let (entries, records) = (Sink::start(), Sink::start());
    let (to_service, to_collector) =
        (told(Loggers::AccessLogService(entries.1))?, told(Loggers::OpenTelemetry(records.1))?);
    let told = told(Loggers::File)?;
    let filed = |rules: Value| {
        let mut rules = rules;
        rules["files"] = true.into();
        rules["log"] = false.into();
        Subject::start(&Parts { plan: &subject::logged(&rules), loggers: Loggers::File, ..*parts })
    };
    let plain_filed = filed(json!({}))?;
    let formatted_filed = filed(json!({"textFormat": text}))?;
    let tapped = Subject::start(&Parts { plan: &subject::tapped(), ..*parts })?;
    let names = [
        "no telemetry",
        "traces",
        "lines of JSON",
        "lines in a format",
        "lines of JSON in files",
        "lines in a format in files",
        "lines by a logger",
        "lines for an access log service",
        "lines for OpenTelemetry",
        "a tap of all calls",
    ];
    let subjects = [
        &none,
        &traced,
        &plain,
        &formatted,
        &plain_filed,
        &formatted_filed,
        &told,
        &to_service,
        &to_collector,
        &tapped,
    ];
    let contender = |(name, subject)| Contender { name, subject, proxy: Proxy::Meltemi };
    let contenders = names.into_iter().zip(subjects).map(contender);
    let samples = compare(&contenders.collect::<Vec<_>>(), &[BUSY], effort)?;
    ensure!(entries.0.count() > 0, "the access log service got nothing");
    ensure!(records.0.count() > 0, "OpenTelemetry got nothing");
    let mut findings = brief(&samples)?;
    let mut verdict = |name, value, most| {
        let what = format!("{BUSY}: µs per request that {name} cost");
        findings.verdicts.push(Verdict { what, value, limit: Limit::AtMost(most) });
    };
    verdict("traces", price_of_traces(parts, effort.rounds)?, 0.2);
    for name in &names[2..6] {
        verdict(name, difference(&samples, names[0], name), 4.0);
    }
    Ok(findings)
}

/// The CPU time of a request that traces cost, in microseconds: so little that it shows in the median of many short turns only,
/// and of several Envoys, of which some are slower than others from their start to their end.
fn price_of_traces(parts: &Parts, envoys: u32) -> Result<f64> {
    let millis = Duration::from_millis;
    let effort = Effort { rounds: 40, span: Span { warm_up: millis(20), measured: millis(100) } };
    let (plain, traced) = (subject::routes(1), subject::traced());
    let prices = (0..envoys).map(|_| {
        let plain = Subject::start(&Parts { plan: &plain, ..*parts })?;
        let traced = Subject::start(&Parts { plan: &traced, ..*parts })?;
        let contender = |name, subject| Contender { name, subject, proxy: Proxy::Meltemi };
        let contenders = [contender("plain", &plain), contender("traced", &traced)];
        let price = difference(&compare(&contenders, &[BUSY], effort)?, "plain", "traced");
        Ok(price)
    });
    Ok(median(prices.collect::<Result<_>>()?).unwrap_or(f64::NAN))
}

/// The CPU time of a request that the one costs more than the other: what disturbs one of a round mostly disturbs both.
fn difference(samples: &[Sample], one: &str, other: &str) -> f64 {
    let pairs = cpu_of(samples, one).zip(cpu_of(samples, other));
    median(pairs.map(|(one, other)| other - one).collect()).unwrap_or(f64::NAN)
}

fn cpu_of<'a>(samples: &'a [Sample], what: &'a str) -> impl Iterator<Item = f64> + 'a {
    samples.iter().filter(move |sample| sample.what == what).map(|sample| sample.cpu)
}

/// The short table: a line for each row.
fn brief(samples: &[Sample]) -> Result<Findings> {
    let rows = rows(samples);
    let first = |case| rows.iter().find(|row| row.median.case == case).map(|row| row.median);
    let lines = rows.iter().map(|row| {
        let Sample { what, case, cpu, per_second, p50, p99, errors } = row.median;
        let first = first(case).ok_or_else(|| io::Error::other("no rows"))?;
        Ok(vec![
            case.shape(),
            what.to_owned(),
            format!("{cpu:.2}"),
            format!("{:.0}%", (row.cpu_range.1 - row.cpu_range.0) / cpu * 100.0),
            format!("{:.2}", cpu / first.cpu),
            format!("{per_second:.0}"),
            format!("{:.2}", per_second / first.per_second),
            format!("{p50:.0}"),
            format!("{p99:.0}"),
            errors.to_string(),
        ])
    });
    let columns =
        ["clients", "with", "CPU µs/req", "spread", "ratio", "req/s", "ratio", "p50 µs", "p99 µs", "errors"];
    let text = markdown::table(2, &columns, &lines.collect::<io::Result<Vec<_>>>()?);
    Ok(Findings { text, verdicts: Vec::new(), errors: rows.iter().map(|row| row.median.errors).sum() })
}
