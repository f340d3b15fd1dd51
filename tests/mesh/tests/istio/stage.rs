//! The mesh that all tests run on, and what they do with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use meltemi_mesh_tests::{Mesh, Pod, Workload};
use meltemi_tests::{Backend, Client, eventually, files};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// The namespace of the services.
pub const SHOP: &str = "shop";

/// A service of the shop, with a subset for each version.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Its name, and that of its objects.
    pub name: &'static str,
    /// Where clients call it.
    pub address: &'static str,
    /// Its port.
    pub port: u16,
    /// The port of its pods.
    pub target: u16,
}

/// The service that raw backends serve.
pub const DEMO: Service = Service { name: "demo", address: "10.96.7.7:20880", port: 20880, target: 20881 };

/// The service that Java serves.
pub const JAVA: Service = Service { name: "java", address: "10.96.7.10:20800", port: 20800, target: 20801 };

impl Service {
    /// Its host name.
    pub fn host(&self) -> String {
        format!("{}.{SHOP}.svc.cluster.local", self.name)
    }
}

/// The namespace of the controller, and its Deployment.
pub const SYSTEM: &str = "meltemi-system";
pub const CONTROLLER: &str = "meltemi";

/// Tests have one controller follow another at once, whose module is at hand, and look at what it did.
const HASTE: [&str; 4] =
    ["--lease-seconds=3", "--warm-up-seconds=3", "--linger-seconds=3", "--log-level=debug"];

/// The ports of the servers' pods.
const PORTS: [u16; 7] = [20881, 20981, 20991, 7001, 20870, 20861, 20851];

/// Listeners that lead the client's calls through Meltemi: those of the managed ports of `services.yaml`, and the sockets.
const WAYS: usize = 6 + 1;

/// The pods that calls pass.
const PODS: [&str; 3] = ["client", SERVERS[0], SERVERS[1]];

/// By then what was replaced of a sidecar's listeners is gone: 45 seconds and some more.
const DRAIN: Duration = Duration::from_secs(90);

/// The versions of the server, each a pod.
pub const SERVERS: [&str; 2] = ["v1", "v2"];

/// A mesh with a client and two versions of a server, and Meltemi in it.
pub struct Stage {
    pub mesh: Mesh,
    /// The settings of the sidecar in the namespace `plain`, before there was anything of Meltemi's.
    pub bystander_before: Value,
    /// The reference of the image with the module.
    pub module: String,
    backends: BTreeMap<(&'static str, u16), Backend>,
    /// What leads the client's calls through Meltemi, without what tests add.
    ways: BTreeMap<String, Value>,
    /// What the test has applied.
    written: Vec<String>,
    /// The controller is the one that it was made with.
    has_controller: bool,
}

/// Takes the stage, as it was made.
pub fn take() -> impl DerefMut<Target = Stage> {
    static STAGE: Mutex<Option<Stage>> = Mutex::new(None);
    static STARTING: Once = Once::new();
    // What a failed test leaves is removed like what any other does.
    let mut stage = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    // A stage that could not be made is not tried again by each test.
    STARTING.call_once(|| *stage = Some(Stage::start()));
    let mut stage = Taken(stage);
    stage.reset();
    stage
}

struct Taken(MutexGuard<'static, Option<Stage>>);

impl Deref for Taken {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        self.0.as_ref().expect("it was started")
    }
}

impl DerefMut for Taken {
    fn deref_mut(&mut self) -> &mut Stage {
        self.0.as_mut().expect("it was started")
    }
}

impl Stage {
    fn start() -> Self {
        let start = Instant::now();
        let mut mesh = Mesh::start();
        mesh.provide("meltemi", &[MELTEMI]);
        println!("mesh ready after {:?}", start.elapsed());
        for namespace in [SHOP, "plain"] {
            mesh.make_namespace(namespace);
        }
        mesh.apply(include_str!("services.yaml"));
        let clients = [Workload::new(SHOP, "client"), Workload::new("plain", "bystander")];
        mesh.start_pods(clients.into_iter().chain(SERVERS.map(workload)));
        println!("pods ready after {:?}", start.elapsed());
        let module = push(&mesh, "tests", files::module());
        let bystander_before = mesh.pod("plain", "bystander").settings();
        let mut stage = Self {
            mesh,
            bystander_before,
            module,
            backends: BTreeMap::new(),
            ways: BTreeMap::new(),
            written: Vec::new(),
            has_controller: false,
        };
        for server in SERVERS {
            stage.serve(server);
        }
        let module = stage.module.clone();
        stage.run_controller(&module, &[]);
        stage.has_controller = true;
        for pod in ["client"].into_iter().chain(SERVERS) {
            stage.pod(pod).wait_for_plan(|_| true);
        }
        stage.ways = eventually("all services of the client are led through Meltemi", || {
            Some(stage.ways()).filter(|ways| ways.len() == WAYS)
        });
        stage
    }

