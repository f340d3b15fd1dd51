//! trpc-java as client and as server. It serves streams on a port of their own.

use std::net::SocketAddr;
use std::process;
use std::sync::LazyLock;

use meltemi_tests::java::{babbling_address, closing_address, free_address, refusing_address, start_trpc};
use meltemi_tests::remote::{Exception, Pending, Remote};
use meltemi_tests::{Proxy, Setup, each_envoy, eventually};
use serde_json::{Value, json};

/// A client, and two servers with where they serve calls and streams. They end with this process.
struct Peers {
    client: Remote,
    servers: [Server; 2],
}

struct Server {
    remote: Remote,
    calls: SocketAddr,
    streams: SocketAddr,
}

static PEERS: LazyLock<Peers> =
    LazyLock::new(|| Peers { client: start_trpc("client"), servers: ["v1", "v2"].map(Server::start) });

impl Server {
    fn start(name: &str) -> Self {
        let (remote, calls, streams) = (start_trpc(name), free_address(), free_address());
        remote.ask(json!({"do": "serve", "name": name, "port": calls.port(), "streams": streams.port()}));
        Self { remote, calls, streams }
    }
}

fn setup() -> Setup {
    let [v1, v2] = &PEERS.servers;
    Setup::new().servers(v1.calls, v2.calls).cluster("streams", &[v1.streams]).cluster("v2", &[v2.calls])
}

fn send(proxy: &Proxy, what: &str, method: &str, mut more: Value) -> Pending {
    more["do"] = json!(what);
    more["address"] = json!(proxy.meltemi().to_string());
    more["method"] = json!(method);
    PEERS.client.send(more)
}

fn call(proxy: &Proxy, method: &str, more: Value) -> Result<Value, Exception> {
    send(proxy, "call", method, more).wait()
}

/// Sends `number` messages on a stream: what comes back.
fn stream(proxy: &Proxy, method: &str, more: Value) -> Result<Value, Exception> {
    send(proxy, "stream", method, more).wait()
}

/// The code of the `TRpcException` that must come of it, and its text.
fn thrown(result: Result<Value, Exception>) -> (i64, String) {
    let error = result.unwrap_err();
    assert_eq!(error.class, "com.tencent.trpc.core.exception.TRpcException", "{error:?}");
    (error.code.unwrap(), error.message)
}

#[test]
fn calls_are_routed_and_changed_and_pass_whole() {
    each_envoy(|envoy| {
        let to = |name: &str, attribute: &str, value: &str, cluster: &str| json!({"name": name, "match": [{"attributes": {attribute: {"exact": value}}}], "cluster": cluster});
        let mut changed = to("changed", "x-lane", "changed", "v2");
        changed["requestAttachments"] = json!({"set": {"x-way": "%REQ(func)%"}, "remove": ["x-drop"]});
        changed["responseAttachments"] = json!({"set": {"x-from": "proxy"}});
        let service = json!({"protocol": "trpc", "routes": [
            to("lane", "x-lane", "gray", "v2"),
            changed,
            to("func", "func", "/trpc.meltemi.tests.JavaGreeter/Slow", "v2"),
            to("caller", "caller", "trpc.meltemi.tests.javaClient", "v1"),
        ]});
        let proxy = setup().service(&service).start(envoy);
        let text = |method: &str, more: Value| call(&proxy, method, more).unwrap()["text"].clone();
        assert_eq!(text("Hello", json!({"text": "\u{4f60}"})), json!("v1: \u{4f60}"));
        assert_eq!(text("Hello", json!({"meta": {"x-lane": "gray"}})), json!("v2: "));
        assert_eq!(text("Slow", json!({})), json!("v2: "));
        let meta = json!({"x-lane": "changed", "x-drop": "1"});
        let got = |name: &str| call(&proxy, "Meta", json!({"text": name, "meta": meta}));
        let answer = got("x-way").unwrap();
        assert_eq!(answer["text"], json!("/trpc.meltemi.tests.JavaGreeter/Meta"));
        assert_eq!(answer["meta"]["x-from"], json!("proxy"));
        assert_eq!(thrown(got("x-drop")).0, 404);
        for size in [0, 70_000, 1 << 20] {
            assert_eq!(call(&proxy, "Echo", json!({"number": size})), Ok(json!(true)), "{size} bytes");
        }
        let refused = |method: &str| thrown(call(&proxy, method, json!({"text": "why"})));
        assert_eq!(refused("Fail"), (10001, "why".into()));
        assert_eq!(refused("Broken"), (22, "why".into()));
        eventually("Envoy counts them", || {
            let count =
                |class: &str| proxy.metric("meltemi_responses_total", &[&format!("class=\"{class}\"")]);
            ([count("exception"), count("error")] == [2, 1]).then_some(())
        });
    });
}

