use std::fs;
use std::path::Path;

use meltemi::generate::Output;
use meltemi_codecs::Codecs;
use meltemi_proxy::plan::Plan;
use serde_json::{Value, json};

use crate::{findings, made, mesh_revisions, namespace, plan, plan_of, service};

/// A collector in a namespace without sidecars.
pub const COLLECTOR: &str = "---
apiVersion: v1
kind: Service
metadata: {name: otel, namespace: observability}
spec: {clusterIP: 10.0.9.9, ports: [{name: grpc-otlp, port: 4317}, {name: http-otlp, port: 4318}]}
";

pub const OTEL: &str =
    "{name: otel, opentelemetry: {service: otel.observability.svc.cluster.local, port: 4317}}";

const CLUSTER: &str = "outbound|4317||otel.observability.svc.cluster.local";

/// A Telemetry with traces.
pub fn telemetry(namespace: &str, name: &str, selector: &str, tracing: &str) -> String {
    format!(
        "---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{selector} tracing: [{tracing}]}}
"
    )
}

/// A mesh with these providers, and what else is said of it.
pub fn mesh(providers: &str, other: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |
    extensionProviders: [{providers}]
    {other}
"
    )
}

/// A service in `shop`, whose clients are in `web`, and a collector.
pub fn mesh_of_two() -> String {
    namespace("shop") + &namespace("web") + &service("shop", "demo", "10.0.0.1") + COLLECTOR
}

const DEMO: &str = "demo.shop.svc.cluster.local:20880";
const OF_SERVERS: &str = "inbound.demo.shop.svc.cluster.local:20880";

/// How calls by the sidecars of `web` are traced, by those of `shop`, and to those of `shop`.
pub fn traced(output: &Output) -> [Value; 3] {
    let (web, shop) = (plan(output, "web"), plan(output, "shop"));
    [&web[DEMO], &shop[DEMO], &shop[OF_SERVERS]].map(|entry| entry["tracing"].clone())
}

pub fn sampled(sampling: f64) -> Value {
    json!({"sampling": sampling, "collector": CLUSTER})
}

/// Whether the filter takes each plan.
#[track_caller]
pub fn assert_taken(output: &Output) {
    for object in output.objects.iter().filter(|object| object.kind == "WasmPlugin") {
        let plan = json!(object.spec)["pluginConfig"].to_string();
        Plan::parse(plan.as_bytes(), &Codecs::all()).unwrap_or_else(|error| panic!("{error}: {plan}"));
    }
}

#[test]
fn telemetries_are_merged_field_by_field() {
    let config = mesh_of_two() + &mesh(OTEL, "");
    assert_eq!(traced(&made(&config)), [Value::Null, Value::Null, Value::Null]);
    let of_mesh = config.clone() + &telemetry("istio-system", "all", "", "{providers: [{name: OTel}]}");
    assert_eq!(traced(&made(&of_mesh)), [sampled(1.0), sampled(1.0), sampled(1.0)]);
    let of_shop = of_mesh + &telemetry("shop", "more", "", "{randomSamplingPercentage: 12.5}");
    assert_eq!(traced(&made(&of_shop)), [sampled(1.0), sampled(12.5), sampled(12.5)]);
    let server = "selector: {matchLabels: {app: demo}},";
    let of_pods =
        of_shop + &telemetry("shop", "a", server, "{randomSamplingPercentage: 100, match: {mode: SERVER}}");
    let output = made(&of_pods);
    assert_eq!(traced(&output), [sampled(1.0), sampled(12.5), sampled(100.0)]);
    assert_eq!(findings(&output), Vec::<String>::new());
    // Where no spans are reported, Istio's proxies pass on what callers say as it is.
    let quiet = of_pods.clone() + &telemetry("web", "quiet", "", "{disableSpanReporting: true}");
    assert_eq!(traced(&made(&quiet)), [Value::Null, sampled(12.5), sampled(100.0)]);
    let of_clients =
        of_pods + &telemetry("web", "b", "", "{match: {mode: CLIENT}, randomSamplingPercentage: 0}");
    assert_eq!(traced(&made(&of_clients)), [sampled(0.0), sampled(12.5), sampled(100.0)]);
}

