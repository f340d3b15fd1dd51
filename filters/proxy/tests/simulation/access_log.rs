//! A line of the log for each call, or for some.

use std::time::Duration;

use meltemi_proxy::LocalReply;
use serde_json::{Value, json};

use crate::dubbo::INTERFACE;
use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";

fn world(rules: &Value) -> World {
    let service = json!({"protocol": "dubbo", "onNoMatch": "reject", "routes": [
        {"name": "late", "match": [{"attributes": {"method": {"exact": "late"}}}], "timeout": "100ms"},
        {"name": "rest", "match": [{"attributes": {"method": {"prefix": "e"}}}]},
    ]});
    let plan = json!({"services": {"demo": service}, "accessLog": rules});
    let mut world = World::new(Setup { plan, ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|arrival, _| match arrival.method {
        "late" => What::Nothing.now(),
        "eventually" => What::Echo(0).after(Duration::from_millis(50)),
        _ => Reply::echo(),
    });
    world
}

/// The calls that have lines, after one of each method.
fn logged(rules: &Value) -> Vec<String> {
    let mut world = world(rules);
    let client = world.connect();
    for method in ["echo", "eventually", "late", "lost"] {
        world.call_and_wait(client, Ask::new(method));
    }
    let lines = world.metrics.replies.iter().filter(|line| line.event == "call");
    lines.map(|line| format!("{} {}", line.operation.method, line.reason)).collect()
}

#[test]
fn calls_have_lines_by_how_they_end() {
    let all = ["echo success", "eventually success", "late timeout", "lost no_route"];
    assert_eq!(logged(&json!({})), all);
    assert_eq!(logged(&json!({"errors": true})), all[2..]);
    assert_eq!(logged(&json!({"slowerThan": "20ms"})), all[1..3]);
    assert_eq!(logged(&json!({"slowerThan": "20ms", "errors": true})), all[1..]);
    assert_eq!(logged(&json!({"percent": 0})), [""; 0]);
    assert_eq!(logged(&Value::Null), [""; 0]);
}

#[test]
fn calls_have_lines_by_what_they_say() {
    let method = |matcher: Value| json!({"match": [{"attributes": {"method": matcher}}]});
    assert_eq!(logged(&method(json!({"prefix": "e"}))), ["echo success", "eventually success"]);
    // Those that become no call, too.
    assert_eq!(logged(&method(json!({"exact": "lost"}))), ["lost no_route"]);
    let mut both = method(json!({"exact": "echo", "invert": true}));
    both["errors"] = true.into();
    assert_eq!(logged(&both), ["late timeout", "lost no_route"]);
    let tagged = |value: &str| json!({"match": [{"attributes": {"tag": {"exact": value}}}]});
    assert_eq!(logged(&tagged("gray")), [""; 0]);
    let from = |block: &str| json!({"match": [{"attributes": {"source.ip": {"cidr": [block]}}}]});
    assert_eq!(logged(&from("192.0.2.0/24")).len(), 4);
    assert_eq!(logged(&from("203.0.113.0/24")), [""; 0]);
}

#[test]
fn calls_have_lines_by_attachments_that_are_read_for_that() {
    let mut world = world(&json!({"match": [{"attributes": {"tag": {"exact": "gray"}}}]}));
    let client = world.connect();
    for tag in ["gray", "blue"] {
        world
            .call_and_wait(client, Ask { attachments: vec![("tag".into(), tag.into())], ..Ask::new("echo") });
    }
    assert_eq!(world.metrics.replies.len(), 1, "{:?}", world.metrics.replies);
}

#[test]
fn who_calls_is_known_whatever_a_copy_needs_to_know() {
    let route = json!({"cluster": "demo", "mirrors": [{"cluster": "demo"}],
        "requestAttachments": {"set": {"x": "%REQ(tag)%"}}});
    let plan = json!({"services": {"demo": {"protocol": "dubbo", "defaultRoute": route}},
        "accessLog": {"match": [{"attributes": {"source.ip": {"cidr": ["192.0.2.0/24"]}}}]}});
    let mut world = World::new(Setup { plan, ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|_, _| Reply::echo());
    let client = world.connect();
    for count in 1..4 {
        world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.metrics.replies.len(), count);
    }
}

#[test]
fn a_line_tells_where_a_call_went_and_how_long_it_took() {
    let mut world = world(&json!({}));
    let client = world.connect();
    world.call_and_wait(client, Ask { size: 100, ..Ask::new("eventually") });
    let [LocalReply { route, cluster, endpoint, tries, request_bytes, response_bytes, elapsed, .. }] =
        &world.metrics.replies[..]
    else {
        panic!("{:?}", world.metrics.replies)
    };
    assert_eq!(route.as_deref(), Some("rest"));
    assert_eq!((cluster.as_deref(), endpoint.as_deref(), *tries), (Some("demo"), Some(A), 1));
    assert!(*request_bytes > 100 && *response_bytes > 100 && elapsed.as_millis() == 50, "{elapsed:?}");
}

#[test]
fn a_share_of_the_calls_is_drawn() {
    let mut world = world(&json!({"percent": 25}));
    let client = world.connect();
    let calls = world.call_all(client, (0..1000).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    let lines = world.metrics.replies.len();
    assert!((180..320).contains(&lines), "{lines} lines");
}

/// The lines of calls with these tags, by a plan with this access log.
fn written(rules: &Value, tags: &[&str]) -> Vec<String> {
    let mut world = world(rules);
    let client = world.connect();
    for tag in tags {
        world.call_and_wait(client, Ask::new("echo").with("tag", tag));
    }
    let lines = world.metrics.replies.iter().map(|line| line.text.clone().unwrap_or_default());
    lines.collect()
}

#[test]
fn lines_are_written_in_the_format_of_the_plan() {
    let text = "[%START_TIME(%Y)%] \"%REQ(:METHOD)% %REQ(x-none?:path)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
                %RESPONSE_CODE_DETAILS% %GRPC_STATUS_NUMBER% %DURATION% \"%REQ(tag)%\" %REQ(tag):2% %REQ(x-none)% \
                %REQ(:AUTHORITY)% %ROUTE_NAME% %UPSTREAM_CLUSTER% %UPSTREAM_CLUSTER_RAW% %UPSTREAM_HOST% \
                %UPSTREAM_REQUEST_ATTEMPT_COUNT% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %TRACE_ID% 100%%\n";
    let wanted = |tag: &str, two: &str| {
        format!(
            "[1970] \"POST /{INTERFACE}/echo dubbo\" 200 - success 0 1 \"{tag}\" {two} - demo rest demo demo {A} 1 \
             192.0.2.1 - 100%"
        )
    };
    let lines =
        written(&json!({"textFormat": text}), &["gray", "a\"b\\c\nd\u{85}\u{7f}é\u{2028}\u{2029}", ""]);
    assert_eq!(
        lines,
        [
            wanted("gray", "gr"),
            wanted("a\\\"b\\\\c\\u000ad\\u0085\\u007fé\\u2028\\u2029", "a\\\""),
            wanted("", ""),
        ]
    );
}

#[test]
fn lines_of_json_have_numbers_strings_and_nulls() {
    let format = json!({"jsonFormat": {
        "a \"name\"": "%DURATION%", "tag": "%REQ(tag)%", "both": "\"%REQ(tag)%/%REQ(x-none)%\"", "none": "%REQ(x-none)%",
        "flags": "%RESPONSE_FLAGS%", "code": "%RESPONSE_CODE%", "tries": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "plain": "50%%\n",
    }});
    let lines = written(&format, &["a\nb\"}", "x"]);
    let read = |line: &String| serde_json::from_str::<Value>(line).unwrap();
    let wanted = |tag: &str| {
        json!({"a \"name\"": 1, "tag": tag, "both": format!("\"{tag}/-\""), "none": null, "flags": "-", "code": 200,
            "tries": 1, "plain": "50%\n"})
    };
    assert_eq!(lines.iter().map(read).collect::<Vec<_>>(), [wanted("a\nb\"}"), wanted("x")]);
}

#[test]
fn what_a_client_says_takes_bounded_room_in_a_line() {
    let huge = "\n".repeat(60_000);
    let lines = written(&json!({"textFormat": "%REQ(tag)% %REQ(tag):10000% %REQ(tag):1%"}), &[&huge]);
    assert_eq!(lines, [["\\u000a".repeat(1024), "\\u000a".repeat(1024), "\\u000a".to_owned()].join(" ")]);
}

#[test]
fn calls_that_are_answered_early_have_lines_of_the_format_as_well() {
    let mut world = world(
        &json!({"errors": true, "textFormat": "%REQ(method)% %REQ(tag)% %RESPONSE_FLAGS% %ROUTE_NAME%"}),
    );
    let client = world.connect();
    world.call_and_wait(client, Ask::new("lost").with("tag", "gray"));
    world.call_and_wait(client, Ask::new("late").with("tag", "blue"));
    let calls = world.metrics.replies.iter().filter(|line| line.event == "call");
    let lines: Vec<_> = calls.map(|line| line.text.as_deref().unwrap_or_default()).collect();
    assert_eq!(lines, ["lost gray NR -", "late blue UT late"]);
}

#[test]
fn the_time_of_the_service_is_that_from_the_first_try_to_the_answer() {
    let service = json!({"protocol": "dubbo", "onNoMatch": "reject", "routes": [
        {"name": "held", "match": [{"attributes": {"method": {"exact": "held"}}}],
            "fault": {"delay": {"duration": "70ms"}}},
        {"name": "again", "match": [{"attributes": {"method": {"exact": "again"}}}],
            "retry": {"on": ["per-try-timeout"], "perTryTimeout": "30ms", "backoff": {"base": "1ms"}}},
        {"name": "late", "match": [{"attributes": {"method": {"exact": "late"}}}], "timeout": "100ms"},
    ]});
    let text =
        "%REQ(method)% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% %UPSTREAM_REQUEST_ATTEMPT_COUNT%";
    let mut world = World::new(Setup {
        plan: json!({"services": {"demo": service}, "accessLog": {"textFormat": text}}),
        ..Setup::default()
    });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|arrival, _| match (arrival.method, arrival.times) {
        ("late", _) | ("again", 1) => What::Nothing.now(),
        _ => What::Echo(0).after(Duration::from_millis(20)),
    });
    let client = world.connect();
    for method in ["held", "again", "late", "lost"] {
        world.call_and_wait(client, Ask::new(method));
    }
    let calls = world.metrics.replies.iter().filter(|line| line.event == "call");
    let words = |line: &'_ LocalReply| -> [String; 4] {
        let text = line.text.as_deref().unwrap_or_default();
        text.split(' ').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap()
    };
    let lines: Vec<_> = calls.map(words).collect();
    assert_eq!(lines[0], ["held", "90", "20", "1"]);
    let [again, whole, of_service, tries] = &lines[1];
    assert_eq!((&**again, &**tries), ("again", "2"));
    assert!(whole == of_service && whole.parse::<u32>().unwrap() >= 50, "{:?}", lines[1]);
    // Those that no server answers have none.
    assert_eq!(lines[2..].iter().map(|line| &*line[2]).collect::<Vec<_>>(), ["-", "-"]);
}

