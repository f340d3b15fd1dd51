//! The generator on the samples, and on shapes of services that they do not have.

use std::path::Path;
use std::{env, fs};

use meltemi::generate::{Delivery, Finding, IstioVersion, Options, Output, generate};
use meltemi::world::{World, documents};

fn options(codec: &str) -> Options {
    Options {
        istio_version: IstioVersion(30),
        module: "oci://registry.example.org/meltemi@sha256:6f0d0c2b0a8f4f2f9d6d3a9f0b1c2d3e4f5061728394a5b6c7d8e9f00112233".into(),
        module_sha256: None,
        codecs: vec![codec.to_owned()],
        image_pull_secret: None,
        delivery: Delivery::WasmPlugin,
        root_namespace: "istio-system".into(),
        cluster_domain: "cluster.local".into(),
    }
}

fn world(yaml: &str) -> World {
    let mut world = World::default();
    for document in documents("test.yaml", yaml).unwrap() {
        world.add(&document.object).unwrap();
    }
    world
}

fn yaml(output: &Output) -> String {
    output.objects.iter().map(|object| format!("---\n{}", serde_saphyr::to_string(object).unwrap())).collect()
}

/// Compares with what stands beside the sample. `UPDATE_SAMPLES=1` writes it anew.
#[test]
fn samples_are_in_step() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../istio-samples");
    for (sample, codec) in [("dubbo", "dubbo"), ("private-protocol", "courier")] {
        let folder = samples.join(sample);
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.is_file());
        files.push(folder.join("generated/addresses.yaml"));
        files.sort();
        let read = |file| format!("---\n{}\n", fs::read_to_string(file).unwrap());
        let output = generate(&world(&files.iter().map(read).collect::<String>()), &options(codec));
        let findings = output.reports.iter().flat_map(|report| &report.findings);
        assert_eq!(findings.collect::<Vec<_>>(), Vec::<&Finding>::new(), "{sample}");
        let objects = folder.join("generated/objects.yaml");
        let text = format!("{HEAD}{}", yaml(&output));
        if env::var_os("UPDATE_SAMPLES").is_some() {
            fs::write(&objects, text).unwrap();
        } else {
            let written = fs::read_to_string(&objects).unwrap_or_default();
            assert!(
                written == text,
                "{} is out of step: run this test with UPDATE_SAMPLES=1",
                objects.display()
            );
        }
    }
}

const HEAD: &str =
    "# What `meltemi generate` makes of this sample and addresses.yaml, for Istio 1.30 and later.\n";
