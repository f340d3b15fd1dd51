//! The controller's own life.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use meltemi_tests::eventually;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::stage::{self, DEMO, SHOP, Stage, router, to};

#[test]
fn a_controller_that_is_killed_and_started_again_changes_nothing() {
    let mut stage = stage::take();
    stage.route(DEMO, &router(DEMO, json!([{"name": "only", "route": [to(DEMO, "v1")]}])));
    let before = settled(&stage);
    stage.end_controller(Signal::SIGKILL);
    let mut connection = stage.connect(DEMO.address);
    // Envoy's workers learn of a plan one after the other.
    let mut follow = |version: &str| {
        eventually("calls follow the route", || {
            (0..40).all(|_| connection.ask("sayHello", "x") == version).then_some(())
        });
    };
    follow("v1");

    let module = stage.module.clone();
    stage.run_controller(&module, &[]);
    // The new one has had the lease, and has worked: a change of a router goes through it.
    stage.route(DEMO, &router(DEMO, json!([{"name": "other", "route": [to(DEMO, "v2")]}])));
    let after = settled(&stage);
    let changed: Vec<_> = before.iter().filter(|(name, state)| after.get(*name) != Some(state)).collect();
    assert!(
        before.len() == after.len() && changed.iter().all(|(name, _)| !name.ends_with("null")),
        "only plans: {changed:?}"
    );
    follow("v2");
}

#[test]
fn what_nobody_wants_any_more_is_collected() {
    let mut stage = stage::take();
    stage.mesh.make_namespace("brief");
    stage.apply(BRIEF);
    let of_brief = |stage: &Stage| stage.generated().keys().filter(|name| name.contains("brief")).count();
    let outbound = |stage: &Stage| {
        let settings = stage.pod("client").settings();
        settings["listener \"10.96.7.20_20880\""].to_string().contains("tunneling_config")
    };
    eventually("the client's sidecar has the tunnel", || outbound(&stage).then_some(()));
    stage.mesh.cluster().delete(BRIEF);
    eventually("nothing of it is left", || {
        let plan = stage.pod("client").plan()?;
        (of_brief(&stage) == 0 && !plan.to_string().contains(".brief.")).then_some(())
    });
    assert!(stage.generated().keys().any(|name| name.contains(SHOP)));
}

const BRIEF: &str = "
apiVersion: v1
kind: Service
metadata: {name: demo, namespace: brief}
spec:
  clusterIP: 10.96.7.20
  selector: {app: demo}
  ports: [{name: tcp-metaprotocol-dubbo, port: 20880}]
---
apiVersion: meltemi.io/v1alpha1
kind: MetaRouter
metadata: {name: demo, namespace: brief}
spec:
  hosts: [demo.brief.svc.cluster.local]
  routes: [{name: all, route: [{destination: {host: demo.brief.svc.cluster.local}}], timeout: 2s}]
";

/// The generated objects, once nothing has changed for longer than what nobody wants any more lingers.
pub fn settled(stage: &Stage) -> BTreeMap<String, Value> {
    let (mut last, mut since) = (stage.generated(), Instant::now());
    eventually("the controller has nothing to do", || {
        thread::park_timeout(Duration::from_millis(500));
        let now = stage.generated();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() >= Duration::from_secs(6)).then(|| last.clone())
    })
}
