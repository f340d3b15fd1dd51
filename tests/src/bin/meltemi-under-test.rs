//! The command `meltemi`, where the tests of this package find it.

use std::process::ExitCode;

fn main() -> ExitCode {
    meltemi::cli::run()
}
