//! A running Envoy with the configuration that the repository ships, on free ports.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;

use meltemi::checkout;
use meltemi::envoy::{Config, Envoy as Process, Launch, PlanFile};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::envoy::Envoy;
use crate::files;
use crate::wait::eventually;

/// The shipped configurations, each with its plan.
const DUBBO: [&str; 2] = ["envoy-configs/dubbo.yaml", "envoy-configs/dubbo.plan.yaml"];
const THRIFT: [&str; 2] = ["envoy-configs/thrift.yaml", "envoy-configs/thrift.plan.yaml"];
const MODULE: &str = "target/wasm32-wasip1/module/meltemi.wasm";

/// The module in an Envoy's own folder.
const MODULE_COPY: &str = "meltemi.wasm";

/// The name of the module's filter in the bootstrap.
const FILTER: &str = "meltemi";

/// What differs from the shipped configuration.
pub struct Setup {
    files: [&'static str; 2],
    bootstrap: Config,
    plan: Option<String>,
    concurrency: u32,
    module: bool,
    plugin: Option<String>,
    build: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// The shipped configuration for Dubbo, on free ports.
    pub fn new() -> Self {
        Self::of(DUBBO)
    }

    /// That for Thrift.
    pub fn thrift() -> Self {
        Self::of(THRIFT)
    }

    fn of(files: [&'static str; 2]) -> Self {
        let mut bootstrap = shipped(files[0]);
        bootstrap.leave_all_ports();
        Self { files, bootstrap, plan: None, concurrency: 1, module: true, plugin: None, build: None }
    }

    /// The endpoints of `cluster`, which is added when it is not there.
    #[must_use]
    pub fn cluster(mut self, cluster: &str, endpoints: &[SocketAddr]) -> Self {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|address| {
                let address = json!({"address": address.ip().to_string(), "port_value": address.port()});
                json!({"endpoint": {"address": {"socket_address": address}}})
            })
            .collect();
        let assignment = json!({"cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}]});
        let clusters = self.resources("clusters");
        match clusters.iter_mut().find(|known| known["name"] == cluster) {
            Some(known) => known["load_assignment"] = assignment,
            None => clusters.push(json!({"name": cluster, "type": "STATIC", "load_assignment": assignment})),
        }
        self
    }

    /// The clusters `v1`, `v2` and `demo` of the two servers.
    #[must_use]
    pub fn servers(self, v1: SocketAddr, v2: SocketAddr) -> Self {
        self.cluster("v1", &[v1]).cluster("v2", &[v2]).cluster("demo", &[v1, v2])
    }

    /// The plan to begin with, in place of the shipped one.
    #[must_use]
    pub fn plan(self, plan: &Value) -> Self {
        Self { plan: Some(plan.to_string()), ..self }
    }

    /// The plan whose service `demo` is `service`, to begin with.
    #[must_use]
    pub fn service(self, service: &Value) -> Self {
        self.plan(&plan_of(service))
    }

    /// How many workers Envoy has. One, without this.
    #[must_use]
    pub fn concurrency(self, concurrency: u32) -> Self {
        Self { concurrency, ..self }
    }

    /// Any other change of the bootstrap.
    #[must_use]
    pub fn change(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(self.bootstrap.value_mut());
        self
    }

    /// Another build of the module.
    #[must_use]
    pub fn build(self, module: PathBuf) -> Self {
        Self { build: Some(module), ..self }
    }

    /// Takes the module out, as a mesh does when it cannot be fetched.
    #[must_use]
    pub fn without_module(mut self) -> Self {
        self.module = false;
        for listener in self.resources("listeners") {
            if let Some(filters) = listener["filter_chains"][0]["filters"].as_array_mut() {
                filters.retain(|filter| filter["name"] != FILTER);
            }
        }
        self
    }

    /// What the filter is called, and the plan that Envoy asks for, in place of the shipped name.
    #[must_use]
    pub fn plugin(mut self, name: &str) -> Self {
        for listener in self.resources("listeners") {
            let filters = listener["filter_chains"][0]["filters"].as_array_mut();
            for filter in filters.into_iter().flatten().filter(|filter| filter["name"] == FILTER) {
                filter["name"] = name.into();
            }
        }
        self.plugin = Some(name.to_owned());
        self
    }

    /// Starts `envoy` and waits until it serves.
    pub fn start(mut self, envoy: &Envoy) -> Proxy {
        let parent = checkout::target().join("e2e");
        fs::create_dir_all(&parent).unwrap();
        let test = thread::current().name().unwrap_or("main").replace("::", "-");
        let folder = tempfile::Builder::new().prefix(&format!("{test}-")).tempdir_in(parent).unwrap();

        let [bootstrap, plan_file] = self.files;
        let mut discovery = shipped(plan_file);
        if let Some(name) = self.plugin {
            let resource = &mut discovery.value_mut()["resources"][0];
            resource["name"] = name.as_str().into();
            resource["typed_config"]["config"]["name"] = name.into();
        }
        let text = self.plan.or_else(|| PlanFile::plan(&mut discovery).map(str::to_owned)).unwrap();
        if self.module {
            let module = folder.path().join(MODULE_COPY);
            fs::copy(self.build.as_deref().unwrap_or_else(|| files::module()), &module).unwrap();
            assert_eq!(discovery.move_file(MODULE, &module), 1, "{MODULE} in {plan_file}");
        }
        let mut plan = PlanFile::new(&folder.path().join("plan.yaml"), discovery).unwrap();
        plan.write(&text).unwrap();
        assert_eq!(
            self.bootstrap.move_file(plan_file, plan.path()),
            usize::from(self.module),
            "{plan_file} in {bootstrap}"
        );
        let config = folder.path().join("envoy.yaml");
        self.bootstrap.write(&config).unwrap();

        let arguments = ["-l", "warning", "--component-log-level", "wasm:info", "--concurrency"];
        let process = Process::start(&Launch {
            binary: envoy.binary.clone(),
            config,
            folder: folder.path().to_owned(),
            args: arguments
                .map(Into::into)
                .into_iter()
                .chain([self.concurrency.to_string().into()])
                .collect(),
        });
        Proxy { process: process.unwrap(), plan, folder: Some(folder) }
    }

    fn resources(&mut self, kind: &str) -> &mut Vec<Value> {
        self.bootstrap.value_mut()["static_resources"][kind].as_array_mut().expect("a list in the bootstrap")
    }
}

/// A running Envoy. Ends when dropped; its folder, with configuration and log, stays when the test fails.
pub struct Proxy {
    process: Process,
    plan: PlanFile,
    folder: Option<TempDir>,
}

impl Proxy {
    /// Where clients go through Meltemi.
    pub fn meltemi(&self) -> SocketAddr {
        self.listener("demo")
    }

    /// Where the listener of that name is.
    pub fn listener(&self, name: &str) -> SocketAddr {
        self.process.listener(name).unwrap()
    }

    /// Where Thrift goes through Envoy's native thrift_proxy.
    pub fn thrift_proxy(&self) -> SocketAddr {
        self.listener("demo_thrift_proxy")
    }

    /// Where Dubbo goes through Envoy's native dubbo_proxy.
    pub fn dubbo_proxy(&self) -> SocketAddr {
        self.listener("demo_dubbo_proxy")
    }

    /// Where bytes go through plain tcp_proxy.
    pub fn tcp_proxy(&self) -> SocketAddr {
        self.listener("demo_tcp_proxy")
    }

    /// How many client connections are open.
    pub fn clients(&self) -> u64 {
        self.stat(r"^listener\.127\.0\.0\.1_[0-9]+\.downstream_cx_active$")
    }

    /// How many client connections were ever opened to the port of Meltemi.
    pub fn accepted(&self) -> u64 {
        self.stat(r"^tcp\.demo\.downstream_cx_total$")
    }

    /// The sum of the counters and gauges whose names match the regular expression `filter`.
    pub fn stat(&self, filter: &str) -> u64 {
        self.process.admin().sum(filter).unwrap()
    }

    /// The sum of the metrics `name` in Prometheus' form whose labels hold each of `labels`, such as `method="hold"`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.metrics();
        let samples = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (known, known_labels) = series.split_once('{')?;
            let wanted = known == name && labels.iter().all(|label| known_labels.contains(label));
            wanted.then(|| value.parse::<f64>().unwrap() as u64)
        });
        samples.sum()
    }

