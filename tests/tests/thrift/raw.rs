use std::collections::HashMap;
use std::thread;

use meltemi_codecs::thrift::{Content, Message, Protocol, Transport};
use meltemi_tests::mangled::send_mangled;
use meltemi_tests::thrift::{Action, Client, FORMS, Server, answer, call, has_headers};
use meltemi_tests::{Proxy, Setup, each_envoy, eventually, java};
use serde_json::{Value, json};

/// The name of Kitex's access token, which TTHeader has in a block of its own.
const GDPR_TOKEN: &str = "RPC_TRANSIT_gdpr-token";

/// Two servers, and an Envoy before them.
fn each_stage(service: &Value, test: impl Fn(&Proxy, &Server, &Server)) {
    each_envoy(|envoy| {
        let (v1, v2) = (Server::start("v1"), Server::start("v2"));
        let setup = Setup::thrift()
            .servers(v1.address(), v2.address())
            .cluster("dead", &[java::refusing_address()])
            .cluster("empty", &[]);
        let proxy = setup.service(service).start(envoy);
        test(&proxy, &v1, &v2);
    });
}

fn error_of(content: Content<'_>) -> (u32, String) {
    match content {
        Content::Error { status, text } => (status, text.into_owned()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_of_every_form_are_routed_by_method_service_and_header() {
    let service = json!({"protocol": "thrift", "defaultRoute": {"cluster": "v1"}, "routes": [
        {"name": "method", "match": [{"attributes": {"method": {"exact": "second"}}}], "cluster": "v2"},
        {"name": "service", "match": [{"attributes": {"service": {"exact": "Other"}}}], "cluster": "v2"},
        {"name": "lane", "match": [{"attributes": {"x-lane": {"exact": "gray"}}}], "cluster": "v2"},
        {"name": "kitex", "match": [{"attributes": {"toCluster": {"exact": "blue"}}}], "cluster": "v2"},
        {"name": "token", "match": [{"attributes": {GDPR_TOKEN: {"exact": "secret"}}}], "cluster": "v2"},
    ]});
    each_stage(&service, |proxy, _, v2| {
        for (number, form) in FORMS.into_iter().enumerate() {
            let mut client = Client::connect(proxy.meltemi());
            let id = 70_000 * number as u32;
            let mut ask = |method: &str, headers: &[(&str, &str)], is_compressed| {
                let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
                client.ask(&Message { headers, is_compressed, ..call(form, id, method, "x") })
            };
            assert_eq!(ask("first", &[], false), answer("v1", "x"), "{form:?}");
            assert_eq!(ask("second", &[], false), answer("v2", "x"), "{form:?}");
            assert_eq!(ask("Other:first", &[], false), answer("v2", "x"), "{form:?}");
            if has_headers(form.0) {
                assert_eq!(ask("first", &[("x-lane", "gray")], false), answer("v2", "x"), "{form:?}");
                assert_eq!(ask("first", &[("x-lane", "blue")], false), answer("v1", "x"), "{form:?}");
            }
            if form.0 == Transport::THeader {
                assert_eq!(ask("second", &[], true), answer("v2", "x"), "{form:?}");
                assert_eq!(ask("first", &[("x-lane", "gray")], true), answer("v2", "x"), "{form:?}");
            }
            if matches!(form.0, Transport::TtHeader { .. }) {
                assert_eq!(ask("first", &[("toCluster", "blue")], false), answer("v2", "x"), "{form:?}");
                assert_eq!(ask("first", &[("isn", "Other")], false), answer("v2", "x"), "{form:?}");
                assert_eq!(ask("first", &[(GDPR_TOKEN, "secret")], false), answer("v2", "x"), "{form:?}");
                let seen = v2.received("first").pop().unwrap().headers;
                assert!(seen.contains(&(GDPR_TOKEN.to_owned(), "secret".to_owned())), "{form:?}: {seen:?}");
            }
        }
    });
}

#[test]
fn calls_of_one_connection_are_split() {
    let split = [json!({"cluster": "v1", "weight": 50}), json!({"cluster": "v2", "weight": 50})];
    let service = json!({"protocol": "thrift", "defaultRoute": {"weightedClusters": split}});
    each_stage(&service, |proxy, _, _| {
        let mut client = Client::connect(proxy.meltemi());
        let mut servers: HashMap<String, usize> = HashMap::new();
        for id in 0..200 {
            let Content::Value(text) = client.ask(&call(FORMS[0], id, "m", "x")) else { panic!() };
            *servers.entry(String::from_utf8(text.into_owned()).unwrap()).or_default() += 1;
        }
        // By chance 100 each, with a deviation of 7.1: six of them are left.
        assert!(servers.len() == 2 && servers.values().all(|calls| *calls >= 58), "{servers:?}");
    });
}

#[test]
fn failures_are_tried_again_elsewhere() {
    let retry =
        json!({"attempts": 2, "on": ["reset", "connect-failure", "status"], "statuses": ["INTERNAL_ERROR"]});
    let service = json!({"protocol": "thrift", "defaultRoute": {"cluster": "demo", "retry": retry},
        "retryBudget": {"percent": 100, "minRetries": 100}});
    each_stage(&service, |proxy, v1, v2| {
        let failed = Content::Error { status: 6, text: "failed".into() };
        for (method, action) in [("fails", Action::Content(failed)), ("closes", Action::Close)] {
            v1.on(method, action);
            for form in FORMS {
                let mut client = Client::connect(proxy.meltemi());
                for id in 0..4 {
                    assert_eq!(
                        client.ask(&call(form, id, method, "x")),
                        answer("v2", "x"),
                        "{form:?} {method}"
                    );
                }
            }
            assert!(!v1.received(method).is_empty(), "{method}");
            assert!(v2.received(method).len() == FORMS.len() * 4, "{method}");
        }
        // What is not to be tried again is passed on, and what the method declares is no failure.
        for (method, content) in [
            ("unknown", Content::Error { status: 1, text: "no".into() }),
            ("declared", Content::Exception(b"declared".into())),
            ("nothing", Content::Void),
        ] {
            for server in [v1, v2] {
                server.on(method, Action::Content(content.clone()));
            }
            let mut client = Client::connect(proxy.meltemi());
            assert_eq!(client.ask(&call(FORMS[2], 3, method, "x")), content);
            assert_eq!(v1.received(method).len() + v2.received(method).len(), 1);
        }
    });
}

#[test]
fn local_replies_are_in_the_words_of_the_caller() {
    let matching = |method: &str| json!([{"attributes": {"method": {"exact": method}}}]);
    let one = json!({"maxTokens": 1, "tokensPerFill": 1, "fillInterval": "3600s"});
    let service = json!({"protocol": "thrift", "onNoMatch": "reject", "routes": [
        {"name": "hold", "match": matching("hold"), "cluster": "v1", "timeout": "100ms"},
        {"name": "dead", "match": matching("dead"), "cluster": "dead"},
        {"name": "closed", "match": matching("closed"), "reject": {"message": "not for you"}},
        {"name": "aborted", "match": matching("aborted"), "cluster": "v1", "fault": {"abort": {"percent": 100, "message": "on purpose"}}},
        {"name": "broken", "match": matching("broken"), "cluster": "v1"},
        {"name": "lost", "match": matching("lost"), "cluster": "v1"},
        {"name": "fine", "match": matching("fine"), "cluster": "v1"},
        {"name": "empty", "match": matching("empty"), "cluster": "empty"},
        {"name": "full", "match": matching("full"), "cluster": "v2"},
        {"name": "limited", "match": matching("limited"), "cluster": "v1"},
    ],
    "localRateLimit": {"conditions": [{"match": matching("limited"), "tokenBucket": one}]},
    "upstream": {"clusters": {"v2": {"circuitBreaker": {"maxCalls": 1}}}},
    "limits": {"maxRequestBytes": 100_000}});
    each_stage(&service, |proxy, v1, v2| {
        v1.on("hold", Action::Hold);
        v1.on("lost", Action::Close);
        v1.on("broken", Action::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
        // All that the server takes.
        v2.on("full", Action::Hold);
        let mut held = Client::connect(proxy.meltemi());
        held.send(&call(FORMS[0], 9, "full", "x"));
        v2.wait_for("full", 1);
        // The only token.
        let last = call(FORMS[0], 9, "limited", "x");
        assert_eq!(Client::connect(proxy.meltemi()).ask(&last), answer("v1", "x"));
        for form in FORMS {
            let mut client = Client::connect(proxy.meltemi());
            for (method, status, text) in [
                ("nowhere", 1, "meltemi: no route matches"),
                ("hold", 6, "meltemi: no answer within 100ms"),
                ("dead", 6, "meltemi: cannot connect to cluster dead"),
                ("closed", 6, "meltemi: not for you"),
                ("aborted", 6, "meltemi: on purpose"),
                ("broken", 7, "meltemi: bad response"),
                ("lost", 6, "meltemi: "),
                ("empty", 6, "meltemi: "),
                ("full", 6, "meltemi: "),
                ("limited", 6, "meltemi: "),
            ] {
                let (found, told) = error_of(client.ask(&call(form, 9, method, "x")));
                assert!(found == status && told.starts_with(text), "{form:?} {method}: {found} {told}");
            }
            assert_eq!(client.ask(&call(form, 10, "fine", "x")), answer("v1", "x"));
            // The last word on a connection.
            let large = "x".repeat(200_000);
            let (status, told) = error_of(client.ask(&call(form, 11, "fine", &large)));
            assert!(status == 7 && told.starts_with("meltemi: bad request"), "{form:?}: {status} {told}");
            assert_eq!(client.try_receive(), None);
        }
        v1.release();
    });
}

#[test]
fn one_way_calls_are_delivered_and_not_answered() {
    let service = json!({"protocol": "thrift", "defaultRoute": {"cluster": "v1"}, "routes": [
        {"name": "nowhere", "match": [{"attributes": {"method": {"exact": "nowhere"}}}], "cluster": "dead"},
    ]});
    each_stage(&service, |proxy, v1, _| {
        for form in FORMS {
            let mut client = Client::connect(proxy.meltemi());
            for (method, text) in [("note", "one way"), ("nowhere", "lost")] {
                let content = Content::OneWay(text.as_bytes().into());
                client.send(&Message::new(form.0, form.1, 5, method, content));
            }
            assert_eq!(client.ask(&call(form, 6, "after", "x")), answer("v1", "x"), "{form:?}");
        }
        v1.wait_for("note", FORMS.len());
        let seen = v1.received("note");
        assert!(seen.iter().all(|call| call.content == Content::OneWay(b"one way".into())));
    });
}

#[test]
fn pipelined_calls_are_answered_in_order_to_each_client() {
    let service = json!({"protocol": "thrift", "defaultRoute": {"cluster": "demo"}});
    each_stage(&service, |proxy, v1, v2| {
        // One form a service: clients share connections.
        let mut clients: Vec<_> = (0..8).map(|_| Client::connect(proxy.meltemi())).collect();
        let texts: Vec<_> = (0..50).map(|number| format!("call {number}")).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            // All clients use the same ids, in the way of Apache's for Python.
            let calls: Vec<_> = texts.iter().map(|text| format!("{number} {text}")).collect();
            for text in &calls {
                client.send(&call(FORMS[number % 2], 0, "m", text));
            }
        }
        for (number, client) in clients.iter_mut().enumerate() {
            for text in &texts {
                let Content::Value(value) = client.receive().content else { panic!() };
                let value = String::from_utf8(value.into_owned()).unwrap();
                assert_eq!(value.split_once(':').unwrap().1, format!("{number} {text}"));
            }
        }
        let ids: Vec<_> = v1.received("m").iter().chain(&v2.received("m")).map(|call| call.id).collect();
        assert_eq!(ids.len(), 400);
        assert!(ids.iter().all(|id| (1..=0x7fff_ffff).contains(id)));
    });
}

#[test]
fn a_call_that_is_given_up_answers_nobody_else() {
    let hold = json!([{"attributes": {"method": {"exact": "hold"}}}]);
    let hold = json!({"name": "hold", "match": hold, "cluster": "v1", "timeout": "200ms"});
    let service = json!({"protocol": "thrift", "routes": [hold], "defaultRoute": {"cluster": "v1"}});
    each_stage(&service, |proxy, v1, _| {
        v1.on("hold", Action::Hold);
        let mut client = Client::connect(proxy.meltemi());
        assert_eq!(error_of(client.ask(&call(FORMS[0], 1, "hold", "late"))).0, 6);
        // The connection that it was on takes no more calls.
        assert_eq!(client.ask(&call(FORMS[0], 2, "m", "next")), answer("v1", "next"));
        v1.release();
        assert_eq!(client.ask(&call(FORMS[0], 3, "m", "last")), answer("v1", "last"));
    });
}

/// What a server that answers in order says twice, early or in another order is nobody's answer: clients get their own, or
/// an error.
#[test]
fn a_server_that_lies_about_the_order_answers_nobody_wrongly() {
    const CALLS: usize = 60;
    let service = json!({"protocol": "thrift", "defaultRoute": {"cluster": "v1", "timeout": "500ms"},
        "upstream": {"sharing": "in-order"}});
    each_stage(&service, |proxy, v1, _| {
        let honest = "echo";
        v1.on(honest, Action::Echo);
        for (lie, action) in [("twice", Action::Twice), ("ahead", Action::Ahead), ("swap", Action::Swap)] {
            v1.on(lie, action);
            let told = |caller: usize| {
                let mut client = Client::connect(proxy.meltemi());
                let mut answered = 0;
                for number in 0..CALLS {
                    let method = if number % 5 == caller { lie } else { honest };
                    let text = format!("{caller} of {lie} {number}");
                    match client.ask(&call(FORMS[0], number as u32, method, &text)) {
                        Content::Value(value) => {
                            assert_eq!(String::from_utf8_lossy(&value), text);
                            answered += 1;
                        }
                        Content::Error { status: 6 | 7, .. } => {}
                        other => panic!("{text}: {other:?}"),
                    }
                }
                answered
            };
            let answered: usize = thread::scope(|scope| {
                let callers: Vec<_> = (0..4).map(|caller| scope.spawn(move || told(caller))).collect();
                callers.into_iter().map(|caller| caller.join().unwrap()).sum()
            });
            assert!(answered > 0 && answered < 4 * CALLS, "{answered} after {lie}");
            let mut client = Client::connect(proxy.meltemi());
            let last = Content::Value(b"last".to_vec().into());
            eventually("calls go on", || {
                (client.ask(&call(FORMS[0], 1, honest, "last")) == last).then_some(())
            });
        }
    });
}

/// Kitex's servers say so where they stop, and where they cannot read on.
#[test]
fn nothing_follows_an_answer_that_says_it_is_the_last() {
    let service = json!({"protocol": "thrift", "defaultRoute": {"cluster": "v1"}});
    each_stage(&service, |proxy, v1, _| {
        v1.on("last", Action::Last);
        let text = Content::Value(b"text".to_vec().into());
        for form in FORMS.into_iter().filter(|form| matches!(form.0, Transport::TtHeader { .. })) {
            let mut client = Client::connect(proxy.meltemi());
            for id in 1..5 {
                assert_eq!(client.ask(&call(form, id, "last", "text")), text, "{form:?}");
                assert_eq!(client.ask(&call(form, id, "next", "text")), answer("v1", "text"), "{form:?}");
            }
        }
    });
}

#[test]
fn large_bodies_pass_whole_both_ways_and_in_any_pieces() {
    let service = json!({"protocol": "thrift", "defaultRoute": {"cluster": "v1"}});
    each_stage(&service, |proxy, v1, _| {
        v1.on("echo", Action::Echo);
        let large: String = (0..1 << 20).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
        for form in FORMS {
            let mut client = Client::connect(proxy.meltemi());
            let whole = Content::Value(large.as_bytes().into());
            assert!(client.ask(&call(form, 1, "echo", &large)) == whole, "{form:?}");
            if form.0 == Transport::THeader {
                let compressed = Message { is_compressed: true, ..call(form, 1, "echo", &large) };
                assert!(client.ask(&compressed) == whole, "{form:?}");
            }
            let mut bytes = Vec::new();
            call(form, 2, "m", "in pieces").write(&mut bytes).unwrap();
            for byte in &bytes {
                client.send_bytes(&[*byte]);
            }
            assert_eq!(client.receive().content, answer("v1", "in pieces"), "{form:?}");
        }
    });
}

#[test]
fn headers_are_set_and_removed_on_the_way() {
    let edit = json!({"set": {"x-lane": "set", "env": "prod"}, "remove": ["x-gone"]});
    let service =
        json!({"protocol": "thrift", "defaultRoute": {"cluster": "v1", "requestAttachments": edit}});
    each_stage(&service, |proxy, v1, _| {
        for (number, form) in FORMS.into_iter().enumerate() {
            let mut client = Client::connect(proxy.meltemi());
            let method = format!("m{number}");
            let headers = if has_headers(form.0) {
                vec![("x-gone".into(), "1".into()), ("x-kept".into(), "2".into())]
            } else {
                vec![]
            };
            assert_eq!(client.ask(&Message { headers, ..call(form, 1, &method, "x") }), answer("v1", "x"));
            let seen = v1.received(&method).remove(0).headers;
            let expected: &[(&str, &str)] = match has_headers(form.0) {
                true => &[("x-kept", "2"), ("x-lane", "set"), ("env", "prod")],
                false => &[],
            };
            let mut seen: Vec<_> = seen.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            seen.sort_unstable();
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            assert_eq!(seen, expected, "{form:?}");
        }
        let without = FORMS.into_iter().filter(|form| !has_headers(form.0)).count() as u64;
        eventually("edits that could not be made are counted", || {
            (proxy.metric("meltemi_edits_skipped_total", &[]) == without).then_some(())
        });
    });
}

#[test]
fn what_cannot_be_read_ends_its_own_connection_alone() {
    let service = json!({"protocol": "thrift", "defaultRoute": {"cluster": "v1"}});
    each_stage(&service, |proxy, _, _| {
        let mut other = Client::connect(proxy.meltemi());
        let mut hidden = Vec::new();
        for method in ["allowed", "hidden"] {
            call((Transport::Unframed, Protocol::Binary), 1, method, "x").write(&mut hidden).unwrap();
        }
        let two_in_one = [&(hidden.len() as u32).to_be_bytes()[..], &hidden].concat();
        let deep = [b"\x82\x21\x01\x01m".to_vec(), b"\x1c".repeat(100)].concat();
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\xff\xff\xff\xff", &two_in_one, &deep] {
            let mut client = Client::connect(proxy.meltemi());
            client.send_bytes(bytes);
            assert_eq!(client.try_receive(), None, "{bytes:?}");
            assert_eq!(other.ask(&call(FORMS[0], 2, "m", "x")), answer("v1", "x"));
        }
    });
}

#[test]
fn requests_that_break_off_end_their_own_connection_only() {
    let service = json!({"protocol": "thrift", "defaultRoute": {"cluster": "v1"}});
    each_stage(&service, |proxy, _, _| {
        let mut other = Client::connect(proxy.meltemi());
        let mut whole = || assert_eq!(other.ask(&call(FORMS[0], 2, "m", "x")), answer("v1", "x"));
        whole();
        for form in FORMS {
            let mut request = Vec::new();
            call(form, 1, "method", "a text").write(&mut request).unwrap();
            send_mangled(proxy.meltemi(), &request, &mut whole);
        }
        eventually("their connections are gone", || (proxy.clients() == 1).then_some(()));
    });
}

/// As it is shipped, beside the proxies that it compares with.
#[test]
fn the_shipped_configuration_routes_calls() {
    each_envoy(|envoy| {
        let (v1, v2) = (Server::start("v1"), Server::start("v2"));
        let proxy = Setup::thrift().servers(v1.address(), v2.address()).start(envoy);
        let mut client = Client::connect(proxy.meltemi());
        assert_eq!(client.ask(&call(FORMS[4], 1, "canaryTest", "x")), answer("v2", "x"));
        let headers = vec![("x-canary".to_owned(), "true".to_owned())];
        assert_eq!(client.ask(&Message { headers, ..call(FORMS[6], 1, "m", "x") }), answer("v2", "x"));
        for address in [proxy.meltemi(), proxy.thrift_proxy(), proxy.tcp_proxy()] {
            let mut client = Client::connect(address);
            assert!(matches!(client.ask(&call(FORMS[0], 1, "m", "x")), Content::Value(_)));
        }
    });
}
