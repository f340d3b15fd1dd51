use meltemi_tests::thrift::peers::Library;
use meltemi_tests::thrift::{Action, Client, FORMS, Server, call};
use meltemi_tests::{Proxy, Setup, each_envoy, java};
use serde_json::{Value, json};

fn value(text: &str) -> Value {
    json!({"value": text})
}

/// The header that Kitex makes of a value that is for all services on the way.
const KITEX_LANE: &str = "RPC_PERSIST_x-lane";

const WAY: &str = "%REQ(method)%, %REQ(x-lane?RPC_PERSIST_x-lane)%, %UPSTREAM_CLUSTER%";

fn service() -> Value {
    let matching = |method: &str| json!([{"attributes": {"method": {"exact": method}}}]);
    let one = json!({"maxTokens": 1, "tokensPerFill": 1, "fillInterval": "3600s"});
    let abort = json!({"abort": {"percent": 100, "message": "on purpose"}});
    json!({"protocol": "thrift", "onNoMatch": "reject", "routes": [
        {"name": "other", "match": [{"attributes": {"service": {"exact": "Other"}}}], "cluster": "v2"},
        {"name": "lane", "match": [{"attributes": {"x-lane": {"exact": "gray"}}}, {"attributes": {KITEX_LANE: {"exact": "gray"}}}],
            "cluster": "v2", "requestAttachments": {
                "set": {"x-told": "yes", "RPC_PERSIST_x-told": "yes", "x-way": WAY, "RPC_PERSIST_x-way": WAY},
                "append": {"x-lane": "%ROUTE_NAME%", "RPC_PERSIST_x-lane": "%ROUTE_NAME%"},
            }},
        {"name": "sleep", "match": matching("sleep"), "cluster": "v1", "timeout": "300ms"},
        {"name": "dead", "match": matching("dead"), "cluster": "dead"},
        {"name": "closed", "match": matching("closed"), "reject": {"message": "not for you"}},
        {"name": "empty", "match": matching("empty"), "cluster": "empty"},
        {"name": "lost", "match": matching("lost"), "cluster": "lost"},
        {"name": "babbling", "match": matching("babbling"), "cluster": "babbling"},
        {"name": "aborted", "match": matching("aborted"), "cluster": "v1", "fault": abort},
        {"name": "limited", "match": matching("limited"), "cluster": "dead"},
        {"name": "full", "match": matching("full"), "cluster": "full"},
        {"name": "rest", "match": [{"attributes": {"method": {"exact": "nowhere", "invert": true}}}], "cluster": "v1"},
    ],
    "localRateLimit": {"conditions": [{"match": matching("limited"), "tokenBucket": one}]},
    "upstream": {"clusters": {"full": {"circuitBreaker": {"maxCalls": 1}}}}})
}

/// Calls that fail on their way, and the TApplicationException that its client gets.
const FAILURES: [(&str, u32, &str); 10] = [
    ("nowhere=", 1, "meltemi: no route matches"),
    ("dead=", 6, "meltemi: cannot connect"),
    ("empty=", 6, "meltemi: "),
    ("lost=", 6, "meltemi: the upstream "),
    ("babbling=", 7, "meltemi: bad response"),
    ("closed=", 6, "meltemi: not for you"),
    ("aborted=", 6, "meltemi: on purpose"),
    ("limited=", 6, "meltemi: "),
    ("full=", 6, "meltemi: "),
    ("sleep=2000", 6, "meltemi: no answer within 300ms"),
];

/// Calls of a library's client to servers of its own, through a proxy.
fn each_form(library: Library, test: impl Fn(&Proxy, (&'static str, &'static str))) {
    each_envoy(|envoy| {
        for form in library.forms() {
            let (v1, v2) = (library.serve(*form, "v1"), library.serve(*form, "v2"));
            let busy = Server::start("busy");
            busy.on("full", Action::Hold);
            let setup = Setup::thrift()
                .servers(v1.address, v2.address)
                .cluster("dead", &[java::refusing_address()])
                .cluster("empty", &[])
                .cluster("lost", &[java::closing_address()])
                .cluster("babbling", &[java::babbling_address()])
                .cluster("full", &[busy.address()]);
            let proxy = setup.service(&service()).start(envoy);
            // The only token, and all that the server takes.
            Client::connect(proxy.meltemi()).ask(&call(FORMS[0], 9, "limited", "x"));
            let mut other = Client::connect(proxy.meltemi());
            other.send(&call(FORMS[0], 9, "full", "x"));
            busy.wait_for("full", 1);
            test(&proxy, *form);
        }
    });
}

