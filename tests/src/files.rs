//! Where things are, and how they are fetched once.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;
use meltemi::checkout;

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The labels of Istio's metrics, as docs/telemetry.md has operators name them to sidecars before Istio 1.30.
pub fn stat_tags() -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/telemetry.md")).unwrap();
    let (_, list) = text.split_once("extraStatTags: [").expect("the list of tags");
    let (list, _) = list.split_once(']').unwrap();
    list.split(',').map(|tag| tag.trim().to_owned()).collect()
}

/// A folder of Aeraki's YAML, such as `demos`: where a copy of that lies beside a folder above the repository, as
/// `shared/aeraki`.
pub fn aeraki(folder: &str) -> Option<PathBuf> {
    let copy = root().ancestors().map(|above| above.join("shared/aeraki")).find(|copy| copy.is_dir());
    if copy.is_none() {
        eprintln!("nothing is tried: put Aeraki's YAML into a folder shared/aeraki beside the clone");
    }
    Some(copy?.join(folder))
}

/// The folder that keeps what was fetched, for all checkouts: `MELTEMI_CACHE`, else `~/.cache/meltemi`.
pub fn cache() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").expect("HOME or MELTEMI_CACHE")).join(".cache/meltemi");
    env::var_os("MELTEMI_CACHE").map_or_else(home, PathBuf::from)
}

/// The folder `folder` in the cache, made by `make` in a folder beside it if it does not exist yet.
pub fn cached(folder: &Path, make: impl FnOnce(&Path)) -> PathBuf {
    let folder = cache().join(folder);
    if !folder.exists() {
        let parent = folder.parent().unwrap();
        fs::create_dir_all(parent).unwrap();
        let fresh = tempfile::tempdir_in(parent).unwrap();
        make(fresh.path());
        // Another process may have been faster; its folder is as good.
        if fs::rename(fresh.path(), &folder).is_ok() {
            let _ = fresh.keep();
        }
    }
    assert!(folder.exists(), "{} was not made", folder.display());
    folder
}

/// A number that changes when a file in `folder` does.
pub fn fingerprint(folder: &Path) -> u64 {
    let mut files = Vec::new();
    list(folder, &mut files);
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in &files {
        fs::read(file).unwrap().hash(&mut hasher);
    }
    hasher.finish()
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Runs `command` to its end.
///
/// # Panics
///
/// With its output when it cannot be run or fails.
pub fn run(command: &mut Command) {
    written(command).unwrap_or_else(|why| panic!("{why}"));
}

/// Runs a command that fetches what it needs, again where it fails, since networks have moments without an answer: what it
/// wrote.
///
/// # Panics
///
/// With its output when it cannot be run or fails each time.
pub fn fetch(command: &mut Command) -> String {
    with_pauses(&PAUSES, command)
}

/// How long nothing is fetched after each failure.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];

fn with_pauses(pauses: &[Duration], command: &mut Command) -> String {
    for &pause in pauses {
        match written(command) {
            Ok(text) => return text,
            Err(why) => eprintln!("{why}\nonce more in {pause:?}"),
        }
        thread::park_timeout(pause);
    }
    written(command).unwrap_or_else(|why| panic!("{why}"))
}

/// What a command writes to its end, or how it failed.
fn written(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    let [written, complained] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if output.status.success() {
        Ok(written)
    } else {
        Err(format!("{command:?}: {}\n{written}{complained}", output.status))
    }
}

/// Meltemi's Wasm module, built if it is not up to date.
pub fn module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        meltemi::module::find(None, &ProgressBar::hidden()).unwrap_or_else(|error| panic!("{error}"))
    })
}

/// The module with no codecs but these, built if it is not up to date. It is never where the other is.
pub fn module_with(codecs: &str) -> PathBuf {
    let target = checkout::target().join("chosen");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.current_dir(root()).env("CARGO_TARGET_DIR", &target).args(["wasm", "--quiet", "--locked"]);
    run(build.args(["--no-default-features", "--features", codecs]));
    target.join("wasm32-wasip1/module/meltemi.wasm")
}

/// A module that differs from `module` in its digest, and in nothing else.
pub fn another_build(module: &[u8]) -> Vec<u8> {
    const NAMELESS_CUSTOM_SECTION: &[u8] = b"\0\x01\0";
    [module, NAMELESS_CUSTOM_SECTION].concat()
}

/// The Wasm module of `examples/courier`, built if it is not up to date.
pub fn courier_module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        build_courier(&[
            "--package",
            "meltemi-courier",
            "--lib",
            "--profile",
            "module",
            "--target",
            "wasm32-wasip1",
        ]);
        checkout::target().join("wasm32-wasip1/module/courier.wasm")
    })
}

/// The server of `examples/courier`, with the client beside it, built if they are not up to date.
pub fn courier_server() -> &'static Path {
    static SERVER: OnceLock<PathBuf> = OnceLock::new();
    SERVER.get_or_init(|| {
        // Where examples may be built, of which there are none, cargo takes the dependencies' features of the tests: these are
        // built already.
        build_courier(&["--workspace", "--bin", "courier-server", "--bin", "courier-client", "--examples"]);
        checkout::target().join("debug/courier-server")
    })
}

fn build_courier(what: &[&str]) {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run(Command::new(cargo).current_dir(root()).args(["build", "--quiet"]).args(what));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_fetched_again_as_often_as_there_are_pauses() {
        let folder = tempfile::tempdir().unwrap();
        let mut fails_once = Command::new("sh");
        fails_once.current_dir(&folder).args(["-c", "ls known || { touch known; exit 1; }"]);
        assert_eq!(with_pauses(&[Duration::ZERO], &mut fails_once), "known\n");
        let given_up =
            std::panic::catch_unwind(|| with_pauses(&[Duration::ZERO], &mut Command::new("false")));
        assert!(given_up.is_err());
    }
}
