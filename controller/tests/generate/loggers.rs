mod lost;

use meltemi::generate::{Options, Output, generate};
use meltemi_codecs::Codecs;
use meltemi_proxy::plan::Plan;
use serde_json::{Value, json};

use crate::{findings, made, mesh_revisions, namespace, options, service, spec, tracing, world};

/// A service that takes logs, in a namespace without sidecars.
const LOGS: &str = "---
apiVersion: v1
kind: Service
metadata: {name: logs, namespace: observability}
spec: {clusterIP: 10.0.9.9, ports: [{name: grpc, port: 9000}]}
";

const CLUSTER: &str = "outbound|9000||logs.observability.svc.cluster.local";

const AT: &str = "service: logs.observability.svc.cluster.local, port: 9000";

/// A service in `shop`, whose clients are in `web`; a service for logs; and a mesh with these providers.
fn mesh(providers: &str, other: &str) -> String {
    namespace("shop")
        + &namespace("web")
        + &service("shop", "demo", "10.0.0.1")
        + LOGS
        + &tracing::mesh(providers, other)
}

/// A Telemetry that names providers.
fn telemetry(namespace: &str, providers: &str) -> String {
    format!(
        "---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: logs, namespace: {namespace}}}
spec: {{accessLogging: [{{providers: [{providers}]}}]}}
"
    )
}

/// What the plan of a namespace's clients says of their log; the module can read it.
fn plan(output: &Output, namespace: &str) -> Value {
    let config = spec(output, "WasmPlugin", namespace, "meltemi")["pluginConfig"].clone();
    Plan::parse(config.to_string().as_bytes(), &Codecs::all()).unwrap_or_else(|error| panic!("{error}"));
    config["accessLog"].clone()
}

/// The connection managers of a namespace's clients: one for each kind of proxy.
fn managers(output: &Output, namespace: &str) -> Vec<Value> {
    let patches = spec(output, "EnvoyFilter", namespace, "meltemi-sockets")["configPatches"].clone();
    let of_listeners = patches.as_array().unwrap().iter().filter(|patch| patch["applyTo"] == "LISTENER");
    let manager = |patch: &Value| {
        let filters = patch["patch"]["value"]["filter_chains"][0]["filters"].as_array().unwrap().clone();
        filters.last().unwrap()["typed_config"].clone()
    };
    of_listeners.map(manager).collect()
}

/// The loggers of the one connection manager, without their filters, by their kinds, and a file as one; each is told of calls alone.
fn loggers(output: &Output, namespace: &str) -> Vec<(String, Value)> {
    let [manager] = &managers(output, namespace)[..] else { panic!("several kinds of proxies") };
    let loggers = manager["access_log"].as_array().cloned().unwrap_or_default();
    let of_calls = json!({"header_filter": {"header": {"name": "x-meltemi-log", "present_match": true}}});
    let routes = manager["route_config"]["virtual_hosts"][0]["routes"].as_array().unwrap();
    for (at, mark) in MARKS.into_iter().enumerate() {
        let is_there = routes[at]["match"]["headers"][0]["name"] == mark;
        assert_eq!(is_there, !loggers.is_empty(), "the routes are there if there are loggers");
    }
    let logger = |logger: &Value| {
        let name = logger["name"].as_str().unwrap().strip_prefix("envoy.access_loggers.").unwrap();
        let filter = match name {
            "file" => {
                let lines =
                    logger["typed_config"]["log_format"]["text_format_source"]["inline_string"].as_str();
                let count = lines.unwrap().lines().count().to_string();
                json!({"header_filter": {"header": {"name": "x-meltemi-lines", "string_match": {"exact": count}}}})
            }
            _ => of_calls.clone(),
        };
        assert_eq!(logger["filter"], filter);
        (name.to_owned(), logger["typed_config"].clone())
    };
    let mut loggers: Vec<_> = loggers.iter().map(logger).collect();
    loggers.dedup_by_key(|(_, config)| {
        config["path"].as_str().map_or_else(|| config.to_string(), str::to_owned)
    });
    loggers
}

/// The headers by which the connection manager knows what calls are logged by.
const MARKS: [&str; 2] = ["x-meltemi-lines", "x-meltemi-log"];

