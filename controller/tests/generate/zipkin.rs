use serde_json::{Value, json};

use crate::tracing::{OTEL, assert_taken, mesh, mesh_of_two, sampled, telemetry, traced};
use crate::{findings, made};

const ZIPKIN: &str = "outbound|9411||zipkin.observability.svc.cluster.local";

const SERVICE_OF_ZIPKIN: &str = "---
apiVersion: v1
kind: Service
metadata: {name: zipkin, namespace: observability}
spec: {clusterIP: 10.0.9.8, ports: [{name: http, port: 9411}]}
";

#[test]
fn a_collector_may_take_spans_as_zipkin_does() {
    let wanted = |path: &str, headers: Value| {
        let mut wanted = json!({"sampling": 1.0, "collector": ZIPKIN, "format": "zipkin", "path": path});
        if headers != json!({}) {
            wanted["headers"] = headers;
        }
        [wanted.clone(), wanted.clone(), wanted]
    };
    for (more, path, headers, others) in [
        ("", "/api/v2/spans", json!({}), &[][..]),
        (", path: spans, traceContextOption: USE_B3_WITH_W3C_PROPAGATION", "/spans", json!({}), &[]),
        (
            ", enable64bitTraceId: true, timeout: 5s, headers: [{name: X-Tenant, value: a}, {name: b, envName: B}]",
            "/api/v2/spans",
            json!({"x-tenant": "a"}),
            &["enable64bitTraceId", "timeout", "headers[1]"],
        ),
    ] {
        let provider = format!(
            "{{name: p, zipkin: {{service: zipkin.observability.svc.cluster.local, port: 9411{more}}}}}"
        );
        let text = mesh_of_two()
            + SERVICE_OF_ZIPKIN
            + &mesh(&provider, "")
            + &telemetry("istio-system", "all", "", "{providers: [{name: p}]}");
        let output = made(&text);
        assert_taken(&output);
        assert_eq!(traced(&output), wanted(path, headers), "{more}");
        let said = findings(&output);
        assert_eq!(said.len(), others.len(), "{said:?}");
        for other in others {
            let start = format!(
                "NotHonoured ConfigMap istio-system/istio: data.mesh: zipkin.{other} of the extensionProvider \"p\" is not in force"
            );
            assert!(said.iter().any(|line| line.starts_with(&start)), "{said:?}");
        }
    }
    // What proxies start with stands where nobody names another, and is told by a short name.
    for host in ["zipkin.observability", "zipkin.observability.svc", "zipkin.observability.svc.cluster.local"]
    {
        let config = format!("defaultConfig: {{tracing: {{zipkin: {{address: '{host}:9411'}}}}}}");
        let text = mesh_of_two() + SERVICE_OF_ZIPKIN + &mesh(OTEL, &config);
        let output = made(&text);
        assert_taken(&output);
        assert_eq!(traced(&output), wanted("/api/v2/spans", json!({})), "{host}");
        assert_eq!(findings(&output), Vec::<String>::new());
        let named = text.clone() + &telemetry("istio-system", "all", "", "{providers: [{name: otel}]}");
        assert_eq!(traced(&made(&named)), [sampled(1.0), sampled(1.0), sampled(1.0)]);
        // A Telemetry takes the place of what proxies start with, and has to name a provider.
        let unnamed = text.clone() + &telemetry("web", "all", "", "{randomSamplingPercentage: 5}");
        assert_eq!(traced(&made(&unnamed))[0], Value::Null);
        let off =
            mesh_of_two() + SERVICE_OF_ZIPKIN + &mesh("", &format!("enableTracing: false\n    {config}"));
        assert_eq!(traced(&made(&off)), [Value::Null, Value::Null, Value::Null]);
    }
}

#[test]
fn a_short_name_is_that_of_a_service_alone() {
    let entry = |namespace: &str, host: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: z, namespace: {namespace}}}
spec: {{hosts: [{host}], location: MESH_EXTERNAL, resolution: DNS, ports: [{{number: 9411, name: http, protocol: HTTP}}]}}
"
        )
    };
    let collector = |host: &str, others: &str| {
        let config = format!("defaultConfig: {{tracing: {{zipkin: {{address: '{host}:9411'}}}}}}");
        let output = made(&(mesh_of_two() + &mesh("", &config) + others));
        assert_taken(&output);
        traced(&output)[0]["collector"].clone()
    };
    // Whoever may write a ServiceEntry chooses its host.
    let exact = entry("observability", "zipkin.example.com");
    for tenant in ["zipkin.example.com.svc.attacker", "zipkin.example.com.svc.cluster.local"] {
        let tenant = entry("web", tenant);
        for both in [tenant.clone() + &exact, exact.clone() + &tenant] {
            assert_eq!(collector("zipkin.example.com", &both), "outbound|9411||zipkin.example.com");
        }
        assert_eq!(collector("zipkin.example.com", &tenant), Value::Null);
    }
    let short = "zipkin.observability";
    for host in [short, "zipkin.observability.svc", "zipkin.observability.svc.attacker"] {
        let tenant = entry("web", host);
        assert_eq!(collector(short, &(tenant + SERVICE_OF_ZIPKIN)), ZIPKIN, "{host}");
    }
}

#[test]
fn spans_for_zipkin_alone_have_an_error_of_their_own() {
    let zipkin = "{name: zipkin, zipkin: {service: zipkin.observability.svc.cluster.local, port: 9411}}";
    let text = mesh_of_two() + SERVICE_OF_ZIPKIN + &mesh(&format!("{OTEL}, {zipkin}"), "");
    for (provider, tags, said) in [("otel", json!({"error": {"value": "no"}}), 0), ("zipkin", Value::Null, 1)]
    {
        let rule = format!(
            "{{providers: [{{name: {provider}}}], customTags: {{error: {{literal: {{value: 'no'}}}}}}}}"
        );
        let output = made(&(text.clone() + &telemetry("web", "a", "", &rule)));
        assert_taken(&output);
        assert_eq!(traced(&output)[0]["tags"], tags, "{provider}");
        assert_eq!(findings(&output).len(), said, "{:?}", findings(&output));
    }
}
