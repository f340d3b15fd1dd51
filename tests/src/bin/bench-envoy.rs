//! Compares Meltemi with Envoy's own proxies: `cargo bench-envoy --help`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use indicatif::ProgressBar;
use meltemi::{checkout, envoy, module};
use meltemi_tests::bench::load::{self, Span};
use meltemi_tests::bench::proc::Machine;
use meltemi_tests::bench::report::{self, Row};
use meltemi_tests::bench::subject::{self, Loggers, Parts, Subject};
use meltemi_tests::bench::wide::{self, BUSY, Contender, Effort, Findings};
use meltemi_tests::bench::{Case, Protocol, Proxy, backend, idle, plot, updates};

/// Compares Meltemi with Envoy's own dubbo_proxy, thrift_proxy and tcp_proxy: CPU time of Envoy per request, throughput and latency.
///
/// What is compared takes turns, round after round; the medians over the rounds are reported, on the screen and in
/// target/bench: report.md, calls.json and dubbo.svg.
#[derive(Debug, Parser)]
#[command(name = "bench-envoy")]
struct Options {
    /// Two minutes instead of ten
    #[arg(long)]
    quick: bool,
    /// Only these parts
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    part: Vec<Part>,
    /// How often each thing is measured under each case [default: 5, or 3 with --quick]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Of the part "calls", only cases whose name contains one of these, such as "thrift" or "16x8 64 B"
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    filter: Vec<String>,
    /// Fetch and use this version of Envoy [default: MELTEMI_ENVOY, or envoy on the PATH, or the newest supported]
    #[arg(long, value_name = "VERSION")]
    envoy_version: Option<String>,
    /// Use this Wasm module [default: build it]
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Put the report into this file, between its lines "<!-- report -->" and "<!-- end of report -->"
    #[arg(long, value_name = "FILE")]
    into: Option<PathBuf>,
}

/// The parts of the benchmark, each a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The proxies of each protocol beside each other
    Calls,
    /// Ten routes and ten thousand
    Routes,
    /// No telemetry, traces, and lines in the log
    Telemetry,
    /// Two endpoints and a thousand
    Endpoints,
    /// One worker and two
    Workers,
    /// Memory of idle clients
    Idle,
    /// Calls while plans and modules come
    Updates,
}

impl Part {
    fn title(self) -> &'static str {
        match self {
            Self::Calls => "Beside Envoy's own proxies",
            Self::Routes => "With many routes",
            Self::Telemetry => "With telemetry",
            Self::Endpoints => "With many endpoints",
            Self::Workers => "With more workers",
            Self::Idle => "Idle clients",
            Self::Updates => "While plans and modules come",
        }
    }
}

impl Options {
    fn effort(&self) -> Effort {
        let rounds = self.rounds.unwrap_or(if self.quick { 3 } else { 5 });
        let [warm_up, measured] = if self.quick { [100, 300] } else { [250, 1000] };
        let millis = Duration::from_millis;
        Effort { rounds, span: Span { warm_up: millis(warm_up), measured: millis(measured) } }
    }

