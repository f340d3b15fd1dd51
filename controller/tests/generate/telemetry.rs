use meltemi::generate::{AccessLog, IstioVersion, Options, Output, generate};
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

/// The lines of calls by the sidecars of `web`, by those of `shop`, and to those of `shop`: in files, and not in the proxies' logs.
fn lines(output: &Output) -> [Value; 3] {
    let of = |namespace, name| {
        let mut lines = spec(output, "WasmPlugin", namespace, name)["pluginConfig"]["accessLog"].clone();
        if let Some(lines) = lines.as_object_mut() {
            let [files, log] = ["files", "log"].map(|name| lines.remove(name));
            assert_eq!((files, log), (Some(json!(true)), Some(json!(false))));
        }
        lines
    };
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
fn what_names_no_provider_is_about_those_named_before() {
    let all = json!({"errors": false});
    let file = mesh("extensionProviders: [{name: f, envoyFileAccessLog: {path: /dev/stdout}}]");
    let of_mesh = mesh_of_two() + &file;
    let servers_off = "{providers: [{name: f}]}, {disabled: true, match: {mode: SERVER}}";
    let text = of_mesh.clone() + &telemetry("istio-system", "all", "", servers_off);
    assert_eq!(lines(&made(&text)), [all.clone(), all.clone(), Value::Null]);
    // In another Telemetry it is about those of the one above.
    let text = of_mesh
        + &telemetry("istio-system", "all", "", "{providers: [{name: f}]}")
        + &telemetry("shop", "quiet", "", "{disabled: true, match: {mode: SERVER}}");
    assert_eq!(lines(&made(&text)), [all.clone(), all, Value::Null]);
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
            "{defaultProviders: {accessLogging: [f]}, extensionProviders: [{name: f, envoyFileAccessLog: {path: /dev/stdout}}]}",
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
        "NotHonoured Telemetry shop/c: spec.accessLogging[0].providers[0].name: \"otel\" names the service \"\", which is none; \
         write its host in full, as in otel.observability.svc.cluster.local",
        "NotHonoured Telemetry shop/c: spec.accessLogging[0].providers[1].name: \"nobody\" is not among the extensionProviders of \
         the mesh configuration; name the provider envoy",
        "NotHonoured Telemetry web/a: spec.selector: not for access logs of managed protocols as mode CLIENT: the proxies of the \
         namespace's clients share one plan: leave out the selector, or write mode: SERVER",
        "NotHonoured Telemetry web/b: spec.accessLogging[0].filter.expression: for managed protocols only alternatives (||) of \
         response.code >= 400 or 500 and of request.duration > duration(\"1s\") are known: calls that did not succeed have lines",
    ];
    assert_eq!(findings(&output), wanted);
}

#[test]
fn formats_of_the_mesh_are_those_of_plans() {
    let of = |plan: &Value| {
        let mut plan = plan.clone();
        plan.as_object_mut().unwrap().remove("errors");
        plan
    };
    let file = "accessLogFile: /dev/stdout";
    let provider = "extensionProviders: [{name: f, envoyFileAccessLog: {path: /dev/stdout, logFormat: {labels: {m: '%REQ(method)%', n: 5}}}}]";
    for (config, wanted) in [
        (format!("{{{file}, accessLogFormat: ''}}"), json!({})),
        (
            format!("{{{file}, accessLogFormat: '%REQ(X-REQUEST-ID)% %DURATION%'}}"),
            json!({"textFormat": "%REQ(x-request-id)% %DURATION%"}),
        ),
        (
            format!(
                "{{{file}, accessLogEncoding: JSON, accessLogFormat: '{{\\\"m\\\": \\\"%REQ(:PATH)%\\\"}}'}}"
            ),
            json!({"jsonFormat": {"m": "%REQ(:path)%"}}),
        ),
        (format!("{{{file}, accessLogEncoding: JSON}}"), json!({})),
        (
            format!("{{defaultProviders: {{accessLogging: [F]}}, {provider}}}"),
            json!({"jsonFormat": {"m": "%REQ(method)%", "n": "5"}}),
        ),
        // The format of another log is not that of this one.
        (format!("{{{file}, {provider}}}"), json!({})),
    ] {
        let output = made(&(mesh_of_two() + &mesh(&config)));
        let [web, ..] = lines(&output);
        assert_eq!(of(&web), wanted, "{config}");
        assert_eq!(findings(&output), Vec::<String>::new(), "{config}");
    }
    // A Telemetry names the provider with the format.
    let text = mesh_of_two() + &mesh(provider) + &telemetry("web", "f", "", "{providers: [{name: f}]}");
    let [web, shop, _] = lines(&made(&text));
    assert_eq!((&web["jsonFormat"]["m"], shop), (&json!("%REQ(method)%"), Value::Null));
}

