//! The Envoy that is measured: `envoy-configs/dubbo.yaml` with one worker, moved to free ports, and the plan it runs.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use meltemi::envoy::{Config, Envoy, Launch, PlanFile};
use serde_json::{Value, json};

use super::proc::CpuClock;
use super::{Case, Proxy, backend, frame};

/// The servers' ports in the shipped configuration.
const SERVERS: [u16; 2] = [20881, 20882];
/// The plan's file and the module, as the shipped configuration names them.
const PLAN: &str = "envoy-configs/dubbo.plan.yaml";
const MODULE: &str = "target/wasm32-wasip1/module/meltemi.wasm";
/// How long Envoy may take to run by a changed plan.
const CHANGE: Duration = Duration::from_secs(60);

/// A running Envoy, and the servers behind it.
#[derive(Debug)]
pub struct Subject {
    envoy: Envoy,
    version: String,
    plan: PlanFile,
    running: String,
    addresses: Vec<(Proxy, SocketAddr)>,
    _folder: tempfile::TempDir,
}

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The root of the checkout.
    pub root: &'a Path,
    /// The Envoy binary.
    pub envoy: &'a Path,
    /// Meltemi's Wasm module.
    pub module: &'a Path,
    /// The first plan, a JSON text.
    pub plan: &'a str,
}

impl Subject {
    /// Starts the servers and Envoy, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// A port, a file, or Envoy itself.
    pub fn start(parts: &Parts) -> Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bodies: Vec<_> = Case::all().iter().map(|case| case.body).collect();
        let servers =
            backend::start(&SERVERS.map(|_| any), &bodies).context("cannot start the Dubbo servers")?;

        let folder = tempfile::tempdir()?;
        let read = |name: &str| -> Result<Config> {
            let text =
                fs::read_to_string(parts.root.join(name)).with_context(|| format!("cannot read {name}"))?;
            Ok(Config::parse(name, &text)?)
        };
        let mut document = read(PLAN)?;
        ensure!(document.move_file(MODULE, parts.module) > 0, "{PLAN} does not name {MODULE}");
        let mut plan = PlanFile::new(&folder.path().join("plan.yaml"), document)?;
        plan.write(parts.plan)?;

        let mut config = read("envoy-configs/dubbo.yaml")?;
        ensure!(config.move_file(PLAN, plan.path()) > 0, "dubbo.yaml does not name {PLAN}");
        config.leave_all_ports();
        let moves: BTreeMap<_, _> = SERVERS.into_iter().zip(servers.iter().map(SocketAddr::port)).collect();
        config.move_ports(&moves);
        let path = folder.path().join("envoy.yaml");
        config.write(&path)?;

        let envoy = Envoy::start(&Launch {
            binary: parts.envoy.to_owned(),
            config: path,
            folder: folder.path().to_owned(),
            // dubbo_proxy warns of every connection that it opens.
            args: ["--concurrency", "1", "--log-level", "warning", "--component-log-level", "dubbo:error"]
                .map(Into::into)
                .to_vec(),
        })?;
        let mut listeners = envoy.admin().listeners()?;
        let mut address = |proxy: Proxy| {
            let address = listeners.remove(proxy.listener());
            Ok((proxy, address.with_context(|| format!("Envoy has no listener {}", proxy.listener()))?))
        };
        let addresses = Proxy::ALL.into_iter().map(&mut address).collect::<Result<_>>()?;
        Ok(Self {
            envoy,
            version: version(parts.envoy)?,
            plan,
            running: parts.plan.to_owned(),
            addresses,
            _folder: folder,
        })
    }

    /// Where a proxy accepts connections.
    ///
    /// # Panics
    ///
    /// Never: all of them are known from the start.
    #[must_use]
    pub fn address(&self, proxy: Proxy) -> SocketAddr {
        self.addresses.iter().find(|entry| entry.0 == proxy).expect("every proxy has an address").1
    }

    /// The CPU time of the Envoy process.
    #[must_use]
    pub fn clock(&self) -> CpuClock {
        CpuClock::new(self.envoy.pid())
    }

    /// What Envoy says its version is.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The end of Envoy's log, for when it misbehaves.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.envoy.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Gives Meltemi this plan, and waits until Envoy has taken it. Does nothing if it is the one that runs already.
    ///
    /// # Errors
    ///
    /// The plan is refused or not taken within a minute.
    pub fn change_plan(&mut self, plan: &str) -> Result<()> {
        const RELOADS: &str = r"^extension_config_discovery\.network_filter\.meltemi\.config_reload$";
        if self.running == plan {
            return Ok(());
        }
        let before = self.envoy.admin().sum(RELOADS)?;
        self.plan.write(plan)?;
        self.envoy.admin().wait(RELOADS, CHANGE, |now| now > before).context("the new plan was not taken")?;
        plan.clone_into(&mut self.running);
        Ok(())
    }
}

/// The version and build of the binary: the part of its `--version` that people know.
fn version(binary: &Path) -> Result<String> {
    let output = Command::new(binary).arg("--version").output().context("Envoy does not run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // envoy  version: <commit>/<version>/Clean/RELEASE/BoringSSL
    let long = text.split("version:").nth(1).unwrap_or(&text).trim();
    Ok(long.split('/').nth(1).unwrap_or(long).to_owned())
}

/// A plan of `count` routes, each for one interface and one method, of which the last is that of the calls made here. It asks of
/// Meltemi what the configuration asks of `dubbo_proxy`: to find the route, and no retries or time-outs.
#[must_use]
pub fn plan(count: usize) -> String {
    let route = |index: usize| -> Value {
        let (interface, method) = if index + 1 == count {
            (frame::INTERFACE.to_owned(), frame::METHOD.to_owned())
        } else {
            (format!("com.example.shop.Service{}", index / 10), format!("method{}", index % 10))
        };
        json!({
            "name": format!("route-{index}"),
            "match": [{"attributes": {"interface": {"exact": interface}, "method": {"exact": method}}}],
        })
    };
    let routes: Vec<_> = (0..count).map(route).collect();
    json!({"services": {"demo": {"protocol": "dubbo", "routes": routes, "onNoMatch": "reject"}}}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_route_is_that_of_the_calls() {
        for count in [1, 10, 10_000] {
            let plan: Value = serde_json::from_str(&plan(count)).unwrap();
            let routes = plan["services"]["demo"]["routes"].as_array().unwrap();
            assert_eq!(routes.len(), count);
            let matches = |route: &&Value| {
                let attributes = &route["match"][0]["attributes"];
                attributes["interface"]["exact"] == frame::INTERFACE
                    && attributes["method"]["exact"] == frame::METHOD
            };
            assert_eq!(routes.iter().filter(matches).count(), 1);
            assert!(matches(&routes.last().unwrap()));
        }
    }
}
