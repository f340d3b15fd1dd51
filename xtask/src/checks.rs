//! Everything that must hold for a commit.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use std::{fs, iter, thread};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::command::{self, Run, root};

/// Checks, in the order in which they run: what fails soonest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Check {
    /// The code is formatted.
    Format,
    /// Clippy has nothing to say.
    Lints,
    /// The documentation builds without a warning.
    Documentation,
    /// The Wasm module builds.
    Module,
    /// Each fuzz target runs for a while.
    Fuzzing,
    /// The programs of the mesh are built: thirteen minutes on two cores, nothing when cached.
    MeshPrograms,
    /// Every test, on real Envoys, Apache Dubbo and a real Istio mesh.
    Tests,
}

impl Check {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Format,
        Self::Lints,
        Self::Documentation,
        Self::Module,
        Self::Fuzzing,
        Self::MeshPrograms,
        Self::Tests,
    ];

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Runs these checks until one fails.
pub(crate) fn run(checks: &[Check], fuzz_seconds: u32) -> Result<()> {
    let start = Instant::now();
    let chosen: Vec<Check> = Check::ALL.into_iter().filter(|check| checks.contains(check)).collect();
    for (at, check) in chosen.iter().enumerate() {
        let passed = start.elapsed().as_secs();
        println!("\n[{}/{}] {} ({}:{:02})", at + 1, chosen.len(), check.name(), passed / 60, passed % 60);
        one(*check, fuzz_seconds)
            .with_context(|| format!("{0} failed; to run it again: cargo xtask test {0}", check.name()))?;
    }
    let passed = start.elapsed().as_secs();
    println!("\nAll checks passed in {} min {:02} s.", passed / 60, passed % 60);
    Ok(())
}

fn one(check: Check, fuzz_seconds: u32) -> Result<()> {
    match check {
        Check::Format => {
            cargo(["fmt", "--all", "--check"]).go()?;
            cargo(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]).go()
        }
        Check::Lints => {
            let clippy = cargo(["clippy", "--locked", "--workspace", "--all-targets"]);
            clippy.args(["--", "-D", "warnings"]).go()
        }
        Check::Documentation => {
            // Not as the tests are built: by name, two crates called meltemi would be documented in one place.
            cargo(["doc", "--locked", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings").go()
        }
        Check::Module => cargo(["wasm", "--locked"]).go(),
        Check::Fuzzing => fuzz(fuzz_seconds),
        Check::MeshPrograms => {
            // Built with all the tests: by itself it would have dependencies of other features, built once more.
            cargo(["test", "--locked", "--workspace", "--no-run"]).go()?;
            Run::new(&command::target().join("debug/mesh-tools").to_string_lossy()).go()
        }
        Check::Tests => cargo(["test", "--locked", "--workspace", "--no-fail-fast"]).go(),
    }
}

/// Cargo without incremental builds: nothing is built twice here.
fn cargo<const N: usize>(args: [&str; N]) -> Run {
    Run::cargo(args).env("CARGO_INCREMENTAL", "0")
}

fn fuzz(seconds: u32) -> Result<()> {
    let fuzz = |args: &[&str]| cargo(["+nightly", "fuzz"]).args(args).within("fuzz");
    fuzz(&["build"]).go()?;
    let targets = fuzz(&["list"]).output().context("cannot list the fuzz targets")?;
    let run = |target: &str| {
        let folder = root().join("fuzz");
        let corpus = format!("corpus/{target}");
        fs::create_dir_all(folder.join(&corpus))?;
        let mut run = fuzz(&["run", target, &corpus]);
        let seeds = format!("seeds/{target}");
        if folder.join(&seeds).is_dir() {
            run = run.args([seeds]);
        }
        let time = format!("-max_total_time={seconds}");
        run = run.args(["--", &time, "-print_final_stats=1", "-verbosity=0"]);
        let dictionary = format!("dictionaries/{target}.dict");
        if folder.join(&dictionary).is_file() {
            run = run.args([format!("-dict={dictionary}")]);
        }
        run.go_aside()
    };
    // Each has one thread, and a time of its own: as many run at once as there are processors. None begins when one has failed.
    let queue = Mutex::new(targets.lines());
    let left = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    let next = || left().next();
    let work =
        || iter::from_fn(next).try_for_each(|target| run(target).inspect_err(|_| *left() = "".lines()));
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, NonZero::get);
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let outcomes =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|why| resume_unwind(why)));
        outcomes.collect()
    })
}
