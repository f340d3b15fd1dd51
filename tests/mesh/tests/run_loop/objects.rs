//! What is generated, and what is written of it.

use meltemi_tests::eventually;
use serde_json::json;

use crate::api::shared;
use crate::controller::Controller;
use crate::{
    filter_path, generated, make_router, make_service, plugin_path, router_path, wait_for_condition,
    wait_for_objects,
};

#[test]
fn objects_come_and_go_in_order() {
    let api = shared();
    make_service(&api, "order");
    let controller = Controller::start(&api, "order");
    wait_for_objects(&api, "order");
    let applied = eventually("all is told", || {
        let mut applied = controller.did("applied");
        applied.retain(|name| name.contains(" order/"));
        (applied.len() >= 6).then_some(applied)
    });
    let role = |name: &str| match name {
        name if name.starts_with("WasmPlugin") => 0,
        name if name.contains("meltemi-sockets") => 1,
        _ => 2,
    };
    assert_eq!(applied.iter().map(|name| role(name)).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2], "{applied:?}");
    let made = |path: &str| api.find(path).unwrap()["metadata"]["creationTimestamp"].to_string();
    let (plugin, tunnel) =
        (made(&plugin_path("order")), made(&filter_path("order", "meltemi-outbound-order")));
    assert!(plugin < tunnel, "the tunnel waits until sidecars have the module");

    api.delete("/api/v1/namespaces/order/services/greeter");
    eventually("the objects are gone", || generated(&api, "order").is_empty().then_some(()));
    let deleted = eventually("all is told", || {
        let deleted = controller.did("deleted");
        (deleted.len() == 6).then_some(deleted)
    });
    assert_eq!(deleted.iter().map(|name| role(name)).collect::<Vec<_>>(), [2, 2, 1, 1, 0, 0], "{deleted:?}");
    assert_eq!(controller.metric("write_errors_total{operation=\"delete\"}"), 0);
    assert!(controller.end().success());
}

#[test]
fn edits_and_deletions_are_undone() {
    let api = shared();
    make_service(&api, "edits");
    let controller = Controller::start(&api, "edits");
    wait_for_objects(&api, "edits");
    let sockets = filter_path("edits", "meltemi-sockets");
    let wanted = api.find(&sockets).unwrap()["spec"].take();

    // What the controller says, what it does not say, and the label by which it knows its objects.
    api.patch(&sockets, &json!({"spec": {"configPatches": [], "priority": 7}}));
    eventually("the edit is undone", || (api.find(&sockets)?["spec"] == wanted).then_some(()));
    let unlabelled = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": null}}});
    api.patch(&sockets, &unlabelled);
    eventually("the label is back", || {
        (api.find(&sockets)?["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "meltemi").then_some(())
    });
    let uid = api.find(&sockets).unwrap()["metadata"]["uid"].take();
    api.delete(&sockets);
    eventually("the object is back", || (api.find(&sockets)?["metadata"]["uid"] != uid).then_some(()));
    assert_eq!(api.find(&sockets).unwrap()["spec"], wanted);
    assert!(controller.end().success());
}

#[test]
fn only_what_changed_is_applied() {
    let api = shared();
    let namespaces = ["change-one", "change-two"];
    for namespace in namespaces {
        make_service(&api, namespace);
        make_router(&api, namespace, 1);
    }
    let controller = Controller::start(&api, "change");
    // All is written by then, and told.
    for namespace in namespaces {
        wait_for_condition(&api, &router_path(namespace), "Programmed", "True");
    }
    let before = namespaces.map(|namespace| wait_for_objects(&api, namespace));
    let count = controller.did("applied").len();
    make_router(&api, "change-one", 2);
    eventually("the plan has changed", || {
        let plugin = api.find(&plugin_path("change-one"))?;
        plugin.to_string().contains("\"2s\"").then_some(())
    });
    wait_for_condition(&api, &router_path("change-one"), "Programmed", "True");
    assert_eq!(controller.did("applied")[count..], ["WasmPlugin change-one/meltemi"]);
    let after = namespaces.map(|namespace| generated(&api, namespace));
    assert_eq!(before[1], after[1]);
    let changed: Vec<&String> = after[0]
        .iter()
        .filter(|(name, version)| before[0][*name] != **version)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(changed, ["WasmPlugin meltemi"]);
    assert!(controller.end().success());
}