#[test]
fn the_mesh_configuration_says_it_for_all() {
    let defaults = "defaultProviders: {tracing: [otel]}";
    let of_mesh = mesh_of_two() + &mesh(OTEL, defaults);
    assert_eq!(traced(&made(&of_mesh)), [sampled(1.0), sampled(1.0), sampled(1.0)]);
    let off = of_mesh.clone() + &telemetry("shop", "untraced", "", "{disableSpanReporting: true}");
    assert_eq!(traced(&made(&off)), [sampled(1.0), Value::Null, Value::Null]);
    let share = "defaultConfig: {tracing: {sampling: 50}}";
    let of_config = mesh_of_two() + &mesh(OTEL, &format!("{defaults}\n    {share}"));
    assert_eq!(traced(&made(&of_config)), [sampled(50.0), sampled(50.0), sampled(50.0)]);
    let telemetry = of_config + &telemetry("web", "a", "", "{randomSamplingPercentage: 7}");
    assert_eq!(traced(&made(&telemetry)), [sampled(7.0), sampled(50.0), sampled(50.0)]);
}

#[test]
fn what_gets_no_spans_is_reported() {
    let none = [Value::Null, Value::Null, Value::Null];
    let named = "NotHonoured Telemetry istio-system/all: spec.tracing[0].providers[0].name: calls of managed protocols are not \
                 traced: the provider \"p\"";
    for (provider, wanted) in [
        (
            "{name: p, datadog: {service: d, port: 8126}}",
            "is of datadog; name one of opentelemetry or zipkin",
        ),
        (
            "{name: p, zipkin: {service: z, port: 9411}}",
            "names the service \"z\", which is none; write its host in full, as in otel.observability.svc.cluster.local",
        ),
        (
            "{name: p, zipkin: {service: otel.observability.svc.cluster.local, port: 4318, path: a b}}",
            "has the path \"/a b\", which is none",
        ),
        ("{name: q, prometheus: {}}", "is not among the extensionProviders of the mesh configuration"),
        (
            "{name: p, opentelemetry: {service: otel, port: 4317}}",
            "names the service \"otel\", which is none; write its host in full, as in otel.observability.svc.cluster.local",
        ),
        (
            "{name: p, opentelemetry: {service: otel.observability.svc.cluster.local, port: 9}}",
            "names port 9 of otel.observability.svc.cluster.local, which has none of that number",
        ),
        (
            "{name: p, opentelemetry: {service: otel.observability.svc.cluster.local, port: 4318, http: {path: a b}}}",
            "has the path \"/a b\", which is none",
        ),
    ] {
        let text = mesh_of_two()
            + &mesh(provider, "")
            + &telemetry("istio-system", "all", "", "{providers: [{name: p}]}");
        let output = made(&text);
        assert_eq!(traced(&output), none, "{provider}");
        assert_eq!(findings(&output), [format!("{named} {wanted}")], "{provider}");
    }
    for (tracer, wanted) in [
        (
            "datadog: {address: 'datadog:8126'}",
            "defaultConfig.tracing.datadog is not for them; name an extensionProvider of opentelemetry or zipkin in \
             defaultProviders.tracing",
        ),
        (
            "zipkin: {address: 'zipkin:9411'}",
            "the provider \"defaultConfig.tracing.zipkin\" names the service \"zipkin\", which is none; write its host in full, \
             as in otel.observability.svc.cluster.local",
        ),
        (
            "zipkin: {address: zipkin}",
            "the provider \"defaultConfig.tracing.zipkin\" has no port in its address \"zipkin\"",
        ),
    ] {
        let text = mesh_of_two() + &mesh("", &format!("defaultConfig: {{tracing: {{{tracer}}}}}"));
        let output = made(&text);
        assert_eq!(traced(&output), none);
        let wanted = format!(
            "NotHonoured ConfigMap istio-system/istio: data.mesh: calls of managed protocols are not traced: {wanted}"
        );
        assert_eq!(findings(&output), [wanted]);
    }
}

