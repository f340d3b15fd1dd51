//! An Envoy with what `generate` makes, in the place of a sidecar: istiod's own part is played here.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use meltemi::checkout;
use meltemi::envoy::{Config, Envoy as Process, Launch};
use meltemi::generate::{IstioVersion, Options, generate};
use meltemi::world::{World, documents};
use meltemi_tests::Envoy;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::server::{Client, Server};

/// A sidecar of the namespace `redis`.
pub struct Stage {
    process: Process,
    _folder: TempDir,
}

impl Stage {
    /// Starts a sidecar for a world in which each of the hosts has these servers. Hosts are services of the namespace, by
    /// their names.
    pub fn start(envoy: &Envoy, yaml: &str, hosts: &[(&str, &[&Server])]) -> Self {
        let world = world(yaml);
        let bootstrap = bootstrap(&patches(&world), listeners(&world), hosts);
        let parent = checkout::target().join("e2e");
        fs::create_dir_all(&parent).unwrap();
        let folder = tempfile::Builder::new().prefix("redis-").tempdir_in(parent).unwrap();
        let config = folder.path().join("envoy.yaml");
        Config::parse("bootstrap", &bootstrap.to_string()).unwrap().write(&config).unwrap();
        let process = Process::start(&Launch {
            binary: envoy.binary.clone(),
            config,
            folder: folder.path().to_owned(),
            args: ["-l", "warning", "--concurrency", "1"].map(Into::into).to_vec(),
        });
        Self { process: process.unwrap(), _folder: folder }
    }

    /// A client's connection to the address of a service.
    pub fn client(&self, address: &str) -> Client {
        Client::connect(self.process.listener(&format!("{address}_6379")).unwrap())
    }

    /// The sum of the counters and gauges whose names match the regular expression `filter`.
    pub fn stat(&self, filter: &str) -> u64 {
        self.process.admin().sum(filter).unwrap()
    }
}

fn world(yaml: &str) -> World {
    let mut world = World::default();
    for document in documents("world.yaml", yaml).unwrap() {
        world.add(&document.object).unwrap();
    }
    world
}

/// The patches for the sidecars of the namespace.
fn patches(world: &World) -> Vec<Value> {
    let module = "oci://registry.example.org/meltemi".to_owned();
    let output = generate(world, &Options::new(IstioVersion(30), module));
    let own = output.objects.into_iter().filter(|object| object.metadata.namespace == "redis");
    own.flat_map(|object| json!(object.spec)["configPatches"].as_array().unwrap().clone()).collect()
}

/// The listeners that istiod sends for the services: plain TCP.
fn listeners(world: &World) -> Vec<Value> {
    let services = world.services.iter();
    let listeners = services.filter_map(|service| {
        let address = service.spec.as_ref()?.cluster_ip.as_ref()?;
        let cluster = cluster_name(service.metadata.name.as_ref()?);
        Some(json!({
            "name": format!("{address}_6379"),
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{"filters": [{
                "name": TCP_PROXY,
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                    "stat_prefix": cluster,
                    "cluster": cluster,
                },
            }]}],
        }))
    });
    listeners.collect()
}

const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

fn cluster_name(host: &str) -> String {
    format!("outbound|6379||{host}.redis.svc.cluster.local")
}

/// The configuration of a sidecar: the listeners and clusters that Istio has for the hosts, patched.
fn bootstrap(patches: &[Value], mut listeners: Vec<Value>, hosts: &[(&str, &[&Server])]) -> Value {
    let mut clusters: Vec<Value> =
        hosts.iter().map(|(host, servers)| istio_cluster(&cluster_name(host), servers)).collect();
    for patch in patches {
        let value = &patch["patch"]["value"];
        match (patch["applyTo"].as_str().unwrap(), patch["patch"]["operation"].as_str().unwrap()) {
            ("CLUSTER", "ADD") => clusters.push(value.clone()),
            ("CLUSTER", "MERGE") => {
                let name = &patch["match"]["cluster"]["name"];
                let cluster = clusters.iter_mut().find(|cluster| cluster["name"] == *name);
                merge(cluster.unwrap_or_else(|| panic!("servers of {name}")), value);
            }
            ("NETWORK_FILTER", "REPLACE") => {
                let on = &patch["match"]["listener"];
                assert_eq!(on["filterChain"]["filter"]["name"], TCP_PROXY);
                let listener = listeners.iter_mut().find(|listener| listener["name"] == on["name"]);
                let listener = listener.unwrap_or_else(|| panic!("a listener {on}"));
                listener["filter_chains"][0]["filters"] = json!([value]);
            }
            other => panic!("a patch that Redis has no need of: {other:?}"),
        }
    }
    json!({
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

/// A cluster as istiod sends it, but for its endpoints, which would come by EDS.
fn istio_cluster(name: &str, servers: &[&Server]) -> Value {
    let endpoint = |server: &&Server| {
        let SocketAddr::V4(address) = server.address else { panic!("IPv4") };
        let address = json!({"address": address.ip().to_string(), "port_value": address.port()});
        json!({"endpoint": {"address": {"socket_address": address}}})
    };
    let endpoints: Vec<Value> = servers.iter().map(endpoint).collect();
    json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{"max_connections": u32::MAX, "max_requests": u32::MAX}]},
        "common_lb_config": {"healthy_panic_threshold": {}},
    })
}

/// Merges as Istio does: messages by field, the rest replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.as_str()).or_insert_with(|| Map::new().into()), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// The sample, with the addresses of its services.
pub fn sample() -> String {
    let folder = meltemi_tests::files::root().join("istio-samples/redis");
    let read = |file: &Path| format!("---\n{}\n", fs::read_to_string(file).unwrap());
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.is_file()).chain([folder.join("generated/addresses.yaml")]);
    files.map(|file| read(&file)).collect()
}

/// A service of the namespace with an address.
pub fn service(name: &str, address: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: redis}}
spec: {{clusterIP: {address}, selector: {{app: {name}}}, ports: [{{name: tcp-redis, port: 6379}}]}}
"
    )
}

/// A RedisService or RedisDestination.
pub fn resource(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: redis.aeraki.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: redis}}\nspec: {spec}\n"
    )
}
