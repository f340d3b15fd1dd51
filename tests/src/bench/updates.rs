//! How long a worker does nothing else while a plan comes, and what calls notice of it.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::load::{self, Measurement, Span};
use super::proc::CpuClock;
use super::report::{Limit, Verdict, median};
use super::subject::{self, Parts, Subject};
use super::wide::Findings;
use super::{Case, Protocol, Proxy, markdown};

/// The calls meanwhile: too few to make each other wait.
const LIGHT: Case = Case { protocol: Protocol::Dubbo, clients: 4, in_flight: 1, body: 64 };

/// A plan comes when the measured time begins, and has to be in force before it ends. A module is compiled first.
fn span(event: Event) -> Span {
    let measured = Duration::from_millis(if event.module { 8000 } else { 1500 });
    Span { warm_up: Duration::from_millis(200), measured }
}

/// What the longest call is told by its own kind of event for.
const TARGET: Duration = Duration::from_millis(20);

/// What happens to the workers.
#[derive(Debug, Clone, Copy)]
struct Event {
    name: &'static str,
    /// Routes of the plan that comes; 0 if none does.
    routes: usize,
    /// Whether another build of the module comes with it: a new VM.
    module: bool,
}

const EVENTS: [Event; 4] = [
    Event { name: "nothing", routes: 0, module: false },
    Event { name: "a plan of 10 routes", routes: 10, module: false },
    Event { name: "a plan of 10000 routes", routes: 10_000, module: false },
    Event { name: "another module, 10000 routes", routes: 10_000, module: true },
];

/// Lets plans and a module come while there are calls, and while there are none.
///
/// # Errors
///
/// An Envoy that does not start or does not take a plan.
pub fn measure(parts: &Parts, rounds: u32) -> Result<Findings> {
    let mut subject = Subject::start(&Parts { plan: &subject::routes(10), ..*parts })?;
    let few = subject.start_time();
    let many = Subject::start(&Parts { plan: &subject::routes(10_000), ..*parts })?.start_time();

    let mut findings = Findings::default();
    let mut lines = Vec::new();
    let mut revision = 0;
    for event in EVENTS {
        let (mut p99, mut longest, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            revision += 1;
            let measurement = under_load(&mut subject, event, revision)?;
            findings.errors += measurement.errors;
            p99.push(measurement.latency_micros(0.99) / 1e3);
            longest.push(measurement.latencies.max() as f64 / 1e6);
            revision += 1;
            let clock = CpuClock::of_threads(subject.pid(), "wrk:");
            let before = clock.now()?;
            happen(&mut subject, event, revision)?;
            cpu.push(clock.now()?.saturating_sub(before).as_secs_f64() * 1e3);
        }
        let worst = longest.iter().copied().fold(0.0, f64::max);
        let middle = |values| median(values).unwrap_or(f64::NAN);
        let (cpu, p99, longest) = (middle(cpu), middle(p99), middle(longest));
        let cells = [cpu, p99, longest, worst].map(|value| format!("{value:.2}"));
        lines.push([event.name.to_owned()].into_iter().chain(cells).collect());
        if event.routes == 10_000 && !event.module {
            let what = "ms that the longest call takes while a plan of 10000 routes comes";
            let limit = Limit::AtMost(TARGET.as_secs_f64() * 1e3);
            findings.verdicts.push(Verdict { what: what.to_owned(), value: longest, limit });
        }
    }
    let columns =
        ["what comes", "ms of a worker's CPU", "p99 of calls, ms", "longest call, ms", "in the worst round"];
    let [few, many] = [few, many].map(|time| time.as_millis());
    findings.text = format!(
        "{}\nEnvoy is ready {few} ms after it starts with 10 routes, {many} ms with 10000.\n",
        markdown::table(1, &columns, &lines)
    );
    Ok(findings)
}

/// Lets it happen while there are calls.
fn under_load(subject: &mut Subject, event: Event, revision: usize) -> Result<Measurement> {
    let address = subject.address(Proxy::Meltemi);
    let span = span(event);
    let (begins, begun) = mpsc::channel();
    thread::scope(|scope| {
        let calls = scope.spawn(move || {
            // Asked at the begin of the measured time, and at its end.
            load::run(address, &LIGHT, span, || {
                let _ = begins.send(());
                Ok(Duration::ZERO)
            })
        });
        begun.recv().context("no calls could be made")?;
        let start = Instant::now();
        happen(subject, event, revision)?;
        let late = start.elapsed() > span.measured;
        let measurement = calls.join().map_err(|_| anyhow!("the load generator stopped"))??;
        ensure!(!late, "{} took longer than {:?}", event.name, span.measured);
        Ok(measurement)
    })
}

fn happen(subject: &mut Subject, event: Event, revision: usize) -> Result<()> {
    if event.routes == 0 {
        return Ok(());
    }
    if event.module {
        subject.renew_module()?;
    }
    // Every plan differs from the one before.
    let plan = subject::routes(event.routes).replace("route-0", &format!("route-0-{revision}"));
    subject.change_plan(&plan)
}
