//! The command line of the controller.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

use super::istiod;
use crate::generate::{self, Delivery, IstioVersion};
use crate::protocol::CODECS;

/// How the controller runs.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Where the module is: oci://registry/name@sha256:..., or an http(s) URL.
    #[arg(long, value_name = "REFERENCE", env = "MELTEMI_MODULE_REFERENCE")]
    pub module: String,
    /// The SHA-256 of the module in hexadecimal, for a URL that does not tell it.
    #[arg(long, value_name = "HEX")]
    pub module_sha256: Option<String>,
    /// A codec that the module has. Without it, those of the shipped module.
    #[arg(long, value_name = "NAME")]
    pub codec: Vec<String>,
    /// The Secret that the module is pulled with, in each namespace.
    #[arg(long, value_name = "SECRET")]
    pub image_pull_secret: Option<String>,
    /// How the module and its plan reach sidecars.
    #[arg(long, value_enum, default_value = "wasm-plugin")]
    pub delivery: DeliveryOption,
    /// The version of Istio, such as 1.30. Without it the Deployments labelled app=istiod in the root namespace tell.
    #[arg(long, value_name = "VERSION", value_parser = istio_version)]
    pub istio_version: Option<IstioVersion>,
    /// The root namespace of the mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    pub root_namespace: String,
    /// The domain of the cluster.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// The namespace of the Lease and of the webhook's certificate: that of the controller. Without it, the one of the
    /// kubeconfig or of the pod.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub namespace: Option<String>,
    /// The name of this replica. No two replicas may have the same.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub identity: Option<String>,
    /// How long a replica that is gone stays the one that writes, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(3..))]
    pub lease_seconds: u16,
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
    /// The least severe lines to log.
    #[arg(long, value_enum, default_value = "info")]
    pub log_level: LogLevel,
    /// How lines are logged.
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// How the module and its plan reach sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeliveryOption {
    /// By a WasmPlugin.
    WasmPlugin,
    /// By an EXTENSION_CONFIG in an EnvoyFilter: it needs no knowledge of Istio's version, and has no pull secret.
    ExtensionConfig,
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

impl Options {
    /// How objects are made. The version of Istio is that of the options, or one that has to be found out.
    pub fn generate(&self) -> generate::Options {
        generate::Options {
            istio_version: self.istio_version.unwrap_or(IstioVersion(0)),
            module: self.module.clone(),
            module_sha256: self.module_sha256.clone(),
            codecs: match self.codec.is_empty() {
                true => CODECS.iter().map(|codec| codec.name().to_owned()).collect(),
                false => self.codec.clone(),
            },
            image_pull_secret: self.image_pull_secret.clone(),
            delivery: match self.delivery {
                DeliveryOption::WasmPlugin => Delivery::WasmPlugin,
                DeliveryOption::ExtensionConfig => Delivery::ExtensionConfig,
            },
            root_namespace: self.root_namespace.clone(),
            cluster_domain: self.cluster_domain.clone(),
        }
    }
}

fn istio_version(text: &str) -> Result<IstioVersion, String> {
    istiod::parse(text).ok_or_else(|| "no version of Istio 1, such as 1.30".to_owned())
}