    fn cases(&self, protocol: Protocol) -> Vec<Case> {
        let name = |case: &Case, filter: &String| case.to_string().contains(filter.as_str());
        let chosen =
            |case: &Case| self.filter.is_empty() || self.filter.iter().any(|filter| name(case, filter));
        protocol.cases().into_iter().filter(chosen).collect()
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
    let progress = ProgressBar::new_spinner();
    let module = module::find(options.module.as_deref(), &progress)?;
    let envoy = envoy::find(options.envoy_version.as_deref(), &checkout::envoy_store(), &progress)?;
    let plan = subject::plain(Protocol::Dubbo);
    let parts = Parts {
        root: &root,
        envoy: &envoy,
        module: &module,
        protocol: Protocol::Dubbo,
        endpoints: 2,
        workers: 1,
        loggers: Loggers::None,
        plan: &plan,
    };
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;

    let facts = facts(&parts, options)?;
    println!("{facts}\n");
    let mut report = format!("{facts}\n");
    let (mut errors, mut verdicts) = (0, Vec::new());
    for &part in Part::value_variants() {
        if !(options.part.is_empty() || options.part.contains(&part)) {
            continue;
        }
        eprintln!("measuring: {}", part.title().to_lowercase());
        let effort = options.effort();
        let findings = match part {
            Part::Calls => calls(options, &parts, &folder, &facts)?,
            Part::Routes => wide::routes(&parts, effort)?,
            Part::Telemetry => wide::telemetry(&parts, effort)?,
            Part::Endpoints => wide::endpoints(&parts, effort)?,
            Part::Workers => wide::workers(&parts, effort)?,
            Part::Idle => idle::measure(&parts)?,
            Part::Updates => updates::measure(&parts, effort.rounds)?,
        };
        let text = format!("\n### {}\n\n{}", part.title(), findings.text);
        println!("{text}");
        report += &text;
        errors += findings.errors;
        verdicts.extend(findings.verdicts.iter().map(|verdict| verdict.line() + "\n"));
    }
    let text = format!("\n### Targets\n\n{}", verdicts.concat());
    println!("{text}");
    report += &text;
    write(&folder.join("report.md"), &report)?;
    if let Some(page) = &options.into {
        let text = fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
        write(page, &report::insert(&text, &report).context("the page has no place for a report")?)?;
    }
    Ok(errors)
}

/// The proxies of each protocol beside each other.
fn calls(options: &Options, parts: &Parts, folder: &Path, facts: &str) -> Result<Findings> {
    let mut rows: Vec<Row> = Vec::new();
    for protocol in Protocol::ALL {
        let cases = options.cases(protocol);
        if cases.is_empty() {
            continue;
        }
        let subject = Subject::start(&Parts { protocol, plan: &subject::plain(protocol), ..*parts })?;
        let contender = |&proxy: &Proxy| Contender { name: proxy.name(protocol), subject: &subject, proxy };
        let contenders: Vec<_> = protocol.proxies().iter().map(contender).collect();
        rows.extend(report::rows(&wide::compare(&contenders, &cases, options.effort())?));
    }
    ensure!(!rows.is_empty(), "no case is called so");
    write(&folder.join("calls.json"), &report::json(&rows))?;
    let plot = folder.join("dubbo.svg");
    plot::draw(&plot, &rows, facts)
        .map_err(|error| anyhow::anyhow!("cannot write {}: {error}", plot.display()))?;
    let errors = rows.iter().map(|row| row.median.errors).sum();
    Ok(Findings { text: report::table(&rows), verdicts: report::verdicts(&rows), errors })
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The machine, the versions, and how fast load generator and servers are without a proxy: what they could not measure
/// beyond.
fn facts(parts: &Parts, options: &Options) -> Result<String> {
    let Machine { cpu, cores, kernel, load } = Machine::this();
    let size = fs::metadata(parts.module).map_or(0, |meta| meta.len() / 1000);
    let Effort { rounds, span } = options.effort();
    let servers = backend::start(BUSY.protocol, &["127.0.0.1:0".parse()?], &[BUSY.body])?;
    let ceiling = load::run(servers[0], &BUSY, span, || Ok(Duration::ZERO))?;
    ensure!(ceiling.errors == 0, "the benchmark's own servers answer wrongly: {:?}", ceiling.first_error);
    Ok(format!(
        "{cpu}, {cores} cores, load {load} at the start, Linux {kernel}; Envoy {};\n\
         module of {size} kB, commit {}; medians of {rounds} rounds of {:?}. Without a proxy, {BUSY}: {:.0} requests/s.",
        subject::version(parts.envoy)?,
        commit(parts.root),
        span.measured,
        ceiling.per_second()
    ))
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
