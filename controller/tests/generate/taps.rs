use meltemi::generate::Output;
use serde_json::{Value, json};

use crate::{findings, made, namespace, service, spec};

/// A Tap that was made in the first second of the year 2026.
fn tap(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: meltemi.io/v1alpha1
kind: Tap
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: \"2026-01-01T00:00:00Z\"}}
spec: {{duration: 2m, {spec}}}
"
    )
}

/// When it ends.
const END: u32 = 1_767_225_720;

/// A service in `shop`, whose clients are in `web`.
fn mesh() -> String {
    namespace("shop") + &namespace("web") + &service("shop", "demo", "10.0.0.1")
}

/// The taps of the sidecars of `web`, of those of `shop` as clients, and of those of `shop` as servers.
fn taps(output: &Output) -> [Value; 3] {
    let of = |namespace, name| spec(output, "WasmPlugin", namespace, name)["pluginConfig"]["taps"].clone();
    [of("web", "meltemi"), of("shop", "meltemi"), of("shop", "meltemi-server-demo")]
}

#[test]
fn a_tap_is_for_proxies_of_its_own_namespace() {
    assert_eq!(taps(&made(&mesh())), [Value::Null, Value::Null, Value::Null]);
    let all = json!([{"name": "t", "until": END, "percent": 100.0}]);
    let output = made(&(mesh() + &tap("web", "t", "")));
    assert_eq!(taps(&output), [all.clone(), Value::Null, Value::Null]);
    assert_eq!(findings(&output), Vec::<String>::new());
    let output = made(&(mesh() + &tap("shop", "t", "")));
    assert_eq!(taps(&output), [Value::Null, all.clone(), all]);
    // What is in the root namespace is for nobody else either.
    let output = made(&(mesh() + &tap("istio-system", "t", "")));
    assert_eq!(taps(&output), [Value::Null, Value::Null, Value::Null]);
    let nobody = "no sidecar or gateway of the namespace that it may select handles managed calls";
    assert_eq!(findings(&output), [format!("Warning Tap istio-system/t: : {nobody}")]);
}

#[test]
fn a_tap_says_which_calls_of_which_pods_and_what_is_told() {
    let text = "selector: {matchLabels: {app: demo}}, pods: [demo-1], percent: 10, attributes: [tenant], \
        match: {attributes: {method: {prefix: get}}}";
    let written = json!([{
        "name": "t", "until": END, "labels": {"app": "demo"}, "pods": ["demo-1"], "percent": 10.0,
        "attributes": ["tenant"], "match": [{"attributes": {"method": {"prefix": "get"}}}],
    }]);
    let output = made(&(mesh() + &tap("shop", "t", text)));
    // Clients of all labels share a plan: the proxies look at their own.
    assert_eq!(taps(&output), [Value::Null, written.clone(), written]);
    let other = tap("shop", "t", "selector: {matchLabels: {app: other}}");
    let [_, clients, servers] = taps(&made(&(mesh() + &other)));
    assert!(clients.is_array() && servers.is_null(), "the pods of the service have another label");
}

#[test]
fn what_a_tap_cannot_be_is_said() {
    let said = |text: &str| {
        let output = made(&(mesh() + text));
        assert_eq!(taps(&output)[0], Value::Null, "{text}");
        findings(&output)
    };
    let long = tap("web", "t", "").replace("2m", "61m");
    assert_eq!(said(&long), ["Error Tap web/t: spec.duration: \"61m\" is out of bounds; write 1s to 1h"]);
    let file = tap("web", "t", "").replace(", creationTimestamp: \"2026-01-01T00:00:00Z\"", "");
    let message = "is on in a cluster alone, for a time from when it is made there";
    assert_eq!(said(&file), [format!("Warning Tap web/t: : {message}")]);
    // A plan with it would be refused, with all that it says.
    let empty = said(&tap("web", "t", "match: {attributes: {a: {prefix: \"\"}}}"));
    assert!(empty.last().unwrap().starts_with("Error Tap web/t: spec: every value has it"), "{empty:?}");
    let large = format!("match: {{attributes: {{a: {{exact: {}}}}}}}", "x".repeat(4096));
    assert!(
        said(&tap("web", "t", &large))[0].contains("spec: has 4"),
        "{:?}",
        said(&tap("web", "t", &large))
    );
}

#[test]
fn a_namespace_has_so_many_taps_and_the_oldest_stay() {
    let many: String = (0..10).map(|number| tap("web", &format!("t{number}"), "")).collect();
    let output = made(&(mesh() + &many));
    let [of_web, ..] = taps(&output);
    let names: Vec<&str> =
        of_web.as_array().unwrap().iter().map(|tap| tap["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"]);
    let said = findings(&output);
    assert_eq!(said.len(), 2);
    assert!(said[0].starts_with("Error Tap web/t8: : the namespace has 8 taps"), "{said:?}");
}

#[test]
fn the_expressions_of_a_namespace_have_so_much_room_in_its_proxies() {
    // Each is a table of a megabyte.
    let large: String = (0..8)
        .map(|number| {
            let spec = format!("match: {{attributes: {{a: {{regex: \"{number}(a|b).{{20000}}\"}}}}}}");
            tap("web", &format!("t{number}"), &spec)
        })
        .collect();
    let output = made(&(mesh() + &large + &tap("web", "t9", "")));
    let said = findings(&output);
    assert!(
        said.iter().any(
            |said| said.contains("spec.match: the regular expressions of the taps of web take more than")
        ),
        "{said:?}"
    );
    let [of_web, ..] = taps(&output);
    let names: Vec<&str> =
        of_web.as_array().unwrap().iter().map(|tap| tap["name"].as_str().unwrap()).collect();
    assert!(names.first() == Some(&"t0") && names.last() == Some(&"t9") && names.len() < 9, "{names:?}");
}
