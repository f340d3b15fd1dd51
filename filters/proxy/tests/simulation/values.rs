//! Values of attachments that are made for each call, and for each try of it.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::THREADPOOL_EXHAUSTED;
use crate::servers::{Policy, Reply, What};
use crate::world::{Ask, Setup, World, value};

const A: &str = "10.0.0.1:20880";
const B: &str = "10.0.0.2:20880";
const SHADOW: &str = "10.0.1.1:20880";
const IDENTITY: (&str, &str) =
    ("x-meltemi-peer-identity", "spiffe://cluster.local/ns/shop/sa/web,spiffe://td/ns/x/sa/y");

/// What names the call, the caller and the way.
const WHO: &str = "%REQ(source.principal)% of %REQ(source.namespace)% at %REQ(source.ip)%";
const URI: &str = "%DOWNSTREAM_PEER_URI_SAN%@%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%";
const WAY: &str = "%ROUTE_NAME%>%UPSTREAM_CLUSTER%>%UPSTREAM_HOST%#%UPSTREAM_REQUEST_ATTEMPT_COUNT%";
const WHAT: &str = "%REQ(method)% %REQ(lane?tag):8%";

fn world(route: Value) -> World {
    let mut world = World::new(Setup::demo(json!({"defaultRoute": route})));
    world.cluster("demo", &[A, B], Policy::RoundRobin);
    world.cluster("shadow", &[SHADOW], Policy::RoundRobin);
    world
}

/// Has every server answer with these attachments.
fn answer_with(world: &mut World, attachments: &[(&str, &str)]) {
    let attachments: Vec<_> =
        attachments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    world.serve(move |_, _| What::Attach(attachments.clone()).now());
}

#[test]
fn requests_and_answers_say_who_called_and_where_it_went() {
    let values = json!({"who": WHO, "uri": URI, "way": WAY, "what": WHAT, "plain": "100%%"});
    let mut world = world(json!({
        "requestAttachments": {"set": values}, "responseAttachments": {"set": values},
    }));
    answer_with(&mut world, &[("load", "7")]);
    let client = world.connect_with("demo", "demo", &[IDENTITY]);
    let call = world.call_and_wait(client, Ask::new("find").with("tag", "gray").with("who", "root"));
    let call = &world.calls[call];
    let endpoint = &call.deliveries[0].endpoint;
    for attachments in [&call.deliveries[0].attachments, &call.answer.as_ref().unwrap().attachments] {
        let value = |name| value(attachments, name);
        assert_eq!(value("who"), Some("cluster.local/ns/shop/sa/web of shop at 192.0.2.1"));
        assert_eq!(value("uri"), Some("spiffe://cluster.local/ns/shop/sa/web@192.0.2.1"));
        assert_eq!(value("way"), Some(&*format!("default>demo>{endpoint}#1")));
        assert_eq!((value("what"), value("plain")), (Some("find gray"), Some("100%")));
    }
    assert_eq!(value(&call.deliveries[0].attachments, "tag"), Some("gray"));
}

#[test]
fn where_there_is_nothing_to_say_a_client_says_nothing_either() {
    let edit = json!({
        "set": {"who": "%REQ(source.principal)%"},
        "addIfAbsent": {"lane": "%REQ(none)%", "via": "meltemi"},
        "append": {"path-of": "%REQ(nothing)%", "seen": "%REQ(method)%"},
    });
    let mut world = world(json!({"requestAttachments": edit}));
    let client = world.connect();
    let ask = Ask::new("find").with("who", "root").with("lane", "blue").with("via", "x").with("seen", "a");
    let call = world.call_and_wait(client, ask);
    let got = &world.calls[call].deliveries[0].attachments;
    let values = ["who", "lane", "via", "path-of", "seen"].map(|name| value(got, name));
    assert_eq!(values, [None, Some("blue"), Some("x"), None, Some("a,find")]);
}

