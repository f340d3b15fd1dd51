//! trpc-go as client and as server.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::LazyLock;

use meltemi_tests::java::{babbling_address, closing_address, refusing_address};
use meltemi_tests::mangled::send_mangled;
use meltemi_tests::remote::{Exception, Pending, Remote};
use meltemi_tests::{DEADLINE, Proxy, Setup, each_envoy, eventually, files, go};
use serde_json::{Value, json};

/// A client, and two servers. They end with this process.
struct Peers {
    client: Remote,
    servers: [(Remote, SocketAddr); 2],
}

static PEERS: LazyLock<Peers> = LazyLock::new(|| {
    let program = go::program("trpc");
    let start = |name: &str| Remote::start(&format!("trpc-go-{name}"), &mut Command::new(&program));
    let servers = ["v1", "v2"].map(|name| {
        let server = start(name);
        let address = server.ask(json!({"do": "serve", "name": name, "address": "127.0.0.1:0"}));
        (server, address.as_str().unwrap().parse().unwrap())
    });
    Peers { client: start("client"), servers }
});

fn setup() -> Setup {
    let [v1, v2] = &PEERS.servers;
    Setup::new().servers(v1.1, v2.1)
}

fn start_call(proxy: &Proxy, method: &str, mut more: Value) -> Pending {
    more["do"] = json!("call");
    more["address"] = json!(proxy.meltemi().to_string());
    more["method"] = json!(method);
    PEERS.client.send(more)
}

/// Opens a stream, exchanges `number` messages on it, and ends it: the last message of the server.
fn start_stream(proxy: &Proxy, method: &str, more: Value) -> Pending {
    let mut command = json!({"do": "stream", "method": method, "address": proxy.meltemi().to_string()});
    for (name, value) in more.as_object().unwrap() {
        command[name] = value.clone();
    }
    PEERS.client.send(command)
}

fn call(proxy: &Proxy, method: &str, more: Value) -> Result<Value, Exception> {
    start_call(proxy, method, more).wait()
}

/// The error that must come of a call, as who failed, with which code.
fn failure(proxy: &Proxy, method: &str, more: Value) -> (String, i64, String) {
    let error = call(proxy, method, more).unwrap_err();
    (error.class, error.code.unwrap(), error.message)
}

