use serde_json::json;

use super::refusals::refuse;
use super::*;

#[test]
fn what_says_a_trace_is_found_beside_what_is_read() {
    let read = |service: Value| {
        let mut plan = json!({"services": {"demo": service}});
        plan["services"]["demo"]["protocol"] = json!("dubbo");
        let plan = Plan::parse(&serde_json::to_vec(&plan).unwrap(), &Codecs::all()).unwrap();
        let service = plan.service("demo").unwrap();
        (service.depth, service.finds_trace, service.is_told_by_front())
    };
    assert_eq!(read(json!({})), (Depth::Operation, false, true));
    // Attachments are behind the arguments of a request, which is not passed on by its front then.
    assert_eq!(read(json!({"tracing": {}})), (Depth::Operation, true, false));
    let tags = json!({"lane": {"attribute": "lane"}});
    assert_eq!(read(json!({"tracing": {"tags": tags}})), (Depth::Attachments, false, false));
}

#[test]
fn traces_are_written_by_nobody_else() {
    let set = json!({"requestAttachments": {"remove": ["x-b3-flags"]}});
    let name = "has a name of more than 128 bytes, of none, or that all spans have; choose another";
    let header = "is no header: a name is a token, a value plain ASCII without spaces at its ends";
    let twice = "is there twice, or after 16 others, or over 8 KiB of them all; leave it out";
    let tags = (10..43).map(|number| (format!("t{number}"), json!({"value": "x"})));
    let tags = serde_json::Map::from_iter(tags);
    for (service, message) in [
        (json!({"tracing": {"sampling": 101}}), "tracing.sampling: 101 is out of bounds; write 0 to 100"),
        (
            json!({"tracing": {"collector": "a", "path": "v1/traces"}}),
            "tracing.path: \"v1/traces\" is no path; write one as in /v1/traces",
        ),
        (
            json!({"tracing": {"collector": "a b", "path": "/v1/traces"}}),
            "tracing.collector: \"a b\" is no name of a host, as HTTP needs it",
        ),
        (
            json!({"tracing": {"collector": "a b", "format": "zipkin"}}),
            "tracing.collector: \"a b\" is no name of a host, as HTTP needs it",
        ),
        (
            json!({"tracing": {"collector": "a", "format": "jaeger"}}),
            "tracing.format: unknown variant `jaeger`, expected `otlp` or `zipkin`",
        ),
        (
            json!({"tracing": {"format": "zipkin", "tags": {"error": {"value": "a"}}}}),
            &format!("tracing.tags.error: {name}"),
        ),
        (
            json!({"tracing": {"tags": {"a": {}}}}),
            "tracing.tags.a: has no value; write \"value\", or \"attribute\" for that of the call",
        ),
        (json!({"tracing": {"tags": {"": {"value": "a"}}}}), &format!("tracing.tags[\"\"]: {name}")),
        (
            json!({"tracing": {"tags": {"rpc.method": {"value": "a"}}}}),
            &format!("tracing.tags[\"rpc.method\"]: {name}"),
        ),
        (
            json!({"tracing": {"tags": {"a": {"attribute": "source.port"}}}}),
            "tracing.tags.a.attribute: no attribute of the connection; write one of source.ip, source.namespace, source.principal",
        ),
        (
            json!({"tracing": {"tags": {"a": {"value": "x".repeat(257)}}}}),
            "tracing.tags.a: has a value of more than 256 bytes; make it shorter",
        ),
        (json!({"tracing": {"tags": tags}}), "tracing.tags.t42: is one of more than 32; leave some out"),
        (
            json!({"tracing": {"headers": {"content-type": "a"}}}),
            "tracing.headers.content-type: is a header of the proxy's own; leave it out",
        ),
        // What comes back compressed would not be read.
        (
            json!({"tracing": {"headers": {"accept-encoding": "gzip"}}}),
            "tracing.headers.accept-encoding: is a header of the proxy's own; leave it out",
        ),
        // Envoy answers it first, by a head that is not the collector's.
        (
            json!({"tracing": {"headers": {"Expect": "100-continue"}}}),
            "tracing.headers.Expect: is a header of the proxy's own; leave it out",
        ),
        (json!({"tracing": {"headers": {":path": "/"}}}), &format!("tracing.headers[\":path\"]: {header}")),
        (json!({"tracing": {"headers": {"a": "x\r\ny"}}}), &format!("tracing.headers.a: {header}")),
        (json!({"tracing": {"headers": {"a": "x", "A": "y"}}}), &format!("tracing.headers.a: {twice}")),
        (json!({"tracing": {"headers": {"a": "x".repeat(8192)}}}), &format!("tracing.headers.a: {twice}")),
        (
            json!({"tracing": {"collector": ""}}),
            "tracing.collector: the name of a cluster is empty; give one",
        ),
        (
            json!({"tracing": {}, "defaultRoute": set}),
            "defaultRoute.requestAttachments: \"x-b3-flags\" is what \"tracing\" writes; keep one of the two",
        ),
    ] {
        assert_eq!(refuse(&demo(service)), format!("services[\"demo\"].{message}"));
    }
    for service in [
        json!({"defaultRoute": set}),
        json!({"tracing": {}, "defaultRoute": {"reject": {}}}),
        json!({"tracing": {"tags": {"error": {"value": "a"}}}}),
    ] {
        assert_eq!(parse(&demo(service)).unwrap().warnings(), []);
    }
}

