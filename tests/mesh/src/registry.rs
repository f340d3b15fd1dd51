use std::fs;
use std::process::Command;

use meltemi::envoy::Admin;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::namespace::Namespace;
use crate::network::{CONTROL, run_path};
use crate::process::Process;

const PORT: u16 = 5000;

/// A registry of container images at the address of the control plane, by plain HTTP: the agent takes private addresses
/// for such that have no TLS.
#[derive(Debug)]
pub struct Registry {
    server: Process,
}

impl Registry {
    pub(crate) fn start(control: &Namespace) -> Self {
        let folder = run_path("registry");
        fs::create_dir_all(&folder).unwrap();
        let configuration = json!({
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": folder.join("data")}},
            "http": {"addr": format!("{CONTROL}:{PORT}"), "secret": "meltemi"},
        });
        let file = folder.join("config.yaml");
        fs::write(&file, configuration.to_string()).unwrap();
        let mut server = control.enter(|| {
            Process::start("registry", None, Command::new("docker-registry").arg("serve").arg(&file))
        });
        let http = Admin::new((CONTROL, PORT).into());
        control.enter(|| server.wait_until("the registry serves", || http.fetch("/v2/").ok()));
        Self { server }
    }

    /// Answers nobody from now on.
    pub fn pause(&self) {
        self.server.signal(Signal::SIGSTOP);
    }

    /// Answers again, those who have waited too.
    pub fn resume(&self) {
        self.server.signal(Signal::SIGCONT);
    }

    /// Its name in references of images.
    pub fn host(&self) -> String {
        format!("{CONTROL}:{PORT}")
    }
}
