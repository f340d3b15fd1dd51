//! Puts the controller into a cluster, prints its manifests, or takes it away again.

mod cluster;
mod manifests;
mod names;
mod rbac;
mod survey;

use std::time::Duration;

use clap::Args;

use crate::command::takeover;
use crate::generate::{self, HAS_LOGGERS, IstioVersion, takeovers, unnamed_tags};
use crate::mesh::{self, Delivered, Mesh};
use crate::screen;

pub(crate) use cluster::connect;
pub use manifests::{File, files, kustomization};
pub(crate) use names::dashboard_role;

/// What is done.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Print the manifests, and change nothing. Where there is a cluster, say which ports of its services would be
    /// taken over; none is needed.
    #[arg(long, conflicts_with = "uninstall")]
    pub dry_run: bool,
    /// Remove the controller and all that it generated. The kinds stay, with the resources that people wrote.
    #[arg(long)]
    pub uninstall: bool,
    /// The image of the controller, from where the cluster can pull it; deploy/Dockerfile makes it.
    #[arg(long, value_name = "IMAGE", required_unless_present = "uninstall")]
    pub image: Option<String>,
    /// The module: oci://registry/image@sha256:digest, as `meltemi push` prints it, or an http(s) URL.
    #[arg(long, value_name = "REFERENCE", value_parser = mesh::module, required_unless_present = "uninstall")]
    pub module: Option<String>,
    /// How it reaches sidecars.
    #[command(flatten)]
    pub delivered: Delivered,
    /// The version of Istio, such as 1.30, where no Deployment of istiod states it.
    #[arg(long, value_name = "VERSION")]
    pub istio_version: Option<IstioVersion>,
    /// What the mesh is.
    #[command(flatten)]
    pub mesh: Mesh,
    /// The namespace of the controller.
    #[arg(long, value_name = "NAMESPACE", default_value = names::NAMESPACE)]
    pub namespace: String,
    /// The namespaces in which the controller may read Secrets, for passwords of Redis; they have to exist. `*` is all of
    /// them. Default: none.
    #[arg(long, value_name = "NAMESPACES", value_delimiter = ',')]
    pub redis_secrets: Vec<String>,
    /// Have the controller serve the dashboard, to those who are bound to the ClusterRole meltemi-dashboard, which for
    /// another --namespace is called meltemi-dashboard-NAMESPACE. It may then open connections to all pods, as `kubectl
    /// port-forward` does.
    #[arg(long)]
    pub dashboard: bool,
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
    /// How it reaches sidecars.
    pub delivered: Delivered,
    /// The version of Istio.
    pub istio_version: Option<IstioVersion>,
    /// What the mesh is.
    pub mesh: Mesh,
    /// The namespace of the controller.
    pub namespace: String,
    /// The namespaces in which it may read Secrets.
    pub redis_secrets: Vec<String>,
    /// Whether the dashboard is served.
    pub dashboard: bool,
    /// How many replicas run.
    pub replicas: u32,
}

impl Options {
    fn settings(&self) -> Settings {
        Settings {
            image: self.image.clone().unwrap_or_default(),
            module: self.module.clone().unwrap_or_default(),
            delivered: self.delivered.clone(),
            istio_version: self.istio_version,
            mesh: self.mesh.clone(),
            namespace: self.namespace.clone(),
            redis_secrets: self.redis_secrets.clone(),
            // Whether it was is not known to who takes the controller away.
            dashboard: self.dashboard || self.uninstall,
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
    let settings = options.settings();
    // What the controller would refuse must not get as far as a cluster.
    let objects = settings.mesh.objects(&settings.module, &settings.delivered, settings.istio_version)?;
    if !options.uninstall && !settings.image.contains("@sha256:") {
        screen::warn(
            "the image of the controller is named by a tag, which may come to mean another: name it by its digest",
        );
    }
    let files = files(&settings);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    if settings.mesh.istio_metrics && !options.uninstall {
        runtime.block_on(tell_tags(&objects, options.istio_version));
    }
    if options.dry_run {
        match runtime.block_on(survey::world()) {
            Ok(world) => takeover::tell(&takeovers(&world, &objects)),
            Err(why) => screen::warn(format!("cannot say which ports would be taken over: {why}")),
        }
        return files.iter().map(yaml).collect();
    }
    runtime.block_on(async {
        match options.uninstall {
            true => {
                cluster::remove(&files, &settings, Duration::from_secs(options.linger_seconds.into())).await
            }
            false => cluster::apply(&files).await,
        }
    })
}

/// Tells which labels of Istio's metrics sidecars of that version do not find, as far as a cluster shows it.
async fn tell_tags(objects: &generate::Options, stated: Option<IstioVersion>) {
    if stated.is_some_and(|version| version >= HAS_LOGGERS) {
        return;
    }
    let (found, world) = survey::istio(&objects.root_namespace).await.unwrap_or_default();
    if stated.or(found).is_none_or(|version| version < HAS_LOGGERS) {
        unnamed_tags(&world, objects).into_iter().for_each(screen::warn);
    }
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
