use std::fs;
use std::path::PathBuf;
use std::process::Command;

use meltemi_tests::files;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Method;

use crate::namespace::Namespace;
use crate::network::{CONTROL, feed, run_path};
use crate::process::Process;
use crate::tools::Tools;

/// The token of the one user, who may do everything.
const TOKEN: &str = "meltemi-mesh";

/// Where `kubectl proxy` serves the API without TLS, for what the harness itself asks.
const PROXY: &str = "127.0.0.1:8001";

/// Whose tokens of service accounts the server takes, and whom they are for.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";

/// The port of the API server.
pub(crate) const PORT: u16 = 6443;

/// The name under which the harness applies objects.
const MANAGER: &str = "meltemi-mesh";

/// An API server of Kubernetes with nothing behind it: no controllers, no nodes.
#[derive(Debug)]
pub struct Cluster {
    control: Namespace,
    api: Agent,
    _programs: [Process; 3],
}

impl Cluster {
    /// Starts etcd and the API server, and applies Istio's resource definitions.
    pub(crate) fn start(tools: &Tools, control: &Namespace) -> Self {
        let folder = run_path("kubernetes");
        fs::create_dir_all(&folder).unwrap();
        let [key, tokens] = ["service-accounts.key", "tokens.csv"].map(|name| folder.join(name));
        files::run(
            Command::new("openssl")
                .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
                .arg(&key),
        );
        fs::write(&tokens, format!("{TOKEN},admin,admin,system:masters\n")).unwrap();
        fs::write(kubeconfig(), configuration()).unwrap();

        let etcd = control.enter(|| {
            Process::start(
                "etcd",
                None,
                Command::new("etcd").arg("--data-dir").arg(folder.join("etcd")).args(["--log-level", "warn"]),
            )
        });
        let mut server = control.enter(|| {
            Process::start(
                "kube-apiserver",
                None,
                Command::new(&tools.kube_apiserver)
                    .arg("--etcd-servers=http://127.0.0.1:2379")
                    .args([format!("--bind-address={CONTROL}"), format!("--advertise-address={CONTROL}")])
                    .arg(format!("--cert-dir={}", folder.join("certificates").display()))
                    .arg(format!("--token-auth-file={}", tokens.display()))
                    .arg(format!("--service-account-key-file={}", key.display()))
                    .arg(format!("--service-account-signing-key-file={}", key.display()))
                    .arg(format!("--service-account-issuer={ISSUER}"))
                    .args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16"])
                    // No controllers make service accounts, and nobody keeps the endpoints of the server itself.
                    .args(["--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none"])
                    // Nobody makes the addresses of services lead to pods: webhooks are called at their endpoints.
                    .arg("--enable-aggregator-routing=true"),
            )
        });
        let proxy = control.enter(|| {
            Process::start("kubectl-proxy", None, kubectl().args(["proxy", "--port=8001", "--reject-paths="]))
        });
        let config = Agent::config_builder().http_status_as_error(false).proxy(None).build();
        let api = Agent::from(config);
        control.enter(|| {
            server.wait_until("the API server is ready", || {
                let answer = api.get(format!("http://{PROXY}/readyz")).call().ok()?;
                (answer.status() == 200).then_some(())
            });
        });
        let cluster = Self { control: control.clone(), api, _programs: [etcd, server, proxy] };
        let crds = tools.crds.to_string_lossy();
        cluster.kubectl(&["apply", "--server-side", "--validate=false", "-f", &crds], "");
        cluster.kubectl(&["wait", "--for=condition=established", "--timeout=120s", "crd", "--all"], "");
        cluster
    }

    /// The configuration by which programs in the namespace of the control plane find the API server, with all rights.
    pub fn kubeconfig(&self) -> PathBuf {
        kubeconfig()
    }

    /// The certificate by which the API server is known.
    pub(crate) fn certificate(&self) -> PathBuf {
        run_path("kubernetes/certificates/apiserver.crt")
    }

    /// What a Secret holds under `key`.
    pub(crate) fn secret(&self, namespace: &str, name: &str, key: &str) -> String {
        let template = format!("go-template={{{{.data.{key} | base64decode}}}}");
        self.kubectl(&["get", "secret", "--namespace", namespace, name, "--output", &template], "")
    }

