use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use meltemi::envoy::Admin;
use meltemi::generate::unpack;
use meltemi_tests::{eventually, files};
use nix::sys::signal::Signal;
use nix::unistd::gethostname;
use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, ISSUER};
use crate::container::{self, Images};
use crate::istiod;
use crate::namespace::Namespace;
use crate::network::{Network, PROXY_USER, feed, run_path};
use crate::process::Process;
use crate::tools::Tools;

/// The agent's cache of modules, which it puts nowhere else.
const DATA: &str = "/var/lib/istio";

/// Where containers find what their pod's service account needs at the API server.
const ACCOUNT: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// Where Envoy's admin interface and the agent's report of its health are in every pod.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15021);

/// The labels of Meltemi's metrics, which Istio's bootstrap makes tags of only when configured to: a mesh has them in
/// `defaultConfig`.
const TAGS: [&str; 13] = [
    "service",
    "method",
    "class",
    "reason",
    "outcome",
    "le",
    "source_principal",
    "destination_workload",
    "destination_principal",
    "authority",
    "route",
    "plugin",
    "build",
];

/// The label by which a pod is kept out of the mesh.
const INJECT: &str = "sidecar.istio.io/inject";

/// The part that a pod's Envoy has in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// There is none.
    None,
    /// All connections of the pod go through it.
    Sidecar,
    /// It is all that the pod consists of.
    Gateway,
}

/// What a pod is to be.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Its namespace, which must exist.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its service account, which is made.
    pub account: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its containers' ports, by name.
    pub ports: BTreeMap<String, u16>,
    /// Its Envoy.
    pub proxy: Proxy,
    /// Whether that is of the oldest version which Meltemi supports, that of Istio 1.28.
    pub is_old: bool,
    /// The Deployment that it is of; null without one.
    pub(crate) deployment: Value,
}

impl Workload {
    /// A pod with a sidecar and without labels, of the service account `name`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            account: name.to_owned(),
            labels: BTreeMap::new(),
            ports: BTreeMap::new(),
            proxy: Proxy::Sidecar,
            is_old: false,
            deployment: Value::Null,
        }
    }

    /// The pods of a Deployment, whose namespace has sidecars injected or not.
    pub(crate) fn replicas(deployment: &Value, is_injected: bool) -> Vec<Self> {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let [namespace, name] =
            ["namespace", "name"].map(|field| text(&deployment["metadata"][field]).unwrap());
        let template = &deployment["spec"]["template"];
        let labels = template["metadata"]["labels"].as_object().into_iter().flatten();
        let labels: BTreeMap<_, _> =
            labels.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect();
        let pod = Self {
            name: name.clone(),
            account: text(&template["spec"]["serviceAccountName"]).unwrap_or_else(|| "default".to_owned()),
            proxy: match is_injected && labels.get(INJECT).is_none_or(|value| value != "false") {
                true => Proxy::Sidecar,
                false => Proxy::None,
            },
            is_old: false,
            namespace,
            labels,
            ports: BTreeMap::new(),
            deployment: deployment.clone(),
        };
        match deployment["spec"]["replicas"].as_u64().unwrap_or(1) {
            1 => vec![pod],
            several => {
                (0..several).map(|number| Self { name: format!("{name}-{number}"), ..pod.clone() }).collect()
            }
        }
    }

    /// Its containers, as its Deployment has them.
    fn containers(&self) -> &[Value] {
        self.deployment["spec"]["template"]["spec"]["containers"].as_array().map_or(&[], Vec::as_slice)
    }

    /// With one label more.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// A pod: a network namespace, and in it an agent and an Envoy.
#[derive(Debug)]
pub struct Pod {
    workload: Workload,
    network: Namespace,
    hosts: PathBuf,
    agent: Option<Process>,
    containers: Vec<Process>,
}

