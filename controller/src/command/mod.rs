//! The commands that work on files of resources, without a cluster or beside one.

mod diff;
mod explain;
mod findings;
mod generate;
mod mesh;
mod validate;

use std::io::{self, Write};

use clap::ValueEnum;

pub use diff::Diff;
pub use explain::Explain;
pub use generate::Generate;
pub use mesh::{Delivered, Mesh};
pub use validate::Validate;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Format {
    /// For programs.
    Json,
    /// For `kubectl`.
    Yaml,
    /// For people, with a line for each.
    Table,
}

/// Writes results. A closed pipe is no error: nobody reads on.
fn print(text: &str) -> Result<(), String> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write the output: {error}"))
        }
        _ => Ok(()),
    }
}
