//! Apache Dubbo in a Java process under remote control (`tests/java`).

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use meltemi::checkout;
use serde_json::{Value, json};

use crate::files;
use crate::wait::DEADLINE;

/// The versions of Apache Dubbo that tests run: the last of 2.7, and a 3.3.
pub const VERSIONS: [&str; 2] = ["2.7.23", "3.3.5"];

/// 127.0.0.1 as one number: in the place of what looks like a loopback address to it, Dubbo's client puts the address of
/// a network card.
const LOOPBACK: &str = "2130706433";

/// Apache Dubbo in a process of its own. Killed when dropped.
pub struct Peer {
    version: String,
    child: Child,
    input: Mutex<ChildStdin>,
    waiting: Waiting,
    last_id: AtomicU64,
}

type Waiting = Arc<Mutex<HashMap<u64, Sender<Value>>>>;

/// An answer of a peer that is still to come.
pub struct Pending {
    what: String,
    answer: Receiver<Value>,
}

/// An exception that a peer reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// The class's full name.
    pub class: String,
    /// Its message.
    pub message: String,
    /// The code of a Dubbo `RpcException`: 1 network, 2 time-out, 4 forbidden, ...
    pub code: Option<i64>,
    /// What caused it.
    pub cause: Option<Box<Exception>>,
}

impl Peer {
    /// Starts Apache Dubbo `version`.
    pub fn start(version: &str) -> Self {
        let log = checkout::target().join("e2e").join(format!("dubbo-{version}-{}.log", process::id()));
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        let mut child = Command::new("java")
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx1g"])
            .args(
                ["lang", "math", "util"]
                    .map(|package| format!("--add-opens=java.base/java.{package}=ALL-UNNAMED")),
            )
            .arg("-cp")
            .arg(jars(version).join("lib/*"))
            .arg("org.meltemi.demo.Peer")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(log).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start java: {error}"));
        let input = Mutex::new(child.stdin.take().unwrap());
        let output = child.stdout.take().unwrap();
        let waiting = Waiting::default();
        thread::spawn({
            let waiting = Arc::clone(&waiting);
            move || read_answers(output, &waiting)
        });
        Self { version: version.to_owned(), child, input, waiting, last_id: AtomicU64::new(0) }
    }

    /// Starts a server of Apache Dubbo `version` named `name` on a free port.
    pub fn serve(version: &str, name: &str) -> (Self, SocketAddr) {
        let peer = Self::start(version);
        let address = free_address();
        peer.serve_at(name, address);
        (peer, address)
    }

    /// Serves as `name` on the port of `address`.
    pub fn serve_at(&self, name: &str, address: SocketAddr) {
        self.ask(json!({"do": "serve", "port": address.port(), "name": name}));
    }

    /// Starts a server of Apache Dubbo `version` with the services `Open` and `Shut`, for tests of who may call what. Beside
    /// `Open` there are `Open:2.0` and `grp/Open`, and `Shut`, `Shut:1.0`, `grp/Shut` and `grp/Shut:1.0`.
    pub fn guard(version: &str) -> (Self, SocketAddr) {
        let peer = Self::start(version);
        let address = free_address();
        peer.ask(json!({"do": "guard", "port": address.port()}));
        (peer, address)
    }

    /// What the services of a guarded server carried out by their own account: how often `<service> <method>`.
    pub fn ledger(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(self.ask(json!({"do": "ledger"}))).unwrap()
    }

    /// Its version of Apache Dubbo.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Makes the client `reference` to `address`, with `parameters` of Dubbo's in the form `a=b&c=d`.
    pub fn connect(&self, reference: &str, address: SocketAddr, parameters: &str) {
        let host = if address.ip().is_loopback() { LOOPBACK.to_owned() } else { address.ip().to_string() };
        let url = format!("dubbo://{host}:{}?{parameters}", address.port());
        self.ask(json!({"do": "connect", "reference": reference, "url": url}));
    }