    /// Starts a server's pod again.
    pub fn start_server(&mut self, server: &'static str) {
        self.mesh.start_pods([workload(server)]);
        self.serve(server);
        self.pod(server).wait_for_plan(|_| true);
    }

    /// Kills a server with its pod.
    pub fn kill_server(&mut self, server: &'static str) {
        self.backends.retain(|(of, _), _| *of != server);
        self.mesh.kill_pod(SHOP, server);
    }

    /// Starts the backends in the pod of a server.
    fn serve(&mut self, server: &'static str) {
        let pod = self.mesh.pod(SHOP, server);
        let address = pod.address();
        for port in PORTS {
            let name = if port == PORTS[0] { server.to_owned() } else { format!("{server}@{port}") };
            let backend = pod.enter(|| Backend::start_at(&name, (address, port).into()));
            self.backends.insert((server, port), backend);
        }
    }

    /// Removes what a test has applied, and has both servers serve.
    fn reset(&mut self) {
        for server in SERVERS {
            if self.mesh.has_pod(SHOP, server) {
                self.mesh.admit_pod(SHOP, server);
            } else {
                self.start_server(server);
            }
        }
        if !self.has_controller {
            // The one that a test has started.
            self.end_controller(Signal::SIGTERM);
            let module = self.module.clone();
            self.run_controller(&module, &[]);
            self.has_controller = true;
        }
        for yaml in self.written.drain(..).rev() {
            self.mesh.cluster().delete(&yaml);
        }
        self.mesh.settle();
        self.wait_for_routes(DEMO, &[]);
        self.wait_for_routes(JAVA, &[]);
        for pod in ["client"].into_iter().chain(SERVERS) {
            self.pod(pod).wait_for_tunnels();
        }
        self.wait_for_ways();
    }

    /// Waits until the client's calls are led as they were at first. Where a test had other sockets, their connections are about
    /// to be closed.
    fn wait_for_ways(&self) {
        let ways = self.ways();
        let has_other = |(name, way): (&String, &Value)| !way.is_null() && self.ways.get(name) != Some(way);
        let had_other_sockets =
            ways.iter().any(has_other) || self.ways.keys().any(|name| !ways.contains_key(name));
        let start = Instant::now();
        while self.ways() != self.ways {
            if start.elapsed() > DRAIN {
                // The test will tell whether it matters.
                println!("calls are led by {:?} instead of {:?}", self.ways(), self.ways);
                break;
            }
            thread::park_timeout(Duration::from_millis(100));
        }
        if had_other_sockets {
            self.wait_for_drained();
        }
    }

    /// The client's sockets, and the listeners with tunnels to them by name alone; those of headless services change with the
    /// pods.
    fn ways(&self) -> BTreeMap<String, Value> {
        let settings = self.pod("client").settings();
        let way = |(name, listener): (&String, &Value)| {
            if is_sockets(listener) {
                return Some((name.clone(), listener.clone()));
            }
            let is_headless =
                SERVERS.iter().any(|server| name.contains(&self.pod(server).address().to_string()));
            let has_tunnel = !is_headless && listener.to_string().contains("tunneling_config");
            has_tunnel.then(|| (name.clone(), Value::Null))
        };
        settings.as_object().into_iter().flatten().filter_map(way).collect()
    }

    /// A pod of the shop.
    pub fn pod(&self, name: &str) -> &Pod {
        self.mesh.pod(SHOP, name)
    }

    /// What serves a service in a server's pod.
    pub fn backend(&self, server: &'static str, service: Service) -> &Backend {
        &self.backends[&(server, service.target)]
    }

    /// Waits until the client's and the servers' Envoys have closed the connections on what was replaced of their listeners.
    pub fn wait_for_drained(&self) {
        let draining = "^listener_manager.total_(listeners|filter_chains)_draining";
        for pod in PODS {
            self.pod(pod).admin(|admin| admin.wait(draining, DRAIN, |count| count == 0)).unwrap();
        }
    }

