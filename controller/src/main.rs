//! The `meltemi` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    meltemi::cli::run()
}
