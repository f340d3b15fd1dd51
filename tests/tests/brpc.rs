//! brpc-java as client and as server.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use meltemi_codecs::protobuf::{enclose, write_bytes, write_number};
use meltemi_codecs::{Brpc, Codec, Kind, Outcome, Peer, Step};
use meltemi_tests::java::{babbling_address, closing_address, free_address, refusing_address, start_brpc};
use meltemi_tests::mangled::send_mangled;
use meltemi_tests::remote::{Exception, Pending, Remote};
use meltemi_tests::{DEADLINE, Proxy, Setup, each_envoy, eventually, files};
use serde_json::{Value, json};

/// A client, and two servers. They end with this process.
struct Peers {
    client: Remote,
    servers: [(Remote, SocketAddr); 2],
}

static PEERS: LazyLock<Peers> = LazyLock::new(|| {
    let servers = ["v1", "v2"].map(|name| {
        let (server, address) = (start_brpc(name), free_address());
        server.ask(json!({"do": "serve", "name": name, "port": address.port()}));
        (server, address)
    });
    Peers { client: start_brpc("client"), servers }
});

fn setup() -> Setup {
    let [v1, v2] = &PEERS.servers;
    Setup::new().servers(v1.1, v2.1)
}

/// A client with a connection of its own.
struct Client(String);

impl Client {
    fn of(proxy: &Proxy) -> Self {
        Self::with(proxy, json!({}))
    }

    fn with(proxy: &Proxy, mut options: Value) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("client {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let address = proxy.meltemi().to_string();
        options["do"] = json!("connect");
        options["client"] = json!(name);
        options["address"] = json!(address);
        PEERS.client.ask(options);
        Self(name)
    }

    fn start(&self, method: &str, mut more: Value) -> Pending {
        more["do"] = json!("call");
        more["client"] = json!(self.0);
        more["method"] = json!(method);
        PEERS.client.send(more)
    }

    fn call(&self, method: &str, more: Value) -> Result<Value, Exception> {
        self.start(method, more).wait()
    }
}