    /// Lets the client `reference` call `method`. `arguments` may hold `text`, `number` and `attachments`.
    pub fn start_call(&self, reference: &str, method: &str, arguments: &Value) -> Pending {
        let mut command = json!({"do": "call", "reference": reference, "method": method});
        for (name, value) in arguments.as_object().into_iter().flatten() {
            command[name] = value.clone();
        }
        self.send(command)
    }

    /// Lets the client `reference` call `method`, and waits for what comes of it.
    ///
    /// # Errors
    ///
    /// The exception that the client threw.
    pub fn call(&self, reference: &str, method: &str, arguments: &Value) -> Result<Value, Exception> {
        self.start_call(reference, method, arguments).wait()
    }

    /// How often each method of its server was called. Calls of `note` are counted as `note:` and the text.
    pub fn counts(&self) -> Value {
        self.ask(json!({"do": "counts"}))
    }

    fn ask(&self, command: Value) -> Value {
        let text = command.to_string();
        self.send(command)
            .wait()
            .unwrap_or_else(|error| panic!("Dubbo {} to {text}: {error:?}", self.version))
    }

    fn send(&self, mut command: Value) -> Pending {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        command["id"] = json!(id);
        let (sender, answer) = mpsc::channel();
        self.waiting.lock().unwrap().insert(id, sender);
        writeln!(self.input.lock().unwrap(), "{command}").unwrap();
        Pending { what: format!("Dubbo {}: {command}", self.version), answer }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pending {
    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// The exception that came of it.
    pub fn wait(self) -> Result<Value, Exception> {
        let answer = self.answer.recv_timeout(DEADLINE * 2);
        let mut answer = answer.unwrap_or_else(|error| panic!("no answer to {}: {error}", self.what));
        match Exception::read(&answer["error"]) {
            Some(error) => Err(error),
            None => Ok(answer["value"].take()),
        }
    }
}

impl Exception {
    fn read(error: &Value) -> Option<Self> {
        Some(Self {
            class: error["class"].as_str()?.to_owned(),
            message: error["message"].as_str()?.to_owned(),
            code: error["code"].as_i64(),
            cause: Self::read(&error["cause"]).map(Box::new),
        })
    }

    /// Whether this or one of its causes is of the class that ends with `class`.
    pub fn is(&self, class: &str) -> bool {
        self.class.ends_with(class) || self.cause.as_ref().is_some_and(|cause| cause.is(class))
    }
}

/// An address on which nothing listens, out of the range from which the kernel gives ports to others.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset =
            NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add((process::id() as u16).wrapping_mul(37));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 12_000 + offset % 18_000));
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).is_ok() {
            return address;
        }
    }
}

fn read_answers(output: ChildStdout, waiting: &Waiting) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { break };
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let waiter = answer["id"].as_u64().and_then(|id| waiting.lock().unwrap().remove(&id));
        if let Some(waiter) = waiter {
            let _ = waiter.send(answer);
        }
    }
    // Whoever still waits hears that the process is gone.
    waiting.lock().unwrap().clear();
}

/// The folder of the peer's jars for Dubbo `version`, built if the sources have changed since.
fn jars(version: &str) -> PathBuf {
    let project = files::root().join("tests/java");
    let mut hasher = DefaultHasher::new();
    let mut files = Vec::new();
    list_files(&project, &mut files);
    files.sort();
    for file in &files {
        fs::read(file).unwrap().hash(&mut hasher);
    }
    let folder = Path::new("java").join(format!("{version}-{:016x}", hasher.finish()));
    files::cached(&folder, |out| {
        files::run(
            Command::new("mvn")
                .args(["-q", "-B", "package", "-f"])
                .arg(project.join("pom.xml"))
                .arg(format!("-Ddubbo.version={version}"))
                .arg(format!("-Dout={}", out.display())),
        );
    })
}

fn list_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list_files(&path, files);
        } else {
            files.push(path);
        }
    }
}
