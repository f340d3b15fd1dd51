//! The Wasm module that Envoy loads: found, or built in the checkout.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use indicatif::ProgressBar;

use crate::checkout;

/// Where a build leaves the module, in the target folder.
const BUILT: &str = "wasm32-wasip1/module/meltemi.wasm";

/// Why there is no module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file that was named is not there.
    #[error("there is no module {}; name a file with --module, or leave it out to build one", .0.display())]
    Missing(PathBuf),
    /// There is no checkout to build it in.
    #[error(
        "no module is named and there is no checkout of Meltemi to build one in; use --module or MELTEMI_MODULE"
    )]
    NoCheckout,
    /// The build failed.
    #[error("cannot build the module: {0}; try `cargo wasm` in the checkout")]
    Build(String),
}

/// The module `named`, else the one that the environment variable `MELTEMI_MODULE` names, else one built in the
/// checkout now, which takes no time if it is up to date.
///
/// # Errors
///
/// The named file is not there, or the build failed.
pub fn find(named: Option<&Path>, progress: &ProgressBar) -> Result<PathBuf, Error> {
    let variable = env::var_os("MELTEMI_MODULE").filter(|name| !name.is_empty()).map(PathBuf::from);
    match named.map(Path::to_owned).or(variable) {
        // Envoy has a working directory of its own.
        Some(path) => path.canonicalize().map_err(|_| Error::Missing(path)),
        None => build(progress),
    }
}

fn build(progress: &ProgressBar) -> Result<PathBuf, Error> {
    let root = checkout::root().ok_or(Error::NoCheckout)?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(cargo)
        .current_dir(root)
        .env("CARGO_TARGET_DIR", checkout::target())
        .args(["build", "--profile", "module", "--target", "wasm32-wasip1", "--package", "meltemi-module"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Error::Build(format!("cargo does not run: {error}")))?;
    let mut complaint = None;
    for line in
        child.stderr.take().into_iter().flat_map(|lines| BufReader::new(lines).lines()).map_while(Result::ok)
    {
        progress.set_message(format!("building the module: {}", line.trim()));
        if line.starts_with("error") && complaint.is_none() {
            complaint = Some(line);
        } else if let Some(note) = line.trim().strip_prefix("= note: ")
            && complaint.as_ref().is_some_and(|line| line.starts_with("error: linking"))
        {
            // What the linker itself says comes last.
            complaint = Some(format!("error: linking failed: {note}"));
        }
    }
    let status = child.wait().map_err(|error| Error::Build(error.to_string()))?;
    if !status.success() {
        return Err(Error::Build(complaint.unwrap_or_else(|| status.to_string())));
    }
    let module = checkout::target().join(BUILT);
    module.canonicalize().map_err(|_| Error::Build(format!("{} was not made", module.display())))
}