#[test]
fn calls_are_routed_by_all_that_they_say_and_pass_whole() {
    each_envoy(|envoy| {
        let to = |name: &str, attribute: &str, value: &str, cluster: &str| json!({"name": name, "match": [{"attributes": {attribute: {"exact": value}}}], "cluster": cluster});
        let mut changed = to("changed", "x-lane", "changed", "v2");
        let way = "%REQ(func)% of %REQ(caller)% to %UPSTREAM_HOST% with %REQ(x-keep)%";
        changed["requestAttachments"] = json!({
            "set": {"x-lane": "set", "x-way": way},
            "addIfAbsent": {"x-keep": "lost", "x-new": "new"},
            "append": {"x-seen": "%ROUTE_NAME%"},
            "remove": ["x-drop"],
        });
        changed["responseAttachments"] =
            json!({"set": {"x-from": "proxy", "x-to": "%UPSTREAM_CLUSTER% for %REQ(x-lane)%"}});
        let service = json!({"protocol": "trpc", "routes": [
            to("lane", "x-lane", "gray", "v2"),
            changed,
            to("dyed", "trpc-dyeing-key", "someone", "v2"),
            to("func", "func", "/trpc.meltemi.tests.Greeter/Slow", "v2"),
            to("caller", "caller", "trpc.meltemi.tests.client", "v1"),
        ]});
        let proxy = setup().service(&service).start(envoy);
        let text = |method: &str, more: Value| call(&proxy, method, more).unwrap()["text"].clone();
        assert_eq!(text("Hello", json!({"text": "\u{4f60}"})), json!("v1: \u{4f60}"));
        assert_eq!(text("Hello", json!({"meta": {"x-lane": "gray"}})), json!("v2: "));
        assert_eq!(text("Hello", json!({"dyeing": "someone"})), json!("v2: "));
        assert_eq!(text("Slow", json!({})), json!("v2: "));
        let meta = json!({"x-lane": "changed", "x-drop": "1", "x-keep": "\u{1f600}", "x-seen": "client"});
        let got = |name: &str| call(&proxy, "Meta", json!({"text": name, "meta": meta}));
        assert_eq!(got("x-lane").unwrap()["text"], json!("set"));
        assert_eq!(got("x-keep").unwrap()["text"], json!("\u{1f600}"));
        assert_eq!(got("x-drop").unwrap_err().code, Some(404));
        let way = format!(
            "/trpc.meltemi.tests.Greeter/Meta of trpc.meltemi.tests.client to {} with \u{1f600}",
            PEERS.servers[1].1
        );
        assert_eq!(got("x-way").unwrap()["text"], json!(way));
        assert_eq!(got("x-new").unwrap()["text"], json!("new"));
        assert_eq!(got("x-seen").unwrap()["text"], json!("client,changed"));
        let answer = got("x-keep").unwrap();
        assert_eq!(answer["meta"]["x-from"], json!("proxy"));
        assert_eq!(answer["meta"]["x-to"], json!("v2 for changed"));
        for size in [0, 70_000, 1 << 20] {
            assert_eq!(call(&proxy, "Echo", json!({"number": size})), Ok(json!(true)), "{size} bytes");
        }
        let refused = |method: &str| failure(&proxy, method, json!({"text": "why"}));
        assert_eq!(refused("Fail"), ("business".into(), 10001, "why".into()));
        assert_eq!(refused("Broken"), ("callee framework".into(), 22, "why".into()));
        let (class, code, message) = refused("Nothing");
        assert_eq!((&*class, code), ("callee framework", 12), "{message}");
        eventually("Envoy counts them", || {
            let count =
                |class: &str| proxy.metric("meltemi_responses_total", &[&format!("class=\"{class}\"")]);
            let hello = [r#"service="trpc.meltemi.tests.Greeter""#, r#"method="Hello""#];
            let hello = proxy.metric("meltemi_responses_total", &hello);
            ([count("exception"), count("error"), hello] == [2, 2, 3]).then_some(())
        });
    });
}

#[test]
fn calls_of_one_connection_reach_both_servers_and_their_own_callers() {
    each_envoy(|envoy| {
        let proxy = setup().service(&json!({"protocol": "trpc"})).start(envoy);
        let methods = ["Slow", "Hello", "Echo"];
        let one = |number: usize| {
            let text = format!("caller {number}");
            start_call(&proxy, methods[number % 3], json!({"text": text, "number": 1000 + number}))
        };
        let mut servers: HashMap<String, usize> = HashMap::new();
        let pending: Vec<_> = (0..150).map(one).collect();
        for (number, answer) in pending.into_iter().enumerate() {
            let answer = answer.wait().unwrap();
            if number % 3 == 2 {
                assert_eq!(answer, json!(true));
                continue;
            }
            let (server, text) = answer["text"].as_str().unwrap().split_once(": ").unwrap();
            assert_eq!(text, format!("caller {number}"));
            *servers.entry(server.to_owned()).or_default() += 1;
        }
        assert!(servers.len() == 2 && servers.values().all(|calls| *calls >= 20), "{servers:?}");
        assert_eq!(proxy.accepted(), 1, "all on one connection");
    });
}

#[test]
fn one_way_calls_arrive_once() {
    each_envoy(|envoy| {
        let proxy = setup().service(&json!({"protocol": "trpc"})).start(envoy);
        let notes: Vec<_> = (0..20).map(|n| format!("{}-{n}", proxy.process())).collect();
        for note in &notes {
            call(&proxy, "Note", json!({"text": note, "oneWay": true})).unwrap();
        }
        let arrived = |note: &str| {
            let of = |server: &Remote| server.ask(json!({"do": "counts"}))[format!("Note:{note}")].as_u64();
            PEERS.servers.iter().filter_map(|(server, _)| of(server)).sum::<u64>()
        };
        eventually("all notes arrive", || notes.iter().all(|note| arrived(note) > 0).then_some(()));
        assert!(notes.iter().all(|note| arrived(note) == 1));
    });
}

#[test]
fn local_replies_become_errors_of_trpc() {
    each_envoy(|envoy| {
        let of = |method: &str| json!([{"attributes": {"method": {"exact": method}}}]);
        let one = json!({"maxTokens": 1, "tokensPerFill": 1, "fillInterval": "3600s"});
        let service = json!({
            "protocol": "trpc",
            "routes": [
                {"name": "babbling", "match": [{"attributes": {"x-lane": {"exact": "babbling"}}}], "cluster": "babbling"},
                {"name": "slow", "match": of("Never"), "timeout": "300ms"},
                {"name": "dead", "match": of("Hello"), "cluster": "dead"},
                {"name": "closed", "match": of("Echo"), "reject": {"message": "not for you"}},
                {"name": "fault", "match": of("Fail"), "fault": {"abort": {"percent": 100.0, "message": "on purpose"}}},
                {"name": "budget", "match": of("Budget")},
                {"name": "empty", "match": of("Broken"), "cluster": "empty"},
                {"name": "lost", "match": of("Meta"), "cluster": "lost"},
                {"name": "full", "match": [{"attributes": {"x-lane": {"exact": "full"}}}], "cluster": "v2"},
            ],
            "upstream": {"clusters": {"v2": {"circuitBreaker": {"maxCalls": 1}}}},
            "localRateLimit": {"conditions": [{"match": of("Budget"), "tokenBucket": one}]},
            "onNoMatch": "reject",
        });
        let proxy = setup()
            .cluster("dead", &[refusing_address()])
            .cluster("empty", &[])
            .cluster("lost", &[closing_address()])
            .cluster("babbling", &[babbling_address()])
            .service(&service)
            .start(envoy);
        let failed = |method: &str, class: &str, code: i64, text: &str| {
            let found = failure(&proxy, method, json!({}));
            assert_eq!((&*found.0, found.1), (class, code), "{found:?}");
            assert!(found.2.starts_with("meltemi: ") && found.2.contains(text), "{found:?}");
        };
        failed("Slow", "callee framework", 11, "no route matches");
        failed("Never", "callee framework", 101, "no answer within 300ms");
        failed("Hello", "callee framework", 111, "cannot connect");
        failed("Broken", "callee framework", 111, "");
        failed("Meta", "callee framework", 141, "the upstream closed the connection");
        failed("Echo", "callee framework", 41, "not for you");
        failed("Fail", "callee framework", 31, "on purpose");
        let (class, code, message) = failure(&proxy, "Slow", json!({"meta": {"x-lane": "babbling"}}));
        assert_eq!((&*class, code), ("callee framework", 122), "{message}");
        assert!(message.starts_with("meltemi: bad response"), "{message}");
        call(&proxy, "Budget", json!({})).unwrap();
        failed("Budget", "callee framework", 23, "");
        // The server takes its time for one of them, as a rule while the other comes.
        let refused = eventually("one of two calls is refused", || {
            let slow = [(); 2].map(|()| start_call(&proxy, "Slow", json!({"meta": {"x-lane": "full"}})));
            let refused: Vec<_> = slow.into_iter().filter_map(|call| call.wait().err()).collect();
            <[Exception; 1]>::try_from(refused).ok()
        });
        let [Exception { class, code: Some(22), message, .. }] = &refused else { panic!("{refused:?}") };
        assert!(class == "callee framework" && message.starts_with("meltemi: "), "{message}");
        assert_eq!(proxy.accepted(), 1, "no failure took the connection away");
    });
}

#[test]
fn calls_are_tried_again_elsewhere() {
    each_envoy(|envoy| {
        let service = json!({"protocol": "trpc", "defaultRoute": {"retry": {
            "on": ["connect-failure", "reset", "status"], "statuses": ["SERVER_OVERLOAD"], "attempts": 2,
        }}});
        let half = [refusing_address(), PEERS.servers[0].1];
        let proxy = setup().cluster("demo", &half).service(&service).start(envoy);
        for _ in 0..10 {
            assert_eq!(call(&proxy, "Hello", json!({})).unwrap()["text"], json!("v1: "));
        }
        // Other tests call the same server.
        let text = "again";
        let count = || PEERS.servers[0].0.ask(json!({"do": "counts"}))[format!("Broken:{text}")].as_u64();
        let before = count().unwrap_or(0);
        assert_eq!(failure(&proxy, "Broken", json!({"text": text})).1, 22);
        let after = count().unwrap();
        assert_eq!(after - before, 3);
    });
}

#[test]
fn calls_are_split_by_weight() {
    each_envoy(|envoy| {
        let split = json!([{"cluster": "v1", "weight": 1}, {"cluster": "v2", "weight": 3}]);
        let service = json!({"protocol": "trpc", "defaultRoute": {"weightedClusters": split}});
        let proxy = setup().service(&service).start(envoy);
        let is_first = |_: &usize| call(&proxy, "Hello", json!({})).unwrap()["text"] == json!("v1: ");
        let to_first = (0..200).filter(is_first).count();
        // By chance 50, within six deviations of 6.1.
        assert!((14..=87).contains(&to_first), "{to_first}");
    });
}

#[test]
fn requests_that_break_off_end_their_own_connection_only() {
    each_envoy(|envoy| {
        let proxy = setup().service(&json!({"protocol": "trpc"})).start(envoy);
        let whole =
            || assert_eq!(call(&proxy, "Hello", json!({})).unwrap()["text"].as_str().unwrap().len(), 4);
        whole();
        let before = proxy.clients();
        let request = files::root().join("codecs/vectors/trpc/trpc-go-1.0.3/conn-id1.req.bin");
        send_mangled(proxy.meltemi(), &fs::read(request).unwrap(), whole);
        eventually("their connections are gone", || (proxy.clients() == before).then_some(()));
    });
}

#[test]
fn servers_are_told_what_is_left_of_a_client_s_time() {
    each_envoy(|envoy| {
        let off = json!([{"attributes": {"x-lane": {"exact": "off"}}}]);
        let late = json!({"delay": {"duration": "5s"}});
        let service = json!({
            "protocol": "trpc",
            "routes": [{"name": "off", "match": off, "propagateDeadline": false, "fault": late}],
            "defaultRoute": {"fault": late},
        });
        let proxy = setup().service(&service).start(envoy);
        let calls = ["off", "on"]
            .map(|lane| start_call(&proxy, "Budget", json!({"timeout": 59_000, "meta": {"x-lane": lane}})));
        let [off, on] = calls.map(|call| {
            let told = call.wait().unwrap();
            told["text"].as_str().unwrap().strip_suffix('s').unwrap().parse::<f64>().unwrap()
        });
        // Its client takes off what it took itself.
        assert!((54.1..=59.0).contains(&off) && (30.0..=54.0).contains(&on), "{off} {on}");
    });
}

#[test]
fn bytes_that_are_no_trpc_end_their_own_connection_only() {
    each_envoy(|envoy| {
        let proxy = setup().service(&json!({"protocol": "trpc"})).start(envoy);
        call(&proxy, "Hello", json!({})).unwrap();
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"\x09\x30\x00\x00\x00\x00\x00\x0f\x00\x00\x00\x00\x00\x01\x00\x00",
            b"\x09\x30\x00\x00\xff\xff\xff\xff\x00\x04\x00\x00\x00\x01\x00\x00",
            b"\x09\x30\x00\x00\x00\x00\x00\x14\x00\x04\x00\x00\x00\x01\x00\x00\x3a\x7fab",
        ] {
            let mut stream = TcpStream::connect(proxy.meltemi()).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(bytes).unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        }
        call(&proxy, "Hello", json!({})).unwrap();
        assert_eq!(proxy.accepted(), 5);
    });
}