#[test]
fn calls_of_one_connection_reach_both_servers_and_their_own_callers() {
    each_envoy(|envoy| {
        let proxy = setup().service(&json!({"protocol": "trpc"})).start(envoy);
        let methods = ["Slow", "Hello"];
        let pending: Vec<_> = (0..100)
            .map(|n: usize| send(&proxy, "call", methods[n % 2], json!({"text": format!("caller {n}")})))
            .collect();
        let mut calls = [0, 0];
        for (number, answer) in pending.into_iter().enumerate() {
            let answer = answer.wait().unwrap();
            let (server, text) = answer["text"].as_str().unwrap().split_once(": ").unwrap();
            assert_eq!(text, format!("caller {number}"));
            calls[usize::from(server == "v2")] += 1;
        }
        assert!(calls.iter().all(|calls| *calls >= 20), "{calls:?}");
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
            let of =
                |server: &Server| server.remote.ask(json!({"do": "counts"}))[format!("Note:{note}")].as_u64();
            PEERS.servers.iter().filter_map(of).sum::<u64>()
        };
        eventually("all notes arrive", || notes.iter().all(|note| arrived(note) > 0).then_some(()));
        assert!(notes.iter().all(|note| arrived(note) == 1));
    });
}

#[test]
fn local_replies_become_exceptions_of_trpc_java() {
    each_envoy(|envoy| {
        let of = |method: &str| json!([{"attributes": {"method": {"exact": method}}}]);
        let one = json!({"maxTokens": 1, "tokensPerFill": 1, "fillInterval": "3600s"});
        let service = json!({
            "protocol": "trpc",
            "routes": [
                {"name": "babbling", "match": [{"attributes": {"x-lane": {"exact": "babbling"}}}], "cluster": "babbling"},
                {"name": "never", "match": of("Never"), "timeout": "300ms"},
                {"name": "dead", "match": of("Hello"), "cluster": "dead"},
                {"name": "empty", "match": of("Broken"), "cluster": "empty"},
                {"name": "closed", "match": of("Echo"), "reject": {"message": "not for you"}},
                {"name": "fault", "match": of("Fail"), "fault": {"abort": {"percent": 100.0, "message": "on purpose"}}},
                {"name": "budget", "match": of("Meta")},
                {"name": "lost", "match": of("Note"), "cluster": "lost"},
                {"name": "full", "match": json!([{"attributes": {"x-lane": {"exact": "full"}}}]), "cluster": "v2"},
            ],
            "upstream": {"clusters": {"v2": {"circuitBreaker": {"maxCalls": 1}}}},
            "localRateLimit": {"conditions": [{"match": of("Meta"), "tokenBucket": one}]},
            "onNoMatch": "reject",
        });
        let proxy = setup()
            .cluster("dead", &[refusing_address()])
            .cluster("empty", &[])
            .cluster("lost", &[closing_address()])
            .cluster("babbling", &[babbling_address()])
            .service(&service)
            .start(envoy);
        let failed = |method: &str, code: i64, text: &str| {
            let (found, message) = thrown(call(&proxy, method, json!({})));
            assert_eq!(found, code, "{method}: {message}");
            assert!(message.starts_with("meltemi: ") && message.contains(text), "{method}: {message}");
        };
        failed("Slow", 11, "no route matches");
        failed("Never", 101, "no answer within 300ms");
        failed("Hello", 111, "cannot connect");
        failed("Broken", 111, "");
        failed("Note", 141, "the upstream closed the connection");
        failed("Echo", 41, "not for you");
        failed("Fail", 31, "on purpose");
        let (code, message) = thrown(call(&proxy, "Slow", json!({"meta": {"x-lane": "babbling"}})));
        assert!(code == 122 && message.starts_with("meltemi: bad response"), "{code} {message}");
        let meta = json!({"text": "x", "meta": {"x": "y"}});
        call(&proxy, "Meta", meta).unwrap();
        failed("Meta", 23, "");
        // The server takes its time for one of them, as a rule while the other comes.
        let refused = eventually("one of two calls is refused", || {
            let slow = [(); 2].map(|()| send(&proxy, "call", "Slow", json!({"meta": {"x-lane": "full"}})));
            let refused: Vec<_> = slow.into_iter().filter_map(|call| call.wait().err()).collect();
            <[Exception; 1]>::try_from(refused).ok()
        });
        let [Exception { code: Some(22), message, .. }] = &refused else { panic!("{refused:?}") };
        assert!(message.starts_with("meltemi: "), "{message}");
        assert_eq!(proxy.accepted(), 1, "no failure took the connection away");
    });
}

