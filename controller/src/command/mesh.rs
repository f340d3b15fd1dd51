use std::str::FromStr;

use clap::{Args, ValueEnum};

use crate::generate::{Delivery, IstioVersion, Options};
use crate::protocol::CODECS;

/// What the mesh is, as far as names depend on it.
#[derive(Debug, Clone, Args)]
pub struct Mesh {
    /// The codecs that the module has.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_values_t = CODECS.map(|codec| codec.name().to_owned()))]
    pub codecs: Vec<String>,
    /// The root namespace of the mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    pub root_namespace: String,
    /// The domain of the cluster.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
}

/// How the module and its plans reach the mesh.
#[derive(Debug, Clone, Args)]
pub struct Delivered {
    /// The version of Istio, such as 1.30: it decides the names that istiod gives to modules.
    #[arg(
        long,
        value_name = "VERSION",
        required_unless_present = "delivery",
        required_if_eq("delivery", "wasm-plugin")
    )]
    istio_version: Option<Version>,
    /// The module: oci://registry/image@sha256:digest, as `meltemi push` prints it, or an http(s) URL.
    #[arg(long, value_name = "URL", value_parser = module)]
    module: String,
    /// The SHA-256 of the module, which an http(s) URL needs.
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    module_sha256: Option<String>,
    /// The Secret that the module is pulled with, in each namespace.
    #[arg(long, value_name = "NAME")]
    image_pull_secret: Option<String>,
    /// How the module and its plans are delivered.
    #[arg(long, value_enum, default_value = "wasm-plugin")]
    delivery: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// By WasmPlugins.
    WasmPlugin,
    /// By EnvoyFilters, whatever the version of Istio is; there are no pull secrets then.
    ExtensionConfig,
}

#[derive(Debug, Clone, Copy)]
struct Version(IstioVersion);

impl FromStr for Version {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.strip_prefix('v').unwrap_or(text).split(['.', '-']);
        let minor = match (parts.next(), parts.next().map(str::parse)) {
            (Some("1"), Some(Ok(minor))) => minor,
            _ => return Err("write it as in 1.30"),
        };
        Ok(Self(IstioVersion(minor)))
    }
}

fn module(text: &str) -> Result<String, String> {
    let is_pinned = text.contains("@sha256:");
    match text.split_once("://") {
        Some(("oci", _)) if is_pinned => Ok(text.to_owned()),
        Some(("oci", _)) => {
            Err("name it by digest, as in oci://registry/image@sha256:…: `meltemi push` prints it".into())
        }
        Some(("http" | "https", _)) => Ok(text.to_owned()),
        _ => Err("write an oci://, https:// or http:// URL".into()),
    }
}

fn sha256(text: &str) -> Result<String, &'static str> {
    let fits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match text.len() == 64 && text.bytes().all(fits) {
        true => Ok(text.to_owned()),
        false => Err("write 64 hexadecimal digits in lower case"),
    }
}

impl Mesh {
    /// What is generated with these, where only the plans matter.
    pub(super) fn plans(&self) -> Options {
        Options {
            istio_version: IstioVersion(u32::MAX),
            module: String::new(),
            module_sha256: None,
            codecs: self.codecs.clone(),
            image_pull_secret: None,
            delivery: Delivery::WasmPlugin,
            root_namespace: self.root_namespace.clone(),
            cluster_domain: self.cluster_domain.clone(),
        }
    }

    /// What is generated with these.
    pub(super) fn objects(&self, delivered: &Delivered) -> Result<Options, String> {
        if delivered.module.starts_with("http") && delivered.module_sha256.is_none() {
            return Err(
                "a module by http(s) needs --module-sha256: nothing else tells one version from another"
                    .into(),
            );
        }
        let delivery = match delivered.delivery {
            By::WasmPlugin => Delivery::WasmPlugin,
            By::ExtensionConfig => Delivery::ExtensionConfig,
        };
        if delivery == Delivery::ExtensionConfig && delivered.image_pull_secret.is_some() {
            return Err("--delivery extension-config has no pull secrets: use wasm-plugin, or leave out --image-pull-secret".into());
        }
        let plans = self.plans();
        Ok(Options {
            istio_version: delivered.istio_version.map_or(plans.istio_version, |Version(version)| version),
            module: delivered.module.clone(),
            module_sha256: delivered.module_sha256.clone(),
            image_pull_secret: delivered.image_pull_secret.clone(),
            delivery,
            ..plans
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_istio() {
        for (text, minor) in [("1.30", 30), ("1.29.4", 29), ("v1.31", 31), ("1.32-dev", 32)] {
            assert_eq!(text.parse::<Version>().map(|version| version.0.0), Ok(minor), "{text}");
        }
        for wrong in ["1", "30", "2.1", "1.x", ""] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong}");
        }
    }
}