#[test]
fn streams_are_routed_and_carried_both_ways() {
    each_envoy(|envoy| {
        let service = json!({"protocol": "trpc", "routes": [
            {"name": "lane", "match": [{"attributes": {"x-lane": {"exact": "gray"}}}], "cluster": "v2"},
            {"name": "closed", "match": [{"attributes": {"method": {"exact": "Nope"}}}], "reject": {"message": "no"}},
            {"name": "dead", "match": [{"attributes": {"x-lane": {"exact": "dead"}}}], "cluster": "dead"},
            {"name": "stream", "match": [{"attributes": {"callType": {"exact": "stream"}}}], "cluster": "v1"},
        ]});
        let proxy = setup().cluster("dead", &[refusing_address()]).service(&service).start(envoy);
        let talks: Vec<_> = (0..20)
            .map(|number: usize| {
                let lane = if number.is_multiple_of(2) { "gray" } else { "none" };
                let more = json!({"text": format!("talk {number}"), "number": 25, "meta": {"x-lane": lane}});
                start_stream(&proxy, "Talk", more)
            })
            .collect();
        for (number, talk) in talks.into_iter().enumerate() {
            let server = if number.is_multiple_of(2) { "v2" } else { "v1" };
            assert_eq!(talk.wait(), Ok(json!(server)));
        }
        // More than a window of trpc-go's, which is 64 KiB: its feedback passes.
        let talk = start_stream(&proxy, "Talk", json!({"text": "x".repeat(30_000), "number": 20}));
        assert_eq!(talk.wait(), Ok(json!("v1")));
        let error = start_stream(&proxy, "Refuse", json!({"text": "why", "number": 5})).wait().unwrap_err();
        assert!(error.message.contains("code:10001, msg:why 0"), "{error:?}");
        let error = start_stream(&proxy, "Nope", json!({"number": 1})).wait().unwrap_err();
        assert_eq!((&*error.class, error.code), ("callee framework", Some(41)), "{error:?}");
        let dead = json!({"number": 1, "meta": {"x-lane": "dead"}});
        let error = start_stream(&proxy, "Talk", dead).wait().unwrap_err();
        assert_eq!((&*error.class, error.code), ("callee framework", Some(111)), "{error:?}");
        eventually("no stream is left", || (proxy.metric("meltemi_in_flight", &[]) == 0).then_some(()));
    });
}

