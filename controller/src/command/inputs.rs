use std::path::PathBuf;

use clap::Args;

use crate::input::{self, Depth, File};

/// What a command reads.
#[derive(Debug, Args)]
pub(super) struct Inputs {
    /// Files in YAML or JSON, folders with all such files below them, or `-` for the standard input.
    #[arg(value_name = "FILES", required_unless_present = "filenames")]
    files: Vec<PathBuf>,
    /// The same as kubectl takes them: of a folder just its own files, unless --recursive is given.
    #[arg(long = "filename", short = 'f', value_name = "FILE", id = "filenames")]
    filenames: Vec<PathBuf>,
    /// Read the folders below those of --filename too.
    #[arg(long, short = 'R', requires = "filenames")]
    recursive: bool,
    /// The namespace of resources that name none.
    #[arg(long, short, value_name = "NAMESPACE", default_value = "default")]
    pub(super) namespace: String,
}

impl Inputs {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// One could not be read, or is a folder without files.
    pub(super) fn read(&self) -> Result<Vec<File>, String> {
        let depth = if self.recursive { Depth::All } else { Depth::Flat };
        let mut files = input::read(&self.files, Depth::All).map_err(|error| error.to_string())?;
        files.extend(input::read(&self.filenames, depth).map_err(|error| error.to_string())?);
        Ok(files)
    }
}
