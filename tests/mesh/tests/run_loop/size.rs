//! Objects that the API server does not take.

use std::collections::BTreeMap;
use std::fmt::Write;

use meltemi::generate::unpack;
use meltemi_tests::eventually;

use crate::api::Api;
use crate::controller::Controller;
use crate::{filter_path, generated, make_service, plugin_path, wait_for_objects};

/// A router of about 150 KB that nothing makes smaller.
fn make_large_router(api: &Api, number: u32) {
    let mut text = format!(
        "
apiVersion: meltemi.io/v1alpha1
kind: MetaRouter
metadata: {{name: large{number}, namespace: large}}
spec:
  exportTo: [.]
  hosts: [greeter]
  routes:
"
    );
    let mut state = number + 1;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789__"[(state >> 26) as usize],
        )
    };
    for route in 0..160 {
        let method: String = (0..900).map(|_| noise()).collect();
        let _ = writeln!(
            text,
            "  - {{name: r{route}, match: {{attributes: {{method: {{exact: {method}}}}}}}, route: [{{destination: {{host: \
             greeter}}}}]}}"
        );
    }
    api.apply(&text);
}

fn names(objects: &BTreeMap<String, String>) -> Vec<&str> {
    objects.keys().map(String::as_str).collect()
}

#[test]
fn what_cannot_be_written_holds_up_only_what_leads_there() {
    let api = Api::start_with("size", &["--max-request-bytes=400000"]);
    make_service(&api, "large");
    let controller = Controller::start(&api, "size");
    wait_for_objects(&api, "large");
    (0..2).for_each(|number| make_large_router(&api, number));
    eventually("two routers are in the plan", || {
        let mut plan = api.find(&plugin_path("large"))?["spec"]["pluginConfig"].take();
        unpack(&mut plan);
        plan.to_string().contains("large/large1/").then_some(())
    });
    let before = generated(&api, "large");
    make_large_router(&api, 2);
    eventually("the plan is too large for etcd", || {
        (controller.metric("write_errors_total{operation=\"apply\"}") > 0).then_some(())
    });
    assert_eq!(controller.did("cannot apply").first().map(String::as_str), Some("WasmPlugin large/meltemi"));

    // Servers are managed, and those of another namespace, while the old plan and what leads there stay as they were.
    let other = "
apiVersion: v1
kind: Service
metadata: {name: other, namespace: large, annotations: {networking.istio.io/exportTo: .}}
spec:
  selector: {app: other}
  ports: [{name: tcp-dubbo, port: 20880}]
";
    api.apply(other);
    make_service(&api, "elsewhere");
    wait_for_objects(&api, "elsewhere");
    eventually("the server is managed", || api.find(&filter_path("large", "meltemi-inbound-other")));
    let now = generated(&api, "large");
    for (name, version) in &before {
        assert_eq!(now.get(name), Some(version), "{name} in {now:?}");
    }
    assert_eq!(now.len(), 9, "{:?}", names(&now));

    // What is not wanted any more stays as long, for its successor may be what cannot be written.
    let wanted = |count: u64| {
        eventually("the change is seen", || {
            (controller.metric("objects{kind=\"WasmPlugin\"}") == count).then_some(())
        });
    };
    wanted(5);
    api.delete("/api/v1/namespaces/large/services/other");
    wanted(4);
    // Another pass is over when the next one writes.
    make_service(&api, "another");
    wait_for_objects(&api, "another");
    assert_eq!(generated(&api, "large"), now);
    assert_eq!(controller.did("deleted"), Vec::<String>::new());

    for number in 1..3 {
        api.delete(&format!("/apis/meltemi.io/v1alpha1/namespaces/large/metarouters/large{number}"));
    }
    eventually("all is as it should be", || {
        let after = generated(&api, "large");
        (names(&after) == names(&before) && after["WasmPlugin meltemi"] != before["WasmPlugin meltemi"])
            .then_some(())
    });
    assert!(controller.end().success());
}
