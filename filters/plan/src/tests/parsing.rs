use core::time::Duration;

use meltemi_codecs::{Action, Change, Depth};
use serde_json::json;

use super::*;
use crate::{
    AttachmentEdit, Backoff, CircuitBreaker, Destination, Hedge, Limits, Mirror, OnNoMatch, OutlierDetection,
    Retry, RetryBudget, RetryOn, SuccessRate, UnknownAuthority, UpstreamOptions,
};

#[test]
fn no_input_is_a_plan_without_services() {
    for text in ["", " \n", "{}"] {
        let plan = Plan::parse(text.as_bytes(), &codecs()).unwrap();
        assert_eq!(plan.services().count(), 0);
        assert_eq!(plan.max_operations, 500);
        assert_eq!(plan.unknown_authority, UnknownAuthority::Relay);
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let plan = parse(&demo(json!({}))).unwrap();
    let service = plan.service("demo").unwrap();
    assert_eq!(service.name, "demo");
    assert_eq!(service.codec.name(), "toy");
    assert_eq!(service.depth, Depth::Operation);
    assert_eq!(service.on_no_match, OnNoMatch::Default);
    assert_eq!((service.idle_timeout, service.stream_idle_timeout), (None, None));
    assert_eq!(service.retry_budget, RetryBudget { percent: 20, min_retries: 10 });
    assert_eq!(
        service.limits,
        Limits {
            max_frame_bytes: 8 << 20,
            max_request_bytes: 8 << 20,
            cut_through_bytes: 32 << 10,
            max_calls_per_connection: 4096,
        }
    );
    assert_eq!(
        service.upstream,
        UpstreamOptions {
            max_connection_age: Some(Duration::from_secs(60)),
            connections_per_endpoint: 1,
            connect_timeout: Duration::from_secs(5),
            max_calls_per_connection: 1024,
            ejection_time: Some(Duration::from_secs(5)),
        }
    );
    assert_eq!(service.routes().count(), 0);
    assert!(service.route(&head(&[("method", "a")])).is_none());

    let route = &service.default_route;
    assert_eq!(route.name, "default");
    assert!(matches!(route.destination, Destination::Tunnel));
    assert_eq!((route.timeout, &route.retry), (None, &None));
    assert!(route.request_edit.is_empty() && route.response_edit.is_empty());
    assert!(plan.service("Demo").is_none());
    assert_eq!(plan.warnings(), []);
}

#[test]
fn what_is_written_is_kept() {
    let plan = parse(&json!({
        "services": {
            "b.example:20880": {
                "protocol": "toy",
                "routes": [{
                    "name": "canary",
                    "match": [{"attributes": {"tag": {"exact": "x"}}}],
                    "cluster": "v1",
                    "timeout": "2s",
                    "retry": {
                        "attempts": 2,
                        "on": ["connect-failure", "reset", "per-try-timeout", "status"],
                        "statuses": ["SERVER_THREADPOOL_EXHAUSTED_ERROR", 80, "SERVICE_ERROR"],
                        "perTryTimeout": "500ms",
                        "backoff": {"base": "10ms", "max": "1s"},
                        "hedge": {"after": "50ms", "percentile": 95}
                    },
                    "requestAttachments": {"set": {"b": "1", "a": "2"}, "remove": ["x"]},
                    "responseAttachments": {"remove": ["y"]}
                }],
                "onNoMatch": "reject",
                "retryBudget": {"percent": 5, "minRetries": 0},
                "idleTimeout": "1m",
                "streamIdleTimeout": "5m",
                "limits": {"maxFrameBytes": 16, "cutThroughBytes": 1024, "maxCallsPerConnection": 1},
                "upstream": {
                    "maxConnectionAge": "0s",
                    "connectionsPerEndpoint": 64,
                    "connectTimeout": "1ms",
                    "maxCallsPerConnection": 1,
                    "ejectionTime": "0s"
                }
            },
            "a.example:20880": {"protocol": "toy"}
        },
        "metrics": {"maxOperations": 0},
        "unknownAuthority": "refuse"
    }))
    .unwrap();
    assert_eq!(plan.max_operations, 0);
    assert_eq!(plan.unknown_authority, UnknownAuthority::Refuse);
    let service = plan.service("b.example:20880").unwrap();
    assert_eq!(service.depth, Depth::Attachments);
    assert_eq!(service.on_no_match, OnNoMatch::Reject);
    assert_eq!(service.retry_budget, RetryBudget { percent: 5, min_retries: 0 });
    assert_eq!(service.idle_timeout, Some(Duration::from_secs(60)));
    assert_eq!(service.stream_idle_timeout, Some(Duration::from_secs(300)));
    assert_eq!(
        service.limits,
        Limits {
            max_frame_bytes: 16,
            max_request_bytes: 16,
            cut_through_bytes: 1024,
            max_calls_per_connection: 1,
        }
    );
    assert_eq!(
        service.upstream,
        UpstreamOptions {
            max_connection_age: None,
            connections_per_endpoint: 64,
            connect_timeout: Duration::from_millis(1),
            max_calls_per_connection: 1,
            ejection_time: None,
        }
    );

    let route = service.route(&head(&[("tag", "x")])).unwrap();
    assert_eq!(route.name, "canary");
    assert_eq!(route.destination.pick(0, Some("tunnel")), Some("v1"));
    assert_eq!(route.timeout, Some(Duration::from_secs(2)));
    assert_eq!(
        route.retry,
        Some(Retry {
            attempts: 2,
            on: RetryOn { connect_failure: true, reset: true, per_try_timeout: true, status: true },
            statuses: vec![100, 80, 80],
            per_try_timeout: Some(Duration::from_millis(500)),
            backoff: Backoff { base: Duration::from_millis(10), max: Duration::from_secs(1) },
            hedge: Some(Hedge { after: Some(Duration::from_millis(50)), percentile: Some(95) }),
        })
    );
    let removed = route.request_edit.changes.iter().filter(|change| change.action == Action::Remove);
    assert_eq!(removed.collect::<Vec<_>>(), [&Change::remove("x")]);
    assert!(route.request_edit.changes.contains(&Change::set("a", "2")));
    let removed = vec![Change::remove("y")];
    assert_eq!(route.response_edit, AttachmentEdit { changes: removed, ..AttachmentEdit::default() });
}

/// As Envoy may write the numbers of its configuration, and leave out what is null.
#[test]
fn integers_may_be_written_as_floating_point_numbers() {
    let text = r#"{"services": {"demo": {"protocol": "toy", "limits": {"maxFrameBytes": 1.6777216e+07},
        "routes": [{"name": "r", "cluster": null, "match": [{"attributes": {"id": {"range": {"start": -1e3, "end": 2.0}}}}]}]}}}"#;
    let plan = Plan::parse(text.as_bytes(), &codecs()).unwrap();
    let service = plan.service("demo").unwrap();
    assert_eq!(service.limits.max_frame_bytes, 16 << 20);
    assert!(service.route(&head(&[("id", "-1000")])).is_some());
    assert!(service.route(&head(&[("id", "2")])).is_none());
}

