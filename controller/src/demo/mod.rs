//! `meltemi demo`: what Meltemi does with Dubbo calls, shown on a real Envoy, step by step.

mod leftovers;
mod stage;
mod steps;

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;

use crate::envoy;
use crate::sample::INTERFACE;
use crate::{module, screen};
use stage::Stage;

/// What the command line asks of the demo.
#[derive(Debug, Args)]
pub struct Options {
    /// Leave Envoy and the sample servers running after the last step, until Ctrl-C, and print how to call them.
    #[arg(long)]
    keep: bool,
    /// Fetch this version of Envoy instead of looking for one: first in MELTEMI_ENVOY, then on the PATH.
    #[arg(long, value_name = "VERSION")]
    envoy_version: Option<String>,
    /// The Wasm module, instead of the one that MELTEMI_MODULE names or one that is built now.
    #[arg(long, value_name = "PATH")]
    module: Option<PathBuf>,
}

/// Why the demo could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Envoy could not be had, started or asked.
    #[error(transparent)]
    Envoy(#[from] envoy::Error),
    /// There is no module.
    #[error(transparent)]
    Module(#[from] module::Error),
    /// A sample server, a sample client or a file failed.
    #[error("{what}: {source}")]
    Io {
        /// What failed.
        what: &'static str,
        /// What happened.
        source: std::io::Error,
    },
    /// Envoy does not run the module.
    #[error("Envoy refused {}: {why}; build it again with `cargo wasm`, or name another with --module", module.display())]
    Refused {
        /// The module.
        module: PathBuf,
        /// What Envoy said.
        why: String,
    },
    /// The filter did not take up a plan.
    #[error("Envoy did not take up the plan {} within {seconds} s: {why}", plan.display())]
    Plan {
        /// The plan's file.
        plan: PathBuf,
        /// How long it had.
        seconds: u64,
        /// The last that was seen.
        why: String,
    },
    /// Some checks failed.
    #[error("{failed} of {total} demo checks failed")]
    False {
        /// How many do not.
        failed: usize,
        /// How many there are.
        total: usize,
    },
}

impl Error {
    fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// Runs the demo.
///
/// # Errors
///
/// A statement of the demo is false, or a step could not be made.
pub fn run(options: &Options) -> Result<(), Error> {
    leftovers::clear_on_interrupt()
        .map_err(|error| Error::Io { what: "cannot watch for Ctrl-C", source: error })?;
    let mut stage = Stage::set(options)?;
    let shown = steps::all(&mut stage).and_then(|score| score.conclude());
    let outcome = shown.and_then(|()| if options.keep { keep(&mut stage) } else { Ok(()) });
    if outcome.is_err() {
        screen::title("What failed");
        if let Some(complaint) = stage.envoy.complaint() {
            screen::say(format_args!("the first error in Envoy's log: {complaint}"));
        }
        screen::say(format_args!("the files of this run are kept in {}", stage.keep_folder().display()));
    }
    leftovers::clear();
    outcome
}

/// Tells how to use what runs, and waits until it is interrupted.
fn keep(stage: &mut Stage) -> Result<(), Error> {
    stage.restore_plan()?;
    let example = stage.write_example()?;
    let address = stage.address;
    screen::title("Running, until Ctrl-C");
    for (name, value) in [
        ("Meltemi", format!("dubbo://{address}/{INTERFACE}, any method with one String")),
        ("to compare", format!("native dubbo_proxy {}, plain tcp_proxy {}", stage.native, stage.plain)),
        ("servers", format!("v1 {}, v2 {}", stage.v1.address(), stage.v2.address())),
        (
            "Envoy",
            format!("admin http://{}, log {}", stage.envoy.admin().address(), stage.envoy.log().display()),
        ),
        ("plan", format!("{}", stage.plan_path().display())),
        ("", "edit it with an editor or `sed -i`: the next call follows the new plan".to_owned()),
        ("call it", format!("nc -w 1 {} {} < {} | \\", address.ip(), address.port(), example.display())),
        ("", "    meltemi decode --protocol dubbo".to_owned()),
    ] {
        screen::say(format_args!("{name:<11} {value}"));
    }
    leftovers::expect_interrupt();
    loop {
        if let Some(status) = stage.envoy.exited() {
            let why = "somebody else ended it".to_owned();
            return Err(envoy::Error::Exited { status, why, log: stage.envoy.log().to_owned() }.into());
        }
        thread::sleep(Duration::from_millis(500));
    }
}
