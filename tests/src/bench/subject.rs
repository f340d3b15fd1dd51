//! The Envoy that is measured: a shipped configuration, moved to free ports, and the plan it runs.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use meltemi::envoy::{Config, Envoy, Launch, PlanFile};
use serde_json::{Value, json};

use super::proc::CpuClock;
use super::{Protocol, Proxy, backend, frame, pass_through};
use crate::files;

/// The module, as the shipped configurations name it.
const MODULE: &str = "target/wasm32-wasip1/module/meltemi.wasm";
/// How long Envoy may take to run by a changed plan.
const CHANGE: Duration = Duration::from_secs(60);

/// A running Envoy, and the servers behind it.
#[derive(Debug)]
pub struct Subject {
    envoy: Envoy,
    start: Duration,
    module: PathBuf,
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
    /// What the servers speak.
    pub protocol: Protocol,
    /// How many servers there are.
    pub endpoints: usize,
    /// How many workers Envoy has.
    pub workers: usize,
    /// Who is told of calls by loggers of the connection manager.
    pub loggers: Loggers,
    /// The first plan, a JSON text.
    pub plan: &'a str,
}

/// Who loggers tell of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loggers {
    /// Nobody.
    None,
    /// A file has lines that come together, and each that comes alone.
    File,
    /// An access log service has each line.
    AccessLogService(SocketAddr),
    /// A collector of OpenTelemetry's logs has each line.
    OpenTelemetry(SocketAddr),
}

/// The configuration and the plan of a protocol. That of Dubbo serves protocols that have none of their own: a tunnel and
/// plain TCP are the same for all.
fn shipped(protocol: Protocol) -> [&'static str; 2] {
    match protocol {
        Protocol::Thrift => ["envoy-configs/thrift.yaml", "envoy-configs/thrift.plan.yaml"],
        _ => ["envoy-configs/dubbo.yaml", "envoy-configs/dubbo.plan.yaml"],
    }
}

fn endpoint(address: &SocketAddr) -> Value {
    let address = json!({"address": address.ip().to_string(), "port_value": address.port()});
    json!({"endpoint": {"address": {"socket_address": address}}})
}

/// The loggers that write to a file: lines that come together, and each that comes alone.
fn of_file(mut files: Vec<Value>, file: &Path) -> Vec<Value> {
    if let Some(mut alone) = files.first().cloned() {
        let mark = json!({"name": "x-meltemi-log", "present_match": true});
        alone["filter"]["header_filter"]["header"] = mark;
        let line = json!({"inline_string": "%REQ(x-call-line)%\n"});
        alone["typed_config"]["log_format"]["text_format_source"] = line;
        files.push(alone);
    }
    for logger in &mut files {
        logger["typed_config"]["path"] = file.display().to_string().into();
    }
    files
}

/// The cluster that the shipped loggers of services send to.
fn collector(address: &SocketAddr) -> Value {
    let http2 = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({
        "name": "collector",
        "load_assignment": {
            "cluster_name": "collector", "endpoints": [{"lb_endpoints": [endpoint(address)]}],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": http2, "explicit_http_config": {"http2_protocol_options": {}},
        }},
    })
}