#[test]
fn services_keep_the_order_of_the_document() {
    let text =
        r#"{"services": {"b": {"protocol": "toy"}, "c": {"protocol": "toy"}, "a": {"protocol": "toy"}}}"#;
    let plan = Plan::parse(text.as_bytes(), &codecs()).unwrap();
    assert_eq!(plan.services().map(|service| &*service.name).collect::<Vec<_>>(), ["b", "c", "a"]);
}

#[test]
fn a_retry_by_itself_is_one_after_connect_failures() {
    let plan = parse(&demo(json!({"defaultRoute": {"retry": {}}}))).unwrap();
    let retry = plan.service("demo").unwrap().default_route.retry.clone().unwrap();
    assert_eq!(
        retry,
        Retry {
            attempts: 1,
            on: RetryOn { connect_failure: true, ..RetryOn::default() },
            statuses: vec![],
            per_try_timeout: None,
            backoff: Backoff { base: Duration::from_millis(25), max: Duration::from_millis(250) },
            hedge: None,
        }
    );
    let plan = parse(&demo(json!({"defaultRoute": {"retry": {"backoff": {"base": "1s"}}}}))).unwrap();
    let retry = plan.service("demo").unwrap().default_route.retry.clone().unwrap();
    assert_eq!(retry.backoff.max, Duration::from_secs(10));
}