#[test]
fn a_collector_may_take_spans_by_http() {
    for (http, path) in
        [("{path: /api/otlp}", "/api/otlp"), ("{path: own}", "/own"), ("{timeout: 5s}", "/v1/traces")]
    {
        let provider = format!(
            "{{name: p, opentelemetry: {{service: otel.observability.svc.cluster.local, port: 4318, http: {http}}}}}"
        );
        let text = mesh_of_two()
            + &mesh(&provider, "")
            + &telemetry("istio-system", "all", "", "{providers: [{name: p}]}");
        let output = made(&text);
        assert_taken(&output);
        let cluster = "outbound|4318||otel.observability.svc.cluster.local";
        let wanted = json!({"sampling": 1.0, "collector": cluster, "path": path});
        assert_eq!(traced(&output), [wanted.clone(), wanted.clone(), wanted], "{http}");
        let has_other = http.contains("timeout");
        let said = findings(&output);
        assert_eq!(
            said.iter().any(|line| line.contains("opentelemetry.http.timeout")),
            has_other,
            "{said:?}"
        );
    }
}

#[test]
fn what_spans_do_not_have_is_reported() {
    let provider = "{name: otel, opentelemetry: {service: observability/otel.observability.svc.cluster.local, port: 4317, \
                    grpc: {timeout: 5s}, resourceDetectors: {environment: {}}}}";
    let rule = "{providers: [{name: otel}], useRequestIdForTraceSampling: true}";
    let text = mesh_of_two()
        + &mesh(provider, "")
        + &telemetry("web", "a", "", rule)
        + &telemetry("shop", "b", "", "{providers: [{name: otel}], disableContextPropagation: true}")
        + &telemetry("web", "c", "selector: {matchLabels: {app: web}},", "{disableSpanReporting: true}");
    let output = made(&text);
    assert_eq!(traced(&output), [sampled(1.0), Value::Null, Value::Null]);
    let wanted = [
        "NotHonoured ConfigMap istio-system/istio: data.mesh: opentelemetry.resourceDetectors of the extensionProvider \"otel\" is \
         not in force for managed protocols",
        "NotHonoured ConfigMap istio-system/istio: data.mesh: opentelemetry.grpc.timeout of the extensionProvider \"otel\" is not in \
         force for managed protocols",
        "NotHonoured Telemetry shop/b: spec.tracing[0].disableContextPropagation: calls of managed protocols are not traced: they \
         would not go on untouched",
        "NotHonoured Telemetry web/a: spec.tracing[0].useRequestIdForTraceSampling: calls of managed protocols have no \
         x-request-id: each is drawn for itself",
        "NotHonoured Telemetry web/c: spec.selector: not for traces of managed protocols as mode CLIENT: the proxies of the \
         namespace's clients share one plan: leave out the selector, or write mode: SERVER",
    ];
    assert_eq!(findings(&output), wanted);
}

#[test]
fn spans_have_the_tags_of_telemetries_or_of_the_mesh() {
    let of_mesh = "{zone: {literal: {value: eu}}, who: {header: {name: user, defaultValue: nobody}}}";
    let config = format!("defaultConfig: {{tracing: {{customTags: {of_mesh}}}}}");
    let text = mesh_of_two()
        + &mesh(OTEL, &config)
        + &telemetry("istio-system", "all", "", "{providers: [{name: otel}]}")
        + &telemetry(
            "web",
            "a",
            "",
            "{customTags: {who: {header: {name: user}}, by: {formatter: {value: '%REQ(source.principal)%'}}}}",
        )
        + &telemetry("shop", "b", "", "{match: {mode: SERVER}, customTags: {}}");
    let output = made(&text);
    assert_taken(&output);
    let of_mesh = json!({"zone": {"value": "eu"}, "who": {"attribute": "user", "value": "nobody"}});
    let of_web = json!({"who": {"attribute": "user"}, "by": {"attribute": "source.principal"}});
    assert_eq!(traced(&output).map(|traced| traced["tags"].clone()), [of_web, of_mesh.clone(), of_mesh]);
    assert_eq!(findings(&output), Vec::<String>::new());
}