#[test]
fn policies_that_do_nothing_are_refused() {
    let bucket = |max: u32, fill: u32, interval: &str| json!({"localRateLimit": {"tokenBucket": {"maxTokens": max, "tokensPerFill": fill, "fillInterval": interval}}});
    let asks = |change: Value| {
        let descriptors = json!([[{"key": "method", "attribute": "method"}]]);
        let mut limit = json!({"cluster": "limiter", "domain": "demo", "descriptors": descriptors});
        limit.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        json!({"globalRateLimits": [limit]})
    };
    for (service, message) in [
        (
            json!({"localRateLimit": {}}),
            "localRateLimit: limits nothing; write \"tokenBucket\" or \"conditions\", or leave it out",
        ),
        (
            bucket(0, 1, "1s"),
            "localRateLimit.tokenBucket.maxTokens: 0 is out of bounds; write 1 to 4294967295",
        ),
        (
            bucket(1, 0, "1s"),
            "localRateLimit.tokenBucket.tokensPerFill: 0 is out of bounds; write 1 to 4294967295",
        ),
        (
            bucket(1, 1, "49ms"),
            "localRateLimit.tokenBucket.fillInterval: 49ms is too short; write at least \"50ms\"",
        ),
        (
            json!({"localRateLimit": {"conditions": [{"match": [], "tokenBucket": {"maxTokens": 1, "fillInterval": "1s"}}]}}),
            "localRateLimit.conditions[0].match: an empty list matches no call; leave \"match\" out to match every call",
        ),
        (
            asks(json!({"cluster": ""})),
            "globalRateLimits[0].cluster: the name of a cluster is empty; give one",
        ),
        (
            asks(json!({"domain": ""})),
            "globalRateLimits[0].domain: is empty; write the domain of the service's own configuration",
        ),
        (asks(json!({"descriptors": []})), "globalRateLimits[0].descriptors: 0 descriptors; write 1 to 64"),
        (
            asks(json!({"descriptors": [[]]})),
            "globalRateLimits[0].descriptors[0]: has no entry; write {\"key\": ..., \"attribute\": ...}",
        ),
        (
            asks(json!({"descriptors": [[{"key": "", "value": "x"}]]})),
            "globalRateLimits[0].descriptors[0][0].key: is empty; name the key that the service's configuration has",
        ),
        (
            asks(json!({"descriptors": [[{"key": "x"}]]})),
            "globalRateLimits[0].descriptors[0][0]: write exactly one of \"attribute\" and \"value\"",
        ),
        (
            asks(json!({"descriptors": [[{"key": "x", "value": "x", "attribute": "y"}]]})),
            "globalRateLimits[0].descriptors[0][0]: write exactly one of \"attribute\" and \"value\"",
        ),
        (
            asks(json!({"descriptors": [[{"key": "x", "attribute": ""}]]})),
            "globalRateLimits[0].descriptors[0][0].attribute: the name of an attribute is empty; name one",
        ),
        (asks(json!({"hits": 0})), "globalRateLimits[0].hits: 0 is out of bounds; write 1 to 4294967295"),
        (
            asks(json!({"timeout": "0s"})),
            "globalRateLimits[0].timeout: no answer comes in no time; write at least \"1ms\"",
        ),
        (
            asks(json!({"match": []})),
            "globalRateLimits[0].match: an empty list matches no call; leave \"match\" out to match every call",
        ),
        (
            json!({"defaultRoute": {"fault": {}}}),
            "defaultRoute.fault: does nothing; write \"delay\" or \"abort\", or leave it out",
        ),
        (
            json!({"defaultRoute": {"fault": {"delay": {"duration": "0s"}}}}),
            "defaultRoute.fault.delay.duration: holds no call back; write at least \"1ms\"",
        ),
        (
            json!({"defaultRoute": {"fault": {"abort": {"percent": 100.5}}}}),
            "defaultRoute.fault.abort.percent: 100.5 is out of bounds; write 0 to 100",
        ),
        (
            json!({"defaultRoute": {"fault": {"abort": {"message": ""}}}}),
            "defaultRoute.fault.abort.message: is empty; leave it out, or tell clients why",
        ),
        (
            json!({"upstream": {"circuitBreaker": {"maxCalls": 0}}}),
            "upstream.circuitBreaker.maxCalls: 0 is out of bounds; write 1 to 4294967295",
        ),
        (
            json!({"upstream": {"clusters": {"a": {}}}}),
            "upstream.clusters.a: says nothing; write \"circuitBreaker\", \"outlierDetection\", \"adaptiveConcurrency\", \"hashBy\" or \"keepWeights\", or leave it out",
        ),
        (
            json!({"upstream": {"clusters": {"a": {"circuitBreaker": {"maxWaitingCalls": 0}}}}}),
            "upstream.clusters.a.circuitBreaker.maxWaitingCalls: 0 is out of bounds; write 1 to 4294967295",
        ),
        (
            json!({"upstream": {"hashBy": ["user", ""]}}),
            "upstream.hashBy[1]: the name of an attribute is empty; name one",
        ),
        (
            json!({"upstream": {"clusters": {"a": {"hashBy": ["source.port"]}}}}),
            "upstream.clusters.a.hashBy[0]: no attribute of the connection; write one of source.ip, source.namespace, source.principal",
        ),
        (
            json!({"defaultRoute": {"hashBy": ["user", "item", "user"]}}),
            "defaultRoute.hashBy[2]: \"user\" is in the list already; remove one of the two",
        ),
        (
            json!({"routes": [{"name": "a", "hashBy": vec!["x"; 17]}]}),
            "routes[0].hashBy: names 17 attributes; at most 16 are allowed",
        ),
        (
            json!({"upstream": {"adaptiveConcurrency": {"sampleAggregatePercentile": 0}}}),
            "upstream.adaptiveConcurrency.sampleAggregatePercentile: 0 is out of bounds; write 1 to 100",
        ),
        (
            json!({"upstream": {"clusters": {"a": {"adaptiveConcurrency": {"minConcurrency": 1001}}}}}),
            "upstream.clusters.a.adaptiveConcurrency.maxConcurrencyLimit: is less than \"minConcurrency\"; write more",
        ),
        (
            json!({"upstream": {"adaptiveConcurrency": {"minRttCalcInterval": "0s"}}}),
            "upstream.adaptiveConcurrency.minRttCalcInterval: is no time; write at least \"1ms\"",
        ),
        (
            json!({"upstream": {"adaptiveConcurrency": {"jitter": 101}}}),
            "upstream.adaptiveConcurrency.jitter: 101 is out of bounds; write 0 to 100",
        ),
        (
            json!({"upstream": {"outlierDetection": {"consecutiveFailures": 0}}}),
            "upstream.outlierDetection: leaves out no endpoint; give \"consecutiveFailures\", \"failurePercent\" or \"successRateStdevFactor\" more than 0, or leave it out",
        ),
        (
            json!({"upstream": {"outlierDetection": {"successRateMinimumHosts": 0}}}),
            "upstream.outlierDetection.successRateMinimumHosts: 0 is out of bounds; write 1 to 4294967295",
        ),
        (
            json!({"upstream": {"outlierDetection": {"failurePercent": 101}}}),
            "upstream.outlierDetection.failurePercent: 101 is out of bounds; write 0 to 100",
        ),
        (
            json!({"upstream": {"outlierDetection": {"baseEjectionTime": "0s"}}}),
            "upstream.outlierDetection.baseEjectionTime: is no time; write at least \"1ms\"",
        ),
        (
            json!({"defaultRoute": {"mirrors": [{"cluster": "a"}, {"cluster": ""}]}}),
            "defaultRoute.mirrors[1].cluster: the name of a cluster is empty; give one",
        ),
        (
            json!({"defaultRoute": {"mirrors": [{"cluster": "a", "percent": -1}]}}),
            "defaultRoute.mirrors[0].percent: -1 is out of bounds; write 0 to 100",
        ),
        (
            json!({"defaultRoute": {"mirrors": [{"cluster": "a", "timeout": "0s"}]}}),
            "defaultRoute.mirrors[0].timeout: every copy ends some time; write at least \"1ms\"",
        ),
    ] {
        assert_eq!(refuse(&demo(service)), format!("services[\"demo\"].{message}"));
    }
}
