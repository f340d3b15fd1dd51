use std::fs;
use std::process::Command;

use meltemi::envoy::Admin;
use serde_json::json;

use crate::cluster::Cluster;
use crate::namespace::Namespace;
use crate::network::{CONTROL, run_path};
use crate::process::Process;
use crate::tools::Tools;

/// The namespace of istiod, and the mesh's root namespace.
pub(crate) const NAMESPACE: &str = "istio-system";

/// By which others know its version.
const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: istiod, namespace: istio-system, labels: {app: istiod}}
spec:
  selector: {matchLabels: {app: istiod}}
  template:
    metadata: {labels: {app: istiod}}
    spec: {containers: [{name: discovery, image: 'docker.io/istio/pilot:1.31.0'}]}
";

/// Starts istiod and waits until it serves.
pub(crate) fn start(tools: &Tools, control: &Namespace, cluster: &Cluster) -> Process {
    let folder = run_path("istiod");
    fs::create_dir_all(&folder).unwrap();
    let mesh = json!({
        "rootNamespace": NAMESPACE,
        "trustDomain": "cluster.local",
        // Istio's own metrics, by an extension that only its own build of Envoy has.
        "defaultProviders": {"metrics": []},
    });
    // JSON is YAML.
    fs::write(folder.join("mesh.yaml"), mesh.to_string()).unwrap();
    let mut istiod = control.enter(|| {
        Process::start(
            "istiod",
            None,
            Command::new(&tools.pilot_discovery)
                .current_dir(&folder)
                .arg("discovery")
                .arg("--kubeconfig")
                .arg(cluster.kubeconfig())
                .args(["--meshConfig", "mesh.yaml"])
                .args(["--httpAddr", "127.0.0.1:8080", "--grpcAddr", "127.0.0.1:15010"])
                .args(["--secureGRPCAddr", &format!("{CONTROL}:15012"), "--httpsAddr", ""])
                .args(["--monitoringAddr", "127.0.0.1:15014"])
                .env("POD_NAME", "istiod")
                .env("POD_NAMESPACE", NAMESPACE)
                .env("CLUSTER_ID", "Kubernetes")
                .env("PILOT_CERT_PROVIDER", "istiod")
                // Two more of them.
                .env("PILOT_ENABLE_METADATA_EXCHANGE", "false")
                .env("PILOT_ENABLE_ALPN_FILTER", "false"),
        )
    });
    let http = Admin::new("127.0.0.1:8080".parse().unwrap());
    control.enter(|| istiod.wait_until("istiod is ready", || http.fetch("/ready").ok()));
    cluster.apply(DEPLOYMENT);
    istiod
}
