//! Puts the controller into a cluster, prints its manifests, or takes it away again.

mod cluster;
mod manifests;

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::run::DeliveryOption;

pub use manifests::{File, files, kustomization};

/// The image of the controller of this version.
const IMAGE: &str = concat!("registry.example.org/meltemi-controller:", env!("CARGO_PKG_VERSION"));

/// What is done.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Print the manifests, and change nothing. No cluster is needed.
    #[arg(long, conflicts_with = "uninstall")]
    pub dry_run: bool,
    /// Remove the controller and all that it generated. The kinds stay, with the resources that people wrote.
    #[arg(long)]
    pub uninstall: bool,
    /// The image of the controller.
    #[arg(long, value_name = "IMAGE", default_value = IMAGE)]
    pub image: String,
    /// Where the module is: oci://registry/name@sha256:..., or an http(s) URL.
    #[arg(long, value_name = "REFERENCE", required_unless_present = "uninstall")]
    pub module: Option<String>,
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
    #[arg(long, value_enum)]
    pub delivery: Option<DeliveryOption>,
    /// The version of Istio, such as 1.30, where no Deployment of istiod tells it.
    #[arg(long, value_name = "VERSION")]
    pub istio_version: Option<String>,
    /// The namespace of the controller.
    #[arg(long, value_name = "NAMESPACE", default_value = "meltemi-system")]
    pub namespace: String,
    /// The root namespace of the mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    pub root_namespace: String,
    /// The domain of the cluster.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// How many replicas run; one of them writes.
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    pub replicas: u32,
    /// With --uninstall: how long sockets and modules outlive the tunnels, in seconds, so that draining connections can
    /// end.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub linger_seconds: u16,
}

/// What the manifests say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The image of the controller.
    pub image: String,
    /// Where the module is.
    pub module: String,
    /// The SHA-256 of the module in hexadecimal, for a URL that does not tell it.
    pub module_sha256: Option<String>,
    /// The codecs that the module has; those of the shipped module if there are none.
    pub codecs: Vec<String>,
    /// The Secret that the module is pulled with.
    pub image_pull_secret: Option<String>,
    /// How the module and its plan reach sidecars, by the name of the controller's flag.
    pub delivery: Option<String>,
    /// The version of Istio.
    pub istio_version: Option<String>,
    /// The namespace of the controller.
    pub namespace: String,
    /// The root namespace of the mesh.
    pub root_namespace: String,
    /// The domain of the cluster.
    pub cluster_domain: String,
    /// How many replicas run.
    pub replicas: u32,
}

impl Options {
    fn settings(&self) -> Settings {
        Settings {
            image: self.image.clone(),
            module: self.module.clone().unwrap_or_default(),
            module_sha256: self.module_sha256.clone(),
            codecs: self.codec.clone(),
            image_pull_secret: self.image_pull_secret.clone(),
            delivery: self
                .delivery
                .and_then(|delivery| delivery.to_possible_value())
                .map(|value| value.get_name().to_owned()),
            istio_version: self.istio_version.clone(),
            namespace: self.namespace.clone(),
            root_namespace: self.root_namespace.clone(),
            cluster_domain: self.cluster_domain.clone(),
            replicas: self.replicas,
        }
    }
}

/// Does what the options say, and returns what to print.
///
/// # Errors
///
/// There is no cluster, or it refuses an object.
pub fn run(options: &Options) -> Result<String, String> {
    let files = files(&options.settings());
    if options.dry_run {
        return files.iter().map(yaml).collect::<Result<_, _>>();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        match options.uninstall {
            true => cluster::remove(&files, Duration::from_secs(options.linger_seconds.into())).await,
            false => cluster::apply(&files).await,
        }
    })
}

/// The objects of a file in YAML.
///
/// # Errors
///
/// None, in files that [`files`] made.
pub fn yaml(file: &File) -> Result<String, String> {
    let mut text = String::new();
    for object in &file.objects {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(object).map_err(|error| format!("{}: {error}", file.name))?);
    }
    Ok(text)
}
