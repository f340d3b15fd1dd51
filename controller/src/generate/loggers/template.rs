//! What connection managers have for the loggers of calls, as for an Envoy of one's own.

use std::sync::LazyLock;

use serde_json::Value;

use super::super::telemetry::add_loggers;

const CONFIG: &str = include_str!("../../../../envoy-configs/access-loggers.yaml");

static LOADED: LazyLock<Value> = LazyLock::new(|| serde_saphyr::from_str(CONFIG).unwrap_or_default());

/// A connection manager with loggers for calls.
pub(in super::super) fn logging(mut manager: Value, loggers: &[Value]) -> Value {
    if loggers.is_empty() {
        return manager;
    }
    let config = &mut manager["typed_config"];
    add_loggers(config, loggers.iter().cloned());
    if let Some(routes) = config["route_config"]["virtual_hosts"][0]["routes"].as_array_mut() {
        let first = LOADED["routes"].as_array();
        routes.splice(..0, first.into_iter().flatten().cloned());
    }
    manager
}

/// The loggers that write lines to a file: one for each number of them that comes together.
pub(super) fn file(path: &str) -> impl Iterator<Item = Value> {
    of_kind("file").map(move |logger| {
        let mut logger = logger.clone();
        logger["typed_config"]["path"] = path.into();
        logger
    })
}

/// The logger of a kind of services.
pub(super) fn service(kind: &str) -> Value {
    of_kind(kind).next().cloned().unwrap_or_default()
}

fn of_kind(kind: &str) -> impl Iterator<Item = &'static Value> {
    let name = format!("envoy.access_loggers.{kind}");
    let loggers = LOADED["access_log"].as_array().into_iter().flatten();
    loggers.filter(move |logger| logger["name"] == *name)
}
