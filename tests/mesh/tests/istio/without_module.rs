//! A module that cannot be had.

use meltemi_mesh_tests::Workload;
use meltemi_tests::eventually;
use nix::sys::signal::Signal;

use crate::stage::{self, DEMO, SHOP, count};

/// A new pod whose agent finds no such image goes on by plain TCP, in the mesh's mutual TLS.
#[test]
fn traffic_goes_on_as_plain_tcp() {
    let mut stage = stage::take();
    stage.end_controller(Signal::SIGTERM);
    let missing = format!("oci://{}/none@sha256:{}", stage.mesh.registry().host(), "0".repeat(64));
    stage.run_controller(&missing, &[]);
    eventually("the module is named in vain", || {
        let plugins = format!("/apis/extensions.istio.io/v1alpha1/namespaces/{SHOP}/wasmplugins");
        let plugins = stage.mesh.cluster().list(&plugins);
        plugins.iter().all(|plugin| plugin["spec"]["url"] == *missing).then_some(())
    });
    stage.mesh.start_pods([Workload::new(SHOP, "newcomer")]);
    let newcomer = stage.pod("newcomer");
    let mut connection = newcomer.enter(|| meltemi_tests::Client::connect(DEMO.address.parse().unwrap()));
    let servers = count(40, || connection.ask("sayHello", "x"));
    assert_eq!(servers.len(), 1, "one connection leads to one server: {servers:?}");
    stage.mesh.kill_pod(SHOP, "newcomer");
    stage.end_controller(Signal::SIGTERM);
}
