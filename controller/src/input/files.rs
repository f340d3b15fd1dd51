use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::words;

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The name, as messages have it: `-` is the standard input.
    pub name: String,
    /// What it says.
    pub text: String,
    /// It was not named itself: it is in a folder that was.
    pub is_found: bool,
}

/// How much of a folder is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Its own files.
    Flat,
    /// Those of all folders below as well.
    All,
}

/// Why a file or a folder could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system does not give it.
    #[error("cannot read {}: {}", path.display(), words::file(error))]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A folder with nothing to read.
    #[error("{} has no file that ends in .yaml, .yml or .json{}", path.display(), match depth {
        Depth::Flat => "; --recursive looks into the folders below it",
        Depth::All => "",
    })]
    Empty {
        /// The folder.
        path: PathBuf,
        /// How far it was looked into.
        depth: Depth,
    },
    /// A folder that is hardly meant.
    #[error("{} holds more than {what}: name the folders below it to read", path.display())]
    TooLarge {
        /// The folder.
        path: PathBuf,
        /// What there is too much of.
        what: String,
    },
}

/// What is too much for one folder: whoever has more named `/` or their home by mistake.
#[derive(Debug, Clone, Copy)]
struct Limits {
    entries: usize,
    bytes: u64,
}

const LIMITS: Limits = Limits { entries: 100_000, bytes: 1 << 30 };

/// Reads files, folders with all `.yaml`, `.yml` and `.json` files in them in the order of their names, and `-`, the
/// standard input. Hidden files and folders are left out.
///
/// # Errors
///
/// The first that could not be read, or a folder that has none or far too many.
pub fn read(paths: &[PathBuf], depth: Depth) -> Result<Vec<File>, Error> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            let read = io::stdin().lock().read_to_string(&mut text);
            read.map_err(|error| Error::Unreadable { path: path.clone(), error })?;
            files.push(File { name: "-".into(), text, is_found: false });
        } else if path.is_dir() {
            for found in folder(path, depth, LIMITS)? {
                files.push(file(&found, true)?);
            }
        } else {
            files.push(file(path, false)?);
        }
    }
    Ok(files)
}

fn file(path: &Path, is_found: bool) -> Result<File, Error> {
    let text =
        fs::read_to_string(path).map_err(|error| Error::Unreadable { path: path.to_owned(), error })?;
    Ok(File { name: path.display().to_string(), text, is_found })
}

/// The files of a folder. They are found before the first is read, so that too many are reported at once.
fn folder(path: &Path, depth: Depth, limits: Limits) -> Result<Vec<PathBuf>, Error> {
    let mut walk = Walk { files: Vec::new(), entries: 0, bytes: 0, depth };
    walk.folder(path, limits)?;
    let too_large = |what: String| Err(Error::TooLarge { path: path.to_owned(), what });
    match walk {
        Walk { entries, .. } if entries > limits.entries => {
            too_large(format!("{} files and folders", limits.entries))
        }
        Walk { bytes, .. } if bytes > limits.bytes => {
            too_large(format!("{} MiB of YAML and JSON", limits.bytes >> 20))
        }
        Walk { files, .. } if files.is_empty() => Err(Error::Empty { path: path.to_owned(), depth }),
        Walk { files, .. } => Ok(files),
    }
}

struct Walk {
    files: Vec<PathBuf>,
    entries: usize,
    bytes: u64,
    depth: Depth,
}

impl Walk {
    fn folder(&mut self, path: &Path, limits: Limits) -> Result<(), Error> {
        let wrong = |error| Error::Unreadable { path: path.to_owned(), error };
        let mut entries = Vec::new();
        for entry in fs::read_dir(path).map_err(wrong)? {
            self.entries += 1;
            if self.entries > limits.entries {
                return Ok(());
            }
            entries.push(entry.map_err(wrong)?.path());
        }
        entries.sort();
        for entry in entries {
            let is_hidden = entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            let extension = entry.extension().and_then(|extension| extension.to_str());
            let Ok(metadata) = entry.metadata() else { continue };
            if is_hidden {
                continue;
            } else if metadata.is_dir() && self.depth == Depth::All {
                self.folder(&entry, limits)?;
            } else if metadata.is_file() && matches!(extension, Some("yaml" | "yml" | "json")) {
                self.bytes = self.bytes.saturating_add(metadata.len());
                self.files.push(entry);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_are_hardly_meant_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("below");
        fs::create_dir(&below).unwrap();
        let told = |depth, limits| folder(root.path(), depth, limits).map_err(|error| error.to_string());
        let empty = told(Depth::All, LIMITS).unwrap_err();
        assert!(empty.ends_with(" has no file that ends in .yaml, .yml or .json"), "{empty}");
        fs::write(below.join("a.yaml"), "a: 1").unwrap();
        fs::write(below.join("b.txt"), "b").unwrap();
        assert!(told(Depth::Flat, LIMITS).unwrap_err().contains("; --recursive looks into "));
        assert_eq!(told(Depth::All, LIMITS).unwrap(), [below.join("a.yaml")]);
        assert_eq!(told(Depth::All, Limits { entries: 3, bytes: 4 }).unwrap().len(), 1);
        let many = told(Depth::All, Limits { entries: 2, ..LIMITS }).unwrap_err();
        assert!(many.contains(" holds more than 2 files and folders: name the folders below it"), "{many}");
        assert!(
            told(Depth::All, Limits { bytes: 3, ..LIMITS }).unwrap_err().contains(" MiB of YAML and JSON")
        );
    }

    /// A pipe in a folder would be waited for without end.
    #[test]
    fn only_files_are_read() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("folder.yaml")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(root.path().join("pipe.yaml")).status().unwrap();
        assert!(made.success());
        assert!(matches!(folder(root.path(), Depth::All, LIMITS), Err(Error::Empty { .. })));
    }
}
