use serde_json::{Value, json};

use super::*;

pub(super) fn refuse(plan: &Value) -> String {
    parse(plan).map(drop).expect_err(&plan.to_string()).to_string()
}

fn matcher(matcher: Value) -> Value {
    route(json!({"match": [{"attributes": {"method": matcher}}]}))
}

fn retry(retry: Value) -> Value {
    route(json!({"timeout": "2s", "retry": retry}))
}

#[test]
fn text_that_is_not_json_is_refused_with_its_place() {
    for (text, message) in [
        ("{", "line 1, column 1: EOF while parsing an object"),
        ("{\n  \"services\": {\"a\" 5}\n}", "line 2, column 20: expected `:`"),
        ("{} {}", "line 1, column 4: trailing characters"),
        ("{}\u{0}", "line 1, column 3: trailing characters"),
        ("{\"services\": {\"\\ud800\": {}}}", "line 1, column 22: unexpected end of hex escape"),
    ] {
        assert_eq!(Plan::parse(text.as_bytes(), &codecs()).unwrap_err().to_string(), message, "{text}");
    }
    let deep = [b"{\"services\":".as_slice(), &b"[".repeat(1 << 20)].concat();
    assert_eq!(
        Plan::parse(&deep, &codecs()).unwrap_err().to_string(),
        "line 1, column 139: recursion limit exceeded"
    );
    assert!(Plan::parse(b"{\"services\": {\"\xff\": {}}}", &codecs()).is_err());
}