#[test]
fn calls_are_tried_again_elsewhere() {
    each_envoy(|envoy| {
        let service = json!({"protocol": "trpc", "defaultRoute": {"retry": {
            "on": ["connect-failure", "reset", "status"], "statuses": ["SERVER_OVERLOAD"], "attempts": 2,
        }}});
        let v1 = &PEERS.servers[0];
        let proxy = setup().cluster("demo", &[refusing_address(), v1.calls]).service(&service).start(envoy);
        for _ in 0..10 {
            assert_eq!(call(&proxy, "Hello", json!({})).unwrap()["text"], json!("v1: "));
        }
        let text = format!("again {}", proxy.process());
        assert_eq!(thrown(call(&proxy, "Broken", json!({"text": text}))).0, 22);
        assert_eq!(
            v1.remote.ask(json!({"do": "counts"}))[format!("Broken:{text}")],
            json!(3),
            "{}",
            process::id()
        );
    });
}

#[test]
fn streams_are_routed_and_carried_both_ways() {
    each_envoy(|envoy| {
        let of = |attribute: &str, value: &str| json!([{"attributes": {attribute: {"exact": value}}}]);
        // A server of trpc-java loses streams that begin at a time on one connection: its clients have one for each.
        let service = json!({"protocol": "trpc", "routes": [
            {"name": "dead", "match": of("x-lane", "dead"), "cluster": "dead"},
            {"name": "closed", "match": of("x-lane", "closed"), "reject": {"message": "no"}},
            {"name": "stream", "match": of("callType", "stream"), "cluster": "streams"},
        ], "upstream": {"sharing": "exclusive"}});
        let proxy = setup().cluster("dead", &[refusing_address()]).service(&service).start(envoy);
        let talks: Vec<_> = (0..20)
            .map(|n| send(&proxy, "stream", "Talk", json!({"text": format!("talk {n}"), "number": 25})))
            .collect();
        for (n, talk) in talks.into_iter().enumerate() {
            let expected: Vec<_> = (0..25).map(|turn| format!("v1: talk {n} {turn}")).collect();
            assert_eq!(talk.wait(), Ok(json!(expected)));
        }
        // Many windows of trpc-java's, which are 64 KiB: its feedback passes. One way at a time, since a peer of
        // trpc-java that sends feedback from one thread and messages from another fails by itself.
        let collect = stream(&proxy, "Collect", json!({"text": "x".repeat(30_000), "number": 500}));
        assert_eq!(collect, Ok(json!(["v1: 500"])));
        let count = stream(&proxy, "Count", json!({"number": 50_000})).unwrap();
        assert_eq!(count.as_array().unwrap().len(), 50_000);
        // One message, since a server of trpc-java that fails at one may answer that the next was not taken.
        let (_, message) = thrown(stream(&proxy, "Refuse", json!({"text": "why", "number": 1})));
        assert!(message.contains("why 0"), "{message}");
        let to = |lane: &str| thrown(stream(&proxy, "Talk", json!({"number": 1, "meta": {"x-lane": lane}})));
        let (code, message) = to("closed");
        assert!(code == 41 && message.ends_with("no"), "{code} {message}");
        let (code, message) = to("dead");
        assert!(code == 111 && message.contains("cannot connect"), "{code} {message}");
        eventually("no stream is left", || (proxy.metric("meltemi_in_flight", &[]) == 0).then_some(()));
    });
}

#[test]
fn a_lost_server_resets_its_streams() {
    each_envoy(|envoy| {
        let server = Server::start("lost");
        let proxy =
            setup().cluster("demo", &[server.streams]).service(&json!({"protocol": "trpc"})).start(envoy);
        // A client of trpc-java that is reset while it sends fails by itself, too.
        let endless = send(&proxy, "stream", "Count", json!({"number": 1_000_000_000}));
        eventually("the stream is open", || (proxy.metric("meltemi_in_flight", &[]) == 1).then_some(()));
        drop(server);
        let (code, message) = thrown(endless.wait());
        assert!(code == 141 && message.starts_with("meltemi: "), "{code} {message}");
    });
}