impl Pod {
    /// Makes the pod's network and its object; nothing runs in it yet.
    pub(crate) fn create(workload: Workload, network: &Network, cluster: &Cluster, tools: &Tools) -> Self {
        let name = format!("{}-{}", workload.namespace, workload.name);
        let folder = run_path("pods").join(&name);
        let [hosts, data, account] = ["hosts", "data", "account"].map(|part| folder.join(part));
        for made in [&data.join("data"), &account, Path::new(DATA), Path::new(ACCOUNT)] {
            fs::create_dir_all(made).unwrap();
        }
        fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
        let mut binds = vec![
            (hosts.clone(), PathBuf::from("/etc/hosts")),
            (data, PathBuf::from(DATA)),
            (account, PathBuf::from(ACCOUNT)),
        ];
        binds.push((tools.pilot_agent.clone(), program_path(&tools.pilot_agent)));
        let envoy = if workload.is_old { &tools.oldest_envoy } else { &tools.envoy };
        binds.push((envoy.clone(), program_path(&tools.envoy)));
        let network = network.pod(&name, workload.proxy == Proxy::Sidecar, binds);
        let pod = Self { workload, network, hosts, agent: None, containers: Vec::new() };
        pod.register(cluster);
        pod
    }

    /// What it was made as.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Whether this is the pod `name` of `namespace`.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.workload.namespace == namespace && self.workload.name == name
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.network.address()
    }

    /// Runs `work` in the pod, as [`Namespace::enter`] does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.network.enter(work)
    }

    /// Runs `command` in the pod, with `input` to read, and gives what it printed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn feed(&self, command: &mut Command, input: &str) -> String {
        self.enter(|| feed(command, input))
    }

    /// Asks its Envoy's admin interface.
    pub fn admin<T: Send>(&self, ask: impl FnOnce(&Admin) -> T + Send) -> T {
        self.enter(|| ask(&Admin::new(ADMIN)))
    }

    /// Every listener and cluster that its Envoy got from istiod, by name.
    pub fn settings(&self) -> Value {
        let dump = self.admin(|admin| admin.fetch("/config_dump")).unwrap();
        let dump: Value = serde_json::from_str(&dump).unwrap();
        let configs = dump["configs"].as_array().unwrap();
        let all =
            |field: &'static str| configs.iter().flat_map(move |config| config[field].as_array()).flatten();
        let mut settings = BTreeMap::new();
        for listener in all("dynamic_listeners") {
            settings.insert(format!("listener {}", listener["name"]), &listener["active_state"]["listener"]);
        }
        for cluster in all("dynamic_active_clusters") {
            settings.insert(format!("cluster {}", cluster["cluster"]["name"]), &cluster["cluster"]);
        }
        json!(settings)
    }

    /// The plan that its Envoy has now: what all its shards say of services, as client and as server.
    pub fn plan(&self) -> Option<Value> {
        // An error while there is none.
        let dump = self.admin(|admin| admin.fetch("/config_dump?resource=ecds_filters")).ok()?;
        let dump: Value = serde_json::from_str(&dump).unwrap();
        let mut configs: Vec<&Value> = dump["configs"].as_array()?.iter().collect();
        // A listener that drains keeps what it had, by another name.
        configs.sort_by_key(|config| config["last_updated"].as_str());
        let mut plans = BTreeMap::new();
        for config in configs.iter().map(|config| &config["ecds_filter"]["typed_config"]["config"]) {
            let mut plan: Value = serde_json::from_str(config["configuration"]["value"].as_str()?).unwrap();
            unpack(&mut plan);
            plans.insert(config["root_id"].as_str(), plan);
        }
        plans.into_values().reduce(|mut all, mut plan| {
            let of =
                |plan: &mut Value| plan["services"].as_object_mut().map(std::mem::take).unwrap_or_default();
            let more = of(&mut plan);
            all["services"] = of(&mut all).into_iter().chain(more).collect::<Map<_, _>>().into();
            all
        })
    }

    /// Waits until its Envoy has a plan for which `wanted` holds.
    pub fn wait_for_plan(&self, wanted: impl Fn(&Value) -> bool) {
        eventually("the plan has arrived", || self.plan().filter(&wanted).map(drop));
    }

    /// Waits until its Envoy leads connections into tunnels.
    pub fn wait_for_tunnels(&self) {
        eventually("the tunnels have come", || {
            self.settings().to_string().contains("tunneling_config").then_some(())
        });
    }

    /// What its agent and Envoy have logged.
    pub fn log(&self) -> String {
        self.agent.as_ref().map(Process::log).unwrap_or_default()
    }

    /// Writes what its applications know other hosts by: lines of an address, a namespace and a name for each service.
    pub(crate) fn write_hosts(&self, services: &[[String; 3]]) {
        // In place: the file is mounted over the one of the machine.
        let own = gethostname().unwrap();
        let own = own.to_string_lossy();
        let istiod = format!("{} istiod.{}.svc", crate::network::CONTROL, istiod::NAMESPACE);
        let mut hosts = format!("127.0.0.1 localhost\n{} {own}\n{istiod}\n", self.address());
        for [address, namespace, name] in services {
            let short = if *namespace == self.workload.namespace { name } else { "" };
            writeln!(hosts, "{address} {name}.{namespace}.svc.cluster.local {name}.{namespace} {short}")
                .unwrap();
        }
        fs::write(&self.hosts, hosts).unwrap();
    }

    /// Starts its agent, which starts Envoy. Returns at once.
    pub(crate) fn start_agent(&mut self, cluster: &Cluster, tools: &Tools) {
        let Workload { namespace, name, account, labels, .. } = &self.workload;
        let role = match self.workload.proxy {
            Proxy::None => return,
            Proxy::Sidecar => "sidecar",
            Proxy::Gateway => "router",
        };
        let folder = self.hosts.with_file_name("agent");
        let secrets = folder.join("var/run/secrets");
        for part in ["tokens", "istio"] {
            fs::create_dir_all(secrets.join(part)).unwrap();
        }
        fs::create_dir_all(folder.join("etc/istio/proxy")).unwrap();
        fs::create_dir_all(folder.join("etc/istio/pod")).unwrap();
        fs::write(secrets.join("tokens/istio-token"), cluster.token(namespace, account, "istio-ca")).unwrap();
        fs::write(secrets.join("istio/root-cert.pem"), root_certificate(cluster, namespace)).unwrap();
        fs::copy(&tools.bootstrap, folder.join("etc/istio/envoy_bootstrap.json")).unwrap();
        for part in ["agent", "data"] {
            give_to_proxy(&self.hosts.with_file_name(part));
        }
        let (old, tags) = (self.workload.is_old, TAGS.map(str::to_owned).into_iter());
        // By them older proxies count Istio's metrics, too.
        let tags: Vec<_> = tags.chain(old.then(files::stat_tags).into_iter().flatten()).collect();
        let proxy = json!({
            "discoveryAddress": format!("istiod.{}.svc:15012", istiod::NAMESPACE),
            "binaryPath": program_path(&tools.envoy),
            "proxyBootstrapTemplatePath": "etc/istio/envoy_bootstrap.json",
            "configPath": "etc/istio/proxy",
            "concurrency": 2,
            "extraStatTags": tags,
        });
        // What an agent says that came with such an Envoy.
        let version = old.then_some(("ISTIO_META_ISTIO_VERSION", "1.28.0"));
        let agent = self.enter(|| {
            Process::start(
                &format!("{namespace}-{name}"),
                Some(PROXY_USER),
                Command::new(program_path(&tools.pilot_agent))
                    .args(["proxy", role, "--domain", &format!("{namespace}.svc.cluster.local")])
                    .current_dir(&folder)
                    .uid(PROXY_USER)
                    .gid(PROXY_USER)
                    .env_clear()
                    .env("POD_NAME", name)
                    .env("POD_NAMESPACE", namespace)
                    .env("INSTANCE_IP", self.address().to_string())
                    .env("SERVICE_ACCOUNT", account)
                    .env("ISTIO_META_CLUSTER_ID", "Kubernetes")
                    .env("ISTIO_META_WORKLOAD_NAME", name)
                    .env("ISTIO_META_INTERCEPTION_MODE", "REDIRECT")
                    .env("ISTIO_METAJSON_LABELS", json!(labels).to_string())
                    .env("CA_ADDR", format!("istiod.{}.svc:15012", istiod::NAMESPACE))
                    .env("PILOT_CERT_PROVIDER", "istiod")
                    .env("TRUST_DOMAIN", "cluster.local")
                    .envs(version)
                    .env("PROXY_CONFIG", proxy.to_string()),
            )
        });
        self.agent = Some(agent);
    }

    /// Waits until its Envoy has its configuration and serves.
    pub(crate) fn wait_until_ready(&mut self) {
        let Self { agent: Some(agent), network, .. } = self else { return };
        let health = Admin::new(HEALTH);
        network.enter(|| agent.wait_until("Envoy is ready", || health.fetch("/healthz/ready").ok()));
    }

    /// Starts its containers, and waits until those that have a probe for it are ready.
    pub(crate) fn start_containers(&mut self, cluster: &Cluster, images: &Images) {
        let Workload { namespace, account, .. } = &self.workload;
        let folder = self.hosts.with_file_name("account");
        fs::write(folder.join("token"), cluster.token(namespace, account, ISSUER)).unwrap();
        fs::write(folder.join("namespace"), namespace).unwrap();
        fs::copy(cluster.certificate(), folder.join("ca.crt")).unwrap();
        for container in self.workload.containers() {
            let folder = self.hosts.with_file_name("containers");
            let mut process =
                self.enter(|| container::start(&self.workload, container, &folder, images, cluster));
            if let Some((port, path)) = container::readiness(container) {
                let http = Admin::new((self.address(), port).into());
                self.enter(|| process.wait_until("the container is ready", || http.fetch(path).ok()));
            }
            self.containers.push(process);
        }
    }

    /// Sends its containers `signal`, and waits until they end.
    pub(crate) fn end_containers(&mut self, signal: Signal) {
        for container in self.containers.drain(..) {
            container.end(signal);
        }
    }

    /// Writes whether it is ready for calls.
    pub(crate) fn report_ready(&self, cluster: &Cluster, is_ready: bool) {
        let Workload { namespace, name, .. } = &self.workload;
        let status = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "status": {
                "phase": "Running",
                "podIP": self.address(),
                "podIPs": [{"ip": self.address()}],
                "conditions": [{"type": "Ready", "status": if is_ready { "True" } else { "False" }}],
            },
        });
        cluster.put(&format!("{}/status", self.path()), &status);
    }

    /// Writes its service account, its object and its object's status.
    fn register(&self, cluster: &Cluster) {
        let Workload { namespace, name, account, ports, .. } = &self.workload;
        let api = format!("/api/v1/namespaces/{namespace}");
        let object = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}});
        cluster.put(&format!("{api}/serviceaccounts/{account}"), &object("ServiceAccount", account));

        let mut labels = self.workload.labels.clone();
        if self.workload.proxy == Proxy::Sidecar {
            // Without it, clients in the mesh talk plain text to the pod.
            labels.insert("security.istio.io/tlsMode".to_owned(), "istio".to_owned());
        }
        let ports: Vec<_> =
            ports.iter().map(|(name, port)| json!({"name": name, "containerPort": port})).collect();
        let mut pod = object("Pod", name);
        pod["metadata"]["labels"] = json!(labels);
        pod["spec"] = json!({"containers": [{"name": "application", "image": "none", "ports": ports}]});
        if let Some(spec) = self.workload.deployment["spec"]["template"]["spec"].as_object() {
            pod["spec"] = json!(spec);
        }
        pod["spec"]["serviceAccountName"] = json!(account);
        pod["spec"]["nodeName"] = json!("node");
        cluster.put(&self.path(), &pod);

        self.report_ready(cluster, true);
    }

    /// Kills everything in the pod and removes its object.
    pub(crate) fn delete(self, cluster: &Cluster) {
        cluster.remove(&self.path());
        self.network.delete();
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.workload.namespace, self.workload.name)
    }
}

/// Where a pod sees `program`, whose own folder user 1337 may not be able to enter.
fn program_path(program: &Path) -> PathBuf {
    run_path("bin").join(program.file_name().unwrap())
}

/// Makes the files over which pods see their programs.
pub(crate) fn make_program_paths(tools: &Tools) {
    fs::create_dir_all(run_path("bin")).unwrap();
    for program in [&tools.pilot_agent, &tools.envoy] {
        fs::write(program_path(program), "").unwrap();
    }
}

/// The certificate of the mesh's authority, which istiod puts into every namespace.
fn root_certificate(cluster: &Cluster, namespace: &str) -> String {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert");
    eventually(&format!("istiod has made {path}"), || {
        Some(cluster.find(&path)?["data"]["root-cert.pem"].as_str()?.to_owned())
    })
}

fn give_to_proxy(path: &Path) {
    chown(path, Some(PROXY_USER), Some(PROXY_USER)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give_to_proxy(&entry.unwrap().path());
        }
    }
}