/// Has loggers of the connection managers behind modules tell of calls.
fn add_loggers(config: &mut Config, loggers: &Value, whom: Loggers, file: &Path) {
    let all = loggers["access_log"].as_array().cloned().unwrap_or_default();
    let of_kind = |kind: &str| -> Vec<Value> {
        let name = format!("envoy.access_loggers.{kind}");
        all.iter().filter(|logger| logger["name"] == *name).cloned().collect()
    };
    let (told, service) = match whom {
        Loggers::None => return,
        Loggers::File => (of_file(of_kind("file"), file), None),
        Loggers::AccessLogService(address) => {
            let mut told = of_kind("http_grpc");
            for logger in &mut told {
                logger["typed_config"]["additional_request_headers_to_log"] = json!(["x-call-line"]);
            }
            (told, Some(address))
        }
        Loggers::OpenTelemetry(address) => (of_kind("open_telemetry"), Some(address)),
    };
    let clusters = config.value_mut()["static_resources"]["clusters"].as_array_mut();
    if let (Some(clusters), Some(address)) = (clusters, &service) {
        clusters.push(collector(address));
    }
    let all = loggers["routes"].as_array();
    let listeners = config.value_mut()["static_resources"]["listeners"].as_array_mut();
    for listener in listeners.into_iter().flatten() {
        // Other listeners and filters have none of these.
        let filters = listener.pointer_mut("/filter_chains/0/filters").and_then(Value::as_array_mut);
        for filter in filters.into_iter().flatten() {
            let routes = filter.pointer_mut("/typed_config/route_config/virtual_hosts/0/routes");
            if let Some(routes) = routes.and_then(Value::as_array_mut) {
                routes.splice(..0, all.into_iter().flatten().cloned());
                filter["typed_config"]["access_log"] = json!(told);
            }
        }
    }
}

impl Subject {
    /// Starts the servers and Envoy, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// A port, a file, or Envoy itself.
    pub fn start(parts: &Parts) -> Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bodies: Vec<_> = parts.protocol.cases().iter().map(|case| case.body).collect();
        let servers = backend::start(parts.protocol, &vec![any; parts.endpoints], &bodies)
            .context("cannot start the servers")?;

        let folder = tempfile::tempdir()?;
        let read = |name: &str| -> Result<Config> {
            let text =
                fs::read_to_string(parts.root.join(name)).with_context(|| format!("cannot read {name}"))?;
            Ok(Config::parse(name, &text)?)
        };
        let [config_name, plan_name] = shipped(parts.protocol);
        let mut document = read(plan_name)?;
        let module = folder.path().join("meltemi.wasm");
        fs::copy(parts.module, &module).context("cannot copy the module")?;
        ensure!(document.move_file(MODULE, &module) > 0, "{plan_name} does not name {MODULE}");
        let mut plan = PlanFile::new(&folder.path().join("plan.yaml"), document)?;
        plan.write(parts.plan)?;

        let mut config = read(config_name)?;
        ensure!(config.move_file(plan_name, plan.path()) > 0, "{config_name} does not name {plan_name}");
        config.leave_all_ports();
        let endpoints: Vec<_> = servers.iter().map(endpoint).collect();
        let clusters = config.value_mut()["static_resources"]["clusters"].as_array_mut();
        let demo = clusters.into_iter().flatten().find(|cluster| cluster["name"] == "demo");
        let demo = demo.with_context(|| format!("{config_name} has no cluster demo"))?;
        demo["load_assignment"]["endpoints"] = json!([{ "lb_endpoints": endpoints }]);
        // tcp_proxy has a connection for each client, of which a cluster opens 1024 unless it is told otherwise.
        demo["circuit_breakers"] =
            json!({"thresholds": [{"max_connections": 10_000, "max_pending_requests": 10_000}]});
        // Thousands of connections at once overflow a server's queue; the kernel tries again after one second and after three.
        demo["connect_timeout"] = "10s".into();
        if parts.protocol.proxies().contains(&Proxy::PassThrough) {
            pass_through::add(&mut config, folder.path(), &Proxy::PassThrough.listener(parts.protocol))?;
        }
        if parts.loggers != Loggers::None {
            let loggers = read("envoy-configs/access-loggers.yaml")?;
            add_loggers(&mut config, loggers.value(), parts.loggers, &folder.path().join("calls.log"));
        }
        let path = folder.path().join("envoy.yaml");
        config.write(&path)?;

