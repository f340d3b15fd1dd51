//! The commands that work on files of resources, without a cluster or beside one.

mod diff;
mod explain;
pub(crate) mod findings;
mod generate;
mod inputs;
pub(crate) mod takeover;
mod validate;

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;

pub use diff::Diff;
pub use explain::Explain;
pub use generate::Generate;
pub use validate::Validate;

use crate::generate::{IstioVersion, Options};
use crate::mesh::{self, Delivered, Mesh};
use crate::{plain, words};
use inputs::Inputs;

/// How objects are made.
#[derive(Debug, Args)]
struct Objects {
    /// The version of Istio, such as 1.30: it decides the names that istiod gives to modules.
    #[arg(
        long,
        value_name = "VERSION",
        required_unless_present = "delivery",
        required_if_eq("delivery", "wasm-plugin")
    )]
    istio_version: Option<IstioVersion>,
    /// The module: oci://registry/image@sha256:digest, as `meltemi push` prints it, or an http(s) URL.
    #[arg(long, value_name = "REFERENCE", value_parser = mesh::module)]
    module: String,
    #[command(flatten)]
    delivered: Delivered,
    #[command(flatten)]
    mesh: Mesh,
}

impl Objects {
    fn options(&self) -> Result<Options, String> {
        self.mesh.objects(&self.module, &self.delivered, self.istio_version)
    }
}

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

/// Writes results.
pub(crate) fn print(text: &str) -> Result<(), String> {
    io::stdout().lock().write_all(text.as_bytes()).or_else(written)
}

/// Writes a result for programs. It steers no terminal, whatever others wrote in it.
pub(crate) fn print_json(result: &impl Serialize) -> Result<(), String> {
    let text = serde_json::to_string_pretty(result).map_err(|error| error.to_string())?;
    print(&(plain::json(&text) + "\n"))
}

/// A closed pipe is no error: whoever reads the output may stop when they have seen enough.
pub(crate) fn written(error: io::Error) -> Result<(), String> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(format!("cannot write the output: {}", words::file(&error))),
    }
}
