//! Compares Meltemi with Envoy's own `dubbo_proxy` and `tcp_proxy`: `cargo bench-dubbo --help`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use indicatif::ProgressBar;
use meltemi::{checkout, envoy, module};
use meltemi_tests::bench::load::{self, Measurement, Span};
use meltemi_tests::bench::proc::Machine;
use meltemi_tests::bench::report::{self, Limit, Sample, Verdict};
use meltemi_tests::bench::subject::{self, Parts, Subject};
use meltemi_tests::bench::{Case, Proxy, backend, plot};

/// Compares Meltemi with Envoy's own dubbo_proxy and tcp_proxy: CPU time of Envoy per request, throughput and latency.
///
/// All three run in one Envoy process with one worker and take turns, round after round; the medians over the rounds are
/// reported, on the screen and in target/bench/dubbo.json with a plot beside it.
#[derive(Debug, Parser)]
#[command(name = "bench-dubbo")]
struct Options {
    /// A minute and a half instead of eight
    #[arg(long)]
    quick: bool,
    /// How often each proxy is measured under each case [default: 9, or 3 with --quick]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Only cases whose name contains one of these, such as "1x32" or "16x8 64 B"
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    filter: Vec<String>,
    /// Only these proxies: dubbo_proxy, tcp_proxy, meltemi
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = proxy)]
    proxy: Vec<Proxy>,
    /// Fetch and use this version of Envoy [default: MELTEMI_ENVOY, or envoy on the PATH, or the newest supported]
    #[arg(long, value_name = "VERSION")]
    envoy_version: Option<String>,
    /// Use this Wasm module [default: build it]
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Give Meltemi's plan so many routes, of which the last one matches
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    routes: u32,
    /// Give Meltemi this plan, a JSON file
    #[arg(long, value_name = "FILE", conflicts_with = "routes")]
    plan: Option<PathBuf>,
    /// Compare Meltemi with 10 routes and with 10 000, under 1x32 64 B, and nothing else
    #[arg(long, conflicts_with_all = ["plan", "routes", "filter", "proxy"])]
    routes_compare: bool,
}

fn proxy(name: &str) -> Result<Proxy, String> {
    Proxy::ALL.into_iter().find(|proxy| proxy.name() == name).ok_or_else(|| "no such proxy".to_owned())
}