#[test]
fn lines_go_to_the_file_of_a_provider_for_those_who_have_it() {
    let file = "{name: f, envoyFileAccessLog: {path: /var/log/f, logFormat: {text: '%REQ(method)%'}}}";
    let output = made(&(mesh(file, "") + &telemetry("web", "{name: f}")));
    let wanted = json!({"errors": false, "textFormat": "%REQ(method)%", "files": true, "log": false});
    assert_eq!(plan(&output, "web"), wanted);
    let [(kind, config)] = &loggers(&output, "web")[..] else { panic!("one logger") };
    assert_eq!((&**kind, &config["path"]), ("file", &json!("/var/log/f")));
    assert_eq!(config["log_format"]["text_format_source"]["inline_string"], "%REQ(x-call-line-1)%\n");
    // The calls of other namespaces, and what those call, are none of theirs.
    assert_eq!((plan(&output, "shop"), loggers(&output, "shop")), (Value::Null, vec![]));
    assert_eq!(findings(&output), Vec::<String>::new());

    // Beside the standard output.
    let output = made(&(mesh(file, "") + &telemetry("web", "{name: envoy}, {name: F}")));
    let usual = "NotHonoured ConfigMap istio-system/istio: data.mesh: a call of managed protocols has one line, for all access logs: \
                 not in the usual form of \"envoy\", but in that of \"f\"";
    assert_eq!(
        (&plan(&output, "web")["log"], paths(&output)),
        (&json!(false), files(&["/dev/stdout", "/var/log/f"]))
    );
    assert_eq!(findings(&output), [usual]);
}

/// The files that clients log to.
fn paths(output: &Output) -> Vec<Value> {
    loggers(output, "web").iter().map(|(_, config)| config["path"].clone()).collect()
}

fn files(paths: &[&str]) -> Vec<Value> {
    paths.iter().map(|path| json!(path)).collect()
}