#[test]
fn tags_that_cannot_be_in_force_are_reported() {
    let long = "x".repeat(257);
    let many: Vec<String> = (10..43).map(|number| format!("t{number}: {{literal: {{value: x}}}}")).collect();
    for (tags, wanted) in [
        (
            "{pod: {environment: {name: POD_NAME}}}",
            "\"pod\": the module is not told the environment of its proxy; write literal or header",
        ),
        (
            "{path: {header: {name: ':path'}}}",
            "\"path\": \":path\" is of HTTP; name an attribute of the call, such as method",
        ),
        ("{a: {header: {}}}", "\"a\": the name of an attribute is empty; name one"),
        ("{a: {literal: {}}}", "\"a\": has no value; write \"value\", or \"attribute\" for that of the call"),
        ("{a: null}", "\"a\": is of no kind that is known; write literal or header"),
        ("{a: {formatter: {value: 'x %REQ(a)%'}}}", "\"a\": a formatter is one operator, as %REQ(user)%"),
        (
            "{a: {formatter: {value: '%REQ(a)%%REQ(b)%'}}}",
            "\"a\": a formatter is one operator, as %REQ(user)%",
        ),
        (
            &format!("{{a: {{literal: {{value: {long}}}}}}}"),
            "\"a\": has a value of more than 256 bytes; make it shorter",
        ),
        (
            "{'': {literal: {value: a}}}",
            "\"\": has a name of more than 128 bytes, of none, or that all spans have; choose another",
        ),
        (&format!("{{{}}}", many.join(", ")), "\"t42\": there are more than 32"),
    ] {
        let rule = format!("{{providers: [{{name: otel}}], customTags: {tags}}}");
        let output = made(&(mesh_of_two() + &mesh(OTEL, "") + &telemetry("web", "a", "", &rule)));
        assert_taken(&output);
        assert_eq!(traced(&output)[0]["collector"], CLUSTER);
        let wanted = format!(
            "NotHonoured Telemetry web/a: spec.tracing[0].customTags: spans of managed protocols have no tag {wanted}"
        );
        assert_eq!(findings(&output), [wanted]);
    }
}

#[test]
fn collectors_are_told_the_headers_of_the_mesh() {
    let all = telemetry("istio-system", "all", "", "{providers: [{name: p}]}");
    let list = "[{name: Authorization, value: Bearer x}, {name: x-tenant, value: a}, {name: token, envName: TOKEN}, \
                {name: ':path', value: /}, {name: X-Meltemi-Cluster, value: other}, {name: X-Tenant, value: b}, \
                {name: x-lines, value: \"a\\r\\nb\"}]";
    let others = [
        "[2] of the extensionProvider \"p\" is not in force for managed protocols: envName is of istiod's own \
         environment; write value",
        "[3] of the extensionProvider \"p\" is not in force for managed protocols: is no header: a name is a token, a value \
         plain ASCII without spaces at its ends",
        "[4] of the extensionProvider \"p\" is not in force for managed protocols: is a header of the proxy's own; leave \
         it out",
        "[5] of the extensionProvider \"p\" is not in force for managed protocols: x-tenant is there already",
        "[6] of the extensionProvider \"p\" is not in force for managed protocols: is no header: a name is a token, a value \
         plain ASCII without spaces at its ends",
    ];
    for (port, way, field) in [
        (4318, "http: {path: /v1/traces, headers: LIST}", "http.headers"),
        (4317, "grpc: {initialMetadata: LIST}", "grpc.initialMetadata"),
    ] {
        let way = way.replace("LIST", list);
        let provider = format!(
            "{{name: p, opentelemetry: {{service: otel.observability.svc.cluster.local, port: {port}, {way}}}}}"
        );
        let output = made(&(mesh_of_two() + &mesh(&provider, "") + &all));
        assert_taken(&output);
        let headers = json!({"authorization": "Bearer x", "x-tenant": "a"});
        assert_eq!(
            traced(&output).map(|traced| traced["headers"].clone()),
            [(); 3].map(|()| headers.clone())
        );
        let place = format!("NotHonoured ConfigMap istio-system/istio: data.mesh: opentelemetry.{field}");
        assert_eq!(findings(&output), others.map(|other| format!("{place}{other}")));
    }
}

