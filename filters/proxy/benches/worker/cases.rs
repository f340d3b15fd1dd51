//! The cases that are measured.

use serde_json::{Value, json};

/// A case: how many clients with how many calls in flight each, by how many methods in turn, the bytes of a body, and the
/// service in the plan.
pub struct Case {
    pub name: &'static str,
    pub clients: usize,
    pub in_flight: usize,
    pub methods: usize,
    pub body: usize,
    /// Attachments of its requests beside others: names and values in turn.
    pub attachments: &'static [&'static str],
    /// Client and server have identities, as in a mesh.
    pub has_identities: bool,
    /// Calls are reported as Istio's metrics.
    pub reports: bool,
    /// The plan's `accessLog`.
    pub access_log: fn() -> Value,
    pub service: fn() -> Value,
}

pub const CASES: [Case; 37] = [
    Case { in_flight: 1, ..of_policy("1 client, 1 in flight", plain) },
    of_policy("1 client, 32 in flight", plain),
    // The operation is not that of the client's last call.
    Case { methods: 2, ..of_policy("1 client, 32 in flight, 2 methods in turn", plain) },
    Case { clients: 16, in_flight: 8, ..of_policy("16 clients, 8 in flight", plain) },
    Case { reports: true, ..of_policy("1 client, 32 in flight, Istio's metrics", plain) },
    of_policy("1 client, 32 in flight, retries", retries),
    of_policy("1 client, 32 in flight, attachments", attachments),
    of_policy("1 client, 32 in flight, local rate limit", limited),
    of_policy("1 client, 32 in flight, global rate limit", globally_limited),
    of_policy("1 client, 32 in flight, mirror", mirrored),
    of_policy("1 client, 32 in flight, circuit breaker", breaker),
    of_policy("1 client, 32 in flight, outlier detection", detection),
    of_policy("1 client, 32 in flight, success rate", success_rate),
    of_policy("1 client, 32 in flight, adaptive concurrency", adaptive),
    of_policy("1 client, 32 in flight, faults for few", fault),
    of_policy("1 client, 32 in flight, second tries", hedge),
    of_policy("1 client, 32 in flight, hashed", hashed),
    of_policy("1 client, 32 in flight, weights", weights),
    of_policy("1 client, 32 in flight, 2 set", set),
    of_policy("1 client, 32 in flight, 2 values", values),
    of_policy("1 client, 32 in flight, traces", traces),
    Case {
        attachments: &["traceparent", TRACE],
        ..of_policy("1 client, 32 in flight, traces go on", traces)
    },
    of_policy("1 client, 32 in flight, spans", spans),
    of_policy("1 client, 32 in flight, spans with 4 tags", tagged),
    Case { access_log: lines, ..of_policy("1 client, 32 in flight, lines", plain) },
    Case { access_log: formatted_lines, ..of_policy("1 client, 32 in flight, lines in a format", plain) },
    Case { access_log: filed_lines, ..of_policy("1 client, 32 in flight, lines in files", plain) },
    Case {
        access_log: formatted_filed_lines,
        ..of_policy("1 client, 32 in flight, lines in a format in files", plain)
    },
    Case { attachments: &TIME, ..of_policy("1 client, 32 in flight, deadlines read", deadlines) },
    Case { access_log: loggers, ..of_policy("1 client, 32 in flight, loggers", plain) },
    // Those of the route are shorter.
    Case { attachments: &TIME, ..of_policy("1 client, 32 in flight, deadlines written", shorter_deadlines) },
    Case { body: 16 << 10, ..of_policy("1 client, 32 in flight, 16 KiB", plain) },
    // Passed on while it comes.
    Case { in_flight: 1, body: 1 << 20, ..of_policy("1 client, 1 in flight, 1 MiB", plain) },
    // Requests are stored first.
    Case { in_flight: 1, body: 1 << 20, ..of_policy("1 client, 1 in flight, 1 MiB, retries", retries) },
    Case { has_identities: true, ..of_policy("1 client, 32 in flight, identities", plain) },
    Case { has_identities: true, ..of_policy("1 client, 32 in flight, authorization", authorization) },
    Case { clients: 256, in_flight: 1, ..of_policy("256 clients, 1 in flight", plain) },
];

const TIME: [&str; 2] = ["timeout", "3000"];
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// One client with 32 calls in flight.
const fn of_policy(name: &'static str, service: fn() -> Value) -> Case {
    Case {
        name,
        clients: 1,
        in_flight: 32,
        methods: 1,
        body: 200,
        attachments: &[],
        has_identities: false,
        reports: false,
        access_log: no_lines,
        service,
    }
}

/// Which no call meets.
fn limited() -> Value {
    let bucket = json!({"maxTokens": u32::MAX, "tokensPerFill": u32::MAX, "fillInterval": "1s"});
    json!({"protocol": "dubbo", "localRateLimit": {"tokenBucket": bucket}})
}

/// A service is asked about every call.
fn globally_limited() -> Value {
    let descriptors = json!([[{"key": "method", "attribute": "method"}]]);
    let limit = json!({"cluster": "limits", "domain": "demo", "descriptors": descriptors});
    json!({"protocol": "dubbo", "globalRateLimits": [limit]})
}

/// Every call is copied.
fn mirrored() -> Value {
    json!({"protocol": "dubbo", "defaultRoute": {"mirrors": [{"cluster": "shadow"}]}})
}

fn breaker() -> Value {
    json!({"protocol": "dubbo", "upstream": {"circuitBreaker": {"maxCalls": 1000, "maxWaitingCalls": 1000}}})
}

fn detection() -> Value {
    json!({"protocol": "dubbo", "upstream": {"outlierDetection": {"consecutiveFailures": 5}}})
}