#[test]
fn the_time_of_the_service_begins_when_a_large_request_has_gone() {
    let text = "%DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%";
    let service = json!({"protocol": "dubbo", "limits": {"cutThroughBytes": 4096}});
    let mut world = World::new(Setup {
        plan: json!({"services": {"demo": service}, "accessLog": {"textFormat": text}}),
        ..Setup::default()
    });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(20)));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("warm-up"));
    let (call, mut bytes) = world.prepare(client, Ask::new("echo").size(1 << 20));
    let rest = bytes.split_off(bytes.len() / 2);
    world.write(client, &bytes);
    world.run_for(Duration::from_millis(50));
    world.write(client, &rest);
    world.await_all(&[call]);
    world.run_for(Duration::from_secs(1));
    let calls = world.metrics.replies.iter().filter(|line| line.event == "call");
    let lines: Vec<_> = calls.map(|line| line.text.as_deref().unwrap_or_default()).collect();
    assert_eq!(lines[1], "70 20");
}

#[test]
fn a_call_under_way_has_the_line_of_the_plan_that_it_began_by() {
    let plan = |format: &str| json!({"services": {"demo": {"protocol": "dubbo"}}, "accessLog": {"textFormat": format}});
    let mut world = World::new(Setup { plan: plan("old %REQ(tag)%"), ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|_, _| What::Echo(0).after(Duration::from_millis(50)));
    let client = world.connect();
    let call = world.call(client, Ask::new("echo").with("tag", "gray"));
    world.run_for(Duration::from_millis(20));
    world.set_plan(&plan("new %REQ(other)% %REQ(tag)%"));
    world.await_all(&[call]);
    world.call_and_wait(client, Ask::new("echo").with("tag", "blue"));
    let lines: Vec<_> = world.metrics.replies.iter().map(|line| line.text.as_deref()).collect();
    assert_eq!(lines, [Some("old gray"), Some("new - blue")]);
}
