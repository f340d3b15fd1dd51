use std::str::FromStr;

use meltemi_codecs::Codecs;

use super::object::BY_HAND;

/// How the generated objects reach the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The version of istiod, which decides the names that it gives to WasmPlugins: 1.29 and before, or later.
    pub istio_version: IstioVersion,
    /// Where the module is: an `oci://` reference (by digest), or an `http(s)://` URL.
    pub module: String,
    /// The checksum of the module in hexadecimal, for a URL that does not include it.
    pub module_sha256: Option<String>,
    /// The codecs that the module has, by the names that plans use.
    pub codecs: Vec<String>,
    /// The Secret that the module is pulled with, in each namespace.
    pub image_pull_secret: Option<String>,
    /// How the module and its plan are delivered.
    pub delivery: Delivery,
    /// The root namespace of the mesh.
    pub root_namespace: String,
    /// The domain of the cluster.
    pub cluster_domain: String,
    /// Passwords of Redis are read from Secrets that nobody marked for it, too.
    pub any_secret: bool,
    /// The value of the label [`INSTANCE`](super::INSTANCE) of all objects.
    pub instance: String,
    /// For whom routers of other namespaces than their host's hold.
    pub foreign_routers: ForeignRouters,
    /// Calls are reported as Istio's standard metrics.
    pub istio_metrics: bool,
    /// Calls have lines on the standard output of proxies, where no Telemetry says which.
    pub access_log: Option<AccessLog>,
}

impl Options {
    /// Those of an installation without flags, with the shipped module's codecs.
    pub fn new(istio_version: IstioVersion, module: String) -> Self {
        Self {
            istio_version,
            module,
            module_sha256: None,
            codecs: Codecs::all().names().map(str::to_owned).collect(),
            image_pull_secret: None,
            delivery: Delivery::WasmPlugin,
            root_namespace: "istio-system".into(),
            cluster_domain: "cluster.local".into(),
            any_secret: false,
            instance: BY_HAND.to_owned(),
            foreign_routers: ForeignRouters::OwnClients,
            istio_metrics: false,
            access_log: None,
        }
    }
}

/// Which calls have lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// All.
    All,
    /// Those that did not succeed.
    Errors,
}

/// For whom a router holds whose host is of another namespace, where the host's owner says nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForeignRouters {
    /// For the clients of the router's own namespace.
    #[default]
    OwnClients,
    /// For all clients, after the routers of the host's own namespace.
    All,
}

/// The minor version of Istio 1: `IstioVersion(30)` is 1.30.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IstioVersion(pub u32);

impl FromStr for IstioVersion {
    type Err = &'static str;

    /// Reads `1.30`, `1.30.2`, `v1.30.2` and `1.30.2-distroless`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let minor = text.strip_prefix('v').unwrap_or(text).strip_prefix("1.");
        let minor = minor.and_then(|rest| rest.split(['.', '-']).next()?.parse().ok());
        minor.map(Self).ok_or("write it as in 1.30")
    }
}

/// How the module and its plan are delivered to sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// By WasmPlugins.
    #[default]
    WasmPlugin,
    /// By EnvoyFilters (EXTENSION_CONFIG), whatever the version of Istio is; there are no pull secrets then.
    ExtensionConfig,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_istio() {
        for (text, minor) in [("1.30", 30), ("1.29.4", 29), ("v1.31", 31), ("1.32-dev", 32)] {
            assert_eq!(text.parse(), Ok(IstioVersion(minor)), "{text}");
        }
        for wrong in ["", "1", "30", "1.", "1.x", "1.30x", "2.30", "latest"] {
            assert!(wrong.parse::<IstioVersion>().is_err(), "{wrong}");
        }
    }
}
