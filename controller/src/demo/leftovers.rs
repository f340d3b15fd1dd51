//! What must not outlive the process, whichever way it ends: Envoy, and the folder of the run.

use std::fs;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::envoy::Killer;

#[derive(Default)]
struct Leftovers {
    envoy: Option<Killer>,
    folder: Option<PathBuf>,
}

static LEFTOVERS: Mutex<Option<Leftovers>> = Mutex::new(None);
static EXPECTED: AtomicBool = AtomicBool::new(false);

/// What the shell expects of a process that an interrupt broke off.
const INTERRUPTED: i32 = 130;

/// Makes Ctrl-C (and the signals by which a terminal or a supervisor ends a process) clear up and end the process.
pub fn clear_on_interrupt() -> std::io::Result<()> {
    // Also where these signals were ignored, as in the background of a script: Envoy must not be left running.
    let handler = ctrlc::set_handler(|| {
        clear();
        process::exit(if EXPECTED.load(Ordering::Relaxed) { 0 } else { INTERRUPTED });
    });
    handler.map_err(std::io::Error::other)
}

/// From now on an interrupt is how the process is meant to end.
pub fn expect_interrupt() {
    EXPECTED.store(true, Ordering::Relaxed);
}

/// Envoy is to be killed.
pub fn add_envoy(envoy: Killer) {
    lock().get_or_insert_default().envoy = Some(envoy);
}

/// The folder is to be removed.
pub fn add_folder(folder: PathBuf) {
    lock().get_or_insert_default().folder = Some(folder);
}

/// The folder is to stay.
pub fn spare_folder() {
    lock().get_or_insert_default().folder = None;
}

/// Kills and removes what was added.
pub fn clear() {
    let Some(leftovers) = lock().take() else { return };
    if let Some(envoy) = leftovers.envoy {
        envoy.kill();
    }
    if let Some(folder) = leftovers.folder {
        // What is left in the target folder harms nobody.
        let _ = fs::remove_dir_all(folder);
    }
}

fn lock() -> MutexGuard<'static, Option<Leftovers>> {
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner)
}