    /// Waits until the client's calls of that pod of a headless service are led through Meltemi.
    pub fn wait_for_headless(&self, pod: SocketAddr) {
        let listener = format!("listener \"{}_{}\"", pod.ip(), pod.port());
        eventually(&format!("the client has the {listener}"), || {
            self.pod("client").settings()[&listener].to_string().contains("tunneling_config").then_some(())
        });
    }

    /// Waits until the client's calls of a service are led to the sockets that the controller has written last, and by nothing
    /// else.
    pub fn wait_for_way(&self, service: Service) {
        let listener = format!("listener \"{}\"", service.address.replace(':', "_"));
        let authority = format!("{}:{}", service.host(), service.port);
        let filters = format!("/apis/networking.istio.io/v1alpha3/namespaces/{SHOP}/envoyfilters");
        eventually(&format!("{authority} is led as is written"), || {
            let written = json!(self.mesh.cluster().list(&filters));
            let wanted = shards(&written, &authority);
            let settings = self.pod("client").settings();
            (!wanted.is_empty() && shards(&settings[&listener], &authority) == wanted).then_some(())
        });
        self.wait_for_drained();
    }

    /// Waits until all sockets are what is wanted, and connections lead to no others.
    pub fn wait_for_sockets(&self, wanted: impl Fn(&Value) -> bool) {
        for pod in PODS {
            eventually(&format!("{pod} has other sockets"), || {
                let settings = self.pod(pod).settings();
                let mut listeners = settings.as_object().into_iter().flatten().map(|(_, listener)| listener);
                listeners.all(|listener| !is_sockets(listener) || wanted(listener)).then_some(())
            });
        }
        self.wait_for_drained();
    }

    /// Connects from the client's pod to `address`.
    pub fn connect(&self, address: &str) -> Client {
        let address: SocketAddr = address.parse().unwrap();
        self.pod("client").enter(|| Client::connect(address))
    }

    /// Calls `address` on one connection, and gives how many of 100 calls each server answered. Endpoints are found by
    /// chance, and each worker of Envoy looks for them itself: another connection may find what one did not.
    ///
    /// # Panics
    ///
    /// When all connections lead to one server.
    pub fn balanced(&self, address: &str) -> BTreeMap<String, usize> {
        self.connect_balanced(address).1
    }

    /// A connection whose calls both servers answer, and how many of a hundred each did: one worker of the sidecar may know
    /// both when another does not yet.
    pub fn connect_balanced(&self, address: &str) -> (Client, BTreeMap<String, usize>) {
        eventually(&format!("calls of {address} are balanced"), || {
            let mut connection = self.connect(address);
            let servers = count(100, || connection.ask("sayHello", "x"));
            (servers.len() == SERVERS.len()).then_some((connection, servers))
        })
    }

    /// Applies a MetaRouter or a VirtualService of a service, and waits until the client's Envoy has its routes.
    pub fn route(&mut self, service: Service, router: &Value) {
        self.apply(&router.to_string());
        let routes =
            router["spec"]["routes"].as_array().or_else(|| router["spec"]["http"].as_array()).unwrap();
        let name = |route: &Value| format!("{SHOP}/{}/{}", service.name, route["name"].as_str().unwrap());
        self.wait_for_routes(service, &routes.iter().map(name).collect::<Vec<_>>());
    }

    fn wait_for_routes(&self, service: Service, names: &[String]) {
        self.pod("client").wait_for_plan(|plan| {
            let routes =
                plan["services"][format!("{}:{}", service.host(), service.port)]["routes"].as_array();
            routes.into_iter().flatten().map(|route| route["name"].as_str().unwrap()).eq(names)
        });
    }

    /// Applies objects in YAML, which the next test finds removed.
    pub fn apply(&mut self, yaml: &str) {
        self.mesh.apply(yaml);
        self.remove_later(yaml);
    }

    /// Has the next test find objects in YAML removed.
    pub fn remove_later(&mut self, yaml: &str) {
        self.written.push(yaml.to_owned());
    }

    /// Installs the controller, with `module` and more flags, runs it in haste, and waits until it is ready.
    pub fn run_controller(&mut self, module: &str, flags: &[&str]) {
        self.install_controller(module, flags);
        let more = HASTE.map(
            |flag| json!({"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": flag}),
        );
        let patch = json!(more).to_string();
        let deployment = ["--namespace", SYSTEM, "patch", "deployment", CONTROLLER];
        self.mesh.cluster().kubectl(&[&deployment[..], &["--type=json", "--patch", &patch]].concat(), "");
        self.start_controller();
    }

