//! The least that a module in the tunnel can cost: one that lets bytes pass unread, with the same listeners and clusters
//! around it as Meltemi.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use meltemi::envoy::Config;
use serde_json::{Value, json};

/// The module, in WebAssembly's text format.
const MODULE: &str = include_str!("pass_through.wat");

/// What the internal listener of the module, and the cluster of that, are called.
const NAME: &str = "pass_through";

/// Adds a listener called `listener` to a shipped configuration: as that of Meltemi, with this module in its place, which
/// is written into `folder`.
///
/// # Errors
///
/// The module cannot be written, or the configuration is not as the shipped ones are.
pub fn add(config: &mut Config, folder: &Path, listener: &str) -> Result<()> {
    let path = folder.join("pass_through.wasm");
    fs::write(&path, wat::parse_str(MODULE)?).context("cannot write the module that passes bytes on")?;
    let filter = json!({
        "name": NAME,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm",
            "config": {"name": NAME, "vm_config": {
                "vm_id": NAME,
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": path}},
            }},
        },
    });
    let resources = &mut config.value_mut()["static_resources"];
    let mut clients = copy(resources, "listeners", "demo", listener)?;
    clients["filter_chains"][0]["filters"][0]["typed_config"]["cluster"] = NAME.into();
    let mut tunnel = copy(resources, "listeners", "meltemi", NAME)?;
    tunnel["filter_chains"][0]["filters"][0] = filter;
    let mut cluster = copy(resources, "clusters", "meltemi", NAME)?;
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] =
        json!({"envoy_internal_address": {"server_listener_name": NAME}});
    for (kind, added) in [("listeners", clients), ("listeners", tunnel), ("clusters", cluster)] {
        resources[kind].as_array_mut().context("a list in the configuration")?.push(added);
    }
    Ok(())
}

/// A copy of what is called `from`, with another name.
fn copy(resources: &Value, kind: &str, from: &str, name: &str) -> Result<Value> {
    let known = resources[kind].as_array().into_iter().flatten().find(|known| known["name"] == from);
    let mut copy = known.with_context(|| format!("the configuration has no {from} in {kind}"))?.clone();
    copy["name"] = name.into();
    Ok(copy)
}
