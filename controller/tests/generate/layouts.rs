//! Protocols that are declared by layouts.

use std::fs;
use std::path::Path;

use meltemi::generate::Output;
use meltemi_codecs::Codecs;
use meltemi_proxy::plan::Plan;
use serde_json::{Value, json};

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

/// What the plan has for the calls of clients.
fn outbound(output: &Output) -> Value {
    let entries = plan(output, "courier");
    let mut entries = entries.as_object().unwrap().iter();
    entries.find(|(authority, _)| authority.starts_with("parcels.")).unwrap().1.clone()
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

/// The filter refuses a plan whole for a status that its protocol does not have.
#[test]
fn statuses_of_a_layout_are_those_that_it_names() {
    let retried = |statuses: &str| {
        let retries = format!("retries: {{attempts: 2, retryOn: [status], statuses: [{statuses}]}}");
        inputs("tcp-metaprotocol-courier")
            .replace("retries: {attempts: 2, retryOn: [connect-failure]}", &retries)
    };
    let of_routes = |inputs: &str| outbound(&made(inputs))["routes"].as_array().cloned().unwrap_or_default();
    let known = retried("OVERLOADED, '5'");
    assert_eq!(findings(&made(&known)), [""; 0]);
    assert_eq!(of_routes(&known)[1]["retry"]["statuses"], json!(["OVERLOADED", 5]));
    let unknown = retried("OVERLOADED, BUSY");
    let said = findings(&made(&unknown));
    let place = "Error MetaRouter courier/parcels: spec.routes[1].retries.statuses[1]: courier has no status \"BUSY\"";
    assert!(said.iter().any(|line| line.starts_with(place)), "{said:#?}");
    assert!(of_routes(&unknown).is_empty());
}

#[test]
fn virtual_services_retry_the_statuses_of_a_layout() {
    let service = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: parcels, namespace: courier}
spec:
  hosts: [parcels]
  http:
  - route: [{destination: {host: parcels}}]
    retries: {attempts: 2, retryOn: 'reset,OVERLOADED,5,BUSY,503'}
";
    let router = sample("meta-router.yaml");
    let output = made(&inputs("tcp-metaprotocol-courier").replace(&router, service));
    let said = findings(&output);
    let not_honoured = |status: &str| {
        said.iter().any(|line| line.contains(&format!("spec.http[0].retries.retryOn: \"{status}\" is a")))
    };
    assert!(said.len() == 2 && not_honoured("BUSY") && not_honoured("503"), "{said:#?}");
    let retry = outbound(&output)["routes"][0]["retry"].clone();
    assert_eq!(retry, json!({"attempts": 2, "on": ["reset", "status"], "statuses": ["OVERLOADED", 5]}));
}

#[test]
fn calls_of_a_layout_without_ids_share_no_connections() {
    let annotated = inputs("tcp-metaprotocol-courier")
        .replacen(
            "kind: Service\nmetadata: {",
            "kind: Service\nmetadata: {annotations: {meltemi.io/sharing: shared}, ",
            1,
        )
        .replace("    id: {at: 4, as: u32}\n", "")
        .replace("{id:u32}", "00000000");
    assert!(annotated.contains("meltemi.io/sharing"));
    let said = findings(&made(&annotated));
    assert!(said.iter().any(|line| line.contains("has no request ids")), "{said:#?}");
}
