mod updates;

use core::time::Duration;

use meltemi_codecs::{Codecs, Failure};
use meltemi_proxy::plan::Plan;
use meltemi_proxy::{Class, Instant, Label, Labels, Ledger, LocalReply, Metric, Sink, Tapped, Told};
use meltemi_sockets::Side;

use crate::fake_host as host;
use crate::host::{Buffer, now, wall_time};
use crate::ledger::SharedLedger;
use crate::logger;
use crate::report::{Report, has_tap, metric_name};
use crate::root::Root;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn configure(json: &str) -> (Root, bool) {
    logger::start();
    let mut root = Root::new(Codecs::all());
    let size = host::set(Buffer::Configuration, json.as_bytes());
    let is_accepted = root.configure(size);
    (root, is_accepted)
}

fn plan(route: &str) -> String {
    format!(
        r#"{{"services": {{"demo": {{"protocol": "dubbo", "onNoMatch": "reject",
            "routes": [{{"name": "{route}", "match": [{{"attributes": {{"method": {{"exact": "{route}"}}}}}}]}}]}}}}}}"#
    )
}

#[test]
fn a_bad_plan_is_refused_with_its_path() {
    let (root, is_accepted) = configure(r#"{"services": {"demo": {"protocol": "gopher"}}}"#);
    assert!(!is_accepted);
    let log = host::with(|host| host.log.clone());
    assert!(log.iter().any(|(_, line)| line.contains(r#"services["demo"].protocol"#)), "{log:?}");
    let mut stream = root.stream();
    let size = host::set(Buffer::Downstream, PREFACE);
    stream.carry(Side::Downstream, size);
    assert!(host::with(|host| host.closed), "without any plan there is nothing to do but close");
}

#[test]
fn gauges_show_which_plan_is_in_force_and_which_was_refused() {
    let gauge = |what: &str| {
        host::metric(&format!("meltemi.plugin=.=meltemi;.;build=.={};.;{what}", env!("CARGO_PKG_VERSION")))
    };
    let (good, bad) = (plan("a"), "{}}");
    // FNV-1a, by another definition of it.
    let digest = |text: &str| {
        text.bytes().fold(0x811c_9dc5_u64, |digest, byte| (digest ^ u64::from(byte)) * 16_777_619 % (1 << 32))
    };
    let is = |digest: u64| i64::try_from(digest).ok();
    configure(&good);
    let (_, is_accepted) = configure(bad);
    assert!(!is_accepted);
    assert_eq!(gauge("plan_digest"), is(digest(&good)));
    assert_eq!(gauge("plan_refused_digest"), is(digest(bad)));
    let other = plan("b");
    configure(&other);
    assert_eq!(gauge("plan_digest"), is(digest(&other)));
    assert_eq!(gauge("plan_refused_digest"), Some(0));
}

/// Does `work` in another VM, which is a thread here, and takes over what it shared.
fn elsewhere(work: impl FnOnce() + Send + 'static) {
    let shared = host::with(|host| host.shared.clone());
    let vm = std::thread::spawn(move || {
        host::with(|host| host.shared = shared);
        work();
        host::with(|host| host.shared.clone())
    });
    let shared = vm.join().unwrap();
    host::with(|host| host.shared = shared);
}

/// The plan's text after a look at what others have published.
fn text_after_a_while(root: &mut Root) -> Vec<u8> {
    root.look();
    root.plan_text()
}

/// The tokens that this VM gets of a bucket of five, to which two are added each second.
fn taken(wanted: u32, second: u64) -> u32 {
    let json = r#"{"services": {"demo": {"protocol": "dubbo", "localRateLimit":
        {"tokenBucket": {"maxTokens": 5, "tokensPerFill": 2, "fillInterval": "1s"}}}}}"#;
    let plan = Plan::parse(json.as_bytes(), &Codecs::all()).unwrap();
    let limit = plan.service("demo").unwrap().local_rate_limit.as_ref().unwrap();
    let now = Instant::default().after(Duration::from_secs(second));
    SharedLedger.take(limit.buckets().next().unwrap(), wanted, now).tokens
}

#[test]
fn a_bucket_is_one_for_all_vms() {
    assert_eq!(taken(3, 10), 3);
    elsewhere(move || assert_eq!(taken(9, 10), 2));
    assert_eq!(taken(1, 10), 0);
    elsewhere(move || assert_eq!(taken(9, 11), 2));
    // What another build of the module may have left there.
    host::with(|host| host.shared.values_mut().for_each(|(bytes, _)| bytes.truncate(3)));
    assert_eq!(taken(9, 12), 5);
}

#[test]
fn vms_that_find_no_bucket_at_the_same_time_fill_it_once() {
    host::with(|host| host.meanwhile = Some(Box::new(|| elsewhere(|| assert_eq!(taken(4, 10), 4)))));
    assert_eq!(taken(9, 10), 1);
    elsewhere(|| assert_eq!(taken(9, 10), 0));
}

#[test]
fn what_another_vm_takes_meanwhile_is_not_given_twice() {
    assert_eq!(taken(1, 10), 1);
    host::with(|host| host.meanwhile = Some(Box::new(|| elsewhere(|| assert_eq!(taken(2, 10), 2)))));
    assert_eq!(taken(9, 10), 2);
}

#[test]
fn a_plan_that_comes_back_is_in_force_again() {
    let [a, b] = ["a", "b"].map(plan);
    let (mut first, _) = configure(&a);
    let (mut second, _) = configure(&b);
    assert_eq!(text_after_a_while(&mut first), b.as_bytes(), "one VM, one plan");
    // The VM of Envoy's main thread hears of everything; this one has the first root context still.
    elsewhere({
        let [a, b] = [a.clone(), b.clone()];
        move || {
            configure(&b);
            configure(&a);
        }
    });
    assert_eq!(text_after_a_while(&mut second), a.as_bytes());
    // What this VM hears too late does not come between.
    let late = plan("late");
    elsewhere({
        let [a, late] = [a.clone(), late.clone()];
        move || [&a, &late, &a].iter().for_each(|plan| drop(configure(plan)))
    });
    configure(&late);
    assert_eq!(text_after_a_while(&mut first), a.as_bytes());
    elsewhere(move || {
        let (mut root, _) = configure(&a);
        assert_eq!(text_after_a_while(&mut root), a.as_bytes());
    });
}

/// Another build of the module runs in new VMs.
#[test]
fn a_new_vm_begins_with_its_own_plan_and_others_follow() {
    let [old, new] = ["old", "new"].map(plan);
    let (mut running, _) = configure(&old);
    elsewhere({
        let new = new.clone();
        move || {
            let (mut root, _) = configure(&new);
            assert_eq!(text_after_a_while(&mut root), new.as_bytes());
        }
    });
    assert_eq!(text_after_a_while(&mut running), new.as_bytes());
}

/// Has another VM get a plan after so many looks of this one at what is shared.
fn configure_elsewhere(after: u32, json: &str) {
    let json = json.to_owned();
    let act: Box<dyn FnOnce()> = match after {
        1 => Box::new(move || elsewhere(move || drop(configure(&json)))),
        _ => Box::new(move || configure_elsewhere(after.saturating_sub(1), &json)),
    };
    host::with(|host| host.meanwhile = Some(act));
}

/// What comes later replaces nothing that it has not seen, and follows it.
#[test]
fn of_vms_that_find_no_plan_at_the_same_time_one_publishes() {
    let [own, others] = ["own", "others"].map(plan);
    configure_elsewhere(2, &others);
    let (mut root, is_accepted) = configure(&own);
    assert!(is_accepted);
    assert_eq!(text_after_a_while(&mut root), others.as_bytes());
}

/// The VMs of Envoy's threads get each plan at about the same time.
#[test]
fn a_plan_that_another_vm_publishes_at_the_same_time_hides_no_later_one() {
    for looks in 1..4 {
        let [a, b] = ["a", "b"].map(|name| plan(&format!("{name}{looks}")));
        let (mut root, _) = configure(&a);
        configure_elsewhere(looks, &b);
        configure(&b);
        configure(&a);
        assert_eq!(text_after_a_while(&mut root), a.as_bytes(), "published after {looks} looks");
    }
}

#[test]
fn a_plan_for_another_module_is_refused_aloud() {
    logger::start();
    let mut root = Root::new(Codecs::default());
    assert!(root.configure(0));
    elsewhere(|| drop(configure(&plan("a"))));
    assert_eq!(text_after_a_while(&mut root), b"");
    let log = host::with(|host| host.log.clone());
    assert!(log.iter().any(|(_, line)| line.contains(r#"services["demo"].protocol"#)), "{log:?}");
}

#[test]
fn an_empty_configuration_is_an_empty_plan() {
    let mut root = Root::new(Codecs::all());
    assert!(root.configure(0));
}

#[test]
fn a_tunnel_is_answered_on_both_sides() {
    let (root, is_accepted) = configure(&plan("a"));
    assert!(is_accepted);
    let mut stream = root.stream();
    let size = host::set(Buffer::Downstream, PREFACE);
    stream.carry(Side::Downstream, size);
    let upstream = host::get(Buffer::Downstream);
    assert!(
        upstream.starts_with(&PREFACE[..24]),
        "the connection manager gets a preface of the filter's own"
    );
    // SETTINGS, the acknowledgement of ours, and of the PING that asked for this callback.
    let ping = upstream.windows(9).position(|frame| frame[..4] == [0, 0, 8, 6]).expect("a PING");
    let mut answer = b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0\0\0\x08\x06\x01\0\0\0\0".to_vec();
    answer.extend_from_slice(&upstream[ping + 9..ping + 17]);
    let size = host::set(Buffer::Upstream, &answer);
    stream.carry(Side::Upstream, size);
    let downstream = host::get(Buffer::Upstream);
    assert_eq!(downstream.get(3), Some(&4), "tcp_proxy gets SETTINGS first: {downstream:?}");
    assert!(!host::with(|host| host.closed));
    stream.close();
}

#[test]
fn broken_http2_closes_the_tunnel_connection_only() {
    let (root, _) = configure(&plan("a"));
    let mut stream = root.stream();
    let size = host::set(Buffer::Downstream, b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n");
    stream.carry(Side::Downstream, size);
    assert!(host::with(|host| std::mem::take(&mut host.closed)));
    let mut other = root.stream();
    let size = host::set(Buffer::Downstream, PREFACE);
    other.carry(Side::Downstream, size);
    assert!(!host::with(|host| host.closed));
}

/// A CONNECT for the service `demo` on stream 1: two literals that are not indexed.
const CONNECT: &[u8] = b"\0\0\x0f\x01\x04\0\0\0\x01\x02\x07CONNECT\x01\x04demo";

#[test]
fn clients_of_a_replaced_tunnel_connection_are_asked_to_come_to_the_new_one() {
    let minutes = |n: u64| host::with(|host| host.uptime = Some(n * 60_000_000_000));
    minutes(1);
    let (root, _) = configure(&plan("a"));
    let mut tunnels = [(); 2].map(|()| root.stream());
    for tunnel in &mut tunnels {
        let size = host::set(Buffer::Downstream, &[PREFACE, CONNECT].concat());
        tunnel.carry(Side::Downstream, size);
    }
    // What tcp_proxy is sent when a connection manager says nothing.
    let mut sent = |tunnel: usize| {
        host::set(Buffer::Upstream, &[]);
        tunnels[tunnel].carry(Side::Upstream, 0);
        host::get(Buffer::Upstream)
    };
    sent(0);
    sent(1);
    minutes(9);
    assert_eq!([sent(0), sent(1)], [b"", b""], "there may be reasons to have two");
    minutes(12);
    sent(0);
    minutes(33);
    let (old, new) = (sent(0), sent(1));
    assert!(old.windows(2).any(|bytes| bytes == b"\xda\xbb"), "an event of Dubbo, READONLY: {old:?}");
    assert_eq!(new, b"");
}

#[test]
fn a_refused_write_closes_instead_of_losing_bytes() {
    let (root, _) = configure(&plan("a"));
    let mut stream = root.stream();
    host::with(|host| host.refuses = true);
    let size = host::set(Buffer::Downstream, PREFACE);
    stream.carry(Side::Downstream, size);
    assert!(host::with(|host| host.closed));
}

#[test]
fn labels_are_tags_and_the_wire_cannot_end_them() {
    let label = Label { service: "org.x.Greeter".into(), method: "say;.;reason=.=x".into() };
    let labels = Labels::Operation(label);
    Report.count(Metric::Requests, Some(&labels), 2);
    Report.count(Metric::Requests, Some(&labels), 1);
    let name = "meltemi.service=.=org.x.Greeter;.;method=.=say_._reason_._x;.;requests_total";
    assert_eq!(host::metric(name), Some(3));
    let labels = Labels::Source { service: "org.x.Greeter".into(), principal: "td/ns/a/sa/b".into() };
    Report.count(Metric::SourceRequests, Some(&labels), 4);
    let name = "meltemi.service=.=org.x.Greeter;.;source_principal=.=td/ns/a/sa/b;.;source_requests_total";
    assert_eq!(host::metric(name), Some(4));
    let (service, workload, principal) = ("org.x.Greeter".into(), "v1".into(), "td/ns/a/sa/b".into());
    let labels = Labels::Destination { service, workload, principal };
    Report.count(Metric::DestinationRequests, Some(&labels), 5);
    let name = "meltemi.service=.=org.x.Greeter;.;destination_workload=.=v1;.;\
                destination_principal=.=td/ns/a/sa/b;.;destination_requests_total";
    assert_eq!(host::metric(name), Some(5));
    let labels = Labels::Route { authority: "demo:20880".into(), route: "shop/demo/v1".into() };
    Report.count(Metric::RouteRequests, Some(&labels), 6);
    let name = "meltemi.authority=.=demo:20880;.;route=.=shop/demo/v1;.;route_requests_total";
    assert_eq!(host::metric(name), Some(6));
}

#[test]
fn a_local_reply_is_one_line_of_json() {
    logger::start();
    let reply = LocalReply {
        event: "local_reply",
        reason: "timeout",
        detail: format!("{:?}", Failure::Timeout),
        authority: "demo".into(),
        operation: Label { service: "org.x.Greeter".into(), method: "sayHello".into() },
        route: Some("canary\n".into()),
        cluster: Some("v1".into()),
        endpoint: Some("10.0.0.1:20880".into()),
        request_id: 7,
        peer: Some("127.0.0.1:1".into()),
        principal: Some("td/ns/a/sa/b".into()),
        trace_id: Some("ab".into()),
        tries: 2,
        request_bytes: 240,
        response_bytes: 62,
        elapsed: Duration::from_millis(3),
        text: None,
        suppressed: 5,
        tapped: None,
    };
    Report.log(&reply);
    let (_, line) = host::with(|host| host.log.pop()).unwrap();
    let json = line.split_once(": ").unwrap().1;
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(value["reason"], "timeout");
    assert_eq!(value["endpoint"], "10.0.0.1:20880");
    assert_eq!((&value["requestBytes"], &value["responseBytes"]), (&240.into(), &62.into()));
    assert_eq!(value["elapsedMicros"], 3000);
    assert_eq!(value["suppressed"], 5);
    assert_eq!(value["sourcePrincipal"], "td/ns/a/sa/b");
    assert_eq!(value["traceId"], "ab");
    assert!(!line.contains('\n'));
    assert_eq!(value.get("taps"), None);

    let attributes = vec![("a\"".into(), "x\n\u{1b}[2J".into())];
    let told = Told { tap: "t".into(), attributes, suppressed: 3, until: 1 };
    let taps = vec![told, Told { tap: "u".into(), ..Told::default() }];
    let mut tapped = Tapped::default();
    tapped.taps = taps;
    Report.log(&LocalReply { event: "tap", tapped: Some(tapped.into()), ..reply });
    let (_, line) = host::with(|host| host.log.pop()).unwrap();
    assert!(!line.contains(['\n', '\u{1b}']), "{line}");
    let value: serde_json::Value = serde_json::from_str(line.split_once(": ").unwrap().1).unwrap();
    assert_eq!(value["event"], "tap");
    assert_eq!(value["taps"], serde_json::json!({"t": {"a\"": "x\n\u{1b}[2J"}, "u": {}}));
    assert_eq!(value["suppressedByTap"], serde_json::json!({"t": 3, "u": 0}));
}

#[test]
fn taps_are_for_pods_by_what_the_node_says_of_them() {
    // The host says `meltemi` of everything.
    let has = |tap: serde_json::Value| has_tap(&serde_json::from_value(tap).unwrap());
    assert!(has(
        serde_json::json!({"name": "t", "until": 1, "pods": ["a", "meltemi"], "labels": {"app": "meltemi"}})
    ));
    assert!(!has(serde_json::json!({"name": "t", "until": 1, "pods": ["a"]})));
    assert!(!has(serde_json::json!({"name": "t", "until": 1, "labels": {"app": "cart"}})));
}

#[test]
fn time_follows_the_clock_that_nobody_sets_where_there_is_one() {
    assert_eq!(now().as_nanos(), wall_time());
    host::with(|host| host.uptime = Some(7));
    assert_eq!(now().as_nanos(), 7);
}

#[test]
fn every_metric_is_documented() {
    let documents = include_str!("../../../docs/metrics.md");
    let metrics = [
        Metric::Requests,
        Metric::Responses(Class::Success),
        Metric::Retries,
        Metric::Hedges,
        Metric::Delays,
        Metric::Timeouts,
        Metric::Resets,
        Metric::LocalReplies("timeout"),
        Metric::DryRunDenied,
        Metric::Cancelled,
        Metric::Mirrored("dropped"),
        Metric::RateLimitAnswers("over_limit"),
        Metric::Spans("full"),
        Metric::LogEntries("full"),
        Metric::InFlight,
        Metric::LatencyBucket(None),
        Metric::LatencySum,
        Metric::LatencyCount,
        Metric::SourceRequests,
        Metric::DestinationRequests,
        Metric::RouteRequests,
        Metric::ClientConnections,
        Metric::ClientConnectionsActive,
        Metric::ClientConnectionsGivenUp("memory"),
        Metric::Undetected("unknown_bytes"),
        Metric::UpstreamConnections,
        Metric::UpstreamConnectFailures,
        Metric::UpstreamConnectionsActive,
        Metric::DecodeErrors,
        Metric::UnmatchedResponses,
        Metric::EditsSkipped,
        Metric::OutlierEjections,
        Metric::ConcurrencyBlocked,
        Metric::ConcurrencyLimit,
        Metric::Heartbeats,
    ];
    for metric in metrics {
        let name = metric_name(metric, None);
        let name = name.rsplit([';', '.']).next().unwrap();
        assert!(documents.contains(&format!("| `meltemi_{name}` |")), "{name}");
    }
    let gauges = ["plan_digest", "plan_refused_digest"];
    for name in gauges {
        assert!(documents.contains(&format!("| `meltemi_{name}` |")), "{name}");
    }
    assert_eq!(documents.matches("| `meltemi_").count(), metrics.len() + gauges.len());
}
