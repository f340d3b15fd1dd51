//! A controller as it runs in a pod: with the rights of its service account.

use std::net::SocketAddr;
use std::process::{Command, ExitStatus};

use meltemi_mesh_tests::Process;
use meltemi_tests::eventually;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::api::{Api, MODULE};

/// How long a replica that is gone stays the leader, in seconds.
pub const LEASE_SECONDS: u64 = 3;

/// The flag for how long tunnels wait: two seconds, unless a test says so.
const WARM_UP: &str = "--warm-up-seconds=";

/// A replica of the controller.
pub struct Controller {
    process: Process,
    /// Where it serves its metrics.
    pub views: SocketAddr,
    /// Where it serves the webhook.
    pub webhook: SocketAddr,
    /// Where it serves the dashboard, if it does.
    pub dashboard: Option<SocketAddr>,
}

impl Controller {
    /// Starts a replica for Istio 1.30.
    pub fn start(api: &Api, name: &str) -> Self {
        Self::start_with(api, name, "127.0.0.1:0", &["--istio-version=1.30"])
    }

    /// Starts a replica whose webhook listens there, with more flags.
    pub fn start_with(api: &Api, name: &str, webhook: &str, flags: &[&str]) -> Self {
        let process = Process::start(
            &format!("run-loop-{name}"),
            None,
            Command::new(env!("CARGO_BIN_EXE_mesh-controller"))
                .env("KUBECONFIG", api.account())
                .args([
                    "run",
                    "--module",
                    MODULE,
                    "--identity",
                    name,
                    "--log-format=json",
                    "--log-level=debug",
                ])
                .args(["--listen=127.0.0.1:0", "--webhook-listen", webhook, "--webhook-name=127.0.0.1"])
                .args([format!("--lease-seconds={LEASE_SECONDS}")])
                .args(["--linger-seconds=1"])
                .args((!flags.iter().any(|flag| flag.starts_with(WARM_UP))).then(|| format!("{WARM_UP}2")))
                .args(flags),
        );
        let started = eventually("the controller starts", || {
            lines(&process).into_iter().find(|line| line["message"] == "started")
        });
        let find = |field: &str| Some(started[field].as_str()?.parse().unwrap());
        let address = |field: &str| find(field).unwrap();
        Self { views: address("listen"), webhook: address("webhook"), dashboard: find("dashboard"), process }
    }

    /// Waits until it leads and has made its first pass.
    pub fn wait_until_leading(&self) {
        eventually("the controller leads", || (self.metric("leader") == 1).then_some(()));
        eventually("the first pass", || {
            (self.metric("passes_total{outcome=\"complete\"}") > 0).then_some(())
        });
    }

    /// The value of a metric without its prefix; 0 if there is none.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.view("metrics").1;
        let name = format!("meltemi_controller_{name} ");
        text.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
    }

    /// What one of its views answers.
    pub fn view(&self, path: &str) -> (u16, String) {
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build();
        let agent = ureq::Agent::from(config);
        let mut answer = agent.get(format!("http://{}/{path}", self.views)).call().unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }

    /// What it did, such as `applied`, in the order in which it did so: kinds and names.
    pub fn did(&self, what: &str) -> Vec<String> {
        let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
        lines(&self.process)
            .iter()
            .filter(|line| line["message"] == what)
            .map(|line| format!("{} {}", text(line, "kind"), text(line, "name")))
            .collect()
    }

    /// Ends it as Kubernetes does.
    pub fn end(self) -> ExitStatus {
        self.check();
        self.process.end(Signal::SIGTERM)
    }

    /// Ends it as a failing machine does.
    pub fn kill(self) {
        self.process.end(Signal::SIGKILL);
    }

    /// Its rights were enough for all it did.
    fn check(&self) {
        let log = self.process.log();
        let refused = log.lines().find(|line| line.contains("orbidden"));
        assert_eq!(refused, None);
        assert!(!log.contains("panicked"), "{log}");
    }
}

fn lines(process: &Process) -> Vec<Value> {
    process.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
