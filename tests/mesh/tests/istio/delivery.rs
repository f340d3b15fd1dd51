//! The module by an `EXTENSION_CONFIG`, in place of a WasmPlugin.

use meltemi_tests::eventually;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::stage::{self, DEMO, SHOP, count, router, to};

#[test]
fn the_module_comes_by_an_extension_config() {
    let mut stage = stage::take();
    stage.end_controller(Signal::SIGTERM);
    let module = stage.module.clone();
    stage.run_controller(&module, &["--delivery=extension-config"]);
    for pod in ["client", "v1", "v2"] {
        eventually("the module is asked for by its own name", || {
            let sockets = &stage.pod(pod).settings()["listener \"meltemi\""];
            sockets.to_string().contains(&format!("meltemi.io/{SHOP}.meltemi")).then_some(())
        });
    }
    let plugins = format!("/apis/extensions.istio.io/v1alpha1/namespaces/{SHOP}/wasmplugins");
    eventually("no WasmPlugin is left", || stage.mesh.cluster().list(&plugins).is_empty().then_some(()));
    // The sockets that were there before have their clients connect again.
    stage.wait_for_drained();
    stage.balanced(DEMO.address);
    // Plans change live, as they do with a WasmPlugin.
    let mut connection = stage.connect(DEMO.address);
    for version in ["v1", "v2"] {
        stage.route(DEMO, &router(DEMO, json!([{"name": version, "route": [to(DEMO, version)]}])));
        eventually("calls follow the new plan", || {
            let servers = count(40, || connection.ask("sayHello", "x"));
            (servers == [(version.to_owned(), 40)].into()).then_some(())
        });
    }
    stage.end_controller(Signal::SIGTERM);
}
