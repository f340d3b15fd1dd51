//! What the controller logs, on the standard error.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{fmt, registry};

use super::options::{LogFormat, LogLevel};

/// Starts to log. Libraries are heard when something is wrong.
pub fn start(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    // The watches' own warnings repeat, without end, what is logged once.
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("kube_runtime", LevelFilter::ERROR)
        .with_target("kube_client", LevelFilter::ERROR)
        .with_target("meltemi", level);
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // Only a test starts a second time.
    let _ = registry().with(lines.with_filter(targets)).try_init();
}
