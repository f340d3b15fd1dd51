//! What makes Istio's standard metrics of the module's reports.

use std::sync::LazyLock;

use serde_json::Value;

use super::mesh::Mesh;
use super::mesh_maps::KEY;
use super::options::{IstioVersion, Options};
use super::report::Reports;
use crate::world::World;

/// What the connection manager has for them, as for an Envoy of one's own.
const CONFIG: &str = include_str!("../../../envoy-configs/istio-metrics.yaml");

/// Fields of the answer to a connection, beside those that name the server: the identity that it was called with, and the
/// services of its cluster.
pub(super) const OF_SERVER: [(&str, &str); 2] = [
    ("x-meltemi-own-identity", "%UPSTREAM_LOCAL_URI_SAN%"),
    ("x-meltemi-services", "%CLUSTER_METADATA(istio:services)%"),
];

/// Fields of the tunnel of a client, beside its identity: that of the server, and what the exchange of metadata between
/// the sidecars has left, where they have that.
pub(super) const OF_CLIENT: [(&str, &str); 2] = [
    ("x-meltemi-own-identity", "%DOWNSTREAM_LOCAL_URI_SAN%"),
    (
        "x-meltemi-peer-workload",
        "%CEL(filter_state.downstream_peer.workload)%;%CEL(filter_state.downstream_peer.namespace)%;\
         %CEL(filter_state.downstream_peer.service)%;%CEL(filter_state.downstream_peer.revision)%;\
         %CEL(filter_state.downstream_peer.app)%;%CEL(filter_state.downstream_peer.version)%;\
         %CEL(filter_state.downstream_peer.cluster)%",
    ),
];

/// Istio's filter that reports the tunnels as TCP: connections to nobody, beside the calls in them.
pub(super) const OF_TCP: &str = "istio.stats";

/// The first version of Istio whose proxies have such loggers.
pub(crate) const HAS_LOGGERS: IstioVersion = IstioVersion(30);

/// Says where proxies without loggers cannot count, since their labels are not named.
pub(super) fn report_tags(mesh: &Mesh, options: &Options, reports: &mut Reports) {
    if !options.istio_metrics || options.istio_version >= HAS_LOGGERS {
        return;
    }
    for (map, tags) in &mesh.stat_tags {
        if let Some(message) = unnamed(tags) {
            reports.warn(map, format!("data.{KEY}"), message);
        }
    }
}

/// What of Istio's metrics the sidecars of a mesh cannot count, where they are or may be without loggers: what the
/// configuration in a world lacks, or all of it if that is not known.
pub fn unnamed_tags(world: &World, options: &Options) -> Vec<String> {
    let mesh = Mesh::new(world, &options.root_namespace, &mut Reports::default());
    match mesh.stat_tags.is_empty() {
        true => unnamed(&[]).into_iter().collect(),
        false => {
            let lacks = |(map, tags): &(_, Vec<_>)| Some(format!("{map}: {}", unnamed(tags)?));
            mesh.stat_tags.iter().filter_map(lacks).collect()
        }
    }
}

/// The labels beside those `tags`, and where to name them.
fn unnamed(tags: &[String]) -> Option<String> {
    let mut labels = meltemi_proxy::labels();
    labels.retain(|label| !tags.contains(label));
    (!labels.is_empty()).then(|| {
        format!(
            "before Istio 1.30 sidecars report Istio's metrics only where their labels are named; add to \
             defaultConfig.extraStatTags, and restart the pods: {}",
            labels.join(", ")
        )
    })
}

/// A connection manager with loggers for the reports.
pub(super) fn logging(mut manager: Value) -> Value {
    static LOADED: LazyLock<Value> = LazyLock::new(|| serde_saphyr::from_str(CONFIG).unwrap_or_default());
    let config = &mut manager["typed_config"];
    let loggers = LOADED["access_log"].as_array().into_iter().flatten().cloned();
    add_loggers(config, loggers);
    if let Some(routes) = config["route_config"]["virtual_hosts"][0]["routes"].as_array_mut() {
        routes.insert(0, LOADED["route"].clone());
    }
    manager
}

/// Adds loggers to what configures a connection manager.
pub(super) fn add_loggers(config: &mut Value, loggers: impl Iterator<Item = Value>) {
    match config["access_log"].as_array_mut() {
        Some(others) => others.extend(loggers),
        None => config["access_log"] = loggers.collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_metric_has_all_labels() {
        let manager = json!({"typed_config": {"route_config": {"virtual_hosts": [{"routes": ["first"]}]}}});
        let manager = logging(manager);
        let config = &manager["typed_config"];
        assert_eq!(config["route_config"]["virtual_hosts"][0]["routes"][0]["match"]["path"], "/report");
        let loggers = config["access_log"].as_array().unwrap();
        let counters =
            loggers.iter().flat_map(|logger| logger["typed_config"]["counters"].as_array().unwrap());
        let labels: Vec<_> =
            counters.map(|counter| counter["stat"]["tags"].as_array().unwrap().len()).collect();
        assert_eq!(labels, [27, 27, 27, 27, 27, 27, 27, 28, 28, 28]);
    }
}
