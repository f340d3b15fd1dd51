//! A real API server of its own on loopback, with nothing else of a cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use meltemi_mesh_tests::{Process, Tools};
use meltemi_tests::java::free_address;
use meltemi_tests::{eventually, files};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;
use ureq::http::{Method, Request};

/// The namespace of the controller.
pub const HOME: &str = "meltemi-system";

/// The module that objects name; nobody loads it.
pub const MODULE: &str = "oci://registry.example.org/meltemi@sha256:6f0d0c2b0a8f4f2f9d6d3a9f0b1c2d3e4f5061728394a5b6c7d8e9f001122334";

const TOKEN: &str = "admin";

/// A user without rights, and the token of that.
pub const NOBODY: &str = "nobody";

/// etcd and the API server.
pub struct Api {
    folder: TempDir,
    tools: Tools,
    name: &'static str,
    port: u16,
    agent: Agent,
    proxy: String,
    server: Option<Process>,
    _others: [Process; 2],
}

/// The API server that most tests share, one at a time: controllers of several tests would be in each other's way.
pub fn shared() -> MutexGuard<'static, Api> {
    static API: OnceLock<Mutex<Api>> = OnceLock::new();
    API.get_or_init(|| {
        let (sender, receiver) = channel();
        // The programs end with the thread that started them, which is to be the process's last.
        thread::spawn(move || {
            sender.send(Api::start("shared")).unwrap();
            loop {
                thread::park();
            }
        });
        Mutex::new(receiver.recv().unwrap())
    })
    .lock()
    .unwrap_or_else(PoisonError::into_inner)
}

impl Api {
    /// Starts them, with Istio's kinds, the namespace `istio-system` and the controller's manifests.
    pub fn start(name: &'static str) -> Self {
        Self::start_with(name, &[])
    }

    /// Starts them with more flags for etcd.
    pub fn start_with(name: &'static str, etcd_flags: &[&str]) -> Self {
        let tools = Tools::find();
        let folder = TempDir::new().unwrap();
        let [port, etcd_port, peer_port] = [(); 3].map(|()| free_address().port());
        let key = folder.path().join("service-accounts.key");
        files::run(
            Command::new("openssl")
                .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
                .arg(&key),
        );
        let tokens = format!("{TOKEN},admin,admin,system:masters\n{NOBODY},{NOBODY},{NOBODY}\n");
        fs::write(folder.path().join("tokens.csv"), tokens).unwrap();
        write_configuration(&folder.path().join("admin"), port, TOKEN);
        write_configuration(&folder.path().join("nobody"), port, NOBODY);
        let [etcd_url, peer_url] = [etcd_port, peer_port].map(|port| format!("http://127.0.0.1:{port}"));
        let etcd = Process::start(
            &format!("run-loop-{name}-etcd"),
            None,
            dying("etcd")
                .args(["--log-level", "warn", "--name", "one", "--data-dir"])
                .arg(folder.path().join("etcd"))
                .args(["--listen-client-urls", &etcd_url, "--advertise-client-urls", &etcd_url])
                .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
                .args(["--initial-cluster", &format!("one={peer_url}")])
                .args(etcd_flags),
        );
        let proxy = Process::start(
            &format!("run-loop-{name}-proxy"),
            None,
            dying("kubectl").arg("--kubeconfig").arg(folder.path().join("admin")).args([
                "proxy",
                "--port=0",
                "--reject-paths=",
            ]),
        );
        let address = eventually("the proxy serves", || {
            let log = proxy.log();
            let (_, address) = log.trim().rsplit_once(' ')?;
            address.contains(':').then(|| address.to_owned())
        });
        let config = Agent::config_builder().http_status_as_error(false).proxy(None).build();
        let mut api = Self {
            folder,
            tools,
            name,
            port,
            agent: config.into(),
            proxy: address,
            server: None,
            _others: [etcd, proxy],
        };
        fs::write(api.folder.path().join("etcd-url"), etcd_url).unwrap();
        api.resume();
        let crds = api.tools.crds.display().to_string();
        api.kubectl(&["apply", "--server-side", "--validate=false", "-f", &crds], "").unwrap();
        api.kubectl(&["create", "namespace", "istio-system"], "").unwrap();
        let install = Command::new(env!("CARGO_BIN_EXE_mesh-controller"))
            .args(["install", "--image", "registry.example.org/meltemi:0.1", "--module", MODULE])
            .env("KUBECONFIG", api.folder.path().join("admin"))
            .output()
            .unwrap();
        assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
        api.kubectl(&["wait", "--for=condition=established", "--timeout=120s", "crd", "--all"], "").unwrap();
        api
    }

