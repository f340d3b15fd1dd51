//! `cargo xtask`: the checkout's task runner. Each task installs what it needs, after asking once.

mod checks;
mod command;
mod needs;
mod setup;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::checks::Check;
use crate::command::Run;

/// Works with a checkout of Meltemi: sets the machine up, shows the demo, runs every test.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Show the main job on a real Envoy, step by step: routing, retries, live changes.
    Demo(Demo),
    /// Run every check: format, lints, documentation, module, fuzzing, all tests. CI runs this.
    Test(Test),
    /// Install what the other tasks need, and run nothing.
    Setup(Consent),
}

#[derive(Debug, Args)]
struct Demo {
    #[command(flatten)]
    consent: Consent,
    /// Passed on to `meltemi demo`, for instance --keep.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

#[derive(Debug, Args)]
struct Test {
    #[command(flatten)]
    consent: Consent,
    /// The checks to run, in the order in which they always run.
    #[arg(value_enum, default_values_t = Check::ALL, value_name = "CHECK")]
    checks: Vec<Check>,
    /// How long each fuzz target runs.
    #[arg(long, value_name = "SECONDS", env = "FUZZ_SECONDS", default_value_t = 20)]
    fuzz_seconds: u32,
}

#[derive(Debug, Args)]
struct Consent {
    /// Install what is missing without asking. Implied by CI=true.
    #[arg(long, short)]
    yes: bool,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Demo(demo) => {
            setup::ensure(&needs::DEMO, demo.consent.yes)?;
            let options = demo.options.iter().filter(|option| *option != "--");
            Run::cargo(["build", "--locked", "--bin", "meltemi"]).args(command::AS_TESTS).go()?;
            let meltemi = command::target().join("debug/meltemi");
            Run::new(&meltemi.to_string_lossy()).args(["demo"]).args(options).go()
        }
        Task::Test(test) => {
            setup::ensure(&needs::TEST, test.consent.yes)?;
            checks::run(&test.checks, test.fuzz_seconds)
        }
        Task::Setup(consent) => setup::ensure(&needs::TEST, consent.yes),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
