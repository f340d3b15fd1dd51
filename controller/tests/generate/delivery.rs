use meltemi::generate::{Delivery, IstioVersion, Role, generate};

use crate::{names, object, options, service, spec, world};

fn discovery_name(output: &meltemi::generate::Output) -> String {
    let listener =
        &spec(output, "EnvoyFilter", "shop", "meltemi-sockets")["configPatches"][1]["patch"]["value"];
    listener["filter_chains"][0]["filters"][0]["name"].as_str().unwrap().to_owned()
}

#[test]
fn the_name_of_the_module_is_that_of_the_version_of_istio() {
    let world = world(&service("shop", "demo", "10.0.0.1"));
    let name = |version| {
        let output =
            generate(&world, &meltemi::generate::Options { istio_version: version, ..options("dubbo") });
        discovery_name(&output)
    };
    assert_eq!(name(IstioVersion(29)), "extensions.istio.io/wasmplugin/shop.meltemi");
    let later = "extensions.istio.io/trafficextension/shop.meltemi~istio-translated-wasmplugin";
    assert_eq!(name(IstioVersion(30)), later);
}

#[test]
fn an_extension_config_brings_module_and_plan_by_a_name_of_its_own() {
    let options = meltemi::generate::Options {
        delivery: Delivery::ExtensionConfig,
        module_sha256: Some("ab".into()),
        ..options("dubbo")
    };
    let output = generate(&world(&service("shop", "demo", "10.0.0.1")), &options);
    assert!(!names(&output).iter().any(|name| name.starts_with("WasmPlugin")));
    let module = object(&output, "EnvoyFilter", "shop", "meltemi");
    assert_eq!(module.role(), Role::Module);
    let value = &spec(&output, "EnvoyFilter", "shop", "meltemi")["configPatches"][0]["patch"]["value"];
    assert_eq!(value["name"], discovery_name(&output));
    let config = &value["typed_config"]["config"];
    assert_eq!(config["vm_config"]["code"]["remote"]["sha256"], "ab");
    assert_eq!(config["failure_policy"], "FAIL_OPEN");
    let plan: serde_json::Value =
        serde_json::from_str(config["configuration"]["value"].as_str().unwrap()).unwrap();
    assert_eq!(plan["services"]["demo.shop.svc.cluster.local:20880"]["protocol"], "dubbo");
}

#[test]
fn checksum_and_secret_reach_the_plugin() {
    let options = meltemi::generate::Options {
        module_sha256: Some("ab".into()),
        image_pull_secret: Some("pull".into()),
        ..options("dubbo")
    };
    let output = generate(&world(&service("shop", "demo", "10.0.0.1")), &options);
    let spec = &spec(&output, "WasmPlugin", "shop", "meltemi");
    assert_eq!((&spec["sha256"], &spec["imagePullSecret"]), (&"ab".into(), &"pull".into()));
}