fn is_understood(library: Library) {
    each_form(library, |proxy, form| {
        let call = |headers: &[&str], calls: &[&str]| library.call(proxy.meltemi(), form, headers, calls);
        let long = "x".repeat(1 << 20);
        // Kitex's clients know the methods of one service.
        let (other, server) =
            if library == Library::Kitex { ("sayHello=you", "v1") } else { ("Other:sayHello=you", "v2") };
        let calls = [
            "sayHello=you",
            other,
            "note=1",
            "notes=",
            "fail=declared",
            "unknown=",
            "echo=@1048576",
            "sayHello=\u{4f60}\u{1f600}",
        ];
        let calls: Vec<_> = calls.into_iter().chain(FAILURES.map(|(call, ..)| call)).collect();
        let mut answers = call(&[], &calls);
        let failures = answers.split_off(answers.len() - FAILURES.len());
        let told =
            |at: usize| (answers[at]["error"].clone(), answers[at]["text"].as_str().unwrap_or("").to_owned());
        let expected = [
            value("v1: you"),
            value(&format!("{server}: you")),
            json!({"sent": true}),
            value("1"),
            json!({"exception": "declared"}),
        ];
        assert_eq!(answers[..5], expected, "{form:?}");
        let (error, text) = told(5);
        // Kitex has a type of its own where no header names the service.
        let is_told = (error == json!(1) || error == json!(20)) && text.contains("method unknown");
        // It resets the connection after that, which may overtake what it said.
        let is_reset = library == Library::Kitex && text == "meltemi: the upstream connection was reset";
        assert!(is_told || is_reset, "{form:?}: {}", answers[5]);
        assert!(answers[6] == value(&long), "{form:?}: {:.300}", answers[6].to_string());
        assert_eq!(answers[7], value("v1: \u{4f60}\u{1f600}"), "{form:?}");
        for ((call, status, text), found) in FAILURES.into_iter().zip(failures) {
            let told = found["text"].as_str().unwrap_or_default();
            let is_told = found["error"] == json!(status) && told.starts_with(text);
            assert!(is_told, "{form:?} {call}: {found}");
        }
        if form.0.contains("header") {
            let answers =
                call(&["x-lane=gray"], &["sayHello=you", "header=x-told", "header=x-lane", "header=x-way"]);
            let way = value("header, gray, v2");
            assert_eq!(answers, [value("v2: you"), value("yes"), value("gray,lane"), way], "{form:?}");
        }
    });
}

#[test]
fn apache_thrift_for_python_is_understood() {
    is_understood(Library::Python);
}

#[test]
fn apache_thrift_for_java_is_understood() {
    is_understood(Library::Java);
}

#[test]
fn apache_thrift_for_go_is_understood() {
    is_understood(Library::Go);
}

#[test]
fn kitex_is_understood() {
    is_understood(Library::Kitex);
}

/// Both sides of Kitex with many calls on a connection at once.
#[test]
fn calls_of_kitex_find_their_answers() {
    each_envoy(|envoy| {
        let mux = ("mux", "binary");
        let (v1, v2) = (Library::Kitex.serve(mux, "v1"), Library::Kitex.serve(mux, "v2"));
        let service = json!({"protocol": "thrift", "defaultRoute": {"cluster": "demo"},
            "upstream": {"sharing": "shared"}});
        let setup = Setup::thrift().servers(v1.address, v2.address).service(&service);
        let proxy = setup.start(envoy);
        let calls: Vec<_> = (0..100).map(|number| format!("echo=call {number}")).collect();
        let calls: Vec<_> = calls.iter().map(String::as_str).collect();
        let answers = Library::Kitex.call(proxy.meltemi(), mux, &[], &calls);
        for (call, answer) in calls.iter().zip(answers) {
            assert_eq!(answer, value(call.trim_start_matches("echo=")));
        }
    });
}
