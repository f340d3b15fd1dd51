use std::path::PathBuf;

use clap::Args;

use crate::check;
use crate::input::{self, Depth, File, Resources};

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
    #[arg(long, short, value_name = "NAMESPACE", default_value = "default", value_parser = namespace)]
    pub(super) namespace: String,
}

fn namespace(text: &str) -> Result<String, &'static str> {
    match check::is_label(text) {
        true => Ok(text.to_owned()),
        false => Err("write up to 63 lower-case letters, digits and inner hyphens"),
    }
}

impl Inputs {
    /// Reads the resources in them.
    ///
    /// # Errors
    ///
    /// One could not be read, or there are no objects in them at all.
    pub(super) fn resources(&self) -> Result<Resources, String> {
        let resources = Resources::new(&self.read()?, &self.namespace);
        match resources.are_none() {
            true => {
                Err("there is no resource in what is to be read: is it the right file, folder or context?"
                    .to_owned())
            }
            false => Ok(resources),
        }
    }

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