        let started = Instant::now();
        let workers = parts.workers.to_string();
        // dubbo_proxy warns of every connection that it opens.
        let args =
            ["--concurrency", &workers, "--log-level", "warning", "--component-log-level", "dubbo:error"];
        let envoy = Envoy::start(&Launch {
            binary: parts.envoy.to_owned(),
            config: path,
            folder: folder.path().to_owned(),
            args: args.map(Into::into).to_vec(),
        })?;
        let start = started.elapsed();
        let listeners = envoy.admin().listeners()?;
        let address = |&proxy: &Proxy| {
            let name = proxy.listener(parts.protocol);
            let address = listeners.get(&name).with_context(|| format!("Envoy has no listener {name}"))?;
            Ok((proxy, *address))
        };
        let addresses = parts.protocol.proxies().iter().map(address).collect::<Result<_>>()?;
        Ok(Self { envoy, start, module, plan, running: parts.plan.to_owned(), addresses, _folder: folder })
    }

    /// Where a proxy accepts connections.
    ///
    /// # Panics
    ///
    /// The proxy does not carry the protocol.
    #[must_use]
    pub fn address(&self, proxy: Proxy) -> SocketAddr {
        self.addresses.iter().find(|entry| entry.0 == proxy).expect("every proxy has an address").1
    }

    /// How long Envoy took until it was ready.
    #[must_use]
    pub fn start_time(&self) -> Duration {
        self.start
    }

    /// The process id of Envoy.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.envoy.pid()
    }

    /// The CPU time of the Envoy process.
    #[must_use]
    pub fn clock(&self) -> CpuClock {
        CpuClock::new(self.envoy.pid())
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

    /// Puts another build of the module in place of the running one: the next plan brings new VMs.
    ///
    /// # Errors
    ///
    /// The module's file cannot be written.
    pub fn renew_module(&self) -> Result<()> {
        let module = fs::read(&self.module)?;
        fs::write(&self.module, files::another_build(&module)).context("cannot write the module")
    }
}

/// The version of the binary: the part of its `--version` that people know.
///
/// # Errors
///
/// It does not run.
pub fn version(binary: &Path) -> Result<String> {
    let output = Command::new(binary).arg("--version").output().context("Envoy does not run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // envoy  version: <commit>/<version>/Clean/RELEASE/BoringSSL
    let long = text.split("version:").nth(1).unwrap_or(&text).trim();
    Ok(long.split('/').nth(1).unwrap_or(long).to_owned())
}

/// A plan that passes calls of `protocol` on: with Dubbo, one of the routes that [`routes`] makes.
#[must_use]
pub fn plain(protocol: Protocol) -> String {
    match protocol {
        Protocol::Dubbo => routes(1),
        _ => json!({"services": {"demo": {"protocol": protocol.name()}}}).to_string(),
    }
}

/// The same with that access log.
#[must_use]
pub fn logged(access_log: &Value) -> String {
    let mut plan: Value = serde_json::from_str(&routes(1)).unwrap_or_default();
    plan["accessLog"] = access_log.clone();
    plan.to_string()
}

/// The same with traces, of which one in a hundred is sampled.
#[must_use]
pub fn traced() -> String {
    let mut plan: Value = serde_json::from_str(&routes(1)).unwrap_or_default();
    plan["services"]["demo"]["tracing"] = json!({});
    plan.to_string()
}

/// The same with a tap that takes every call, and tells of as many as it may.
#[must_use]
pub fn tapped() -> String {
    let mut plan: Value = serde_json::from_str(&routes(1)).unwrap_or_default();
    plan["taps"] = json!([{"name": "all", "until": u32::MAX}]);
    plan.to_string()
}

/// A plan for Dubbo of `count` routes, each for one interface and one method, of which the last is that of the calls made here. It asks of
/// Meltemi what the configuration asks of `dubbo_proxy`: to find the route, and no retries or time-outs.
#[must_use]
pub fn routes(count: usize) -> String {
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
    let all: Vec<_> = (0..count).map(route).collect();
    json!({"services": {"demo": {"protocol": "dubbo", "routes": all, "onNoMatch": "reject"}}}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_route_is_that_of_the_calls() {
        for count in [1, 10, 10_000] {
            let plan: Value = serde_json::from_str(&routes(count)).unwrap();
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