    /// Installs the controller, with `module` and more flags.
    pub fn install_controller(&mut self, module: &str, flags: &[&str]) {
        let image = format!("{}/meltemi:tests", self.mesh.registry().host());
        let mut install = meltemi();
        install.args(["install", "--image", &image, "--module", module]).args(flags);
        install.env("KUBECONFIG", self.mesh.cluster().kubeconfig());
        self.mesh.network().control().enter(|| files::run(&mut install));
    }

    /// Runs the controller that is installed, and waits until it is ready.
    pub fn start_controller(&mut self) {
        self.mesh.deploy(SYSTEM);
    }

    /// Ends the controller by a signal.
    pub fn end_controller(&mut self, signal: Signal) {
        self.mesh.end(SYSTEM, CONTROLLER, signal);
        self.has_controller = false;
    }

    /// Every object that the controller has made, by namespace and name, with what changes when it is written.
    pub fn generated(&self) -> BTreeMap<String, Value> {
        let kinds = ["networking.istio.io/v1alpha3/envoyfilters", "extensions.istio.io/v1alpha1/wasmplugins"];
        let label = "labelSelector=app.kubernetes.io/managed-by=meltemi";
        let lists = kinds.map(|kind| self.mesh.cluster().list(&format!("/apis/{kind}?{label}")));
        lists
            .into_iter()
            .flatten()
            .map(|object| {
                let metadata = &object["metadata"];
                let name = format!(
                    "{} {} {}",
                    metadata["namespace"], metadata["name"], object["spec"]["pluginName"]
                );
                (name, json!([metadata["uid"], metadata["generation"], metadata["resourceVersion"]]))
            })
            .collect()
    }
}

fn is_sockets(listener: &Value) -> bool {
    listener["internal_listener"].is_object()
}

/// Where tunnels of that authority lead, in whatever says so.
fn shards<'a>(value: &'a Value, authority: &str) -> BTreeSet<&'a str> {
    let inside: Vec<&Value> = match value {
        Value::Array(values) => values.iter().collect(),
        Value::Object(fields)
            if fields.get("tunneling_config").is_some_and(|to| to["hostname"] == authority) =>
        {
            return fields["cluster"].as_str().into_iter().collect();
        }
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    };
    inside.into_iter().flat_map(|value| shards(value, authority)).collect()
}

/// Pushes a module to the mesh's registry by a tag, and gives the reference by its digest.
pub fn push(mesh: &Mesh, tag: &str, module: &Path) -> String {
    let image = format!("{}/meltemi:{tag}", mesh.registry().host());
    let mut command = meltemi();
    command.args(["push", &image, "--plain-http", "--module"]).arg(module);
    let output = mesh.network().control().enter(|| command.output()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The command `meltemi`.
pub const MELTEMI: &str = env!("CARGO_BIN_EXE_mesh-meltemi");

fn meltemi() -> Command {
    Command::new(MELTEMI)
}

/// The pod of a server.
fn workload(version: &str) -> Workload {
    let mut server = Workload::new(SHOP, version).label("app", "demo").label("version", version);
    server.ports.insert("calls".to_owned(), 20991);
    server
}

/// A destination of a route: a version of a service.
pub fn to(service: Service, subset: &str) -> Value {
    json!({"destination": {"host": service.host(), "subset": subset}})
}

/// A destination with a weight.
pub fn weighted(service: Service, subset: &str, weight: u32) -> Value {
    json!({"destination": {"host": service.host(), "subset": subset}, "weight": weight})
}

/// A router of a service with `routes`.
pub fn router(service: Service, routes: Value) -> Value {
    json!({
        "apiVersion": "meltemi.io/v1alpha1",
        "kind": "MetaRouter",
        "metadata": {"name": service.name, "namespace": SHOP},
        "spec": {"hosts": [service.host()], "routes": routes},
    })
}

/// How many of `calls` calls each server answers.
pub fn count(calls: usize, mut call: impl FnMut() -> String) -> BTreeMap<String, usize> {
    let mut servers = BTreeMap::new();
    for _ in 0..calls {
        *servers.entry(call()).or_default() += 1;
    }
    servers
}
