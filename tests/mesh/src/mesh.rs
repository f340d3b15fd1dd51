use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::container::Images;
use crate::files::FileServer;
use crate::jaeger::Jaeger;
use crate::network::{Network, run_path};
use crate::pod::{self, Pod, Workload};
use crate::process::Process;
use crate::registry::Registry;
use crate::tools::Tools;
use crate::{endpoints, istiod};

/// A mesh: API server, istiod, a network, and pods.
#[derive(Debug)]
pub struct Mesh {
    tools: Tools,
    network: Network,
    cluster: Cluster,
    files: FileServer,
    registry: Registry,
    _istiod: Process,
    images: Images,
    pods: Vec<Pod>,
}

impl Mesh {
    /// Starts a mesh without pods. Waits until no other runs on this machine.
    pub fn start() -> Self {
        let tools = Tools::find();
        let network = Network::start();
        let start = Instant::now();
        pod::make_program_paths(&tools);
        let cluster = Cluster::start(&tools, network.control());
        println!("API server ready after {:?}", start.elapsed());
        make_namespace(&cluster, istiod::NAMESPACE);
        let istiod = istiod::start(&tools, network.control(), &cluster);
        println!("istiod ready after {:?}", start.elapsed());
        let files = FileServer::start(network.control(), run_path("files"));
        let registry = Registry::start(network.control());
        Self {
            tools,
            network,
            cluster,
            files,
            registry,
            _istiod: istiod,
            images: Images::new(),
            pods: Vec::new(),
        }
    }

    /// The API server.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// A server of files that agents can reach.
    pub fn files(&self) -> &FileServer {
        &self.files
    }

    /// A registry of images that agents can reach.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Starts Jaeger in a pod.
    pub fn start_jaeger(&self, namespace: &str, pod: &str) -> Jaeger {
        self.pod(namespace, pod).enter(|| Jaeger::start(&self.tools.jaeger))
    }

    /// Makes the namespace `name`, if it is not there.
    pub fn make_namespace(&self, name: &str) {
        make_namespace(&self.cluster, name);
    }

    /// Starts pods, side by side, and waits until their sidecars serve.
    pub fn start_pods(&mut self, workloads: impl IntoIterator<Item = Workload>) {
        let first = self.pods.len();
        for workload in workloads {
            self.pods.push(Pod::create(workload, &self.network, &self.cluster, &self.tools));
        }
        self.settle();
        for pod in &mut self.pods[first..] {
            pod.start_agent(&self.cluster, &self.tools);
        }
        for pod in &mut self.pods[first..] {
            pod.wait_until_ready();
        }
    }

    /// Has a program of this machine, with arguments that come before all others, take the place of images whose last
    /// name is `image`. Commands of containers find the programs beside it, too.
    pub fn provide(&mut self, image: &str, program: &[&str]) {
        self.images.insert(image.to_owned(), program.iter().map(|&word| word.to_owned()).collect());
    }

    /// Starts the pods of a namespace's Deployments that are not there yet, with their containers, and waits until they are
    /// ready.
    pub fn deploy(&mut self, namespace: &str) {
        let Some(object) = self.cluster.find(&format!("/api/v1/namespaces/{namespace}")) else { return };
        let is_injected = object["metadata"]["labels"]["istio-injection"] == "enabled";
        let deployments = self.cluster.list(&format!("/apis/apps/v1/namespaces/{namespace}/deployments"));
        let pods = deployments.iter().flat_map(|deployment| Workload::replicas(deployment, is_injected));
        let missing: Vec<_> = pods.filter(|pod| !self.has_pod(namespace, &pod.name)).collect();
        let first = self.pods.len();
        self.start_pods(missing);
        for pod in &mut self.pods[first..] {
            pod.start_containers(&self.cluster, &self.images);
        }
    }

    /// Has the pods of a Deployment end by `signal`, as when it is deleted or its node is lost.
    pub fn end(&mut self, namespace: &str, deployment: &str, signal: Signal) {
        let of_it = |pod: &Pod| {
            let metadata = &pod.workload().deployment["metadata"];
            metadata["namespace"] == namespace && metadata["name"] == deployment
        };
        while let Some(index) = self.pods.iter().position(of_it) {
            let mut pod = self.pods.swap_remove(index);
            pod.end_containers(signal);
            pod.delete(&self.cluster);
        }
        self.settle();
    }

    /// The pod `name` of `namespace`.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn pod(&self, namespace: &str, name: &str) -> &Pod {
        let found = self.pods.iter().find(|pod| pod.is(namespace, name));
        found.unwrap_or_else(|| panic!("no pod {namespace}/{name}"))
    }

    /// Whether there is a pod `name` of `namespace`.
    pub fn has_pod(&self, namespace: &str, name: &str) -> bool {
        self.pods.iter().any(|pod| pod.is(namespace, name))
    }

    /// Has a pod's endpoints be those of its services again.
    pub fn admit_pod(&self, namespace: &str, name: &str) {
        self.pod(namespace, name).report_ready(&self.cluster, true);
        self.settle();
    }

    /// Has a pod's endpoints taken from its services, as of one that is about to end.
    pub fn withdraw_pod(&self, namespace: &str, name: &str) {
        self.pod(namespace, name).report_ready(&self.cluster, false);
        self.settle();
    }

    /// Kills a pod, as a lost node does: without a word to its peers.
    pub fn kill_pod(&mut self, namespace: &str, name: &str) {
        let index = self.pods.iter().position(|pod| pod.is(namespace, name));
        let index = index.unwrap_or_else(|| panic!("no pod {namespace}/{name}"));
        self.pods.swap_remove(index).delete(&self.cluster);
        self.settle();
    }

    /// Applies objects in YAML, and does what controllers would do then.
    pub fn apply(&self, yaml: &str) {
        self.cluster.apply(yaml);
        self.settle();
    }

    /// Has EndpointSlices and the pods' names of services follow from the pods and services that there are.
    pub fn settle(&self) {
        endpoints::reconcile(&self.cluster);
        let services = self.cluster.list("/api/v1/services");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let hosts: Vec<_> = services
            .iter()
            .filter(|service| service["spec"]["clusterIP"] != "None")
            .map(|service| {
                let metadata = &service["metadata"];
                [text(&service["spec"]["clusterIP"]), text(&metadata["namespace"]), text(&metadata["name"])]
            })
            .collect();
        for pod in &self.pods {
            pod.write_hosts(&hosts);
        }
    }
}

fn make_namespace(cluster: &Cluster, name: &str) {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    cluster.put(&format!("/api/v1/namespaces/{name}"), &object);
}