impl Options {
    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 9 })
    }

    fn span(&self) -> Span {
        let millis = Duration::from_millis;
        if self.quick {
            Span { warm_up: millis(150), measured: millis(500) }
        } else {
            Span { warm_up: millis(250), measured: millis(1000) }
        }
    }

    fn cases(&self) -> Vec<Case> {
        let chosen = |case: &Case| {
            self.filter.is_empty()
                || self.filter.iter().any(|filter| case.to_string().contains(filter.as_str()))
        };
        Case::all().into_iter().filter(chosen).collect()
    }

    fn proxies(&self) -> Vec<Proxy> {
        Proxy::ALL.into_iter().filter(|proxy| self.proxy.is_empty() || self.proxy.contains(proxy)).collect()
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(errors) => {
            eprintln!("{errors} answers were wrong or missing");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and reports. Returns the number of wrong answers.
fn run(options: &Options) -> Result<u64> {
    let root = checkout::root().context("not in a checkout of Meltemi")?;
    ensure!(!options.cases().is_empty(), "no case is called so; there are: {}", names(&Case::all()));
    let progress = ProgressBar::new_spinner();
    let module = module::find(options.module.as_deref(), &progress)?;
    let plan = match &options.plan {
        Some(path) => fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => subject::plan(options.routes as usize),
    };
    let envoy = envoy::find(options.envoy_version.as_deref(), &checkout::envoy_store(), &progress)?;
    let mut subject = Subject::start(&Parts { root: &root, envoy: &envoy, module: &module, plan: &plan })?;

    let facts = facts(&root, &subject, &module);
    println!("{facts}\n{}", ceiling(options.span())?);
    let outcome = if options.routes_compare {
        compare_routes(options, &mut subject)
    } else {
        compare_proxies(options, &subject, &root, &facts)
    };
    if !matches!(outcome, Ok((0, _))) {
        eprintln!("the end of Envoy's log:\n{}", subject.log_tail());
    }
    let (errors, verdicts) = outcome?;
    for verdict in &verdicts {
        println!("{}", verdict.line());
    }
    Ok(errors)
}

fn compare_proxies(
    options: &Options,
    subject: &Subject,
    root: &Path,
    facts: &str,
) -> Result<(u64, Vec<Verdict>)> {
    let (cases, proxies) = (options.cases(), options.proxies());
    for &proxy in &proxies {
        measure(subject, proxy, &WARM, &Span { warm_up: Duration::from_secs(1), measured: Duration::ZERO })?;
    }
    let mut samples = Vec::new();
    for round in 0..options.rounds() {
        eprintln!("round {} of {}", round + 1, options.rounds());
        for case in &cases {
            // Each round another one begins, lest one of them always follows the same other.
            for turn in 0..proxies.len() {
                let proxy = proxies[(turn + round as usize) % proxies.len()];
                let measurement = measure(subject, proxy, case, &options.span())?;
                samples.push(Sample::new(proxy, *case, &measurement));
            }
        }
    }
    let rows = report::rows(&samples);
    println!("\n{}", report::table(&rows));
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (json, svg) = (folder.join("dubbo.json"), folder.join("dubbo.svg"));
    fs::write(&json, report::json(&rows)).with_context(|| format!("cannot write {}", json.display()))?;
    plot::draw(&svg, &rows, facts)
        .map_err(|error| anyhow::anyhow!("cannot write {}: {error}", svg.display()))?;
    println!("written: {} and {}\n", json.display(), svg.display());
    Ok((rows.iter().map(|row| row.median.errors).sum(), report::verdicts(&rows)))
}

/// What the proxies are warmed up with.
const WARM: Case = Case { clients: 16, in_flight: 8, body: 64 };

/// What routes are compared under.
const BUSY: Case = Case { clients: 1, in_flight: 32, body: 64 };

/// Alternates between two plans, and compares the two measurements of each round: what disturbs one mostly disturbs both.
fn compare_routes(options: &Options, subject: &mut Subject) -> Result<(u64, Vec<Verdict>)> {
    let counts = [10, 10_000];
    let rounds = 2 * options.rounds();
    let mut cpu = [Vec::new(), Vec::new()];
    let mut errors = 0;
    let warm = Span { warm_up: Duration::from_secs(2), measured: Duration::ZERO };
    measure(subject, Proxy::Meltemi, &WARM, &warm)?;
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for turn in 0..counts.len() {
            let which = (turn + round as usize) % counts.len();
            subject.change_plan(&subject::plan(counts[which]))?;
            let measurement = measure(subject, Proxy::Meltemi, &BUSY, &options.span())?;
            errors += measurement.errors;
            cpu[which].push(measurement.cpu_micros());
        }
    }
    let differences = cpu[0].iter().zip(&cpu[1]).map(|(few, many)| many - few).collect();
    let [few, many] = cpu.map(median);
    println!("\n{BUSY}: CPU of Envoy per request: {few:.2} µs with 10 routes, {many:.2} µs with 10 000\n");
    let what = format!("{BUSY}: µs that 10 000 routes cost more per request than 10, median over rounds");
    Ok((errors, vec![Verdict { what, value: median(differences), limit: Limit::AtMost(1.0) }]))
}

fn median(values: Vec<f64>) -> f64 {
    report::median(values).unwrap_or(f64::NAN)
}

fn measure(subject: &Subject, proxy: Proxy, case: &Case, span: &Span) -> Result<Measurement> {
    let clock = subject.clock();
    let measurement = load::run(subject.address(proxy), case, *span, || clock.now())
        .with_context(|| format!("{}, {case}", proxy.name()))?;
    if let Some(error) = &measurement.first_error {
        eprintln!("{}, {case}: {} errors; the first: {error}", proxy.name(), measurement.errors);
    }
    Ok(measurement)
}

/// How fast load generator and servers are without a proxy: what they could not measure beyond.
fn ceiling(span: Span) -> Result<String> {
    let servers = backend::start(&["127.0.0.1:0".parse()?], &[BUSY.body])?;
    let measurement = load::run(servers[0], &BUSY, span, || Ok(Duration::ZERO))?;
    ensure!(
        measurement.errors == 0,
        "the benchmark's own servers answer wrongly: {:?}",
        measurement.first_error
    );
    Ok(format!("without a proxy, {BUSY}: {:.0} requests/s", measurement.per_second()))
}

fn facts(root: &Path, subject: &Subject, module: &Path) -> String {
    let Machine { cpu, cores, kernel, load } = Machine::this();
    let size = fs::metadata(module).map_or(0, |meta| meta.len() / 1000);
    format!(
        "{cpu}, {cores} cores, load {load}, Linux {kernel}; Envoy {}, 1 worker; module {size} kB, commit {}",
        subject.version(),
        commit(root)
    )
}

/// The commit that is checked out, with `+` if files differ from it.
fn commit(root: &Path) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(root).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    if changed { commit + "+" } else { commit }
}

fn names(cases: &[Case]) -> String {
    cases.iter().map(Case::to_string).collect::<Vec<_>>().join(", ")
}