#[test]
fn faults_of_shape_are_refused() {
    for (plan, message) in [
        (json!([]), "expected an object, found an array"),
        (
            json!({"service": {}}),
            "service: unknown field `service`, expected one of `services`, `protocols`, `unknownAuthority`, `metrics`, `memoryBudgetBytes`, `maxCalls`, `accessLog`, `taps`",
        ),
        (json!({"services": []}), "services: expected an object, found an array"),
        (json!({"services": {"demo": 5}}), "services[\"demo\"]: expected an object, found 5"),
        (demo(json!({"protocol": 5})), "services[\"demo\"].protocol: expected a string, found 5"),
        (
            demo(json!({"onNoMatch": "drop"})),
            "services[\"demo\"].onNoMatch: unknown variant `drop`, expected `default` or `reject`",
        ),
        (
            demo(json!({"idleTimeout": 5})),
            "services[\"demo\"].idleTimeout: expected a duration such as \"250ms\", \"1.5s\", \"2m\" or \
             \"1h\", found 5",
        ),
        (
            demo(json!({"idleTimeout": "5 minutes"})),
            "services[\"demo\"].idleTimeout: \"5 minutes\" is not a duration such as \"250ms\", \"1.5s\", \
             \"2m\" or \"1h\"",
        ),
        (
            demo(json!({"limits": {"maxFrameBytes": -1}})),
            "services[\"demo\"].limits.maxFrameBytes: expected an integer from 0 to 4294967295, found -1",
        ),
        (demo(json!({"protocol": null})), "services[\"demo\"].protocol: expected a string, found null"),
        (demo(json!({"routes": {}})), "services[\"demo\"].routes: expected an array, found an object"),
        (demo(json!({"onNoMatch": 1})), "services[\"demo\"].onNoMatch: expected a string, found 1"),
        (
            demo(json!({"limits": [16, 4096]})),
            "services[\"demo\"].limits: expected an object, found an array",
        ),
        (
            demo(json!({"limits": {"maxFrameBytes": 4294967296_u64}})),
            "services[\"demo\"].limits.maxFrameBytes: expected an integer from 0 to 4294967295, found \
             4294967296",
        ),
        (
            matcher(json!({"present": "true"})),
            "services[\"demo\"].routes[0].match[0].attributes.method.present: expected true or false, found \
             \"true\"",
        ),
        (
            matcher(json!({"range": {"start": 0, "end": 9223372036854775808_u64}})),
            "services[\"demo\"].routes[0].match[0].attributes.method.range.end: expected an integer of 64 \
             bits, found 9223372036854775808",
        ),
        (json!({"services": {"a.b:20880": {}}}), "services[\"a.b:20880\"]: missing field `protocol`"),
        (demo(json!({"routes": [{}]})), "services[\"demo\"].routes[0]: missing field `name`"),
        (
            route(json!({"match": [{"attributes": {"x.y": {"exact": 1}}}]})),
            "services[\"demo\"].routes[0].match[0].attributes[\"x.y\"].exact: expected a string, found 1",
        ),
        (
            matcher(json!({"exactly": "a"})),
            "services[\"demo\"].routes[0].match[0].attributes.method.exactly: unknown field `exactly`, \
             expected one of `exact`, `prefix`, `suffix`, `contains`, `regex`, `range`, `cidr`, `present`, `invert`",
        ),
        (
            matcher(json!({"range": {"start": 1}})),
            "services[\"demo\"].routes[0].match[0].attributes.method.range: missing field `end`",
        ),
        (
            matcher(json!({"range": {"start": 1.5, "end": 2}})),
            "services[\"demo\"].routes[0].match[0].attributes.method.range.start: expected an integer of 64 \
             bits, found a fraction",
        ),
        (
            retry(json!({"on": ["status"], "statuses": [-1]})),
            "services[\"demo\"].routes[0].retry.statuses[0]: expected the name or the number of a status, \
             found -1",
        ),
        (
            retry(json!({"on": ["status"], "statuses": [4294967296_u64]})),
            "services[\"demo\"].routes[0].retry.statuses[0]: expected the name or the number of a status, \
             found 4294967296",
        ),
    ] {
        assert_eq!(refuse(&plan), message, "{plan}");
    }
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    for (text, message) in [
        (
            r#"{"services": {"a": {"protocol": "toy"}, "a": {"protocol": "toy"}}}"#,
            "services: duplicate \"a\"; keep one of the two",
        ),
        (r#"{"metrics": {}, "metrics": {}}"#, "duplicate \"metrics\"; keep one of the two"),
        (
            r#"{"services": {"a": {"protocol": "toy", "limits": {"maxFrameBytes": 16, "maxFrameBytes": 17}}}}"#,
            "services[\"a\"].limits: duplicate \"maxFrameBytes\"; keep one of the two",
        ),
    ] {
        assert_eq!(Plan::parse(text.as_bytes(), &codecs()).unwrap_err().to_string(), message);
    }
}

#[test]
fn services_that_cannot_work_are_refused() {
    let long = "x".repeat(1025);
    for (plan, message) in [
        (
            demo(json!({"protocol": "tow"})),
            "services[\"demo\"].protocol: unknown protocol \"tow\"; this module knows \"toy\"",
        ),
        (
            demo(json!({"protocol": "auto", "protocols": ["toy", "tow"]})),
            "services[\"demo\"].protocols[1]: unknown protocol \"tow\"; this module knows \"toy\"",
        ),
        (
            demo(json!({"protocol": "auto", "protocols": ["toy", "toy"]})),
            "services[\"demo\"].protocols[1]: \"toy\" is in the list already; remove one of the two",
        ),
        (
            demo(json!({"protocol": "toy", "protocols": ["toy"]})),
            "services[\"demo\"].protocols: is what \"auto\" may be; write that as \"protocol\", or remove this",
        ),
        (
            json!({"services": {"": {"protocol": "toy"}}}),
            "services[\"\"]: the authority of a service is empty; give one",
        ),
        (
            json!({"services": {"a\nb": {"protocol": "toy"}}}),
            "services[\"a\\nb\"]: the authority of a service has control characters, which HTTP headers \
             cannot carry; remove them",
        ),
        (
            demo(json!({"defaultRoute": {"propagateDeadline": true}})),
            "services[\"demo\"].defaultRoute.propagateDeadline: requests of toy do not say how long their \
             clients wait; leave it out",
        ),
        (
            demo(json!({"retryBudget": {"percent": 101}})),
            "services[\"demo\"].retryBudget.percent: 101 is out of bounds; write 0 to 100",
        ),
        (
            demo(json!({"limits": {"maxFrameBytes": 15}})),
            "services[\"demo\"].limits.maxFrameBytes: 15 is out of bounds; write 16 to 268435456",
        ),
        (
            demo(json!({"limits": {"cutThroughBytes": 1023}})),
            "services[\"demo\"].limits.cutThroughBytes: 1023 is out of bounds; write 1024 to 268435456",
        ),
        (
            demo(json!({"limits": {"maxFrameBytes": 268435457}})),
            "services[\"demo\"].limits.maxFrameBytes: 268435457 is out of bounds; write 16 to 268435456",
        ),
        (
            demo(json!({"limits": {"maxCallsPerConnection": 0}})),
            "services[\"demo\"].limits.maxCallsPerConnection: 0 is out of bounds; write 1 to 1000000",
        ),
        (
            demo(json!({"upstream": {"maxCallsPerConnection": 1000001}})),
            "services[\"demo\"].upstream.maxCallsPerConnection: 1000001 is out of bounds; write 1 to 1000000",
        ),
        (
            demo(json!({"upstream": {"connectionsPerEndpoint": 0}})),
            "services[\"demo\"].upstream.connectionsPerEndpoint: 0 is out of bounds; write 1 to 64",
        ),
        (
            demo(json!({"upstream": {"connectTimeout": "0s"}})),
            "services[\"demo\"].upstream.connectTimeout: no connection opens in no time; write at least \
             \"1ms\"",
        ),
        (
            json!({"metrics": {"maxOperations": 100001}}),
            "metrics.maxOperations: 100001 is out of bounds; write 0 to 100000",
        ),
        (
            json!({"memoryBudgetBytes": 1048576}),
            "memoryBudgetBytes: 1048576 is out of bounds; write 16777216 to 3221225472",
        ),
        (
            demo(json!({"defaultRoute": {"cluster": ""}})),
            "services[\"demo\"].defaultRoute.cluster: the name of a cluster is empty; give one",
        ),
        (
            demo(json!({"routes": [{"name": long}]})),
            "services[\"demo\"].routes[0].name: the name of a route has 1025 bytes; at most 1024 are allowed",
        ),
        (
            demo(json!({"routes": [{"name": "default"}]})),
            "services[\"demo\"].routes[0].name: \"default\" is the name of the default route; choose another",
        ),
        (
            demo(json!({"routes": [{"name": "a"}, {"name": "b"}, {"name": "a"}]})),
            "services[\"demo\"].routes[2].name: \"a\" is the name of routes[0] already; choose another",
        ),
    ] {
        assert_eq!(refuse(&plan), message, "{plan}");
    }
}

#[test]
fn what_is_wrong_among_many_routes_has_its_place() {
    for (last, message) in [
        (json!({"name": 1}), "expected a string, found 1"),
        (json!({"name": ""}), "the name of a route is empty; give one"),
        (json!({"name": "r3"}), "\"r3\" is the name of routes[3] already; choose another"),
    ] {
        let first = (0..70).map(|number| json!({"name": format!("r{number}")}));
        let routes: Vec<_> = first.chain([last]).collect();
        for protocol in ["toy", "auto"] {
            let plan = demo(json!({"protocol": protocol, "routes": routes}));
            assert_eq!(refuse(&plan), format!("services[\"demo\"].routes[70].name: {message}"), "{protocol}");
        }
    }
}

#[test]
fn routes_that_cannot_work_are_refused() {
    for (members, message) in [
        (json!({"name": ""}), ".name: the name of a route is empty; give one"),
        (
            json!({"name": "a\u{7f}"}),
            ".name: the name of a route has control characters, which HTTP headers cannot carry; remove them",
        ),
        (
            json!({"cluster": " v1"}),
            ".cluster: the name of a cluster starts or ends with a space, which HTTP headers cannot carry; \
             remove it",
        ),
        (
            json!({"cluster": "v1", "weightedClusters": []}),
            ": both \"cluster\" and \"weightedClusters\" say where calls go; keep one of them",
        ),
        (
            json!({"cluster": "v1", "reject": {}}),
            ": \"cluster\" says where calls go, and \"reject\" that they go nowhere; keep one of them",
        ),
        (
            json!({"weightedClusters": [], "reject": {"message": "no"}}),
            ": \"weightedClusters\" says where calls go, and \"reject\" that they go nowhere; keep one of them",
        ),
        (json!({"reject": {"message": ""}}), ".reject.message: is empty; leave it out, or tell clients why"),
        (
            json!({"reject": {"message": "x".repeat(1025)}}),
            ".reject.message: has 1025 bytes; at most 1024 are allowed",
        ),
        (
            json!({"match": [{"attributes": {"source.principle": {"exact": "x"}}}]}),
            ".match[0].attributes[\"source.principle\"]: no attribute of the connection; write one of \
             source.ip, source.namespace, source.principal",
        ),
        (
            json!({"match": [{
                "attributes": {"method": {"prefix": "get"}}, "notAttributes": {"method": {"suffix": ""}},
            }]}),
            ".match[0].notAttributes.method.suffix: every value has it; write \"present\": true",
        ),
        (
            json!({"match": [{"attributes": {}, "notAttributes": {"method": {"exact": "get"}}}]}),
            ".match[0].attributes: names no attribute; leave \"match\" out to match every call",
        ),
        (
            json!({"weightedClusters": []}),
            ".weightedClusters: names no cluster; name one, or leave it out to use the tunnel's own",
        ),
        (
            json!({"weightedClusters": [{"cluster": "v1", "weight": 0}, {"cluster": "v2", "weight": 0}]}),
            ".weightedClusters: all weights are 0, so that no cluster gets a call; give one a weight",
        ),
        (
            json!({"weightedClusters": [{"cluster": "v1", "weight": 4294967295_u32}, {"cluster": "v2", "weight": 1}]}),
            ".weightedClusters: the sum of the weights is over 4294967295; make them smaller",
        ),
        (
            json!({"weightedClusters": [{"cluster": "v1", "weight": 1}, {"cluster": "", "weight": 1}]}),
            ".weightedClusters[1].cluster: the name of a cluster is empty; give one",
        ),
        (
            json!({"requestAttachments": {"set": {"": "v"}}}),
            ".requestAttachments.set[\"\"]: the name of an attachment is empty; give one",
        ),
        (
            json!({"responseAttachments": {"remove": ["x", ""]}}),
            ".responseAttachments.remove[1]: the name of an attachment is empty; give one",
        ),
        (
            json!({"requestAttachments": {"set": {"x": "v"}, "remove": ["y", "x"]}}),
            ".requestAttachments.remove[1]: \"x\" is set too; keep one of the two",
        ),
        (
            json!({"responseAttachments": {"set": {"x": "v"}, "append": {"x": "w"}}}),
            ".responseAttachments.append.x: \"x\" is set too; keep one of the two",
        ),
        (
            json!({"requestAttachments": {"addIfAbsent": {"x": "v"}, "append": {"x": "w"}}}),
            ".requestAttachments.append.x: \"x\" is added too; keep one of the two",
        ),
        (
            json!({"requestAttachments": {"append": {"x": "%REQ(y)%"}, "remove": ["x"]}}),
            ".requestAttachments.remove[0]: \"x\" is appended to too; keep one of the two",
        ),
        (
            json!({"requestAttachments": {"set": {"x": "100%"}}}),
            ".requestAttachments.set.x: \"%\" opens an operator that does not end; a percent sign is written %%",
        ),
        (
            json!({"match": []}),
            ".match: an empty list matches no call; leave \"match\" out to match every call",
        ),
        (
            json!({"match": [{"attributes": {}}]}),
            ".match[0].attributes: names no attribute; leave \"match\" out to match every call",
        ),
        (
            json!({"match": [{"attributes": {"": {"exact": "a"}}}]}),
            ".match[0].attributes[\"\"]: the name of an attribute is empty; name one",
        ),
    ] {
        assert_eq!(
            refuse(&route(members.clone())),
            format!("services[\"demo\"].routes[0]{message}"),
            "{members}"
        );
    }
}

#[test]
fn matchers_that_cannot_work_are_refused() {
    for (members, message) in [
        (
            json!({}),
            ": no matcher; write one of exact, prefix, suffix, contains, regex, range, cidr, present",
        ),
        (
            json!({"invert": true}),
            ": no matcher; write one of exact, prefix, suffix, contains, regex, range, cidr, present",
        ),
        (
            json!({"exact": "a", "present": true}),
            ": more than one matcher; keep one of exact, prefix, suffix, contains, regex, range, cidr, present",
        ),
        (json!({"prefix": ""}), ".prefix: every value has it; write \"present\": true"),
        (json!({"suffix": ""}), ".suffix: every value has it; write \"present\": true"),
        (json!({"contains": ""}), ".contains: every value has it; write \"present\": true"),
        (json!({"regex": "a("}), ".regex: not a regular expression: unclosed group"),
        (json!({"regex": "a)|(b"}), ".regex: not a regular expression: unopened group"),
        (
            json!({"regex": "\\p{L}"}),
            ".regex: not a regular expression: character classes may name ASCII characters only",
        ),
        (
            json!({"range": {"start": 5, "end": 5}}),
            ".range: 5 to 5 is empty; \"end\" is the first integer after it",
        ),
        (
            json!({"range": {"start": 5, "end": -5}}),
            ".range: 5 to -5 is empty; \"end\" is the first integer after it",
        ),
    ] {
        let path = "services[\"demo\"].routes[0].match[0].attributes.method";
        assert_eq!(refuse(&matcher(members.clone())), format!("{path}{message}"), "{members}");
    }
}

#[test]
fn retries_that_cannot_work_are_refused() {
    for (members, message) in [
        (json!({"attempts": 0}), ".attempts: 0 is out of bounds; write 1 to 10"),
        (json!({"attempts": 11}), ".attempts: 11 is out of bounds; write 1 to 10"),
        (json!({"on": []}), ".on: names no failure; name one, or leave \"retry\" out"),
        (json!({"on": ["status"]}), ".statuses: \"on\" lists \"status\", but no status is listed; list one"),
        (
            json!({"on": ["reset"], "statuses": [80]}),
            ".statuses: only used with \"status\" in \"on\"; add it there",
        ),
        (
            json!({"on": ["status"], "statuses": ["SERVICE_ERROR", "BUSY"]}),
            ".statuses[1]: toy has no status \"BUSY\"; write the name or number of one that it has",
        ),
        (
            json!({"on": ["status"], "statuses": [81]}),
            ".statuses[0]: toy has no status 81; write the name or number of one that it has",
        ),
        (
            json!({"on": ["per-try-timeout"]}),
            ".perTryTimeout: \"on\" lists \"per-try-timeout\", but a try has no timeout; set one",
        ),
        (
            json!({"perTryTimeout": "2001ms"}),
            ".perTryTimeout: 2001ms exceeds the route's timeout of 2s; make it shorter, or the timeout \
             longer",
        ),
        (
            json!({"backoff": {"base": "1s", "max": "500ms"}}),
            ".backoff.max: shorter than \"base\", 1s; make it longer",
        ),
        (json!({"hedge": {}}), ".hedge: says no time; write \"after\" or \"percentile\", or leave it out"),
        (
            json!({"hedge": {"after": "2s"}}),
            ".hedge.after: 2s is not before 2s, when the route's timeout ends the first try; make it shorter",
        ),
        (
            json!({"hedge": {"after": "500ms"}, "perTryTimeout": "500ms"}),
            ".hedge.after: 500ms is not before 500ms, when \"perTryTimeout\" ends the first try; make it shorter",
        ),
        (json!({"hedge": {"percentile": 100}}), ".hedge.percentile: 100 is out of bounds; write 1 to 99"),
        (json!({"hedge": {"percentile": 0}}), ".hedge.percentile: 0 is out of bounds; write 1 to 99"),
    ] {
        let path = "services[\"demo\"].routes[0].retry";
        assert_eq!(refuse(&retry(members.clone())), format!("{path}{message}"), "{members}");
    }
}

#[test]
fn what_collectors_are_told_is_in_no_error() {
    for (headers, message) in [
        (json!("Bearer s3cret"), ": expected an object, found a string"),
        (json!(5333), ": expected an object, found a number"),
        (json!(["s3cret"]), ": expected an object, found an array"),
        (json!({"a": 5333}), ".a: expected a string, found a number"),
        (json!({"a": -5333}), ".a: expected a string, found a number"),
        (json!({"a": 5333.5}), ".a: expected a string, found a fraction"),
        (json!({"a": {"b": "s3cret"}}), ".a: expected a string, found an object"),
        (
            json!({"a": "s3cret\n"}),
            ".a: is no header: a name is a token, a value plain ASCII without spaces at its ends",
        ),
    ] {
        let plan = demo(json!({"tracing": {"collector": "otel", "headers": headers}}));
        assert_eq!(refuse(&plan), format!("services[\"demo\"].tracing.headers{message}"), "{plan}");
    }
    assert_eq!(
        refuse(&demo(json!({"tracing": "Bearer s3cret"}))),
        "services[\"demo\"].tracing: expected an object, found a string"
    );
}
