//! Signals to other processes.

use std::process::Command;

/// Sends a signal, named as `kill -s` names it, to the process with that id.
///
/// # Panics
///
/// There is no such process.
pub fn signal(process: u32, name: &str) {
    let kill = Command::new("kill").args(["-s", name, &process.to_string()]).status().unwrap();
    assert!(kill.success());
}
