use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use serde_json::Value;

use crate::cluster::{Cluster, PORT};
use crate::network::CONTROL;
use crate::pod::Workload;
use crate::process::Process;

/// The programs of this machine that take the place of images, with their first arguments, by the images' last names.
pub(crate) type Images = BTreeMap<String, Vec<String>>;

/// Starts a container of a pod as a kubelet does, in the network and the mounts of the calling thread.
pub(crate) fn start(
    workload: &Workload,
    container: &Value,
    folder: &Path,
    images: &Images,
    cluster: &Cluster,
) -> Process {
    let name = container["name"].as_str().unwrap();
    let image = container["image"].as_str().unwrap();
    let words = |field: &str| {
        container[field].as_array().into_iter().flatten().map(Value::as_str).map(Option::unwrap)
    };
    let last = image.rsplit('/').next().and_then(|last| last.split([':', '@']).next()).unwrap();
    let program =
        images.get(last).unwrap_or_else(|| panic!("no program takes the place of the image {image}"));
    let mut line: Vec<&str> = words("command").collect();
    if line.is_empty() {
        line.extend(program.iter().map(String::as_str));
    }
    line.extend(words("args"));
    let beside = Path::new(&program[0]).parent().map(Path::to_owned);
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(beside.into_iter().chain(env::split_paths(&path))).unwrap();
    let folder = folder.join(name);
    fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).current_dir(folder);
    command.env_remove("KUBECONFIG").env("PATH", path);
    command
        .env("KUBERNETES_SERVICE_HOST", CONTROL.to_string())
        .env("KUBERNETES_SERVICE_PORT", PORT.to_string());
    for variable in container["env"].as_array().into_iter().flatten() {
        command.env(variable["name"].as_str().unwrap(), value(workload, variable, cluster));
    }
    Process::start(&format!("{}-{}-{name}", workload.namespace, workload.name), None, &mut command)
}

/// The port and the path that show whether a container is ready.
pub(crate) fn readiness(container: &Value) -> Option<(u16, &str)> {
    let probe = &container["readinessProbe"]["httpGet"];
    let mut ports = container["ports"].as_array()?.iter();
    let port = ports.find(|port| port["name"] == probe["port"])?["containerPort"].as_u64()?;
    Some((port.try_into().ok()?, probe["path"].as_str()?))
}

/// The value of a variable of a container's environment.
fn value(workload: &Workload, variable: &Value, cluster: &Cluster) -> String {
    let from = &variable["valueFrom"];
    if let Some(field) = from["fieldRef"]["fieldPath"].as_str() {
        return match field {
            "metadata.name" => workload.name.clone(),
            "metadata.namespace" => workload.namespace.clone(),
            _ => panic!("no field {field} is known here"),
        };
    }
    if let Some(name) = from["secretKeyRef"]["name"].as_str() {
        return cluster.secret(&workload.namespace, name, from["secretKeyRef"]["key"].as_str().unwrap());
    }
    variable["value"].as_str().unwrap_or_default().to_owned()
}