#[test]
fn calls_are_routed_by_all_that_they_say_and_pass_whole() {
    each_envoy(|envoy| {
        let to = |name: &str, attribute: &str, value: &str, cluster: &str| json!({"name": name, "match": [{"attributes": {attribute: {"exact": value}}}], "cluster": cluster});
        let mut changed = to("changed", "x-lane", "changed", "v2");
        changed["requestAttachments"] = json!({
            "set": {"x-lane": "set", "x-way": "%REQ(method)% to %UPSTREAM_HOST%"},
            "addIfAbsent": {"x-keep": "lost", "x-new": "new"},
            "append": {"x-seen": "%ROUTE_NAME%"},
            "remove": ["x-drop"],
        });
        let service = json!({"protocol": "brpc", "routes": [
            to("lane", "x-lane", "gray", "v2"),
            changed,
            to("log", "logId", "42", "v2"),
            to("method", "method", "Slow", "v2"),
            to("service", "service", "meltemi.tests.Echo", "v1"),
        ]});
        let proxy = setup().service(&service).start(envoy);
        let client = Client::of(&proxy);
        let server = |method: &str, more: Value| client.call(method, more).unwrap()["server"].clone();
        let answer = client.call("Echo", json!({"text": "\u{4f60}"})).unwrap();
        assert_eq!((&answer["server"], &answer["text"]), (&json!("v1"), &json!("\u{4f60}")));
        assert_eq!(server("Echo", json!({"fields": {"x-lane": "gray"}})), json!("v2"));
        assert_eq!(server("Echo", json!({"logId": 42})), json!("v2"));
        assert_eq!(server("Slow", json!({})), json!("v2"));
        let fields = json!({"x-lane": "changed", "x-drop": "1", "x-keep": "\u{1f600}", "x-seen": "client"});
        let answer = client.call("Echo", json!({"fields": fields})).unwrap();
        let host = PEERS.servers[1].1;
        let fields = format!(
            "{{x-keep=\u{1f600}, x-lane=set, x-new=new, x-seen=client,changed, x-way=Echo to {host}}}"
        );
        assert_eq!(answer["fields"], json!(fields));
        for size in [0, 70_000, 1 << 20] {
            assert_eq!(client.call("Echo", json!({"number": size})), Ok(json!(true)), "{size} bytes");
        }
        let error = client.call("Fail", json!({"text": "on purpose"})).unwrap_err();
        assert!(error.is("RpcException") && error.cause.unwrap().message == "on purpose");
        eventually("Envoy counts them", || {
            let count =
                |class: &str| proxy.metric("meltemi_responses_total", &[&format!("class=\"{class}\"")]);
            let echo = [r#"service="meltemi.tests.Echo""#, r#"method="Echo""#];
            // What a service throws has brpc-java's code of a broken server.
            let counts = [count("success"), count("error"), proxy.metric("meltemi_responses_total", &echo)];
            (counts == [8, 1, 7]).then_some(())
        });
    });
}

#[test]
fn attachments_and_what_is_compressed_pass_untouched() {
    each_envoy(|envoy| {
        let service = json!({"protocol": "brpc", "defaultRoute": {"cluster": "v1",
            "requestAttachments": {"set": {"x-lane": "gray"}}}});
        let proxy = setup().service(&service).start(envoy);
        for compress in ["NONE", "GZIP", "ZLIB", "SNAPPY"] {
            let client = Client::with(&proxy, json!({"compress": compress}));
            assert_eq!(client.call("Echo", json!({"number": 1 << 20})), Ok(json!(true)), "{compress}");
            let attachment = "\u{4f60}".repeat(30_000);
            let call = json!({"number": 1000, "attachment": attachment});
            assert_eq!(client.call("Echo", call), Ok(json!(attachment)), "{compress}");
        }
    });
}

#[test]
fn calls_of_one_connection_reach_both_servers_and_their_own_callers() {
    each_envoy(|envoy| {
        let proxy = setup().service(&json!({"protocol": "brpc"})).start(envoy);
        let client = Client::of(&proxy);
        let mut servers: HashMap<String, usize> = HashMap::new();
        let one = |number: usize| {
            let method = if number.is_multiple_of(3) { "Slow" } else { "Echo" };
            client.start(method, json!({"text": format!("caller {number}")}))
        };
        let pending: Vec<_> = (0..120).map(one).collect();
        for (number, answer) in pending.into_iter().enumerate() {
            let answer = answer.wait().unwrap();
            assert_eq!(answer["text"], json!(format!("caller {number}")));
            *servers.entry(answer["server"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        assert!(servers.len() == 2 && servers.values().all(|calls| *calls >= 20), "{servers:?}");
    });
}

#[test]
fn local_replies_become_exceptions_of_brpc() {
    each_envoy(|envoy| {
        let of = |method: &str| json!([{"attributes": {"method": {"exact": method}}}]);
        let to = |lane: &str| json!([{"attributes": {"x-lane": {"exact": lane}}}]);
        let one = json!({"maxTokens": 1, "tokensPerFill": 1, "fillInterval": "3600s"});
        let abort = json!({"abort": {"percent": 100.0, "message": "on purpose"}});
        let service = json!({
            "protocol": "brpc",
            "routes": [
                {"name": "empty", "match": to("empty"), "cluster": "empty"},
                {"name": "lost", "match": to("lost"), "cluster": "lost"},
                {"name": "babbling", "match": to("babbling"), "cluster": "babbling"},
                {"name": "full", "match": to("full"), "cluster": "v2"},
                {"name": "fault", "match": to("fault"), "fault": abort},
                {"name": "limited", "match": to("limited"), "cluster": "v1"},
                {"name": "slow", "match": of("Never"), "timeout": "300ms"},
                {"name": "dead", "match": of("Echo"), "cluster": "dead"},
                {"name": "closed", "match": of("Fail"), "reject": {"message": "not for you"}},
            ],
            "localRateLimit": {"conditions": [{"match": to("limited"), "tokenBucket": one}]},
            "upstream": {"clusters": {"v2": {"circuitBreaker": {"maxCalls": 1}}}},
            "onNoMatch": "reject",
        });
        let proxy = setup()
            .cluster("dead", &[refusing_address()])
            .cluster("empty", &[])
            .cluster("lost", &[closing_address()])
            .cluster("babbling", &[babbling_address()])
            .service(&service)
            .start(envoy);
        let client = Client::of(&proxy);
        client.call("Echo", json!({"fields": {"x-lane": "limited"}})).unwrap();
        for (method, lane, text) in [
            ("Slow", "", "no route matches"),
            ("Never", "", "no answer within 300ms"),
            ("Echo", "", "cannot connect"),
            ("Fail", "", "not for you"),
            ("Echo", "empty", ""),
            ("Echo", "lost", "the upstream closed the connection"),
            ("Echo", "babbling", "bad response"),
            ("Echo", "fault", "on purpose"),
            ("Echo", "limited", ""),
        ] {
            let error = client.call(method, json!({"fields": {"x-lane": lane}})).unwrap_err();
            assert!(error.class == "com.baidu.brpc.exceptions.RpcException", "{error:?}");
            let cause = error.cause.unwrap();
            assert!(cause.message.starts_with("meltemi: ") && cause.message.contains(text), "{cause:?}");
        }
        // The server takes its time for one of them, as a rule while the other comes.
        let refused = eventually("one of two calls is refused", || {
            let slow = [(); 2].map(|()| client.start("Slow", json!({"fields": {"x-lane": "full"}})));
            let refused: Vec<_> = slow.into_iter().filter_map(|call| call.wait().err()).collect();
            <[Exception; 1]>::try_from(refused).ok()
        });
        let [Exception { cause: Some(cause), .. }] = &refused else { panic!("{refused:?}") };
        assert!(cause.message.starts_with("meltemi: "), "{cause:?}");
    });
}

#[test]
fn calls_are_tried_again_elsewhere() {
    each_envoy(|envoy| {
        let service = json!({"protocol": "brpc", "defaultRoute": {"retry": {
            "on": ["connect-failure", "reset", "status"], "statuses": ["EINTERNAL"], "attempts": 2,
        }}});
        let half = [refusing_address(), PEERS.servers[0].1];
        let proxy = setup().cluster("demo", &half).service(&service).start(envoy);
        let client = Client::of(&proxy);
        for _ in 0..10 {
            assert_eq!(client.call("Echo", json!({})).unwrap()["server"], json!("v1"));
        }
        client.call("Fail", json!({"text": "on purpose"})).unwrap_err();
        eventually("it was tried three times", || {
            (proxy.metric("meltemi_retries_total", &[r#"method="other""#]) == 2).then_some(())
        });
    });
}

#[test]
fn calls_are_split_by_weight() {
    each_envoy(|envoy| {
        let split = json!([{"cluster": "v1", "weight": 1}, {"cluster": "v2", "weight": 3}]);
        let service = json!({"protocol": "brpc", "defaultRoute": {"weightedClusters": split}});
        let proxy = setup().service(&service).start(envoy);
        let client = Client::of(&proxy);
        let to_first =
            (0..200).filter(|_| client.call("Echo", json!({})).unwrap()["server"] == json!("v1")).count();
        // By chance 50, within six deviations of 6.1.
        assert!((14..=87).contains(&to_first), "{to_first}");
    });
}

/// Sends bytes on a connection of their own, and reads `count` frames, or to the end.
fn raw(proxy: &Proxy, bytes: &[u8], count: Option<usize>) -> Vec<(Kind, u64)> {
    let mut stream = TcpStream::connect(proxy.meltemi()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(bytes).unwrap();
    let (mut input, mut frames, mut chunk) = (Vec::new(), Vec::new(), [0; 4096]);
    while count.is_none_or(|count| frames.len() < count) {
        let read = stream.read(&mut chunk).unwrap();
        if read == 0 {
            assert!(count.is_none(), "{frames:?}");
            break;
        }
        input.extend_from_slice(&chunk[..read]);
        while let Ok(Step::Frame(frame)) = Brpc.split(Peer::Server, &input, 1 << 20) {
            frames.push((frame.kind, frame.id));
            input.drain(..frame.len);
        }
    }
    frames
}

/// A request without a body. `more` are fields of its `RpcRequestMeta`.
fn request(method: &str, id: u64, more: &[u8]) -> Vec<u8> {
    let mut meta = Vec::new();
    write_bytes(1, b"meltemi.tests.Echo", &mut meta);
    write_bytes(2, method.as_bytes(), &mut meta);
    meta.extend(more);
    enclose(1, 0, &mut meta);
    write_number(4, id, &mut meta);
    let mut frame = b"PRPC".to_vec();
    frame.extend([u32::try_from(meta.len()).unwrap(); 2].map(u32::to_be_bytes).concat());
    frame.extend(meta);
    frame
}

/// The code and the text of the next answer on a connection, as brpc-java's own classes read them, and its id.
fn told(stream: &mut TcpStream) -> (u64, u64, String) {
    let mut header = [0; 12];
    stream.read_exact(&mut header).unwrap();
    let [total, len] = [4, 8].map(|at| u32::from_be_bytes(header[at..at + 4].try_into().unwrap()));
    assert!(header.starts_with(b"PRPC") && total == len, "an answer without a body: {header:?}");
    let mut meta = vec![0; len as usize];
    stream.read_exact(&mut meta).unwrap();
    let signed: Vec<_> = meta.iter().map(|byte| byte.cast_signed()).collect();
    let read = PEERS.client.ask(json!({"do": "read", "meta": signed}));
    let number = |name: &str| read[name].as_f64().unwrap() as u64;
    (number("id"), number("code"), read["text"].as_str().unwrap().to_owned())
}

#[test]
fn local_replies_have_the_codes_of_brpc() {
    each_envoy(|envoy| {
        let of = |method: &str| json!([{"attributes": {"method": {"exact": method}}}]);
        let to = |name: &str| json!({"name": name, "match": of(name), "cluster": name});
        let one = json!({"maxTokens": 1, "tokensPerFill": 1, "fillInterval": "3600s"});
        let abort = json!({"abort": {"percent": 100.0, "message": "on purpose"}});
        let service = json!({
            "protocol": "brpc",
            "routes": [
                to("dead"), to("empty"), to("lost"), to("babbling"), to("full"), to("absent"),
                {"name": "limited", "match": of("limited"), "cluster": "dead"},
                {"name": "late", "match": of("late"), "cluster": "silent", "timeout": "300ms"},
                {"name": "fault", "match": of("fault"), "fault": abort},
                {"name": "closed", "match": of("closed"), "reject": {"message": "not for you"}},
            ],
            "localRateLimit": {"conditions": [{"match": of("limited"), "tokenBucket": one}]},
            "upstream": {"clusters": {"full": {"circuitBreaker": {"maxCalls": 1}}}},
            "onNoMatch": "reject",
            "limits": {"maxRequestBytes": 1000},
        });
        // It takes connections, and never says anything.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let proxy = setup()
            .cluster("dead", &[refusing_address()])
            .cluster("empty", &[])
            .cluster("lost", &[closing_address()])
            .cluster("babbling", &[babbling_address()])
            .cluster("silent", &[address])
            .cluster("full", &[address])
            .service(&service)
            .start(envoy);
        let mut stream = TcpStream::connect(proxy.meltemi()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // These take the only token, and all that the cluster takes.
        stream.write_all(&request("limited", 1, b"")).unwrap();
        assert_eq!(told(&mut stream).1, 112);
        stream.write_all(&request("full", 2, b"")).unwrap();
        for (method, code, text) in [
            ("nowhere", 1001, "no route matches"),
            ("absent", 112, "cannot connect to cluster absent"),
            ("dead", 112, "cannot connect"),
            ("empty", 112, ""),
            ("lost", 1009, "the upstream "),
            ("babbling", 2002, "bad response"),
            ("late", 1008, "no answer within 300ms"),
            ("limited", 2004, ""),
            ("full", 2004, ""),
            ("closed", 1004, "not for you"),
            ("fault", 2001, "on purpose"),
        ] {
            let id = u64::from(u32::MAX) + code;
            stream.write_all(&request(method, id, b"")).unwrap();
            let (answered, found, told) = told(&mut stream);
            assert_eq!((answered, found), (id, code), "{method}: {told}");
            assert!(told.starts_with("meltemi: ") && told.contains(text), "{method}: {told}");
        }
        // The last word on a connection.
        let mut large = request("nowhere", 3, b"");
        let total = u32::try_from(large.len() - 12 + 2000).unwrap();
        large[4..8].copy_from_slice(&total.to_be_bytes());
        large.extend([b'x'; 2000]);
        stream.write_all(&large).unwrap();
        let (answered, code, told) = told(&mut stream);
        assert!((answered, code) == (3, 1003) && told.starts_with("meltemi: bad request"), "{code} {told}");
    });
}

/// As Apache brpc writes it where `baidu_std_protocol_deliver_timeout_ms` is set.
#[test]
fn a_client_s_own_time_bounds_its_call() {
    each_envoy(|envoy| {
        let service =
            json!({"protocol": "brpc", "defaultRoute": {"propagateDeadline": true, "timeout": "60s"}});
        let proxy = setup().service(&service).start(envoy);
        Client::of(&proxy).call("Echo", json!({})).unwrap();
        let mut timeout = Vec::new();
        write_number(8, 200, &mut timeout);
        let frame = request("Never", 77, &timeout);
        assert_eq!(raw(&proxy, &frame, Some(1)), [(Kind::Response(Outcome::Error(1008)), 77)]);
    });
}

#[test]
fn what_cannot_be_carried_is_refused_and_what_is_no_brpc_ends_its_own_connection_only() {
    each_envoy(|envoy| {
        let proxy = setup().service(&json!({"protocol": "brpc"})).start(envoy);
        let client = Client::of(&proxy);
        client.call("Echo", json!({})).unwrap();
        // Of Apache brpc, but that it asks for a stream.
        let echo = files::root().join("codecs/vectors/brpc/apache-brpc-1.17/00-echo.req.bin");
        let mut stream = fs::read(echo).unwrap();
        let meta = 12 + usize::from(stream[11]);
        stream.splice(meta..meta, [0x42, 2, 8, 1]);
        stream[7] += 4;
        stream[11] += 4;
        let refused = (Kind::Response(Outcome::Error(1003)), 4_294_967_298);
        assert_eq!(raw(&proxy, &stream.repeat(2), Some(2)), [refused, refused]);
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"PRPC\0\0\0\x01\0\0\0\x02",
            b"PRPC\xff\xff\xff\xff\0\0\0\x02",
            b"PRPC\0\0\0\x06\0\0\0\x02\x0a\x04abcd",
        ] {
            assert_eq!(raw(&proxy, bytes, None), []);
        }
        client.call("Echo", json!({})).unwrap();
    });
}

#[test]
fn requests_that_break_off_end_their_own_connection_only() {
    each_envoy(|envoy| {
        // brpc-java answers nothing where it cannot read the body.
        let own = json!([{"attributes": {"service": {"exact": "meltemi.tests.Echo"}}}]);
        let service = json!({"protocol": "brpc", "routes": [{"name": "own", "match": own}],
            "defaultRoute": {"timeout": "2s"}});
        let proxy = setup().service(&service).start(envoy);
        let client = Client::of(&proxy);
        let call =
            || assert_eq!(client.call("Echo", json!({"text": "whole"})).unwrap()["text"], json!("whole"));
        call();
        let before = proxy.clients();
        let echo = files::root().join("codecs/vectors/brpc/apache-brpc-1.17/00-echo.req.bin");
        send_mangled(proxy.meltemi(), &fs::read(echo).unwrap(), call);
        eventually("their connections are gone", || (proxy.clients() == before).then_some(()));
    });
}
