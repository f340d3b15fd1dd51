//! The samples that people begin with, as they are in `istio-samples`.

use std::fs;

use meltemi_tests::files;
use nix::sys::signal::Signal;

use crate::stage::Stage;

/// A sample: a folder, and the namespace of that name.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The folder.
    pub folder: &'static str,
    /// The namespace, which stays: the controller that empties namespaces is not here.
    pub namespace: &'static str,
    /// The Deployments.
    pub deployments: &'static [&'static str],
}

impl Sample {
    /// Applies it, starts its pods, and waits until they are ready.
    pub fn deploy(self, stage: &mut Stage) {
        stage.mesh.apply(&self.read("namespace.yaml"));
        stage.apply(&self.objects());
        stage.mesh.deploy(self.namespace);
    }

    /// Ends its pods.
    pub fn end(self, stage: &mut Stage) {
        for deployment in self.deployments {
            stage.mesh.end(self.namespace, deployment, Signal::SIGTERM);
        }
    }

    /// All its objects but the namespace.
    pub fn objects(self) -> String {
        let folder = fs::read_dir(files::root().join("istio-samples").join(self.folder)).unwrap();
        let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names = names.filter(|name| name.ends_with(".yaml") && name != "namespace.yaml");
        names.map(|name| self.read(&name) + "---\n").collect()
    }

    /// One of its files.
    pub fn read(self, name: &str) -> String {
        fs::read_to_string(files::root().join("istio-samples").join(self.folder).join(name)).unwrap()
    }
}