    /// Runs `kubectl` with `arguments` and with `input` to read, and gives what it printed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        self.control.enter(|| feed(kubectl().args(arguments), input))
    }

    /// Applies objects in YAML, as `kubectl apply` does.
    pub fn apply(&self, yaml: &str) {
        self.kubectl(&["apply", "-f", "-"], yaml);
    }

    /// Deletes the objects in YAML, those that are there, and waits until they are gone.
    pub fn delete(&self, yaml: &str) {
        self.kubectl(&["delete", "--ignore-not-found", "-f", "-"], yaml);
    }

    /// What the API answers to `GET path`: `None` if there is no such object.
    pub fn find(&self, path: &str) -> Option<Value> {
        let (status, answer) = self.ask(&Method::GET, path, "application/json", None);
        match status {
            200 => Some(answer),
            404 => None,
            _ => panic!("GET {path}: {answer}"),
        }
    }

    /// The objects of a list.
    pub fn list(&self, path: &str) -> Vec<Value> {
        let mut list = self.find(path).unwrap_or_else(|| panic!("nothing at {path}"));
        match list["items"].take() {
            Value::Array(items) => items,
            _ => panic!("{path} is no list"),
        }
    }

    /// What the API server would answer to an object that is made at `path`, without making it: why it refuses it.
    pub fn refusal(&self, path: &str, object: &Value) -> Option<String> {
        // Unknown fields are refused, as `kubectl` asks for.
        let path = format!("{path}?dryRun=All&fieldValidation=Strict");
        let (status, answer) = self.ask(&Method::POST, &path, "application/json", Some(object));
        match status {
            201 => None,
            // By the schema, and by a webhook or for unknown fields.
            422 | 400 => Some(answer["message"].to_string()),
            _ => panic!("POST {path}: {answer}"),
        }
    }

    /// Has the object at `path` be as `object` says, whether it exists yet or not.
    pub(crate) fn put(&self, path: &str, object: &Value) {
        let path = format!("{path}?fieldManager={MANAGER}&force=true");
        let (status, answer) = self.ask(&Method::PATCH, &path, "application/apply-patch+yaml", Some(object));
        assert!(status < 300, "PATCH {path}: {answer}\n{object}");
    }

    /// Removes the object at `path`, at once.
    pub(crate) fn remove(&self, path: &str) {
        let options = json!({"gracePeriodSeconds": 0});
        let (status, answer) = self.ask(&Method::DELETE, path, "application/json", Some(&options));
        assert!(status < 300 || status == 404, "DELETE {path}: {answer}");
    }

    /// A token of a service account for `audience`.
    pub(crate) fn token(&self, namespace: &str, account: &str, audience: &str) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let request = json!({"spec": {"audiences": [audience], "expirationSeconds": 86_400}});
        let (status, answer) = self.ask(&Method::POST, &path, "application/json", Some(&request));
        let token = answer["status"]["token"].as_str().filter(|_| status < 300);
        token.unwrap_or_else(|| panic!("POST {path}: {answer}")).to_owned()
    }

    fn ask(&self, method: &Method, path: &str, kind: &str, body: Option<&Value>) -> (u16, Value) {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{PROXY}{path}"))
            .header("content-type", kind)
            .body(body.map(Value::to_string).unwrap_or_default())
            .unwrap();
        self.control.enter(|| {
            let mut answer = self.api.run(request).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
            let body = answer.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
            (answer.status().as_u16(), serde_json::from_str(&body).unwrap_or(Value::String(body)))
        })
    }
}

fn kubeconfig() -> PathBuf {
    run_path("kubernetes/kubeconfig")
}

fn configuration() -> String {
    let configuration = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "mesh",
        "contexts": [{"name": "mesh", "context": {"cluster": "mesh", "user": "admin"}}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        // The server makes itself a certificate that nobody signed.
        "clusters": [{"name": "mesh", "cluster": {"server": format!("https://{CONTROL}:{PORT}"), "insecure-skip-tls-verify": true}}],
    });
    configuration.to_string()
}

fn kubectl() -> Command {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(kubeconfig()).arg("--cache-dir").arg(run_path("kubernetes/kubectl"));
    command
}
