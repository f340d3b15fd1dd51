//! Commands of others, shown before they run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fmt};

use anyhow::{Context, Result, bail};

/// A command to run in the checkout.
#[derive(Debug)]
pub(crate) struct Run(Command);

/// Has cargo build dependencies with the features that the tests of the whole workspace have, so that no dependency is
/// built again for want of a feature. Only where examples may be built does cargo look at what tests depend on; there
/// are no examples.
pub(crate) const AS_TESTS: [&str; 2] = ["--workspace", "--examples"];

/// The checkout's root.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

impl Run {
    /// A program found on the `PATH`.
    pub(crate) fn new(program: &str) -> Self {
        let mut command = Command::new(program);
        command.current_dir(root());
        Self(command)
    }

    /// Cargo, with the toolchain of `rust-toolchain.toml`.
    pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        // What cargo set for this program itself would choose the package and the toolchain for others, too.
        let mut run = Self::new("cargo").args(args);
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if name == "CARGO" || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                run.0.env_remove(&*name);
            }
        }
        run.0.env_remove("RUSTUP_TOOLCHAIN");
        run
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.0.args(args);
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// Runs it in a folder of the checkout.
    pub(crate) fn within(mut self, folder: &str) -> Self {
        self.0.current_dir(root().join(folder));
        self
    }

    /// Runs it, and fails if it does.
    pub(crate) fn go(mut self) -> Result<()> {
        println!("+ {self}");
        let status = self.0.status().with_context(|| format!("cannot run {self}"))?;
        if !status.success() {
            bail!("{self}: {status}");
        }
        Ok(())
    }

    /// Runs it beside others, and shows what it printed when it has ended; fails if it does.
    pub(crate) fn go_aside(mut self) -> Result<()> {
        let output = self.0.stdin(Stdio::null()).output().with_context(|| format!("cannot run {self}"))?;
        let [printed, complained] =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        println!("+ {self}\n{printed}{complained}");
        if !output.status.success() {
            bail!("{self}: {}", output.status);
        }
        Ok(())
    }

    /// Runs it silently; what it printed, if it succeeded.
    pub(crate) fn output(mut self) -> Option<String> {
        let output = self.0.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.get_program().to_string_lossy())?;
        self.0.get_args().try_for_each(|arg| write!(f, " {}", arg.to_string_lossy()))
    }
}

/// The folder that cargo builds in.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Whether a program of that name is on the `PATH`, or where Debian has those of root, which not every shell's leads to.
pub(crate) fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.any(|folder| folder.join(program).is_file())
}
