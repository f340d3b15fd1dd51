//! Protocols that are declared by layouts.

use std::fs;
use std::path::Path;

use meltemi_codecs::Codecs;
use meltemi_proxy::plan::Plan;
use serde_json::json;

use crate::{findings, made, object, plan};

fn sample(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../istio-samples/private-protocol").join(file);
    format!("---\n{}\n", fs::read_to_string(path).unwrap())
}

/// The sample with its layout in place of the codec, and a name for its port.
fn inputs(port: &str) -> String {
    let files = [
        "namespace.yaml",
        "service.yaml",
        "meta-router.yaml",
        "generated/addresses.yaml",
        "layout/protocol.yaml",
    ];
    files.map(sample).concat().replace("tcp-metaprotocol-courier", port)
}

#[test]
fn a_declared_protocol_is_in_the_plans_of_its_services() {
    for port in ["tcp-metaprotocol-courier", "tcp-courier", "tcp-courier-2"] {
        let output = made(&inputs(port));
        assert_eq!(findings(&output), [""; 0], "{port}");
        let entries = plan(&output, "courier");
        let mut entries = entries.as_object().unwrap().values();
        assert_eq!(entries.next().unwrap()["protocol"], "courier");
        // The module has no codec of the name, and takes the plan.
        let module = json!(object(&output, "WasmPlugin", "courier", "meltemi").spec);
        let text = module["pluginConfig"].to_string();
        let plan =
            Plan::parse(text.as_bytes(), &Codecs::all()).unwrap_or_else(|error| panic!("{error}: {text}"));
        let service = plan.services().next().unwrap();
        assert_eq!((service.codec.name(), service.routes().count()), ("courier", 2));
    }
}

#[test]
fn a_layout_that_contradicts_itself_leaves_its_services_plain() {
    let output = made(&inputs("tcp-metaprotocol-courier").replace("id: {at: 4,", "id: {at: 11,"));
    let said = findings(&output);
    let layout = "Error ApplicationProtocol courier: spec.layout.status: bytes 10 to 12 overlap id, which has 11 to 15";
    assert!(said.iter().any(|line| line.starts_with(layout)), "{said:#?}");
    assert_eq!(plan(&output, "courier"), json!({}));
}

#[test]
fn a_layout_mends_what_a_codec_of_aeraki_lacks() {
    let aeraki = "---
apiVersion: metaprotocol.aeraki.io/v1alpha1
kind: ApplicationProtocol
metadata: {name: courier}
spec: {protocol: courier, codec: aeraki.meta_protocol.codec.courier}
";
    let output = made(&format!("{}{aeraki}", inputs("tcp-metaprotocol-courier")));
    assert_eq!(findings(&output), [""; 0]);
    assert!(!plan(&output, "courier").as_object().unwrap().is_empty());
    // A codec of the module comes first.
    let other = inputs("tcp-metaprotocol-courier").replace("protocol: courier", "protocol: dubbo");
    let said = findings(&made(&other));
    assert!(said.iter().any(|line| line.contains("the module has a codec for dubbo")), "{said:#?}");
}
