use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{fs, str};

use meltemi_tests::go::go;
use meltemi_tests::{Envoy, files};

/// Where the module `istio.io/istio` keeps its CRDs, and the name under which they are cached.
const CRDS: (&str, &str) = ("manifests/charts/base/files/crd-all.gen.yaml", "istio-crds.yaml");

/// Likewise, the template of Envoy's bootstrap configuration that the agent fills in.
const BOOTSTRAP: (&str, &str) = ("tools/packaging/common/envoy_bootstrap.json", "envoy_bootstrap.json");

/// Debian's packages, and the command of each that is run.
const PACKAGES: [(&str, &str); 9] = [
    ("etcd-server", "etcd"),
    ("kubernetes-client", "kubectl"),
    ("docker-registry", "docker-registry"),
    ("iptables", "iptables-restore"),
    ("iproute2", "ip"),
    ("openssl", "openssl"),
    ("procps", "kill"),
    ("redis-server", "redis-server"),
    ("util-linux", "flock"),
];

/// The programs that a mesh is made of, and two files that belong to them.
#[derive(Debug, Clone)]
pub struct Tools {
    /// istiod.
    pub pilot_discovery: PathBuf,
    /// The agent that runs beside each Envoy.
    pub pilot_agent: PathBuf,
    /// The API server of Kubernetes.
    pub kube_apiserver: PathBuf,
    /// Jaeger, which collects spans.
    pub jaeger: PathBuf,
    /// The newest stock Envoy that Meltemi supports.
    pub envoy: PathBuf,
    /// The oldest.
    pub oldest_envoy: PathBuf,
    /// Istio's custom resource definitions.
    pub crds: PathBuf,
    /// The template of Envoy's bootstrap configuration.
    pub bootstrap: PathBuf,
}

impl Tools {
    /// Finds the programs. Those of Istio, Kubernetes and Jaeger are built from their sources unless they are in the
    /// cache, which takes two cores thirteen minutes.
    ///
    /// # Panics
    ///
    /// When a program of Debian's is missing, with the command that installs it; when one cannot be built.
    pub fn find() -> Self {
        let missing: Vec<_> = PACKAGES
            .iter()
            .filter(|(_, command)| program(command).is_none())
            .map(|(package, _)| *package)
            .collect();
        assert!(
            missing.is_empty(),
            "the mesh needs: apt-get install --no-install-recommends {}",
            missing.join(" ")
        );
        let istio = built("istio", |project, out| {
            let module = go(project, &["mod", "download", "-json", "istio.io/istio"]);
            let module: serde_json::Value = serde_json::from_str(&module).unwrap();
            let sources = Path::new(module["Dir"].as_str().unwrap());
            for (file, name) in [CRDS, BOOTSTRAP] {
                fs::copy(sources.join(file), out.join(name)).unwrap();
            }
        });
        let [kube, jaeger] = ["kube", "jaeger"].map(|name| built(name, |_, _| ()));
        let envoys: Vec<PathBuf> = Envoy::all().into_iter().map(|envoy| envoy.binary).collect();
        let one = |envoy: Option<&PathBuf>| envoy.expect("MELTEMI_ENVOY_VERSIONS names no version").clone();
        Self {
            pilot_discovery: istio.join("pilot-discovery"),
            pilot_agent: istio.join("pilot-agent"),
            kube_apiserver: kube.join("kube-apiserver"),
            jaeger: jaeger.join("jaeger"),
            envoy: one(envoys.last()),
            oldest_envoy: one(envoys.first()),
            crds: istio.join(CRDS.1),
            bootstrap: istio.join(BOOTSTRAP.1),
        }
    }
}

/// The folder of the tools of the Go project `name`, built if its `go.sum` has changed since; `extra` adds files.
fn built(name: &str, extra: impl FnOnce(&Path, &Path)) -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(name);
    let mut hasher = DefaultHasher::new();
    for file in ["go.mod", "go.sum"] {
        fs::read(project.join(file)).unwrap().hash(&mut hasher);
    }
    let folder = Path::new("mesh").join(format!("{name}-{:016x}", hasher.finish()));
    files::cached(&folder, |out| {
        // Without the tables for debuggers, which the linker takes half of its time for.
        go(&project, &["build", "-ldflags=-s -w", "-o", &format!("{}/", out.display()), "tool"]);
        extra(&project, out);
    })
}

/// Where a program is: on the `PATH`, or where Debian has those of root, which not every shell's leads to.
pub(crate) fn program(command: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(command)).find(|program| program.is_file())
}