#[test]
fn weights_share_the_calls() {
    let clusters = json!([
        {"cluster": "none", "weight": 0},
        {"cluster": "v1", "weight": 90},
        {"cluster": "no", "weight": 0},
        {"cluster": "v2", "weight": 10}
    ]);
    let plan = parse(&route(json!({"weightedClusters": clusters}))).unwrap();
    let service = plan.service("demo").unwrap();
    let destination = &service.route(&head(&[])).unwrap().destination;
    let Destination::Weighted(weighted) = destination else { panic!("{destination:?}") };
    assert_eq!(weighted.iter().collect::<Vec<_>>(), [("none", 0), ("v1", 90), ("no", 0), ("v2", 10)]);

    let picks: Vec<_> = (0..1000).map(|n| destination.pick(n * (u32::MAX / 1000), None).unwrap()).collect();
    assert_eq!(picks.iter().filter(|cluster| **cluster == "v1").count(), 901);
    assert_eq!(picks.iter().filter(|cluster| **cluster == "v2").count(), 99);
    assert_eq!(destination.pick(0, None), Some("v1"));
    assert_eq!(destination.pick(u32::MAX, None), Some("v2"));

    assert_eq!(Destination::Tunnel.pick(0, Some("outbound|20880||demo")), Some("outbound|20880||demo"));
    assert_eq!(Destination::Tunnel.pick(0, None), None);
}

#[test]
fn a_route_that_rejects_says_why() {
    let plan = parse(&demo(json!({
        "routes": [{"name": "closed", "reject": {}}],
        "defaultRoute": {"reject": {"message": "ask the owners"}},
    })))
    .unwrap();
    assert_eq!(plan.warnings(), []);
    let service = plan.service("demo").unwrap();
    let routes = [service.route(&head(&[])).unwrap(), &service.default_route];
    for (route, why) in routes.into_iter().zip(["denied by route \"closed\"", "ask the owners"]) {
        let Destination::Reject(message) = &route.destination else { panic!("{route:?}") };
        assert_eq!(&**message, why);
        assert_eq!(route.destination.pick(0, Some("tunnel")), None);
    }
}

#[test]
fn copies_go_to_their_cluster_in_a_time_of_their_own_and_are_changed_as_calls_are() {
    let plan = parse(&demo(json!({"routes": [{
        "name": "copied",
        "timeout": "2s",
        "retry": {},
        "fault": {"abort": {"percent": 1}},
        "requestAttachments": {"set": {"a": "b"}},
        "mirrors": [{"cluster": "x", "percent": 50}, {"cluster": "y", "timeout": "9s"}],
    }], "defaultRoute": {"mirrors": [{"cluster": "z"}]}})))
    .unwrap();
    let service = plan.service("demo").unwrap();
    let route = service.route(&head(&[])).unwrap();
    let all = route.mirrors.iter().chain(&service.default_route.mirrors);
    let copies: Vec<_> = all
        .map(|Mirror { share, route }| {
            assert!(route.retry.is_none() && route.fault.is_none() && route.mirrors.is_empty());
            let seconds = route.timeout.unwrap().as_secs();
            (route.destination.pick(0, None).unwrap(), seconds, share.has(1 << 31), &*route.name)
        })
        .collect();
    assert_eq!(copies, [("x", 2, false, "copied"), ("y", 9, true, "copied"), ("z", 15, true, "default")]);
    assert_eq!(route.mirrors[1].route.request_edit, route.request_edit);
}

