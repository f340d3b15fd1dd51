//! Another build of the module takes over.

use std::fs;

use meltemi_tests::{eventually, files};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::stage::{self, DEMO, push, router, to};

#[test]
fn open_connections_follow_the_routes_that_come_with_another_module() {
    let mut stage = stage::take();
    // There are tunnels.
    stage.balanced(DEMO.address);
    let mut open = stage.connect(DEMO.address);
    open.ask("sayHello", "by the first module");
    stage.end_controller(Signal::SIGTERM);
    let other = tempfile::NamedTempFile::new().unwrap();
    fs::write(&other, files::another_build(&fs::read(files::module()).unwrap())).unwrap();
    let other = push(&stage.mesh, "other", other.path());
    let first = stage.module.clone();
    for (module, server) in [(&other, "v1"), (&first, "v2")] {
        stage.apply(&router(DEMO, json!([{"name": server, "route": [to(DEMO, server)]}])).to_string());
        stage.run_controller(module, &[]);
        // Before, calls are balanced or go to the other one.
        eventually(&format!("20 calls on an open connection go to {server}"), || {
            (0..20).all(|_| open.ask("sayHello", "x") == server).then_some(())
        });
        eventually(&format!("20 new connections lead to {server}"), || {
            (0..20).all(|_| stage.connect(DEMO.address).ask("sayHello", "x") == server).then_some(())
        });
        stage.end_controller(Signal::SIGTERM);
    }
}