    /// All metrics in Prometheus' form.
    pub fn metrics(&self) -> String {
        self.process.admin().fetch("/stats/prometheus?usedonly").unwrap()
    }

    /// Where all metrics are, in Prometheus' form.
    pub fn admin(&self) -> SocketAddr {
        self.process.admin().address()
    }

    /// What Envoy has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.process.log()).unwrap()
    }

    /// Envoy's process id.
    pub fn process(&self) -> u32 {
        self.process.pid()
    }

    /// Envoy's resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Puts `plan` in place of the running one, and waits until Envoy has read it. Its workers see it a little later.
    pub fn update(&mut self, plan: &Value) {
        let attempts =
            format!(r"^extension_config_discovery\.network_filter\.{FILTER}\.update_(success|rejected)$");
        let before = self.stat(&attempts);
        self.plan.write(&plan.to_string()).unwrap();
        eventually("Envoy reads the plan", || (self.stat(&attempts) > before).then_some(()));
    }

    /// Puts another build of the module in place of the running one: the next plan comes with it.
    pub fn renew_module(&self) {
        let path = self.folder.as_ref().unwrap().path().join(MODULE_COPY);
        fs::write(&path, files::another_build(&fs::read(&path).unwrap())).unwrap();
    }

    /// Puts the plan whose service `demo` is `service` in place of the running one.
    pub fn update_service(&mut self, service: &Value) {
        self.update(&plan_of(service));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            let folder = self.folder.take().map(TempDir::keep);
            println!("Envoy's folder: {folder:?}; it had ended: {:?}", self.process.exited());
        }
    }
}

/// The plan whose one service, `demo`, is `service`.
pub fn plan_of(service: &Value) -> Value {
    json!({"services": {"demo": service}})
}

fn shipped(file: &str) -> Config {
    let text = fs::read_to_string(files::root().join(Path::new(file))).unwrap();
    Config::parse(file, &text).unwrap()
}
