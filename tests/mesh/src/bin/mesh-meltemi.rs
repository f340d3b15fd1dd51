//! The `meltemi` command, built with what the tests are built with.

use std::process::ExitCode;

fn main() -> ExitCode {
    meltemi::cli::run()
}
