//! Thrift's own libraries as clients and servers, each a program with the same command line (`tests/python`,
//! `tests/thrift-java`, `tests/go/thrift-peer`).

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::{files, java};

/// A library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// Apache Thrift for Python.
    Python,
    /// Apache Thrift for Java.
    Java,
    /// Apache Thrift for Go.
    Go,
    /// Kitex.
    Kitex,
}

/// A server of a library. Ends when dropped.
#[derive(Debug)]
pub struct Served {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Library {
    /// What it speaks here: transports, each with a protocol.
    pub fn forms(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Python => &[
                ("framed", "binary"),
                ("framed", "old"),
                ("framed", "compact"),
                ("unframed", "binary"),
                ("unframed", "compact"),
                ("theader", "binary"),
                ("theader", "compact"),
            ],
            Self::Java => &[
                ("framed", "binary"),
                ("framed", "compact"),
                ("unframed", "binary"),
                ("unframed", "compact"),
            ],
            Self::Go => &[
                ("framed", "binary"),
                ("unframed", "compact"),
                ("theader", "binary"),
                ("theader", "compact"),
            ],
            Self::Kitex => &[
                ("framed", "binary"),
                ("unframed", "binary"),
                ("ttheader", "binary"),
                ("ttheader-framed", "binary"),
            ],
        }
    }

    /// Has the library be there: where there is no network, it cannot be fetched.
    pub fn install(self) {
        self.command();
    }

    /// Starts a server that calls itself `name`.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn serve(self, form: (&str, &str), name: &str) -> Served {
        self.serve_by(form, name, &[])
    }

    /// Starts a server at `address`, which Python's can.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn serve_at(self, form: (&str, &str), name: &str, address: SocketAddr) -> Served {
        let mut served = self.serve_by(form, name, &[&address.to_string()]);
        served.address = address;
        served
    }

    fn serve_by(self, (transport, protocol): (&str, &str), name: &str, more: &[&str]) -> Served {
        let mut command = self.command();
        command.args(["serve", transport, protocol, name]).args(more);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let port = port.trim().parse().unwrap_or_else(|_| panic!("{self:?} does not serve: {port}"));
        Served { child, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) }
    }

    /// Lets a client make these calls, `method=text`, one after the other on one connection: what came of each.
    ///
    /// # Panics
    ///
    /// When it does not make them.
    pub fn call(
        self,
        address: SocketAddr,
        (transport, protocol): (&str, &str),
        headers: &[&str],
        calls: &[&str],
    ) -> Vec<Value> {
        let mut command = self.command();
        // Of addresses elsewhere, Python alone knows.
        let at = if address.ip().is_loopback() { address.port().to_string() } else { address.to_string() };
        command.args(["call", &at, transport, protocol]);
        let output = command.args(headers).arg("--").args(calls).stderr(Stdio::inherit()).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        let answers: Vec<_> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(answers.len(), calls.len(), "{self:?} {transport} {protocol}: {lines}");
        answers
    }

    fn command(self) -> Command {
        match self {
            Self::Python => {
                let mut command = Command::new("python3");
                command.arg(files::root().join("tests/python/thrift_peer.py")).env("PYTHONPATH", python());
                command
            }
            Self::Java => {
                let mut command = Command::new("java");
                // In a shell without a locale it would read and write ASCII.
                command.env("LC_ALL", "C.UTF-8");
                command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]);
                command
                    .arg(java::built("thrift-java", "0.25.0", &[]).join("lib/*"))
                    .arg("org.meltemi.thrift.Peer");
                command
            }
            Self::Go => go("apache"),
            Self::Kitex => go("kitex"),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        files::cached(Path::new("python/thrift-0.25.0"), |out| {
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
            files::fetch(pip.arg("--target").arg(out).arg("thrift==0.25.0"));
        })
    })
}

fn go(library: &str) -> Command {
    static GO: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(GO.get_or_init(|| crate::go::program("thrift-peer")));
    command.arg(library);
    command
}