    /// Kills the API server; every watch is lost.
    pub fn stop(&mut self) {
        self.server.take().unwrap().end(Signal::SIGKILL);
    }

    /// Starts the API server, again if it was stopped.
    pub fn resume(&mut self) {
        let path = |name: &str| self.folder.path().join(name);
        let mut server = Process::start(
            &format!("run-loop-{}-api", self.name),
            None,
            dying(&self.tools.kube_apiserver.display().to_string())
                .arg(format!("--etcd-servers={}", fs::read_to_string(path("etcd-url")).unwrap()))
                .args(["--bind-address=127.0.0.1", &format!("--secure-port={}", self.port)])
                .arg(format!("--cert-dir={}", path("certificates").display()))
                .arg(format!("--token-auth-file={}", path("tokens.csv").display()))
                .arg(format!("--service-account-key-file={}", path("service-accounts.key").display()))
                .arg(format!("--service-account-signing-key-file={}", path("service-accounts.key").display()))
                .arg("--service-account-issuer=https://kubernetes.default.svc")
                .args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16"])
                .args(["--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none"]),
        );
        server.wait_until("the API server is ready", || {
            let answer = self.agent.get(format!("http://{}/readyz", self.proxy)).call().ok()?;
            (answer.status() == 200).then_some(())
        });
        self.server = Some(server);
    }

    /// A configuration with the rights of the controller's service account, and no more.
    pub fn account(&self) -> PathBuf {
        let path = format!("/api/v1/namespaces/{HOME}/serviceaccounts/meltemi/token");
        let request = json!({"spec": {"audiences": ["https://kubernetes.default.svc"]}});
        let (_, answer) = self.ask(&Method::POST, &path, "application/json", &request);
        let token = answer["status"]["token"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let file = self.folder.path().join("account");
        write_configuration(&file, self.port, token);
        file
    }

    /// A configuration with all rights.
    pub fn admin(&self) -> PathBuf {
        self.folder.path().join("admin")
    }

    /// A configuration with the rights that a test gives to [`NOBODY`].
    pub fn nobody(&self) -> PathBuf {
        self.folder.path().join("nobody")
    }

    /// Runs `kubectl` with `arguments`, and with `input` to read.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        use std::io::Write;
        let mut child = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(self.admin())
            .arg("--cache-dir")
            .arg(self.folder.path().join("kubectl"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        match output.status.success() {
            true => Ok(text(output.stdout)),
            false => Err(text(output.stderr)),
        }
    }

    /// Applies objects as a person does.
    pub fn apply(&self, yaml: &str) {
        eventually("the kinds are known", || match self.kubectl(&["apply", "-f", "-"], yaml) {
            Ok(_) => Some(()),
            // What is established is not discovered at once.
            Err(error) if error.contains("no matches for kind") => None,
            Err(error) => panic!("{error}\n{yaml}"),
        });
    }

    /// What is at a path, if anything is.
    pub fn find(&self, path: &str) -> Option<Value> {
        let (status, answer) = self.ask(&Method::GET, path, "application/json", &Value::Null);
        match status {
            200 => Some(answer),
            404 => None,
            _ => panic!("GET {path}: {answer}"),
        }
    }

    /// The objects of a list.
    pub fn list(&self, path: &str) -> Vec<Value> {
        match self.find(path).unwrap_or_else(|| panic!("nothing at {path}"))["items"].take() {
            Value::Array(items) => items,
            other => panic!("{path} is no list but {other}"),
        }
    }

    /// Merges a patch into the object at a path, as another than the controller.
    pub fn patch(&self, path: &str, patch: &Value) -> Value {
        let (status, answer) = self.ask(
            &Method::PATCH,
            &format!("{path}?fieldManager=person"),
            "application/merge-patch+json",
            patch,
        );
        assert!(status < 300, "PATCH {path}: {answer}");
        answer
    }

    /// Deletes the object at a path.
    pub fn delete(&self, path: &str) {
        let (status, answer) = self.ask(&Method::DELETE, path, "application/json", &Value::Null);
        assert!(status < 300, "DELETE {path}: {answer}");
    }

    fn ask(&self, method: &Method, path: &str, kind: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.proxy))
            .header("content-type", kind)
            .body(if body.is_null() { String::new() } else { body.to_string() })
            .unwrap();
        let mut answer = self.agent.run(request).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let body = answer.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
        (answer.status().as_u16(), serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }
}

/// A command that ends with the thread that starts it.
fn dying(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

fn write_configuration(file: &Path, port: u16, token: &str) {
    let configuration = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": HOME}}],
        "users": [{"name": "test", "user": {"token": token}}],
        // The server makes itself a certificate that nobody signed.
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true,
        }}],
    });
    fs::write(file, configuration.to_string()).unwrap();
}