#[test]
fn collectors_are_those_that_proxies_see() {
    let all = telemetry("istio-system", "all", "", "{providers: [{name: otel}]}");
    let sidecar = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: web}
spec: {egress: [{hosts: ['shop/*']}]}
";
    let output = made(&(mesh_of_two() + &mesh(OTEL, "") + &all + sidecar));
    assert_eq!(traced(&output), [Value::Null, sampled(1.0), sampled(1.0)]);
    let wanted = "NotHonoured Telemetry istio-system/all: spec.tracing[0].providers[0].name: calls of managed protocols are not \
                  traced: the provider \"otel\" names otel.observability.svc.cluster.local, which web does not see, by its \
                  exportTo or by a Sidecar";
    assert_eq!(findings(&output), [wanted]);
    // A ServiceEntry is one as well, which two namespaces may have.
    let entry = |namespace: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: otel, namespace: {namespace}}}
spec: {{hosts: [otel.example.org], ports: [{{name: grpc, number: 443}}], resolution: DNS}}
"
        )
    };
    let external =
        |host: &str| mesh(&format!("{{name: otel, opentelemetry: {{service: {host}, port: 443}}}}"), "");
    let tracing = json!({"sampling": 1.0, "collector": "outbound|443||otel.example.org"});
    let text = mesh_of_two() + &external("otel.example.org") + &all + &entry("web");
    assert_eq!(traced(&made(&text))[0], tracing);
    let output = made(&(text + &entry("shop")));
    assert_eq!(traced(&output)[0], Value::Null);
    assert!(
        findings(&output)[0].ends_with("which shop and web have; write shop/otel.example.org, or the other")
    );
    let text = mesh_of_two() + &external("web/otel.example.org") + &all + &entry("web") + &entry("shop");
    assert_eq!(traced(&made(&text))[0], tracing);
}

#[test]
fn a_route_that_writes_traces_itself_keeps_doing_so() {
    let router = "---
apiVersion: meltemi.io/v1alpha1
kind: MetaRouter
metadata: {name: demo, namespace: shop}
spec:
  hosts: [demo.shop.svc.cluster.local]
  routes:
  - route: [{destination: {host: demo.shop.svc.cluster.local}}]
    requestMutation: [{key: x-b3-sampled, value: '1'}]
";
    let all = telemetry("istio-system", "all", "", "{providers: [{name: otel}]}");
    let output = made(&(mesh_of_two() + &mesh(OTEL, "") + &all + router));
    assert_eq!(traced(&output), [Value::Null, Value::Null, sampled(1.0)]);
    assert_taken(&output);
    assert_eq!(plan(&output, "web")[DEMO]["routes"][0]["requestAttachments"]["set"]["x-b3-sampled"], "1");
    let wanted = format!(
        "Warning MetaRouter shop/demo: spec.routes[0].requestMutation: calls to {DEMO} are not traced, since the route \
         changes \"x-b3-sampled\" itself"
    );
    assert_eq!(findings(&output), [wanted]);
}

#[test]
fn a_gateway_traces_as_a_client() {
    let gateway = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: edge}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 20880, name: tcp-metaprotocol-dubbo, protocol: TCP}, hosts: ['*']}]
