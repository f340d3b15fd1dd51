//! Flags that several commands have: what the mesh is, and how the module and its plans reach it.

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use crate::generate::{AccessLog, Delivery, ForeignRouters, IstioVersion, Options};

/// What the mesh is, as far as names depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Mesh {
    /// The codecs that the module has. Default: those of the shipped module.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub codecs: Vec<String>,
    /// The root namespace of the mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    pub root_namespace: String,
    /// The domain of the cluster.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Read passwords of Redis from any Secret that a resource names, not only from those with the label
    /// meltemi.io/redis-password=true or the type meltemi.io/redis.
    #[arg(long)]
    pub any_secret: bool,
    /// For whom routers of other namespaces than their host's hold, where the annotation meltemi.io/routers-from of the
    /// host's Service says nothing of it.
    #[arg(long, value_enum, default_value = "own-clients")]
    pub foreign_routers: ForeignRouters,
    /// Report calls as Istio's standard metrics, which its dashboards and Kiali read. Proxies before Istio 1.30 report where
    /// `extraStatTags` name the labels; see docs/telemetry.md.
    #[arg(long)]
    pub istio_metrics: bool,
    /// Which calls have lines on the standard output of their proxies. Default: those that proxies answer themselves.
    #[arg(long, value_enum, value_name = "CALLS")]
    pub access_log: Option<AccessLog>,
}

/// How the module and its plans reach the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Delivered {
    /// The SHA-256 of the module, which an http(s) URL needs.
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    pub module_sha256: Option<String>,
    /// The Secret that the module is pulled with, in each namespace.
    #[arg(long, value_name = "SECRET")]
    pub image_pull_secret: Option<String>,
    /// How the module and its plans are delivered.
    #[arg(long, value_enum, default_value = "wasm-plugin")]
    pub delivery: Delivery,
    /// What distinguishes the generated objects from those of other installations: the value of their label
    /// app.kubernetes.io/instance. Default: the namespace of the controller, or `by-hand` where there is none.
    #[arg(long, value_name = "NAME", value_parser = instance)]
    pub instance: Option<String>,
}

impl ValueEnum for ForeignRouters {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::OwnClients, Self::All]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::OwnClients => {
                PossibleValue::new("own-clients").help("For the clients of the router's own namespace")
            }
            Self::All => PossibleValue::new("all")
                .help("For all clients, after the routers of the host's own namespace"),
        })
    }
}

impl ValueEnum for AccessLog {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::All, Self::Errors]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::All => PossibleValue::new("all").help("All calls"),
            Self::Errors => PossibleValue::new("errors").help("Those that did not succeed"),
        })
    }
}

impl ValueEnum for Delivery {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::WasmPlugin, Self::ExtensionConfig]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::WasmPlugin => PossibleValue::new("wasm-plugin").help("By WasmPlugins"),
            Self::ExtensionConfig => PossibleValue::new("extension-config").help(
                "By EnvoyFilters (EXTENSION_CONFIG), whatever the version of Istio is; there are no pull secrets then",
            ),
        })
    }
}

/// Reads where the module is: by a name that always means the same module, as far as the name can show.
///
/// # Errors
///
/// It is no such name.
pub fn module(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        Some(("oci", image)) => match image.split_once("@sha256:") {
            // A sidecar that is told another digest never finds the module, and passes plain TCP on.
            Some((name, digest)) if !name.is_empty() && is_sha256(digest) => Ok(text.to_owned()),
            Some((_, digest)) => Err(format!(
                "the digest has to be 64 hexadecimal digits in lower case, and {digest:?} is not (it has {} characters): \
                 `meltemi push` prints it",
                digest.chars().count()
            )),
            None => {
                Err("name it by digest, as in oci://registry/image@sha256:…: `meltemi push` prints it".into())
            }
        },
        Some(("http" | "https", _)) => Ok(text.to_owned()),
        _ => Err("write an oci://, https:// or http:// URL".into()),
    }
}

fn instance(text: &str) -> Result<String, &'static str> {
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    match bytes.len() <= 63 && bytes.iter().all(fits) && ends_well(bytes.first()) && ends_well(bytes.last()) {
        true => Ok(text.to_owned()),
        false => Err("write a value of a label: at most 63 letters, digits, and -_. between them"),
    }
}

fn sha256(text: &str) -> Result<String, &'static str> {
    match is_sha256(text) {
        true => Ok(text.to_owned()),
        false => Err("write 64 hexadecimal digits in lower case"),
    }
}

fn is_sha256(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 64 && text.bytes().all(fits)
}

impl Mesh {
    /// What is generated with these, where only the plans matter.
    pub fn plans(&self) -> Options {
        let mut options = Options {
            root_namespace: self.root_namespace.clone(),
            cluster_domain: self.cluster_domain.clone(),
            any_secret: self.any_secret,
            foreign_routers: self.foreign_routers,
            istio_metrics: self.istio_metrics,
            access_log: self.access_log,
            ..Options::new(IstioVersion(u32::MAX), String::new())
        };
        if !self.codecs.is_empty() {
            options.codecs.clone_from(&self.codecs);
        }
        options
    }

    /// What is generated with these. Without a version of Istio, the newest.
    ///
    /// # Errors
    ///
    /// The options do not go together.
    pub fn objects(
        &self,
        module: &str,
        delivered: &Delivered,
        istio_version: Option<IstioVersion>,
    ) -> Result<Options, String> {
        if module.starts_with("http") && delivered.module_sha256.is_none() {
            return Err(
                "a module by http(s) needs --module-sha256: nothing else distinguishes one version from another"
                    .into(),
            );
        }
        if delivered.delivery == Delivery::ExtensionConfig && delivered.image_pull_secret.is_some() {
            return Err("--delivery extension-config has no pull secrets: use wasm-plugin, or leave out --image-pull-secret".into());
        }
        let plans = self.plans();
        Ok(Options {
            istio_version: istio_version.unwrap_or(plans.istio_version),
            module: module.to_owned(),
            module_sha256: delivered.module_sha256.clone(),
            image_pull_secret: delivered.image_pull_secret.clone(),
            delivery: delivered.delivery,
            instance: delivered.instance.clone().unwrap_or(plans.instance),
            ..plans
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_named_by_its_whole_digest() {
        let digest = "0123456789abcdef".repeat(4);
        let named = |digest: &str| module(&format!("oci://registry.example/a:1@sha256:{digest}"));
        assert!(named(&digest).is_ok());
        for wrong in
            ["", "zz", &digest[1..], &digest.to_uppercase(), &format!("{digest}0"), &digest.replace('a', "g")]
        {
            let error = named(wrong).unwrap_err();
            assert!(error.starts_with("the digest has to be 64 hexadecimal digits"), "{wrong}: {error}");
        }
        for wrong in ["oci://registry.example/a:1", "registry.example/a", &format!("oci://@sha256:{digest}")]
        {
            assert!(module(wrong).is_err(), "{wrong}");
        }
        assert!(module("https://example.org/meltemi.wasm").is_ok());
    }
}
