//! The versions of Envoy that tests run on.

use std::env;
use std::path::PathBuf;

use indicatif::ProgressBar;
use meltemi::checkout;

/// The oldest and the newest version that Meltemi supports.
const VERSIONS: &str = "1.36.4,1.40.0";

/// An Envoy binary.
#[derive(Debug, Clone)]
pub struct Envoy {
    /// Its version, or the path that `MELTEMI_ENVOY` gave.
    pub version: String,
    /// The executable.
    pub binary: PathBuf,
}

impl Envoy {
    /// Envoy `version`, fetched unless it is where the command `meltemi` keeps it.
    pub fn fetch(version: &str) -> Self {
        let binary =
            meltemi::envoy::fetch(version, &checkout::envoy_store(), &ProgressBar::hidden()).unwrap();
        Self { version: version.to_owned(), binary }
    }

    /// The versions that tests run on.
    pub fn all() -> Vec<Self> {
        if let Some(path) = env::var_os("MELTEMI_ENVOY") {
            return vec![Self { version: path.to_string_lossy().into_owned(), binary: path.into() }];
        }
        let versions = env::var("MELTEMI_ENVOY_VERSIONS").unwrap_or_else(|_| VERSIONS.to_owned());
        versions.split(',').map(|version| Self::fetch(version.trim())).collect()
    }
}

/// Runs `test` on each version of Envoy, and says on which, for the output of a test that fails.
pub fn each_envoy(test: impl Fn(&Envoy)) {
    for envoy in Envoy::all() {
        println!("on Envoy {}", envoy.version);
        test(&envoy);
    }
}
