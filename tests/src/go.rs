//! Go, which builds peers in Go, and the programs of Istio and Kubernetes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::files;

/// The program of the Go project `tests/go/<name>`, built if its sources have changed since.
pub fn program(name: &str) -> PathBuf {
    let project = files::root().join("tests/go").join(name);
    let folder = Path::new("go").join(format!("{name}-{:016x}", files::fingerprint(&project)));
    let build = |out: &Path| {
        let out = format!("{}/", out.display());
        // What Kitex brings refers to what newer versions of Go keep to themselves.
        let link = "-ldflags=-s -w -checklinkname=0";
        go(&project, &["build", "-trimpath", link, "-o", &out, "."]);
    };
    files::cached(&folder, build).join(name)
}

/// The version that is fetched where there is none.
const VERSION: &str = "1.26.8";

/// The SHA-256 of its archive, for Linux on x86-64.
const SHA256: &str = "30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7";

/// The first minor version of Go 1 that fetches the version which a `go.mod` asks for.
const FETCHES: u32 = 21;

/// Runs Go in a project, and returns what it writes: the `go` on the `PATH` if that is 1.21 or later, else one that is
/// fetched into the cache.
///
/// # Panics
///
/// When Go fails, with what it says, or cannot be fetched.
pub fn go(project: &Path, arguments: &[&str]) -> String {
    static GO: OnceLock<PathBuf> = OnceLock::new();
    let go = GO.get_or_init(|| if is_on_path() { "go".into() } else { fetched() });
    files::fetch(Command::new(go).args(arguments).current_dir(project))
}

fn is_on_path() -> bool {
    // In a project Go would follow its go.mod.
    let Ok(told) = Command::new("go").args(["env", "GOVERSION"]).current_dir("/").output() else {
        return false;
    };
    let version = String::from_utf8_lossy(&told.stdout);
    let minor = version.trim().strip_prefix("go1.").and_then(|rest| rest.split(['.', 'r', '-']).next());
    minor.and_then(|minor| minor.parse::<u32>().ok()).is_some_and(|minor| minor >= FETCHES)
}

/// Go as the module proxy has it, which is where Go itself fetches other versions from.
fn fetched() -> PathBuf {
    if !cfg!(target_arch = "x86_64") {
        panic!("the tests' programs are built with Go 1.{FETCHES} or later: install it");
    }
    let version = format!("v0.0.1-go{VERSION}.linux-amd64");
    let folder = Path::new("mesh").join(format!("go-{VERSION}"));
    let root = files::cached(&folder, |out| {
        let archive = out.join("archive.zip");
        let url = format!("https://proxy.golang.org/golang.org/toolchain/@v/{version}.zip");
        files::fetch(Command::new("curl").args(["-fsSL", &url, "-o"]).arg(&archive));
        let sha256 = Sha256::digest(fs::read(&archive).unwrap());
        let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sha256, SHA256, "{url} is not what it was");
        unpack(&archive, &format!("golang.org/toolchain@{version}"), out);
        fs::remove_file(archive).unwrap();
    });
    root.join("bin/go")
}

/// Unpacks what is in a folder of an archive. The archives of modules do not say which files are programs.
fn unpack(archive: &Path, folder: &str, out: &Path) {
    let mut archive = ZipArchive::new(File::open(archive).unwrap()).unwrap();
    for at in 0..archive.len() {
        let mut file = archive.by_index(at).unwrap();
        let name = file.enclosed_name().unwrap();
        let Ok(name) = name.strip_prefix(folder) else { continue };
        let path = out.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut unpacked = File::create(&path).unwrap();
        io::copy(&mut file, &mut unpacked).unwrap();
        if name.starts_with("bin") || name.starts_with("pkg/tool") {
            unpacked.set_permissions(fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}
