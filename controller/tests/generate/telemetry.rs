use meltemi::generate::{AccessLog, Options, Output, generate};
use serde_json::{Value, json};

use crate::{findings, made, namespace, options, service, spec, world};

/// A Telemetry with access logs.
fn telemetry(namespace: &str, name: &str, selector: &str, logging: &str) -> String {
    format!(
        "---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{selector} accessLogging: [{logging}]}}
"
    )
}

fn mesh(config: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data: {{mesh: \"{config}\"}}
"
    )
}

/// A service in `shop`, whose clients are in `web`.
fn mesh_of_two() -> String {
    namespace("shop") + &namespace("web") + &service("shop", "demo", "10.0.0.1")
}

/// The lines of calls by the sidecars of `web`, by those of `shop`, and to those of `shop`.
fn lines(output: &Output) -> [Value; 3] {
    let of =
        |namespace, name| spec(output, "WasmPlugin", namespace, name)["pluginConfig"]["accessLog"].clone();
    [of("web", "meltemi"), of("shop", "meltemi"), of("shop", "meltemi-server-demo")]
}

const ENVOY: &str = "{providers: [{name: envoy}]}";

#[test]
fn a_telemetry_is_for_the_mesh_a_namespace_or_workloads() {
    let (all, errors) = (json!({"errors": false}), json!({"errors": true}));
    let of_errors = "{providers: [{name: envoy}], filter: {expression: response.code >= 500}}";
    let of_mesh = mesh_of_two() + &telemetry("istio-system", "all", "", ENVOY);
    assert_eq!(lines(&made(&mesh_of_two())), [Value::Null, Value::Null, Value::Null]);
    assert_eq!(lines(&made(&of_mesh)), [all.clone(), all.clone(), all.clone()]);
    let of_shop = of_mesh.clone() + &telemetry("shop", "errors", "", of_errors);
    assert_eq!(lines(&made(&of_shop)), [all.clone(), errors.clone(), errors.clone()]);
    let server = "selector: {matchLabels: {app: demo}},";
    let off = "{disabled: true, match: {mode: SERVER}}";
    let of_server = of_shop.clone() + &telemetry("shop", "a", server, off);
    let output = made(&of_server);
    assert_eq!(lines(&output), [all.clone(), errors, Value::Null]);
    assert_eq!(findings(&output), Vec::<String>::new());
    // One that targets a gateway of the Gateway API is for nobody else.
    let targets = "targetRefs: [{kind: Gateway, name: waypoint}],";
    let of_gateway = mesh_of_two() + &telemetry("shop", "a", targets, ENVOY);
    assert_eq!(lines(&made(&of_gateway)), [Value::Null, Value::Null, Value::Null]);
}

#[test]
fn modes_are_sides_of_calls() {
    let all = json!({"errors": false});
    for (mode, wanted) in [
        ("CLIENT", [all.clone(), all.clone(), Value::Null]),
        ("SERVER", [Value::Null, Value::Null, all.clone()]),
        ("CLIENT_AND_SERVER", [all.clone(), all.clone(), all.clone()]),
    ] {
        let logging = format!("{{providers: [{{name: envoy}}], match: {{mode: {mode}}}}}");
        let text = mesh_of_two() + &telemetry("istio-system", "all", "", &logging);
        assert_eq!(lines(&made(&text)), wanted, "{mode}");
    }
}

#[test]
fn the_mesh_configuration_switches_lines_on() {
    let all = json!({"errors": false});
    let wanted = [all.clone(), all.clone(), all.clone()];
    for (config, wanted) in [
        ("accessLogFile: /dev/stdout", wanted.clone()),
        ("accessLogFile: ''", [Value::Null, Value::Null, Value::Null]),
        ("defaultProviders: {accessLogging: [envoy]}", wanted.clone()),
        (
            "{defaultProviders: {accessLogging: [f]}, extensionProviders: [{name: f, envoyFileAccessLog: {path: /a}}]}",
            wanted,
        ),
        (
            "{defaultProviders: {accessLogging: [o]}, extensionProviders: [{name: o, envoyOtelAls: {port: 4317}}]}",
            [Value::Null, Value::Null, Value::Null],
        ),
    ] {
        assert_eq!(lines(&made(&(mesh_of_two() + &mesh(config)))), wanted, "{config}");
    }
    let text = mesh_of_two()
        + &mesh("accessLogFile: /dev/stdout")
        + &telemetry("web", "quiet", "", "{disabled: true}");
    assert_eq!(lines(&made(&text)), [Value::Null, all.clone(), all]);
}

#[test]
fn the_flag_counts_before_the_mesh_and_after_telemetries() {
    let text = mesh_of_two() + &mesh("accessLogFile: /dev/stdout") + &telemetry("web", "all", "", ENVOY);
    let options = Options { access_log: Some(AccessLog::Errors), ..options("dubbo") };
    let output = generate(&world(&text), &options);
    let errors = json!({"errors": true});
    assert_eq!(lines(&output), [json!({"errors": false}), errors.clone(), errors]);
}

#[test]
fn what_cannot_be_honoured_is_reported() {
    let filter = "{providers: [{name: Envoy}], filter: {expression: \"request.path == '/'\"}}";
    let others = "{providers: [{name: otel}, {name: nobody}]}";
    let text = mesh_of_two()
        + &mesh("extensionProviders: [{name: otel, envoyOtelAls: {port: 4317}}]")
        + &telemetry("web", "b", "", filter)
        + &telemetry("web", "a", "selector: {matchLabels: {app: web}},", ENVOY)
        + &telemetry("shop", "c", "", others)
        + &telemetry(
            "shop",
            "d",
            "selector: {matchLabels: {app: else}},",
            "{match: {mode: SERVER}, disabled: true}",
        );
    let output = made(&text);
    assert_eq!(lines(&output), [json!({"errors": true}), Value::Null, Value::Null]);
    let wanted = [
        "NotHonoured Telemetry shop/c: spec.accessLogging[0].providers[0].name: \"otel\" is not of envoyFileAccessLog: calls have \
         lines in the log of their proxy alone; name the provider envoy",
        "NotHonoured Telemetry shop/c: spec.accessLogging[0].providers[1].name: \"nobody\" is not among the extensionProviders of \
         the mesh configuration; name the provider envoy",
        "NotHonoured Telemetry web/a: spec.selector: not for access logs of managed protocols as mode CLIENT: the proxies of the \
         namespace's clients share one plan: leave out the selector, or write mode: SERVER",
        "NotHonoured Telemetry web/b: spec.accessLogging[0].filter.expression: for managed protocols only alternatives (||) of \
         response.code >= 400 or 500 and of request.duration > duration(\"1s\") are known: calls that did not succeed have lines",
    ];
    assert_eq!(findings(&output), wanted);
}