#[test]
fn a_retry_has_values_of_its_own() {
    let mut world = world(json!({
        "requestAttachments": {"set": {"way": WAY, "what": WHAT}},
        "responseAttachments": {"append": {"way": WAY}},
        "retry": {"on": ["status"], "statuses": [THREADPOOL_EXHAUSTED], "backoff": {"base": "10ms"}},
    }));
    world.serve(|arrival, _| match (arrival.method, arrival.times) {
        ("find", 1) => What::Error(THREADPOOL_EXHAUSTED).now(),
        _ => What::Attach(vec![("way".to_owned(), "server".to_owned())]).now(),
    });
    let client = world.connect();
    // Both endpoints are known then.
    for _ in 0..4 {
        world.call_and_wait(client, Ask::new("warm-up"));
    }
    for lane in ["red", "blue"] {
        // While one waits for its second try, others are read.
        let find = world.call(client, Ask::new("find").with("lane", lane));
        let others = world.call_all(client, (0..5).map(|_| Ask::new("other").with("lane", "x")));
        world.await_all(&[find]);
        world.await_all(&others);
        let call = &world.calls[find];
        let [first, second] = &*call.deliveries else { panic!("{:?}", call.deliveries) };
        assert_ne!(first.endpoint, second.endpoint);
        for (delivery, number) in [(first, 1), (second, 2)] {
            let way = format!("default>demo>{}#{number}", delivery.endpoint);
            assert_eq!(value(&delivery.attachments, "way"), Some(&*way));
            assert_eq!(value(&delivery.attachments, "what"), Some(&*format!("find {lane}")));
        }
        let way = format!("server,default>demo>{}#2", second.endpoint);
        assert_eq!(value(&call.answer.as_ref().unwrap().attachments, "way"), Some(&*way));
    }
}

#[test]
fn copies_have_values_of_their_own_even_of_calls_that_were_held_back() {
    for fault in [json!(null), json!({"delay": {"duration": "50ms"}})] {
        let mut world = world(json!({
            "requestAttachments": {"set": {"way": WAY, "what": WHAT, "who": WHO}},
            "mirrors": [{"cluster": "shadow"}], "fault": fault,
        }));
        let client = world.connect_with("demo", "demo", &[IDENTITY]);
        let methods = ["find", "list", "drop"];
        let calls = world.call_all(client, methods.map(|method| Ask::new(method).with("lane", method)));
        world.await_all(&calls);
        world.run_for(Duration::from_secs(1));
        for (call, method) in calls.into_iter().zip(methods) {
            let deliveries = &world.calls[call].deliveries;
            assert_eq!(deliveries.len(), 2, "{deliveries:?}");
            for delivery in deliveries {
                let cluster = if delivery.endpoint == SHADOW { "shadow" } else { "demo" };
                let way = format!("default>{cluster}>{}#1", delivery.endpoint);
                let value = |name| value(&delivery.attachments, name);
                assert_eq!(value("way"), Some(&*way));
                assert_eq!(value("what"), Some(&*format!("{method} {method}")));
                assert_eq!(value("who"), Some("cluster.local/ns/shop/sa/web of shop at 192.0.2.1"));
            }
        }
    }
}

#[test]
fn what_clients_say_is_bounded_and_has_no_control_characters() {
    let edit = json!({"set": {"long": "%REQ(lane)%", "short": "<%REQ(lane):5%>"}});
    let mut world = world(json!({"requestAttachments": edit}));
    world.serve(|_, _| Reply::echo());
    let client = world.connect();
    let mut sent = |lane: &str| {
        let call = world.call_and_wait(client, Ask::new("find").with("lane", lane));
        assert_eq!(world.calls[call].error(), None);
        let got = &world.calls[call].deliveries[0].attachments;
        assert_eq!(value(got, "lane"), Some(lane));
        ["long", "short"].map(|name| value(got, name).map(str::to_owned))
    };
    let some = |long: &str, short: &str| [Some(long.to_owned()), Some(short.to_owned())];
    assert_eq!(sent("a\r\nb\0c\u{7f}d\u{85}é"), some("abcdé", "<abcd>"));
    // No character is cut in two.
    assert_eq!(sent("aé新"), some("aé新", "<aé>"));
    assert_eq!(sent(&"é".repeat(20_000)), some(&"é".repeat(512), "<éé>"));
    assert_eq!(sent("\n\n"), [None, Some("<>".to_owned())]);
    assert_eq!(world.sum(Metric::EditsSkipped), 0);
}

#[test]
fn a_large_request_is_kept_for_its_answer() {
    let mut world = world(json!({"responseAttachments": {"set": {"what": WHAT}}}));
    answer_with(&mut world, &[("load", "7")]);
    let client = world.connect();
    for size in [100, 2 << 20] {
        let call = world.call_and_wait(client, Ask::new("find").size(size).with("lane", "blue"));
        let got = &world.calls[call].answer.as_ref().unwrap().attachments;
        assert_eq!(value(got, "what"), Some("find blue"));
    }
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.kept(), 0);
}
