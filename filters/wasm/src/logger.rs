//! What is logged, panics included, goes to Envoy's log.

use std::panic;

use log::{LevelFilter, Log, Metadata, Record};

use crate::host::{self, Level};

struct Logger;

/// To be called first. Once is enough, and more do no harm.
pub(crate) fn start() {
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
        // What went wrong is all that is left of a panic: Envoy gives the VM up.
        panic::set_hook(Box::new(|panic| host::log(Level::Critical, &panic.to_string())));
    }
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            log::Level::Error => Level::Error,
            log::Level::Warn => Level::Warn,
            log::Level::Info => Level::Info,
            log::Level::Debug | log::Level::Trace => Level::Debug,
        };
        host::log(level, &record.args().to_string());
    }

    fn flush(&self) {}
}
