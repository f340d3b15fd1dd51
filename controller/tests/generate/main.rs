//! The generator on the samples, and on shapes of services that they do not have.

mod aeraki;
mod authorization;
mod call_policies;
mod delivery;
mod detection;
mod gateways;
mod layouts;
mod limits;
mod loggers;
mod mesh_revisions;
mod message_size;
mod order;
mod own_authorization;
mod plans;
mod redis;
mod routers;
mod scale;
mod services;
mod shared_mesh;
mod size;
mod taps;
mod telemetry;
mod tenants;
mod tracing;
mod visibility;
mod zipkin;

use std::path::Path;
use std::{env, fs};

use meltemi::findings::Finding;
use meltemi::generate::{IstioVersion, Object, Options, Output, generate};
use meltemi::mesh;
use meltemi::world::{World, documents};
use serde_json::{Map, Value, json};

const MODULE: &str = "oci://registry.example.org/meltemi@sha256:6f0d0c2b0a8f4f2f9d6d3a9f0b1c2d3e4f5061728394a5b6c7d8e9f001122334";

fn options(codecs: &str) -> Options {
    let module = mesh::module(MODULE).unwrap();
    let codecs = codecs.split(',').map(str::to_owned).collect();
    Options { codecs, ..Options::new(IstioVersion(30), module) }
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

/// What is made of a world, for a module that speaks Dubbo.
fn made(text: &str) -> Output {
    generate(&world(text), &options("dubbo"))
}

/// The object of that kind, namespace and name.
#[track_caller]
fn object<'a>(output: &'a Output, kind: &str, namespace: &str, name: &str) -> &'a Object {
    let found = output.objects.iter().find(|object| {
        object.kind == kind && object.metadata.namespace == namespace && object.metadata.name == name
    });
    found.unwrap_or_else(|| panic!("no {kind} {namespace}/{name} among {:?}", names(output)))
}

/// What it says.
#[track_caller]
fn spec(output: &Output, kind: &str, namespace: &str, name: &str) -> Value {
    json!(object(output, kind, namespace, name).spec)
}

/// Every object as `Kind namespace/name`.
fn names(output: &Output) -> Vec<String> {
    let name =
        |object: &Object| format!("{} {}/{}", object.kind, object.metadata.namespace, object.metadata.name);
    output.objects.iter().map(name).collect()
}

/// The plans of a namespace's sidecars: what they say of each authority.
fn plan(output: &Output, namespace: &str) -> Value {
    let of_sidecars = output.objects.iter().filter(|object| {
        object.metadata.namespace == namespace && !object.metadata.name.starts_with("meltemi-gateway")
    });
    let entries = of_sidecars.flat_map(plan_of);
    entries.map(|(authority, entry)| (authority, entry.clone())).collect::<Map<_, _>>().into()
}

/// What an object's plan says of each authority.
fn plan_of(object: &Object) -> impl Iterator<Item = (String, &Value)> {
    object.entries.iter().map(|entry| (entry.authority.to_string(), entry.plan.value()))
}

/// The listeners and destination ports that tunnels are put on in a namespace.
fn tunnels(output: &Output, namespace: &str) -> Vec<String> {
    let filters = output.objects.iter().filter(|object| object.metadata.namespace == namespace);
    let patches = filters
        .flat_map(|filter| json!(filter.spec)["configPatches"].as_array().cloned().unwrap_or_default());
    let on_listeners = patches.filter(|patch| patch["applyTo"] == "NETWORK_FILTER");
    let listeners = on_listeners.map(|patch| {
        let listener = &patch["match"]["listener"];
        match listener["filterChain"]["destinationPort"].as_u64() {
            Some(port) => format!("{}:{port}", listener["name"].as_str().unwrap()),
            None => listener["name"].as_str().unwrap().to_owned(),
        }
    });
    listeners.collect()
}

/// Every finding as `Kind namespace/name: path: message`.
fn findings(output: &Output) -> Vec<String> {
    let of_report = output.reports.iter().flat_map(|report| {
        report.findings.iter().map(|finding| {
            format!("{:?} {}: {}: {}", finding.severity, report.resource, finding.path, finding.message)
        })
    });
    of_report.collect()
}

/// A service of Kubernetes with one Dubbo port.
fn service(namespace: &str, name: &str, address: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  clusterIP: {address}
  selector: {{app: {name}}}
  ports: [{{name: tcp-metaprotocol-dubbo, port: 20880}}]
"
    )
}

/// A namespace whose pods have sidecars.
fn namespace(name: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{istio-injection: enabled}}}}}}\n"
    )
}

/// Compares with what is beside the sample. `UPDATE_SAMPLES=1` writes it anew.
#[test]
fn samples_are_in_step() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../istio-samples");
    let samples_of = [
        ("brpc", "brpc"),
        ("dubbo", "dubbo"),
        ("private-protocol", "courier"),
        ("redis", "dubbo"),
        ("several-protocols", "dubbo,thrift"),
        ("thrift", "thrift"),
        ("trpc", "trpc"),
    ];
    for (sample, codecs) in samples_of {
        let folder = samples.join(sample);
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.is_file());
        files.push(folder.join("generated/addresses.yaml"));
        files.sort();
        let read = |file| format!("---\n{}\n", fs::read_to_string(file).unwrap());
        let output = generate(&world(&files.iter().map(read).collect::<String>()), &options(codecs));
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
