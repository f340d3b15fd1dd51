//! Where the command finds and keeps files: the checkout it belongs to, and the target folder in it.

use std::env;
use std::path::{Path, PathBuf};

/// A file that only a checkout of Meltemi has.
const LANDMARK: &str = "envoy-configs/dubbo.yaml";

/// The root of the checkout: the working directory or the nearest folder above it that is one, else the checkout in which
/// the command was built. `None` if neither is there.
pub fn root() -> Option<PathBuf> {
    let here = env::current_dir().ok()?;
    let built = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut candidates = here.ancestors().chain(built.parent());
    candidates.find(|folder| folder.join(LANDMARK).is_file()).map(Path::to_owned)
}

/// The folder for what is built and fetched: `CARGO_TARGET_DIR`, else `target` in the checkout, else `meltemi` in the
/// user's cache folder.
pub fn target() -> PathBuf {
    if let Some(named) = env::var_os("CARGO_TARGET_DIR").filter(|name| !name.is_empty()) {
        return std::path::absolute(&named).unwrap_or_else(|_| named.into());
    }
    if let Some(root) = root() {
        return root.join("target");
    }
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    cache.or_else(home).unwrap_or_else(env::temp_dir)
}

/// Where fetched Envoys are kept, a folder for each version.
pub fn envoy_store() -> PathBuf {
    target().join("meltemi").join("envoy")
}
