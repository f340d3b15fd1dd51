//! The command line of the controller.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

use super::certificate::WEBHOOK;
use crate::generate::IstioVersion;
use crate::mesh::{self, Delivered, Mesh};

/// How the controller runs.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The module: oci://registry/image@sha256:digest, as `meltemi push` prints it, or an http(s) URL.
    #[arg(long, value_name = "REFERENCE", value_parser = mesh::module, env = "MELTEMI_MODULE_REFERENCE")]
    pub module: String,
    /// How it reaches sidecars.
    #[command(flatten)]
    pub delivered: Delivered,
    /// The version of Istio, such as 1.30. Default: that of the Deployments labelled app=istiod in the root namespace.
    #[arg(long, value_name = "VERSION")]
    pub istio_version: Option<IstioVersion>,
    /// What the mesh is.
    #[command(flatten)]
    pub mesh: Mesh,
    /// The namespace of the Lease and of the webhook's certificate: that of the controller. Default: the one of the
    /// kubeconfig or of the pod.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub namespace: Option<String>,
    /// The name of this replica. No two replicas may have the same. Default: that of the host with a random end.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub identity: Option<String>,
    /// How long a replica that is gone stays the one that writes, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(3..))]
    pub lease_seconds: u16,
    /// How long tunnels wait after a namespace got its module and sockets, in seconds, so that sidecars have them first.
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    pub warm_up_seconds: u16,
    /// How long sockets and modules outlive the last tunnel, in seconds, so that draining connections can end.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub linger_seconds: u16,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Where the admission webhook is served.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9443")]
    pub webhook_listen: SocketAddr,
    /// A name or address that the API server calls the webhook by, instead of those of the Service `meltemi`.
    #[arg(long, value_name = "NAME")]
    pub webhook_name: Vec<String>,
    /// Where the dashboard is served, by the webhook's certificate, to those whom the API server lets `get` the
    /// non-resource URL /meltemi/dashboard. Default: nowhere.
    #[arg(long, value_name = "ADDRESS")]
    pub dashboard_listen: Option<SocketAddr>,
    /// The ValidatingWebhookConfiguration that has the API server call the webhook.
    #[arg(long, value_name = "NAME", default_value = WEBHOOK)]
    pub webhook_configuration: String,
    /// The least severe lines to log.
    #[arg(long, value_enum, default_value = "info")]
    pub log_level: LogLevel,
    /// How lines are logged.
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What cannot be done.
    Error,
    /// What should be looked at.
    Warn,
    /// What is done.
    Info,
    /// What it is done for.
    Debug,
}

/// How lines are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object each.
    Json,
}