#[test]
fn what_is_hardly_meant_is_warned_of() {
    let plan = parse(&demo(json!({
        "routes": [
            {"name": "a", "match": [{"attributes": {"method": {"exact": "a"}}}]},
            {"name": "b", "reject": {}, "timeout": "1s"},
            {"name": "c", "match": [{"attributes": {"method": {"exact": "a"}}}]},
            {"name": "d", "retry": {"perTryTimeout": "1s"}}
        ],
        "onNoMatch": "reject",
        "defaultRoute": {"timeout": "1s"}
    })));
    let warnings: Vec<_> = plan.unwrap().warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "services[\"demo\"].routes[2]: gets no call: routes[1] matches every call",
            "services[\"demo\"].routes[3]: gets no call: routes[1] matches every call",
            "services[\"demo\"].routes[1]: rejects its calls: its other policies are never used",
            "services[\"demo\"].routes[3].retry.perTryTimeout: ends the whole call: \"on\" does not list \
             \"per-try-timeout\"",
            "services[\"demo\"].defaultRoute: gets no call: \"onNoMatch\" rejects those that no route matches",
        ]
    );
}

#[test]
fn what_a_client_with_one_connection_does_without_is_warned_of() {
    let hedged = json!({"retry": {"hedge": {"after": "1s"}}});
    let [breaker, outliers, adaptive] = [json!({"maxCalls": 9}), json!({}), json!({"minConcurrency": 5})];
    let upstream = json!({
        "sharing": "pinned", "circuitBreaker": breaker, "outlierDetection": outliers, "keepWeights": true,
        "clusters": {
            "alike": {"outlierDetection": outliers, "hashBy": ["user"]},
            "other": {"circuitBreaker": {"maxRetries": 1}, "adaptiveConcurrency": adaptive},
        },
    });
    let warnings = |upstream: &Value| {
        let plan = parse(&demo(json!({"upstream": upstream, "defaultRoute": hedged}))).unwrap();
        plan.warnings().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let pinned = "a client's calls are pinned to one connection";
    let wanted = [
        format!("defaultRoute.retry.hedge: makes no second try: {pinned}"),
        "upstream.circuitBreaker: counts each client by itself: its calls are pinned to one connection".to_owned(),
        format!("upstream.outlierDetection: leaves out no endpoint: {pinned}"),
        "upstream.clusters.other.circuitBreaker: counts each client by itself: its calls are pinned to one connection"
            .to_owned(),
        format!("upstream.clusters.other.adaptiveConcurrency: limits no calls: {pinned}"),
    ];
    assert_eq!(warnings(&upstream), wanted.map(|wanted| format!("services[\"demo\"].{wanted}")));
    let mut shared = upstream;
    shared["sharing"] = json!("shared");
    assert_eq!(warnings(&shared), [""; 0]);
}

#[test]
fn values_are_made_for_each_call_where_an_operator_asks_for_it() {
    let edits = json!({
        "set": {"route": "%ROUTE_NAME%", "caller": "%REQ(source.principal)%", "what": "%REQ(method)%"},
        "addIfAbsent": {"by": "meltemi"},
        "append": {"lane": "%REQ(lane?tag):16%"},
        "remove": ["debug", "debug"]
    });
    let route = json!({"timeout": "1s", "responseAttachments": edits});
    let plan = json!({"services": {"demo": {"protocol": "toy", "defaultRoute": route}}});
    let plan = Plan::parse(plan.to_string().as_bytes(), &codecs()).unwrap();
    let route = plan.service("demo").unwrap().default_route.clone();
    let add = Change { action: Action::AddIfAbsent, ..Change::set("by", "meltemi") };
    let edit = &route.response_edit;
    assert_eq!(edit.changes, [Change::set("route", "default"), add, Change::remove("debug")]);
    let values: Vec<_> = edit.values.iter().map(|(change, _)| (&*change.name, change.action)).collect();
    assert_eq!(values, [("caller", Action::Set), ("what", Action::Set), ("lane", Action::Append)]);
    // The request must be there when it is answered, and be read to its end then.
    assert_eq!((edit.depth, route.keeps_requests), (Some(Depth::Attachments), true));
    assert_eq!((route.request_edit.is_empty(), route.request_edit.depth), (true, None));
}

#[test]
fn no_more_changes_than_can_be_told_apart() {
    let values: serde_json::Map<_, _> = (0..65).map(|number| (number.to_string(), json!("v"))).collect();
    let refused = |edits| {
        let route = json!({"requestAttachments": edits});
        let plan = json!({"services": {"demo": {"protocol": "toy", "defaultRoute": route}}});
        Plan::parse(plan.to_string().as_bytes(), &codecs()).err().map(|error| error.message)
    };
    assert_eq!(refused(json!({"set": values})), None);
    let message = "has 65 changes; at most 64 are allowed";
    assert_eq!(refused(json!({"append": values})).as_deref(), Some(message));
}

#[test]
fn clusters_have_what_they_do_not_say_from_the_service() {
    let plan = parse(&demo(json!({"upstream": {
        "circuitBreaker": {"maxCalls": 5, "maxRetries": 0},
        "clusters": {
            "a": {"outlierDetection": {"failurePercent": 30, "maxEjectionTime": "1s"}},
            "b": {"circuitBreaker": {"maxWaitingCalls": 2}},
        },
    }})))
    .unwrap();
    let service = plan.service("demo").unwrap();
    assert!(service.asks_cluster && plan.max_calls == usize::MAX);
    let of = |cluster| &**service.clusters.as_ref().unwrap().of(cluster);
    let breaker = CircuitBreaker { max_calls: 5, max_waiting_calls: usize::MAX, max_retries: 0 };
    assert_eq!((of("other").circuit_breaker, of("other").outlier_detection), (breaker, None));
    let detection = OutlierDetection {
        consecutive_failures: Some(5),
        failure_percent: Some(30),
        min_calls: 50,
        success_rate: None,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(30),
        max_ejection_percent: 10,
        min_health_percent: 0,
    };
    assert_eq!((of("a").circuit_breaker, of("a").outlier_detection), (breaker, Some(detection)));
    let own = CircuitBreaker { max_calls: usize::MAX, max_waiting_calls: 2, max_retries: usize::MAX };
    assert_eq!((of("b").circuit_breaker, of("b").outlier_detection), (own, None));
}

#[test]
fn endpoints_are_left_out_by_their_success_rate_where_a_factor_says_so() {
    let rate = |detection: Value| {
        let plan = parse(&demo(json!({"upstream": {"outlierDetection": detection}}))).unwrap();
        let clusters = plan.service("demo").unwrap().clusters.as_ref().unwrap();
        clusters.of("any").outlier_detection.unwrap().success_rate
    };
    assert_eq!(rate(json!({"successRateMinimumHosts": 3})), None);
    let only = json!({"consecutiveFailures": 0, "successRateStdevFactor": 1900});
    let wanted = SuccessRate { stdev_factor: 1900, minimum_hosts: 5, request_volume: 100 };
    assert_eq!(rate(only), Some(wanted));
}

#[test]
fn a_cluster_keeps_weights_where_it_or_the_service_says_so() {
    let keep = |upstream| {
        let plan = parse(&demo(json!({"upstream": upstream}))).unwrap();
        let clusters = plan.service("demo").unwrap().clusters.as_ref();
        clusters.map(|clusters| ["a", "b"].map(|cluster| clusters.of(cluster).keeps_weights))
    };
    assert_eq!(keep(json!({"keepWeights": false})), None);
    assert_eq!(keep(json!({"keepWeights": true})), Some([true, true]));
    let own = json!({"keepWeights": true, "clusters": {"a": {"keepWeights": false}}});
    assert_eq!(keep(own), Some([false, true]));
    assert_eq!(keep(json!({"clusters": {"a": {"keepWeights": true}}})), Some([true, false]));
}