#[test]
fn what_formats_have_of_http_alone_is_reported() {
    let text = |format: &str| {
        mesh_of_two() + &mesh(&format!("{{accessLogFile: /dev/stdout, accessLogFormat: '{format}'}}"))
    };
    let output = made(&text("%REQUESTED_SERVER_NAME% %RESP(X)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% 100%"));
    assert_eq!(lines(&output)[0]["textFormat"], "- - %REQ(:path)% 100%%");
    let begin = "NotHonoured ConfigMap istio-system/istio: data.mesh: ";
    let dashes = "the format of the access log \"envoy\" has %REQUESTED_SERVER_NAME%, %RESP(X)%, %, of which calls of managed \
                  protocols know nothing: their lines have a dash there";
    assert_eq!(findings(&output), [format!("{begin}{dashes}")]);

    let output = made(&text(&"%DURATION%".repeat(100)));
    assert_eq!(lines(&output)[0], json!({"errors": false}));
    let refused = "the format of the access log \"envoy\" is not that of managed protocols, whose lines have their own: the format \
                   has 100 operators; at most 64 are allowed";
    assert_eq!(findings(&output), [format!("{begin}{refused}")]);

    // One line for two logs.
    let providers = "extensionProviders: [{name: b, envoyFileAccessLog: {logFormat: {text: b}}}, \
                     {name: a, envoyFileAccessLog: {logFormat: {text: a}}}]";
    let both = telemetry("web", "all", "", "{providers: [{name: b}, {name: a}]}");
    let output = made(&(mesh_of_two() + &mesh(providers) + &both));
    assert_eq!(lines(&output)[0]["textFormat"], "a");
    let other = "a call of managed protocols has one line, for all access logs: not in the format of \"b\", but in that of \"a\"";
    assert_eq!(findings(&output), [format!("{begin}{other}")]);
}

#[test]
fn labels_that_old_sidecars_need_are_named() {
    let text = |tags: &str| mesh_of_two() + &mesh(&format!("{{defaultConfig: {{extraStatTags: [{tags}]}}}}"));
    let found = |text: &str, version, istio_metrics| {
        let options = Options { istio_metrics, istio_version: IstioVersion(version), ..options("dubbo") };
        findings(&generate(&world(text), &options))
    };
    let [finding] = found(&text("reporter, le, service"), 29, true).try_into().unwrap();
    assert!(finding.contains("extraStatTags") && finding.contains("rpc_outcome"), "{finding}");
    assert!(!finding.contains("reporter"), "{finding}");
    assert_eq!(found(&mesh_of_two(), 29, true), Vec::<String>::new(), "the mesh is not known");
    assert_eq!(found(&text("le"), 29, false), Vec::<String>::new());
    assert_eq!(found(&text("le"), 30, true), Vec::<String>::new());
    assert_eq!(found(&text(&meltemi_proxy::labels().join(",")), 28, true), Vec::<String>::new());
}

/// Where their labels are to name the client's workload, which its first bytes tell.
#[test]
fn tunnels_to_servers_wait_for_what_tells_of_clients() {
    let auto = mesh_of_two().replace("tcp-metaprotocol-dubbo", "tcp-metaprotocol-auto");
    for (text, istio_metrics, version, mode) in [
        (mesh_of_two(), true, 30, Some("ON_DOWNSTREAM_DATA")),
        (mesh_of_two(), false, 30, Some("ON_DOWNSTREAM_TLS_HANDSHAKE")),
        // A server may greet its client first.
        (auto, true, 30, Some("ON_DOWNSTREAM_TLS_HANDSHAKE")),
        (mesh_of_two(), true, 28, None),
    ] {
        let options =
            Options { istio_metrics, istio_version: IstioVersion(version), ..options("dubbo,thrift") };
        let objects = format!("{:?}", generate(&world(&text), &options).objects);
        let modes: Vec<&str> = objects.split("upstream_connect_mode").skip(1).collect();
        assert_eq!(modes.len(), usize::from(mode.is_some()), "{text}");
        assert!(modes.iter().zip(mode).all(|(after, mode)| after[..60].contains(mode)), "{modes:?}");
    }
}
