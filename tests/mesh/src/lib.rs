//! A real Istio mesh on this machine, without a container engine, for tests.
//!
//! etcd, the Kubernetes API server, istiod and the agents are ordinary programs; a pod is a network namespace with the
//! iptables rules that `istio-init` would write, an agent and its Envoy, and whatever the test runs in it. The control
//! plane has a namespace of its own, with the bridge that all pods hang on, so that nothing is seen of a mesh on the
//! machine's own network and every port is free. What no controller manager and no kubelet does, the harness does:
//! pods and their status ([`Pod`]), those of Deployments with their containers ([`Mesh::deploy`]), EndpointSlices and
//! names ([`Mesh::settle`]).
//!
//! Root is needed. Debian has `etcd`, `kubectl`, `docker-registry`, `iptables` and `ip`; istiod, the agent, the API
//! server and Jaeger are built once from their sources by `cargo run -p meltemi-mesh-tests --bin mesh-tools` or by the first test,
//! and kept in `~/.cache/meltemi/mesh`; Go is fetched to there where the `PATH` has none. One mesh runs on a machine at
//! a time: others wait. It ends with the process that started it, however that ends. The logs of its programs stay in
//! `target/mesh`.

mod cluster;
mod container;
mod endpoints;
mod files;
mod istiod;
mod jaeger;
mod mesh;
mod namespace;
mod network;
mod pod;
mod process;
mod registry;
mod tools;

pub use cluster::Cluster;
pub use files::FileServer;
pub use jaeger::{Jaeger, Seen};
pub use mesh::Mesh;
pub use namespace::Namespace;
pub use network::Network;
pub use pod::{Pod, Proxy, Workload};
pub use process::Process;
pub use registry::Registry;
pub use tools::Tools;
