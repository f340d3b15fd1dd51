use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The name, as messages have it: `-` is the standard input.
    pub name: String,
    /// What it says.
    pub text: String,
    /// It was not named itself: it stands in a folder that was.
    pub is_found: bool,
}

/// Why a file or a folder could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {error}", path.display())]
pub struct Error {
    path: PathBuf,
    error: io::Error,
}

/// Reads files, folders with all `.yaml`, `.yml` and `.json` files below them in the order of their names, and `-`, the
/// standard input.
///
/// # Errors
///
/// The first that could not be read.
pub fn read(paths: &[PathBuf]) -> Result<Vec<File>, Error> {
    let mut files = Vec::new();
    for path in paths {
        let wrong = |error| Error { path: path.clone(), error };
        if path.as_os_str() == "-" {
            let mut text = String::new();
            io::stdin().lock().read_to_string(&mut text).map_err(wrong)?;
            files.push(File { name: "-".into(), text, is_found: false });
        } else if path.is_dir() {
            folder(path, &mut files)?;
        } else {
            files.push(file(path, false)?);
        }
    }
    Ok(files)
}

fn file(path: &Path, is_found: bool) -> Result<File, Error> {
    let text = fs::read_to_string(path).map_err(|error| Error { path: path.to_owned(), error })?;
    Ok(File { name: path.display().to_string(), text, is_found })
}

fn folder(path: &Path, files: &mut Vec<File>) -> Result<(), Error> {
    let wrong = |error| Error { path: path.to_owned(), error };
    let entries: io::Result<Vec<_>> =
        fs::read_dir(path).map_err(wrong)?.map(|entry| Ok(entry?.path())).collect();
    let mut entries = entries.map_err(wrong)?;
    entries.sort();
    for entry in entries {
        let is_hidden = entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let extension = entry.extension().and_then(|extension| extension.to_str());
        if is_hidden {
            continue;
        } else if entry.is_dir() {
            folder(&entry, files)?;
        } else if matches!(extension, Some("yaml" | "yml" | "json")) {
            files.push(file(&entry, true)?);
        }
    }
    Ok(())
}