---
apiVersion: meltemi.io/v1alpha1
kind: MetaRouter
metadata: {name: demo, namespace: shop}
spec:
  hosts: [demo.shop.svc.cluster.local]
  gateways: [edge/edge]
  routes: [{route: [{destination: {host: demo.shop.svc.cluster.local}}]}]
";
    let rule = "{providers: [{name: otel}], match: {mode: CLIENT}}";
    let text = mesh_of_two() + &mesh(OTEL, "") + &telemetry("istio-system", "all", "", rule) + gateway;
    let output = made(&text);
    let of_gateway = output.objects.iter().filter(|object| object.metadata.namespace == "edge");
    let entries: Vec<Value> =
        of_gateway.flat_map(plan_of).map(|(_, entry)| entry["tracing"].clone()).collect();
    assert_eq!(entries, [sampled(1.0)]);
    assert_eq!(traced(&output), [sampled(1.0), sampled(1.0), Value::Null]);
}

#[test]
fn protocols_without_a_place_for_traces_go_on_without() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../istio-samples/private-protocol/layout/protocol.yaml");
    let layout = format!("---\n{}\n", fs::read_to_string(path).unwrap()).replace("courier", "own");
    let port = "---
apiVersion: v1
kind: Service
metadata: {name: own, namespace: shop}
spec:
  clusterIP: 10.0.0.2
  selector: {app: own}
  ports: [{name: tcp-metaprotocol-own, port: 7000}]
";
    let all = telemetry("istio-system", "all", "", "{providers: [{name: otel}]}");
    let output = made(&(mesh_of_two() + &mesh(OTEL, "") + &all + &layout + port));
    assert_eq!(traced(&output), [sampled(1.0), sampled(1.0), sampled(1.0)]);
    assert_taken(&output);
    let own = &plan(&output, "web")["own.shop.svc.cluster.local:7000"];
    assert_eq!((&own["protocol"], &own["tracing"]), (&json!("own"), &Value::Null));
    let wanted = "NotHonoured Telemetry istio-system/all: spec.tracing[0].providers[0].name: calls of own are not traced: they do \
                  not say which trace they belong to";
    assert_eq!(findings(&output), [wanted]);
    // One that declares where they say it is read.
    let told = layout.replace("    attributes:\n", "    attributes:\n      b3: {in: meta, path: '3'}\n");
    let told = told.replace("    parts:\n", "    parts:\n    - {name: meta, prefix: u8, form: protobuf}\n");
    assert_ne!(told, layout);
    let output = made(&(mesh_of_two() + &mesh(OTEL, "") + &all + &told + port));
    assert_taken(&output);
    assert_eq!(plan(&output, "web")["own.shop.svc.cluster.local:7000"]["tracing"], sampled(1.0));
    assert_eq!(findings(&output), Vec::<String>::new());
}

#[test]
fn of_two_revisions_with_one_name_the_first_has_the_spans() {
    let config = |name: &str, port: u16| {
        let otel = OTEL.replace("4317", &port.to_string());
        let config = mesh(&otel, "defaultProviders: {tracing: [otel]}");
        config.replace("name: istio,", &format!("name: {name},"))
    };
    // Each namespace has proxies of both.
    let namespaces = mesh_of_two() + &mesh_revisions::pods_of_both();
    let both = |theirs| namespaces.clone() + &config("istio", 4317) + &config("istio-canary", theirs);
    let made = |theirs| made(&both(theirs));
    let output = made(4318);
    assert_eq!(traced(&output)[0]["collector"], CLUSTER);
    let wanted = "NotHonoured ConfigMap istio-system/istio-canary: data.mesh: calls of managed protocols: the \
                  extensionProvider \"otel\" is as ConfigMap istio-system/istio has it, where proxies of both share a plan; \
                  write the same here";
    assert_eq!(findings(&output), [wanted]);
    assert_eq!(findings(&made(4317)), Vec::<String>::new());
}
