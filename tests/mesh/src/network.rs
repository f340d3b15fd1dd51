use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::namespace::Namespace;
use crate::tools::program;

/// The folder of a running mesh, in memory, gone with it. Folders above it let user 1337 pass, which those of root's
/// caches need not.
pub(crate) const RUN: &str = "/run/meltemi-mesh";

/// The address of the control plane, and of the bridge.
pub(crate) const CONTROL: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The user that an agent and its Envoy run as, by which the rules below know them.
pub(crate) const PROXY_USER: u32 = 1337;

/// What `istio-init` writes: what comes in goes to Envoy's port 15006, what the application sends goes to 15001.
const RULES: &str = "*nat
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A OUTPUT -p tcp -j ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp --dport 15000 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
-A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
";

/// The bridge on which everything hangs, in the namespace of the control plane.
#[derive(Debug)]
pub struct Network {
    control: Namespace,
    last: AtomicU8,
    /// Clears up when its standard input ends.
    _reaper: Child,
}

impl Network {
    /// Waits until no other mesh runs on this machine, clears what a killed one left, and makes the bridge.
    pub(crate) fn start() -> Self {
        let mut reaper = Command::new("sh")
            .args(["-c", include_str!("reaper.sh"), "meltemi-mesh-reaper", RUN])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(reaper.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the mesh cannot have {RUN}: is this root?");

        let control = Namespace::create("meltemi-control", CONTROL, Vec::new());
        ip(
            &control,
            &format!(
                "link set lo up\nlink add bridge type bridge\nlink set bridge up\naddress add {CONTROL}/24 dev bridge\n"
            ),
        );
        Self { control, last: AtomicU8::new(10), _reaper: reaper }
    }

    /// The namespace of the control plane.
    pub fn control(&self) -> &Namespace {
        &self.control
    }

    /// Makes the namespace of a pod, whose application has its connections go through Envoy if it is `captured`.
    pub(crate) fn pod(&self, name: &str, captured: bool, binds: Vec<(PathBuf, PathBuf)>) -> Namespace {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        assert!(number < 255, "no more addresses for pods");
        let [a, b, c, _] = CONTROL.octets();
        let pod = Namespace::create(&format!("meltemi-{name}"), Ipv4Addr::new(a, b, c, number), binds);
        ip(
            &self.control,
            &format!(
                "link add pod{number} type veth peer name eth0 netns {}\nlink set pod{number} master bridge up\n",
                pod.name()
            ),
        );
        ip(
            &pod,
            &format!(
                "link set lo up\nlink set eth0 up\naddress add {}/24 dev eth0\nroute add default via {CONTROL}\n",
                pod.address()
            ),
        );
        if captured {
            let restore = program("iptables-restore").expect("it was found with the other tools");
            pod.enter(|| feed(Command::new(restore).arg("--noflush"), RULES));
        }
        pod
    }
}

/// Has `ip` do the lines of `batch` in `namespace`.
fn ip(namespace: &Namespace, batch: &str) {
    feed(Command::new("ip").args(["-netns", namespace.name(), "-batch", "-"]), batch);
}

/// Runs `command` with `input` to read, and gives what it printed.
///
/// # Panics
///
/// With its complaint when it fails.
pub(crate) fn feed(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    // A program that has read enough may be gone; its status shows.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{input}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A path in the mesh's folder.
pub(crate) fn run_path(path: impl AsRef<Path>) -> PathBuf {
    Path::new(RUN).join(path)
}
