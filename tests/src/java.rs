//! Apache Dubbo in a Java process under remote control (`tests/java`).

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::files;
use crate::remote::Remote;
pub use crate::remote::{Exception, Pending};

/// The versions of Apache Dubbo that tests run: the last of 2.7, and a 3.3.
pub const VERSIONS: [&str; 2] = ["2.7.23", "3.3.5"];

/// 127.0.0.1 as one number: in the place of what looks like a loopback address to it, Dubbo's client puts the address of
/// a network card.
const LOOPBACK: &str = "2130706433";

/// Apache Dubbo in a process of its own. Killed when dropped.
pub struct Peer {
    version: String,
    remote: Remote,
}

impl Peer {
    /// Builds Apache Dubbo `version`, for those who start it where no registry is reached.
    pub fn install(version: &str) {
        jars(version);
    }

    /// Starts Apache Dubbo `version`.
    pub fn start(version: &str) -> Self {
        let mut java = command(&jars(version), "org.meltemi.demo.Peer");
        Self { version: version.to_owned(), remote: Remote::start(&format!("dubbo-{version}"), &mut java) }
    }

    /// Starts Apache Dubbo `version` as the service `name`, with OpenTelemetry's agent, which gives a collector at an address
    /// the spans that it makes.
    pub fn start_traced(version: &str, name: &str, collector: SocketAddr) -> Self {
        let jars = jars(version);
        let mut java = command(&jars, "org.meltemi.demo.Peer");
        java.env(
            "JAVA_TOOL_OPTIONS",
            format!("-javaagent:{}", jars.join("agent/opentelemetry.jar").display()),
        )
        .env("OTEL_SERVICE_NAME", name)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"))
        .env("OTEL_BSP_SCHEDULE_DELAY", "200")
        .envs(["METRICS", "LOGS"].map(|kind| (format!("OTEL_{kind}_EXPORTER"), "none")));
        Self { version: version.to_owned(), remote: Remote::start(&format!("dubbo-{version}"), &mut java) }
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
        self.remote.ask(json!({"do": "serve", "port": address.port(), "name": name}));
    }

    /// Starts a server of Apache Dubbo `version` with the services `Open` and `Shut`, for tests of who may call what. Beside
    /// `Open` there are `Open:2.0` and `grp/Open`, and `Shut`, `Shut:1.0`, `grp/Shut` and `grp/Shut:1.0`.
    pub fn guard(version: &str) -> (Self, SocketAddr) {
        let peer = Self::start(version);
        let address = free_address();
        peer.remote.ask(json!({"do": "guard", "port": address.port()}));
        (peer, address)
    }

    /// What the services of a guarded server carried out by their own account: how often `<service> <method>`.
    pub fn ledger(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(self.remote.ask(json!({"do": "ledger"}))).unwrap()
    }

    /// Its version of Apache Dubbo.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Makes the client `reference` to `address`, with `parameters` of Dubbo's in the form `a=b&c=d`.
    pub fn connect(&self, reference: &str, address: SocketAddr, parameters: &str) {
        let host = if address.ip().is_loopback() { LOOPBACK.to_owned() } else { address.ip().to_string() };
        let url = format!("dubbo://{host}:{}?{parameters}", address.port());
        self.remote.ask(json!({"do": "connect", "reference": reference, "url": url}));
    }

    /// Lets the client `reference` call `method`. `arguments` may hold `text`, `number` and `attachments`.
    pub fn start_call(&self, reference: &str, method: &str, arguments: &Value) -> Pending {
        let mut command = json!({"do": "call", "reference": reference, "method": method});
        for (name, value) in arguments.as_object().into_iter().flatten() {
            command[name] = value.clone();
        }
        self.remote.send(command)
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
        self.remote.ask(json!({"do": "counts"}))
    }
}

/// An address for a server of the test's, out of the range from which the kernel gives ports to others.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset =
            NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add((process::id() as u16).wrapping_mul(37));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 10_000 + offset % 6_000));
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).is_ok() {
            return address;
        }
    }
}

/// An address that refuses connections as long as the test runs: its port is taken, and nothing listens there.
///
/// # Panics
///
/// When the kernel gives out no port.
pub fn refusing_address() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    mem::forget(socket);
    address
}

/// An address whose server closes each connection once something has come, without a word.
///
/// # Panics
///
/// When the kernel gives out no port.
pub fn closing_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
        }
    });
    address
}

/// An address whose server answers whatever comes with bytes that are of no protocol of calls.
///
/// # Panics
///
/// When the kernel gives out no port.
pub fn babbling_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&[0xee; 64]);
            // Until the other side has had enough of it.
            let _ = stream.read(&mut [0; 4096]);
        }
    });
    address
}

/// Starts brpc-java.
pub fn start_brpc(name: &str) -> Remote {
    let jars = built("brpc-java", "3.0.5", &[]);
    Remote::start(&format!("brpc-java-{name}"), &mut command(&jars, "org.meltemi.brpc.Peer"))
}

/// Starts trpc-java.
pub fn start_trpc(name: &str) -> Remote {
    let jars = built("trpc-java", "1.1.0", &[]);
    Remote::start(&format!("trpc-java-{name}"), &mut command(&jars, "org.meltemi.trpc.Peer"))
}

/// The server of Zipkin, as one jar.
pub(crate) fn zipkin_jar() -> PathBuf {
    built("zipkin", "3.5.1", &[]).join("zipkin.jar")
}

/// Runs a class of a peer's jars, in a JVM that starts soon.
fn command(jars: &Path, class: &str) -> Command {
    let mut java = Command::new("java");
    let packages = ["lang", "math", "nio", "util"];
    java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx1g"])
        .args(packages.map(|package| format!("--add-opens=java.base/java.{package}=ALL-UNNAMED")))
        .arg("-cp")
        .arg(jars.join("lib/*"))
        .arg(class);
    java
}

/// The folder of the peer's jars for Dubbo `version`.
fn jars(version: &str) -> PathBuf {
    built("java", version, &[&format!("-Ddubbo.version={version}")])
}

/// The folder with what Maven makes of the project `tests/<project>`, built if the sources have changed since.
pub(crate) fn built(project: &str, version: &str, arguments: &[&str]) -> PathBuf {
    let sources = files::root().join("tests").join(project);
    let folder = format!("{version}-{:016x}", files::fingerprint(&sources));
    files::cached(&Path::new(project).join(folder), |out| {
        files::fetch(
            Command::new("mvn")
                .args(["-q", "-B", "package", "-f"])
                .arg(sources.join("pom.xml"))
                .args(arguments)
                .arg(format!("-Dout={}", out.display())),
        );
    })
}