#[test]
fn a_file_of_several_providers_has_each_line_once() {
    let file =
        "{name: f, envoyFileAccessLog: {path: /dev/stdout}}, {name: none, envoyFileAccessLog: {path: ''}}";
    let output = made(&(mesh(file, "") + &telemetry("web", "{name: envoy}, {name: f}, {name: none}")));
    assert_eq!(paths(&output), files(&["/dev/stdout"]));
    assert_eq!(managers(&output, "web")[0]["access_log"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_file_beside_a_service_takes_no_entries() {
    let providers = format!(
        "{{name: f, envoyFileAccessLog: {{path: /var/log/f}}}}, {{name: o, envoyOtelAls: {{{AT}, logFormat: {{text: same}}}}}}"
    );
    let output = made(&(mesh(&providers, "") + &telemetry("web", "{name: o}, {name: f}")));
    let wanted = json!({"errors": false, "files": true, "fields": {"x-call-line": "%LINE%"}, "log": false});
    assert_eq!(plan(&output, "web"), wanted);
    let kinds: Vec<_> = loggers(&output, "web").into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["file", "open_telemetry"]);
}

#[test]
fn the_file_of_the_mesh_may_be_any() {
    for file in ["/dev/stdout", "/dev/stderr", "/var/log/calls"] {
        let output = made(&mesh("", &format!("accessLogFile: {file}")));
        assert_eq!(paths(&output), files(&[file]));
        let wanted = json!({"errors": false, "files": true, "log": false});
        assert_eq!(plan(&output, "web"), wanted, "{file}");
        // The flag is about the standard output of the proxy.
        let flag = Options { access_log: Some(meltemi::generate::AccessLog::Errors), ..options("dubbo") };
        let output = generate(&world(&mesh("", &format!("accessLogFile: {file}"))), &flag);
        let wanted = json!({"errors": true, "files": true, "log": false});
        assert_eq!((plan(&output, "web"), paths(&output)), (wanted, files(&["/dev/stdout"])));
    }
}

#[test]
fn an_access_log_service_is_told_of_calls() {
    let als = format!(
        "{{name: als, envoyHttpAls: {{{AT}, logName: calls, additionalRequestHeadersToLog: [X-TENANT, tenantId, x-envoy-a, te], \
         filterStateObjectsToLog: [a]}}}}"
    );
    let output = made(&(mesh(&als, "defaultProviders: {accessLogging: [als]}")));
    let plan = plan(&output, "web");
    assert_eq!((&plan["log"], &plan["fields"]["x-tenant"]), (&json!(false), &json!("%REQ(x-tenant)%")));
    assert_eq!(plan["fields"]["x-call-outcome"], "%RESPONSE_CODE_DETAILS%");
    let [(kind, config)] = &loggers(&output, "web")[..] else { panic!("one logger") };
    let common = &config["common_config"];
    assert_eq!((&**kind, &common["log_name"]), ("http_grpc", &json!("calls")));
    let service = json!({"cluster_name": CLUSTER, "authority": "logs.observability.svc.cluster.local"});
    assert_eq!(common["grpc_service"]["envoy_grpc"], service);
    let headers = config["additional_request_headers_to_log"].as_array().unwrap();
    assert_eq!(headers.len(), plan["fields"].as_object().unwrap().len());
    assert_eq!(headers[headers.len() - 2..], ["x-tenant", "tenantid"]);
    assert_eq!(plan["fields"]["tenantid"], "%REQ(tenantId)%");
    let begin = "NotHonoured ConfigMap istio-system/istio: data.mesh: ";
    let end = "of the extensionProvider \"als\" is not in force for managed protocols";
    let own = "which is a header of the proxy's own; leave it out,";
    let wanted = [
        format!("{begin}envoyHttpAls.filterStateObjectsToLog {end}"),
        format!("{begin}\"-\", {own} {end}"),
        format!("{begin}\"%REQ(te)%\", {own} {end}"),
    ];
    assert_eq!(findings(&output), wanted);
}

#[test]
fn opentelemetry_has_the_text_and_the_labels_of_its_provider() {
    let otel = format!(
        "{{name: o.1, envoyOtelAls: {{{AT}, logFormat: {{text: \"%REQ(:PATH)%\\n%DURATION%\", labels: {{b: '%REQ(X-B)%', a: prod}}}}}}}}, \
         {{name: plain, envoyOtelAls: {{{AT}}}}}"
    );
    let output = made(&(mesh(&otel, "") + &telemetry("web", "{name: o.1}, {name: plain}")));
    let fields = json!({
        "x-log-o_2e1-text": "%REQ(:path)% %DURATION%", "x-log-o_2e1-1": "%REQ(x-b)%", "x-call-line": "%LINE%",
    });
    assert_eq!(plan(&output, "web"), json!({"errors": false, "fields": fields, "log": false}));
    let [(_, first), (_, second)] = &loggers(&output, "web")[..] else { panic!("two loggers") };
    assert_eq!(first["body"]["string_value"], "%REQ(x-log-o_2e1-text)%");
    let text = |text: &str| json!({"string_value": text});
    let values =
        json!([{"key": "a", "value": text("prod")}, {"key": "b", "value": text("%REQ(x-log-o_2e1-1)%")}]);
    assert_eq!(first["attributes"]["values"], values);
    assert_eq!((&second["body"], &second["attributes"]), (&text("%REQ(x-call-line)%"), &Value::Null));
    assert_eq!(second["common_config"]["log_name"], "otel_envoy_accesslog");
    assert_eq!(findings(&output), Vec::<String>::new());
}

#[test]
fn what_no_proxy_can_tell_of_calls_is_reported() {
    let providers = format!(
        "{{name: tcp, envoyTcpAls: {{{AT}}}}}, {{name: lost, envoyHttpAls: {{service: lost.observability, port: 1}}}}, \
         {{name: als, envoyHttpAls: {{{AT}}}}}"
    );
    let scope = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: web}
spec: {egress: [{hosts: [shop/*]}]}
";
    let names = "{name: tcp}, {name: lost}, {name: als}";
    let output = made(&(mesh(&providers, "") + scope + &telemetry("web", names)));
    assert_eq!((plan(&output, "web"), loggers(&output, "web")), (Value::Null, vec![]));
    let place = |number: usize| {
        format!("NotHonoured Telemetry web/logs: spec.accessLogging[0].providers[{number}].name: ")
    };
    let wanted = [
        "\"tcp\" is of envoyTcpAls; name one of envoyFileAccessLog, envoyHttpAls or envoyOtelAls, or the provider envoy",
        "\"lost\" names the service \"lost.observability\", which is none; write its host in full, as in \
         otel.observability.svc.cluster.local",
        "\"als\" names logs.observability.svc.cluster.local, which web does not see, by its exportTo or by a Sidecar",
    ];
    let wanted: Vec<_> = wanted.iter().enumerate().map(|(at, text)| place(at) + text).collect();
    assert_eq!(findings(&output), wanted);

    let output = made(&mesh(&providers, "defaultProviders: {accessLogging: [tcp]}"));
    assert_eq!((plan(&output, "web"), loggers(&output, "web")), (Value::Null, vec![]));
    let wanted = "NotHonoured ConfigMap istio-system/istio: data.mesh: calls of managed protocols: the access log \"tcp\" is of \
                  envoyTcpAls; name one of envoyFileAccessLog, envoyHttpAls or envoyOtelAls, or the provider envoy";
    assert_eq!(findings(&output), [wanted]);
}

#[test]
fn labels_take_no_more_room_than_plans_have() {
    let labels: Vec<_> = (0..70).map(|number| format!("l{number}: '%REQ(a)%'")).collect();
    let otel =
        format!("{{name: o, envoyOtelAls: {{{AT}, logFormat: {{labels: {{{}}}}}}}}}", labels.join(", "));
    let output = made(&(mesh(&otel, "") + &telemetry("web", "{name: o}")));
    assert_eq!(plan(&output, "web")["fields"].as_object().unwrap().len(), 64);
    let over = "is one of more than 64 headers, or there already, of the extensionProvider \"o\"";
    let findings = findings(&output);
    assert!(findings.len() == 1 && findings[0].contains(over), "{findings:?}");
}

#[test]
fn loggers_of_calls_are_beside_those_that_make_metrics() {
    let file = "{name: f, envoyFileAccessLog: {path: /var/log/f}}";
    let with_metrics = Options { istio_metrics: true, ..options("dubbo") };
    let output = generate(&world(&(mesh(file, "") + &telemetry("web", "{name: f}"))), &with_metrics);
    let kinds = |manager: &Value| -> Vec<String> {
        let loggers = manager["access_log"].as_array().unwrap().iter();
        loggers
            .map(|logger| logger["name"].as_str().unwrap().rsplit('.').next().unwrap().to_owned())
            .collect()
    };
    let managers = managers(&output, "web");
    assert_eq!(
        managers.iter().map(kinds).collect::<Vec<_>>(),
        [vec!["file", "file", "file", "stats", "stats"], vec!["file"; 3]]
    );
    let paths = managers[0]["route_config"]["virtual_hosts"][0]["routes"].as_array().unwrap();
    assert_eq!(paths[0]["match"]["path"], "/report");
    assert_eq!([1, 2].map(|at| &paths[at]["match"]["headers"][0]["name"]), MARKS);
}

/// The ConfigMap of another revision, with these providers.
fn canary(providers: &str, other: &str) -> String {
    tracing::mesh(providers, other).replace("name: istio,", "name: istio-canary,")
}

/// A world whose namespaces have proxies of both revisions.
fn of_both(world: &str) -> String {
    world.to_owned() + &mesh_revisions::pods_of_both()
}

fn made_of_both(world: &str) -> Output {
    made(&of_both(world))
}

#[test]
fn what_two_revisions_mean_by_one_name_is_told_with_both() {
    let on = "NotHonoured ConfigMap istio-system/istio-canary: data.mesh: calls of managed protocols: the ";
    let all =
        "is as ConfigMap istio-system/istio has it, where proxies of both share a plan; write the same here";
    let ours = format!("{{name: als, envoyHttpAls: {{{AT}}}}}");
    let with = |theirs: &str| {
        made_of_both(&(mesh(&ours, "") + &canary(theirs, "") + &telemetry("web", "{name: als}")))
    };
    for theirs in [format!("{{name: ALS, envoyHttpAls: {{{AT}, logName: b}}}}"), ours.replace("Http", "Otel")]
    {
        let output = with(&theirs);
        let [(kind, config)] = &loggers(&output, "web")[..] else { panic!("one logger") };
        let log = &config["common_config"]["log_name"];
        assert_eq!((&**kind, log), ("http_grpc", &json!("http_envoy_accesslog")));
        assert_eq!(findings(&output), [format!("{on}access log \"als\" {all}")]);
    }
    for theirs in [ours.clone(), format!("{{name: other, envoyHttpAls: {{{AT}, logName: b}}}}")] {
        assert_eq!(findings(&with(&theirs)), Vec::<String>::new(), "{theirs}");
    }
}

#[test]
fn the_log_of_the_mesh_is_that_of_one_revision() {
    let on = "NotHonoured ConfigMap istio-system/istio-canary: data.mesh: calls of managed protocols: the ";
    let all =
        "is as ConfigMap istio-system/istio has it, where proxies of both share a plan; write the same here";
    let ours = "accessLogFile: /var/log/ours";
    // That of a file is not in the format of another revision.
    let theirs = "accessLogFile: /var/log/theirs\n    accessLogFormat: '%DURATION%'";
    let output = made_of_both(&(mesh("", ours) + &canary("", theirs)));
    let wanted = json!({"errors": false, "files": true, "log": false});
    assert_eq!(plan(&output, "web"), wanted);
    assert_eq!(paths(&output), files(&["/var/log/ours"]));
    assert_eq!(findings(&output), [format!("{on}access log \"envoy\" {all}")]);
    assert_eq!(findings(&made_of_both(&(mesh("", ours) + &canary("", ours)))), Vec::<String>::new());
    // Lines are on standard output: by default on none of the canary, else on either.
    let (ours, envoy) = (
        mesh("", "accessLogFile: /dev/stdout") + &canary("", ""),
        telemetry("istio-system", "{name: envoy}"),
    );
    let silent = format!("{on}access log \"envoy\" holds where proxies of both share a plan");
    let told = findings(&made_of_both(&ours));
    assert!(told.len() == 1 && told[0].starts_with(&silent), "{told:?}");
    assert_eq!(findings(&made_of_both(&(ours + &envoy))), Vec::<String>::new());
    let flag = Options { access_log: Some(meltemi::generate::AccessLog::All), ..options("dubbo") };
    let files = mesh("", "accessLogFile: /var/log/ours") + &canary("", "accessLogFile: /var/log/theirs");
    assert_eq!(findings(&generate(&world(&of_both(&files)), &flag)), Vec::<String>::new());
}

#[test]
fn the_logs_of_all_revisions_hold_where_no_telemetry_says_it() {
    let file = "{name: f, envoyFileAccessLog: {path: /var/log/f}}";
    let theirs = canary(file, "defaultProviders: {accessLogging: [f]}");
    let output = made_of_both(&(mesh("", "accessLogFile: /dev/stdout") + &theirs));
    assert_eq!(paths(&output), files(&["/dev/stdout", "/var/log/f"]));
    let place = |map: &str| {
        format!("NotHonoured ConfigMap istio-system/{map}: data.mesh: calls of managed protocols: ")
    };
    let all = |name: &str, map: &str| {
        format!(
            "the access log {name:?} holds where proxies of both share a plan, as ConfigMap istio-system/{map} names it; \
             write the same here"
        )
    };
    let wanted = [place("istio") + &all("f", "istio-canary"), place("istio-canary") + &all("envoy", "istio")];
    assert_eq!(findings(&output), wanted);
}

#[test]
fn a_port_that_is_not_of_grpc_is_told() {
    let als = format!("{{name: als, envoyHttpAls: {{{AT}}}}}");
    let with = |port: &str, more: &str| {
        let output = made(
            &(mesh(&als, more).replace("ports: [{name: grpc,", &format!("ports: [{{{port}"))
                + &telemetry("web", "{name: als}")),
        );
        assert_eq!(loggers(&output, "web").len(), 1, "it is there all the same, as an EnvoyFilter may help");
        findings(&output)
    };
    for port in [
        "name: grpc-logs,",
        "name: http2-logs,",
        "name: GRPC-web-logs,",
        "appProtocol: grpc,",
        "name: tcp-logs, appProtocol: kubernetes.io/h2c,",
    ] {
        assert_eq!(with(port, ""), Vec::<String>::new(), "{port}");
    }
    let lost = "NotHonoured Telemetry web/logs: spec.accessLogging[0].providers[0].name: \"als\" names port 9000 of \
                logs.observability.svc.cluster.local, which is not of gRPC or HTTP/2 by its name or appProtocol: Envoy sends to \
                it by HTTP/1.1, and all is lost. Name the port grpc or grpc-…, or write appProtocol: grpc";
    for port in ["", "name: grpclogs,", "name: tcp-grpc,", "name: http,", "name: grpc, appProtocol: http,"] {
        assert_eq!(with(port, ""), [lost], "{port}");
    }
    // Istio's ways to have HTTP/2 there.
    let upgrades = "h2UpgradePolicy: UPGRADE";
    assert_eq!(with("name: http,", upgrades), Vec::<String>::new());
    assert_eq!(with("name: tcp,", upgrades), [lost]);
    let rule = "
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: logs, namespace: observability}
spec: {host: logs, trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}}
";
    assert_eq!(with("name: tcp,", rule), Vec::<String>::new());
    let other = rule.replace("host: logs", "host: others");
    assert_eq!(with("name: tcp,", &other), [lost]);
}

#[test]
fn sidecars_that_some_workloads_have_may_hide_a_service() {
    let als = format!("{{name: als, envoyHttpAls: {{{AT}}}}}");
    let sidecar = |name: &str, selector: &str, hosts: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: {name}, namespace: web}}
spec: {{{selector} egress: [{{hosts: [{hosts}]}}]}}
"
        )
    };
    let labels = "workloadSelector: {labels: {app: narrow}},";
    let base = mesh(&als, "") + &telemetry("web", "{name: als}");
    let at = "NotHonoured Telemetry web/logs: spec.accessLogging[0].providers[0].name: \"als\" names \
              logs.observability.svc.cluster.local, which the workloads";
    let output = made(&(base.clone() + &sidecar("narrow", labels, "shop/*")));
    assert_eq!(loggers(&output, "web").len(), 1);
    let told = format!("{at} that Sidecar web/narrow selects do not see: their calls are lost");
    assert_eq!(findings(&output), [told]);
    // The other way round.
    let both = sidecar("default", "", "shop/*") + &sidecar("wide", labels, "'*/*'");
    let output = made(&(base.clone() + &both));
    assert_eq!(loggers(&output, "web").len(), 1);
    let told = format!("{at} of web that no Sidecar selects do not see: their calls are lost");
    assert_eq!(findings(&output), [told]);
    let sees = sidecar("narrow", labels, "shop/*, observability/logs.observability.svc.cluster.local");
    assert_eq!(findings(&made(&(base.clone() + &sees))), Vec::<String>::new());
    // Workloads without calls lose none.
    assert_eq!(findings(&made(&(base + &sidecar("narrow", labels, "./*")))), Vec::<String>::new());
}

#[test]
fn servers_have_what_their_own_sidecar_shows_them() {
    let als = format!("{{name: als, envoyHttpAls: {{{AT}}}}}");
    let sidecar = |app: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: own, namespace: shop}}
spec: {{workloadSelector: {{labels: {{app: {app}}}}}, egress: [{{hosts: [./*]}}]}}
"
        )
    };
    let named = telemetry("shop", "{name: als}").replace("[{providers", "[{match: {mode: SERVER}, providers");
    let of = |app: &str| {
        let output = made(&(mesh(&als, "") + &named + &sidecar(app)));
        let config = spec(&output, "WasmPlugin", "shop", "meltemi-server-demo")["pluginConfig"].clone();
        (config["accessLog"]["fields"].is_object(), findings(&output))
    };
    let hidden = "NotHonoured Telemetry shop/logs: spec.accessLogging[0].providers[0].name: \"als\" names \
                  logs.observability.svc.cluster.local, which shop does not see, by its exportTo or by a Sidecar";
    assert_eq!(of("demo"), (false, vec![hidden.to_owned()]));
    assert_eq!(of("another"), (true, vec![]));
}

#[test]
fn a_format_that_is_none_leaves_that_of_another_file() {
    let file = |name: &str, text: &str| {
        format!(
            "{{name: {name}, envoyFileAccessLog: {{path: /var/log/{name}, logFormat: {{text: '{text}'}}}}}}"
        )
    };
    let long = "%DURATION%".repeat(65);
    let with = |b: &str| {
        let providers = [file("a", &long), file("b", b)].join(", ");
        made(&(mesh(&providers, "") + &telemetry("web", "{name: a}, {name: b}")))
    };
    let on = "NotHonoured ConfigMap istio-system/istio: data.mesh: the format of the access log ";
    let is_none = "is not that of managed protocols, whose lines have their own: ";
    let output = with("%REQ(method)%");
    assert_eq!(plan(&output, "web")["textFormat"], "%REQ(method)%");
    let told = findings(&output);
    assert!(told.len() == 1 && told[0].starts_with(&format!("{on}\"a\" {is_none}")), "{told:?}");
    let output = with(&long);
    assert_eq!(plan(&output, "web")["textFormat"], Value::Null);
    let told = findings(&output);
    assert!(told.len() == 2 && told[1].starts_with(&format!("{on}\"b\" {is_none}")), "{told:?}");
}
