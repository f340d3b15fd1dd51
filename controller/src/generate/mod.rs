//! The generator: a pure function from the [`World`] to the Istio objects that make stock sidecars manage its services.

mod object;
mod report;

use crate::world::World;

pub use object::Object;
pub use report::{Finding, Report, ResourceRef, Severity};

/// How the generated objects reach the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The version of istiod, which decides the names that it gives to WasmPlugins: 1.29 and before, or later.
    pub istio_version: IstioVersion,
    /// Where the module is: an `oci://` reference (by digest), or an `http(s)://` URL.
    pub module: String,
    /// The checksum of the module in hexadecimal, for a URL that does not tell it.
    pub module_sha256: Option<String>,
    /// The Secret that the module is pulled with, in each namespace.
    pub image_pull_secret: Option<String>,
    /// How the module and its plan are delivered.
    pub delivery: Delivery,
    /// The root namespace of the mesh.
    pub root_namespace: String,
    /// The domain of the cluster.
    pub cluster_domain: String,
}

/// The minor version of Istio 1: `IstioVersion(30)` is 1.30.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IstioVersion(pub u32);

/// How the module and its plan are delivered to sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delivery {
    /// By a WasmPlugin.
    #[default]
    WasmPlugin,
    /// By an `EXTENSION_CONFIG` in an EnvoyFilter, which needs no knowledge of Istio's version, and has no pull secret.
    ExtensionConfig,
}

/// What the generator made of a world.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Output {
    /// The objects, in order of kind, namespace and name. The same world gives the same objects.
    pub objects: Vec<Object>,
    /// What was found in each resource that people wrote, in the order of kind, namespace and name.
    pub reports: Vec<Report>,
}

/// Makes the objects. What cannot be made of a resource is said in its report; the others are not held up by it.
pub fn generate(_: &World, _: &Options) -> Output {
    Output::default()
}