fn success_rate() -> Value {
    json!({"protocol": "dubbo", "upstream": {"outlierDetection": {"successRateStdevFactor": 1900}}})
}

/// A limit that is always over the calls in flight.
fn adaptive() -> Value {
    let adaptive = json!({"minConcurrency": 100});
    json!({"protocol": "dubbo", "upstream": {"adaptiveConcurrency": adaptive}})
}

/// After a time that no call takes.
fn hedge() -> Value {
    let retry = json!({"hedge": {"after": "1s", "percentile": 99}});
    json!({"protocol": "dubbo", "defaultRoute": {"retry": retry}})
}

/// Of a call in ten million.
fn fault() -> Value {
    json!({"protocol": "dubbo", "defaultRoute": {"fault": {"abort": {"percent": 0.00001}}}})
}

fn plain() -> Value {
    json!({"protocol": "dubbo"})
}

fn retries() -> Value {
    let retry = json!({"attempts": 2, "on": ["connect-failure", "reset"]});
    json!({"protocol": "dubbo", "defaultRoute": {"timeout": "2s", "retry": retry}})
}

fn attachments() -> Value {
    let rules = json!([{"attributes": {"tag": {"exact": "gray"}, "method": {"exact": "sayHello"}}}]);
    json!({"protocol": "dubbo", "routes": [{"name": "gray", "match": rules, "cluster": "demo"}]})
}

fn weights() -> Value {
    json!({"protocol": "dubbo", "upstream": {"keepWeights": true}})
}

/// By what is read anyway.
fn hashed() -> Value {
    json!({"protocol": "dubbo", "upstream": {"hashBy": ["method"]}})
}

fn deadlines() -> Value {
    json!({"protocol": "dubbo", "defaultRoute": {"propagateDeadline": true}})
}

fn shorter_deadlines() -> Value {
    json!({"protocol": "dubbo", "defaultRoute": {"propagateDeadline": true, "timeout": "2s"}})
}

/// Every request gets two attachments, which are alike.
fn set() -> Value {
    let set = json!({"what": "sayHello", "where": "10.0.0.1:20880"});
    json!({"protocol": "dubbo", "defaultRoute": {"requestAttachments": {"set": set}}})
}

/// Calls begin traces, of which few are sampled.
fn traces() -> Value {
    json!({"protocol": "dubbo", "tracing": {}})
}

/// All are sampled, and their spans sent.
fn spans() -> Value {
    json!({"protocol": "dubbo", "tracing": {"sampling": 100, "collector": "collector"}})
}

/// The same with tags: two of texts, and two of what the call says.
fn tagged() -> Value {
    let tags = json!({
        "zone": {"value": "eu-central-1"}, "mesh": {"value": "production"},
        "what": {"attribute": "method"}, "lane": {"attribute": "tag", "value": "none"},
    });
    let tracing = json!({"sampling": 100, "collector": "collector", "tags": tags});
    json!({"protocol": "dubbo", "tracing": tracing})
}

fn no_lines() -> Value {
    Value::Null
}

/// Every call has a line.
fn lines() -> Value {
    json!({})
}

/// The same in the format of Istio's default, as far as it is about these calls, without attachments.
fn formatted_lines() -> Value {
    let text = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
                %RESPONSE_CODE_DETAILS% - \"-\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% - \"%REQ(:AUTHORITY)%\" \
                \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% - - %DOWNSTREAM_REMOTE_ADDRESS% - %ROUTE_NAME%\n";
    json!({"textFormat": text})
}

/// Every call has a line in files.
fn filed_lines() -> Value {
    json!({"log": false, "files": true})
}

/// The same in a format.
fn formatted_filed_lines() -> Value {
    let mut rules = formatted_lines();
    rules["log"] = json!(false);
    rules["files"] = json!(true);
    rules
}

/// Loggers are told of every call, as an access log service is in a mesh.
fn loggers() -> Value {
    json!({"log": false, "fields": {
        "x-call-line": "%LINE%", "x-call-protocol": "%PROTOCOL%", "x-call-start": "%START_TIME%",
        "x-call-duration": "%DURATION%", "x-call-outcome": "%RESPONSE_CODE_DETAILS%", "x-call-code": "%RESPONSE_CODE%",
        "x-call-grpc-status": "%GRPC_STATUS_NUMBER%", "x-call-flags": "%RESPONSE_FLAGS%",
        "x-call-request-bytes": "%BYTES_RECEIVED%", "x-call-response-bytes": "%BYTES_SENT%",
        "x-call-route": "%ROUTE_NAME%", "x-call-cluster": "%UPSTREAM_CLUSTER%", "x-call-endpoint": "%UPSTREAM_HOST%",
        "x-call-tries": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "x-call-peer": "%DOWNSTREAM_REMOTE_ADDRESS%",
        "x-call-id": "%STREAM_ID%",
    }})
}

/// The same by values that are made for each call.
fn values() -> Value {
    let set = json!({"what": "%REQ(method)%", "where": "%UPSTREAM_HOST%"});
    json!({"protocol": "dubbo", "defaultRoute": {"requestAttachments": {"set": set}}})
}

/// Calls are denied but for those of one client to one method.
fn authorization() -> Value {
    let rule = json!({"source.principal": {"exact": PRINCIPAL}, "method": {"exact": "sayHello"}});
    let routes = json!([{"name": "allowed", "match": [{"attributes": rule}]}]);
    json!({"protocol": "dubbo", "routes": routes, "defaultRoute": {"reject": {}}})
}

pub const PRINCIPAL: &str = "cluster.local/ns/demo/sa/client";

/// What is called; of one length, so that the frames are.
pub const METHODS: [&str; 2] = ["sayHello", "sayAdieu"];
