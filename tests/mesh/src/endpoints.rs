//! EndpointSlices, which a controller manager would write.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cluster::Cluster;

const SLICES: &str = "/apis/discovery.k8s.io/v1";

/// Writes one EndpointSlice for each service with a selector, of the pods that it selects, and removes those of services
/// that are gone.
pub(crate) fn reconcile(cluster: &Cluster) {
    let pods = cluster.list("/api/v1/pods");
    let mut wanted = BTreeSet::new();
    for service in cluster.list("/api/v1/services") {
        let Some(slice) = slice(&service, &pods) else { continue };
        let path = path(&slice);
        cluster.put(&path, &slice);
        wanted.insert(path);
    }
    for slice in cluster.list(&format!("{SLICES}/endpointslices")) {
        if slice["metadata"]["labels"][MANAGED_BY] == MANAGER && !wanted.contains(&path(&slice)) {
            cluster.remove(&path(&slice));
        }
    }
}

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "meltemi-mesh";

fn path(slice: &Value) -> String {
    let [namespace, name] =
        ["namespace", "name"].map(|field| slice["metadata"][field].as_str().unwrap_or_default());
    format!("{SLICES}/namespaces/{namespace}/endpointslices/{name}")
}

fn slice(service: &Value, pods: &[Value]) -> Option<Value> {
    let selector = service["spec"]["selector"].as_object()?;
    let metadata = &service["metadata"];
    let selected: Vec<_> = pods
        .iter()
        .filter(|pod| {
            let labels = &pod["metadata"]["labels"];
            pod["metadata"]["namespace"] == metadata["namespace"]
                && pod["status"]["podIP"].is_string()
                && selector.iter().all(|(name, value)| labels[name] == *value)
        })
        .collect();
    let ports: Vec<_> = service["spec"]["ports"]
        .as_array()?
        .iter()
        .map(|port| {
            json!({
                "name": port["name"].as_str().unwrap_or_default(),
                "protocol": port["protocol"],
                "port": target_port(port, &selected),
                "appProtocol": port["appProtocol"],
            })
        })
        .collect();
    let endpoints: Vec<_> = selected
        .iter()
        .map(|pod| {
            let ready = is_ready(pod);
            json!({
                "addresses": [pod["status"]["podIP"]],
                "conditions": {"ready": ready, "serving": ready, "terminating": false},
                "nodeName": pod["spec"]["nodeName"],
                "targetRef": {"kind": "Pod", "name": pod["metadata"]["name"], "namespace": metadata["namespace"]},
            })
        })
        .collect();
    let name = metadata["name"].as_str()?;
    Some(json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-{MANAGER}"),
            "namespace": metadata["namespace"],
            "labels": {"kubernetes.io/service-name": name, MANAGED_BY: MANAGER},
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    }))
}

/// The number of the port on which the selected pods serve `port`.
fn target_port(port: &Value, pods: &[&Value]) -> Value {
    let target = &port["targetPort"];
    let Some(name) = target.as_str() else { return target.clone() };
    let containers = pods.iter().flat_map(|pod| pod["spec"]["containers"].as_array().into_iter().flatten());
    let mut ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    ports.find(|port| port["name"] == name).map_or(Value::Null, |port| port["containerPort"].clone())
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.filter(|condition| condition["type"] == "Ready").any(|condition| condition["status"] == "True")
}