#[test]
fn a_lost_server_resets_its_streams() {
    each_envoy(|envoy| {
        let server = Remote::start("trpc-go-lost", &mut Command::new(go::program("trpc")));
        let address = server.ask(json!({"do": "serve", "name": "lost", "address": "127.0.0.1:0"}));
        let address = address.as_str().unwrap().parse().unwrap();
        let proxy = setup().cluster("demo", &[address]).service(&json!({"protocol": "trpc"})).start(envoy);
        let endless = start_stream(&proxy, "Talk", json!({"text": "x", "number": 1_000_000_000}));
        eventually("the stream is open", || (proxy.metric("meltemi_in_flight", &[]) == 1).then_some(()));
        drop(server);
        let error = endless.wait().unwrap_err();
        assert!(error.message.contains("code:141, msg:meltemi: "), "{error:?}");
    });
}

#[test]
fn a_stream_that_falls_silent_is_reset() {
    each_envoy(|envoy| {
        let server = Remote::start("trpc-go-silent", &mut Command::new(go::program("trpc")));
        let address = server.ask(json!({"do": "serve", "name": "silent", "address": "127.0.0.1:0"}));
        let address = address.as_str().unwrap().parse().unwrap();
        let service = json!({"protocol": "trpc", "streamIdleTimeout": "4s"});
        let proxy = setup().cluster("demo", &[address]).service(&service).start(envoy);
        let endless = start_stream(&proxy, "Talk", json!({"text": "x", "number": 1_000_000_000}));
        eventually("the stream is open", || (proxy.metric("meltemi_in_flight", &[]) == 1).then_some(()));
        server.signal("STOP");
        let error = endless.wait().unwrap_err();
        assert!(error.message.contains("no frame of the stream came within streamIdleTimeout"), "{error:?}");
        eventually("it is over", || (proxy.metric("meltemi_in_flight", &[]) == 0).then_some(()));
    });
}
