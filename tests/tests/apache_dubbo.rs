//! Apache Dubbo itself, 2.7 and 3.3, as client and as server.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use meltemi_codecs::dubbo::message::{Answer, Request, Value as Returned, read_answer};
use meltemi_codecs::{Codec, Depth, Dubbo, Head};
use meltemi_tests::java::{self, Exception, Peer};
use meltemi_tests::{Action, Backend, Frame, Proxy, Setup, each_envoy, eventually};
use serde_json::{Value, json};

/// Codes of Dubbo's `RpcException`.
const NETWORK: i64 = 1;
const TIMEOUT: i64 = 2;

/// One client of each version, and two servers of different versions. They end with this process.
struct Peers {
    clients: [Peer; 2],
    v1: (Peer, SocketAddr),
    v2: (Peer, SocketAddr),
}

static PEERS: LazyLock<Peers> = LazyLock::new(|| {
    let [old, new] = java::VERSIONS;
    Peers { clients: java::VERSIONS.map(Peer::start), v1: Peer::serve(old, "v1"), v2: Peer::serve(new, "v2") }
});

fn setup() -> Setup {
    Setup::new().servers(PEERS.v1.1, PEERS.v2.1)
}

/// Runs `test` with a fresh reference of a client of each version to `proxy`.
fn each_client(proxy: &Proxy, parameters: &str, test: impl Fn(&Client)) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    for peer in &PEERS.clients {
        println!("client Dubbo {}", peer.version());
        let reference = format!("reference {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        peer.connect(&reference, proxy.meltemi(), parameters);
        test(&Client { peer, reference });
    }
}

struct Client {
    peer: &'static Peer,
    reference: String,
}

impl Client {
    fn call(&self, method: &str, arguments: Value) -> Result<Value, Exception> {
        self.peer.call(&self.reference, method, &arguments)
    }
}

#[test]
fn values_exceptions_and_attachments_pass_whole() {
    each_envoy(|envoy| {
        let edit = json!({
            "set": {"x-way": "%REQ(method)% to %REQ(to)% at %UPSTREAM_HOST%: %REQ(x-text)%"},
            "addIfAbsent": {"x-text": "lost", "x-new": "new"},
            "append": {"to": "%ROUTE_NAME%"},
        });
        let service = json!({"protocol": "dubbo", "routes": [
            {
                "name": "v1", "match": [{"attributes": {"to": {"exact": "v1"}}}], "cluster": "v1",
                "requestAttachments": edit,
            },
            {
                "name": "v2", "match": [{"attributes": {"to": {"exact": "v2"}}}], "cluster": "v2",
                "requestAttachments": edit, "responseAttachments": {"set": {"x-by": "%UPSTREAM_HOST%"}},
            },
        ], "limits": {"maxFrameBytes": 16 << 20, "maxRequestBytes": 16 << 20}});
        let proxy = setup().service(&service).start(envoy);
        each_client(&proxy, "", |client| {
            for server in ["v1", "v2"] {
                let call = |method: &str, mut arguments: Value| {
                    arguments["attachments"] =
                        json!({"to": server, "x-empty": "", "x-text": "\u{e4}\u{4f60}\u{1f600}"});
                    client.call(method, arguments)
                };
                assert_eq!(call("whoami", json!({})), Ok(json!(server)));
                assert_eq!(
                    call("sayHello", json!({"text": "\u{4f60}\u{597d}\u{1f600}"})),
                    Ok(json!(format!("Hello, \u{4f60}\u{597d}\u{1f600}, from {server}")))
                );
                assert_eq!(call("nothing", json!({})), Ok(Value::Null));
                for size in [0, 70_000, 1 << 20, 8 << 20] {
                    assert_eq!(call("echoBytes", json!({"number": size})), Ok(json!(true)), "{size} bytes");
                }
                let seen = call("attachments", json!({})).unwrap();
                assert_eq!(
                    (&seen["to"], &seen["x-text"], &seen["x-new"]),
                    (&json!(format!("{server},{server}")), &json!("\u{e4}\u{4f60}\u{1f600}"), &json!("new"))
                );
                let address = if server == "v1" { PEERS.v1.1 } else { PEERS.v2.1 };
                let way = format!("attachments to {server} at {address}: \u{e4}\u{4f60}\u{1f600}");
                assert_eq!(seen["x-way"], json!(way));
                let error = call("fail", json!({"text": "on purpose"})).unwrap_err();
                assert!(
                    error.is("java.lang.IllegalStateException") && error.message == "on purpose",
                    "{error:?}"
                );
                let error = call("failChecked", json!({"text": "declared"})).unwrap_err();
                assert!(error.is("org.meltemi.demo.Refusal") && error.message == "declared", "{error:?}");
            }
        });
    });
}

#[test]
fn calls_of_one_connection_reach_both_servers_and_their_own_callers() {
    each_envoy(|envoy| {
        let proxy = setup().start(envoy);
        each_client(&proxy, "connections=1", |client| {
            let mut servers: HashMap<String, usize> = HashMap::new();
            for _ in 0..40 {
                let server = client.call("whoami", json!({})).unwrap();
                *servers.entry(server.as_str().unwrap().to_owned()).or_default() += 1;
            }
            assert!(servers.len() == 2 && servers.values().all(|calls| *calls >= 8), "{servers:?}");

            let call = |number: usize| {
                let (method, arguments) = match number % 3 {
                    0 => ("slow", json!({"number": 100})),
                    1 => ("sayHello", json!({"text": format!("caller {number}")})),
                    _ => ("echoBytes", json!({"number": 1000 + number})),
                };
                client.peer.start_call(&client.reference, method, &arguments)
            };
            let pending: Vec<_> = (0..90).map(call).collect();
            for (number, answer) in pending.into_iter().enumerate() {
                let answer = answer.wait().unwrap();
                match number % 3 {
                    1 => assert!(
                        answer.as_str().unwrap().starts_with(&format!("Hello, caller {number}, from"))
                    ),
                    2 => assert_eq!(answer, json!(true)),
                    _ => assert!(answer == "v1" || answer == "v2", "{answer}"),
                }
            }
        });
        assert_eq!(proxy.accepted(), 2, "one connection a client");
    });
}

#[test]
fn local_replies_become_dubbo_exceptions() {
    each_envoy(|envoy| {
        let service = json!({
            "protocol": "dubbo",
            "routes": [
                {"name": "slow", "match": [{"attributes": {"method": {"exact": "slow"}}}], "timeout": "300ms"},
                {"name": "dead", "match": [{"attributes": {"method": {"exact": "nothing"}}}], "cluster": "dead"},
                {"name": "closed", "match": [{"attributes": {"method": {"exact": "echoBytes"}}}],
                    "reject": {"message": "not for you"}},
                {"name": "fine", "match": [{"attributes": {"method": {"exact": "sayHello"}}}]},
            ],
            "onNoMatch": "reject",
        });
        let proxy = setup().cluster("dead", &[java::refusing_address()]).service(&service).start(envoy);
        each_client(&proxy, "", |client| {
            let error = client.call("whoami", json!({})).unwrap_err();
            assert!(
                error.is("org.apache.dubbo.rpc.RpcException") && error.code == Some(NETWORK),
                "{error:?}"
            );
            assert!(error.message.contains("route"), "{error:?}");
            let error = client.call("slow", json!({"number": 3000})).unwrap_err();
            assert!(
                error.is("org.apache.dubbo.rpc.RpcException") && error.code == Some(TIMEOUT),
                "{error:?}"
            );
            let error = client.call("nothing", json!({})).unwrap_err();
            assert!(
                error.is("org.apache.dubbo.rpc.RpcException") && error.code == Some(NETWORK),
                "{error:?}"
            );
            let error = client.call("echoBytes", json!({"number": 100})).unwrap_err();
            assert!(
                error.is("org.apache.dubbo.rpc.RpcException")
                    && error.message.contains("meltemi: not for you"),
                "{error:?}"
            );
            assert_eq!(client.call("sayHello", json!({"text": "x"})).map(|said| said.is_string()), Ok(true));
        });
    });
}

#[test]
fn one_way_calls_are_seen_by_the_server() {
    each_envoy(|envoy| {
        let proxy = setup().start(envoy);
        each_client(&proxy, "", |client| {
            let text = format!("{} on {}", client.reference, envoy.version);
            for _ in 0..10 {
                assert_eq!(client.call("note", json!({"text": text})), Ok(Value::Null));
            }
            let count = |server: &Peer| server.counts()[format!("note:{text}")].as_u64().unwrap_or(0);
            eventually("the servers have seen the notes", || {
                (count(&PEERS.v1.0) + count(&PEERS.v2.0) == 10).then_some(())
            });
        });
    });
}

#[test]
fn a_client_that_only_sends_heartbeats_stays_connected() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        let proxy = Setup::new().servers(v1.address(), v2.address()).start(envoy);
        each_client(&proxy, "heartbeat=500&heartbeat.timeout=10000", |_| ());
        // Two a second of each client: longer than they wait for answers, which no pause of a busy machine takes.
        eventually("heartbeats are answered", || {
            (proxy.metric("meltemi_heartbeats_total", &[]) >= 2 * 24).then_some(())
        });
        assert!(v1.received().is_empty() && v2.received().is_empty(), "no server sees one");
        assert_eq!(proxy.accepted(), 2, "no client had to connect again");
    });
}

/// What Dubbo 3 may choose for itself. The bodies are not Hessian: requests are routed by what the frame still says.
#[test]
fn other_serializations_pass() {
    each_envoy(|envoy| {
        let service = json!({"protocol": "dubbo", "defaultRoute": {"cluster": "v2"}});
        let proxy = setup().service(&service).start(envoy);
        let client = &PEERS.clients[1];
        let reference = format!("fastjson2 {}", envoy.version);
        client.connect(&reference, proxy.meltemi(), "serialization=fastjson2");
        let answer = client.call(&reference, "sayHello", &json!({"text": "JSON"}));
        assert_eq!(answer, Ok(json!("Hello, JSON, from v2")));
    });
}

#[test]
fn a_server_killed_under_load_costs_no_call() {
    each_envoy(|envoy| {
        let service = json!({
            "protocol": "dubbo",
            "defaultRoute": {"retry": {"attempts": 3, "on": ["connect-failure", "reset"]}},
            "retryBudget": {"percent": 100, "minRetries": 100},
        });
        let (doomed, address) = Peer::serve(java::VERSIONS[1], "doomed");
        let proxy = Setup::new().servers(PEERS.v1.1, address).service(&service).start(envoy);
        let start = |client: &Client, number: usize| {
            let arguments = json!({"number": 20 + number % 30});
            client.peer.start_call(&client.reference, "slow", &arguments)
        };
        let doomed = std::cell::Cell::new(Some(doomed));
        each_client(&proxy, "", |client| {
            let pending: Vec<_> = (0..100).map(|number| start(client, number)).collect();
            let mut servers: HashMap<String, usize> = HashMap::new();
            for (number, answer) in pending.into_iter().enumerate() {
                if number == 20 {
                    drop(doomed.take());
                }
                let server = answer.wait().unwrap();
                *servers.entry(server.as_str().unwrap().to_owned()).or_default() += 1;
            }
            assert!(servers["v1"] > 0, "{servers:?}");
        });
    });
}

/// Dubbo's clients say how long they wait, and with `enable-timeout-countdown` what servers count down.
#[test]
fn servers_are_told_what_is_left_of_a_client_s_time() {
    each_envoy(|envoy| {
        let (v1, v2) = (Backend::start("v1"), Backend::start("v2"));
        // Connections to it open, and are never answered.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let delay = json!({"delay": {"duration": "300ms"}});
        let service = json!({
            "protocol": "dubbo",
            "defaultRoute": {"cluster": "v1", "propagateDeadline": true, "fault": delay},
            "routes": [{"name": "silent", "match": [{"attributes": {"method": {"exact": "fail"}}}],
                "cluster": "silent", "propagateDeadline": true}],
        });
        let setup = Setup::new().servers(v1.address(), v2.address());
        let setup = setup.cluster("silent", &[silent.local_addr().unwrap()]);
        let proxy = setup.service(&service).start(envoy);
        each_client(
            &proxy,
            "sayHello.timeout=20000&fail.timeout=1000&enable-timeout-countdown=true",
            |client| {
                let before = v1.received().len();
                client.call("sayHello", json!({"text": "x"})).unwrap();
                let head = |frame: &Frame| {
                    let mut head = Head::new();
                    Dubbo.head(&frame.bytes(), Depth::Attachments, &mut head).ok()?;
                    (head.get("method") == Some("sayHello")).then_some(head)
                };
                let head = v1.received().iter().skip(before).find_map(head).unwrap();
                let left: u32 = head.get("_TO").unwrap_or_else(|| panic!("{head:?}")).parse().unwrap();
                assert!((10_000..=19_700).contains(&left), "{head:?}");
                assert!(head.get("timeout").is_none_or(|time| time == left.to_string()), "{head:?}");
                let before = proxy.metric("meltemi_timeouts_total", &[]);
                assert_eq!(client.call("fail", json!({"text": "x"})).unwrap_err().code, Some(TIMEOUT));
                eventually("the proxy gave it up too", || {
                    (proxy.metric("meltemi_timeouts_total", &[]) == before + 1).then_some(())
                });
            },
        );
    });
}

/// A server follows the attachments where they say something else than the front of a request.
#[test]
fn a_denied_call_cannot_be_disguised() {
    const GREETER: &str = "org.meltemi.demo.Greeter";
    const ALLOWED: &str = "org.meltemi.demo.Allowed";
    each_envoy(|envoy| {
        for (cluster, allowed) in [("v1", GREETER), ("v2", GREETER), ("v1", ALLOWED), ("v2", ALLOWED)] {
            let attributes = json!({"interface": {"exact": allowed}});
            let service = json!({
                "protocol": "dubbo",
                "routes": [{"name": "allowed", "match": [{"attributes": attributes}], "cluster": cluster}],
                "defaultRoute": {"reject": {"message": "not allowed"}},
            });
            let proxy = setup().service(&service).start(envoy);
            let mut client = meltemi_tests::Client::connect(proxy.meltemi());
            let mut ask = |interface, path| {
                let attachments = [("path", path), ("interface", path)];
                let call = Request {
                    id: 1,
                    interface,
                    version: "1.0.0",
                    method: "whoami",
                    attachments: &attachments,
                    ..Request::default()
                };
                let mut bytes = Vec::new();
                call.write(&mut bytes);
                client.send_bytes(&bytes);
                match read_answer(&client.receive().bytes()).unwrap() {
                    Answer::Value(Returned::Text(server)) => Some(server.into_owned()),
                    denied => {
                        println!("{denied:?}");
                        None
                    }
                }
            };
            let honest = ask(GREETER, GREETER);
            assert_eq!(honest.as_deref(), (allowed == GREETER).then_some(cluster));
            let disguised = [ask(ALLOWED, GREETER), ask(GREETER, ALLOWED)];
            assert_eq!(disguised, [None, None], "{cluster} with only {allowed} allowed");
        }
    });
}

/// Dubbo passes over the header alone of an answer that is too large for it, and reads what follows as answers.
#[test]
fn an_answer_too_large_for_a_client_carries_no_others() {
    each_envoy(|envoy| {
        let service = json!({"protocol": "dubbo", "routes": [
            {"name": "v2", "match": [{"attributes": {"to": {"exact": "v2"}}}], "cluster": "v2"},
        ], "defaultRoute": {"cluster": "v1"}});
        for version in java::VERSIONS {
            let (honest, hostile) = (Backend::start("v1"), Backend::start("v2"));
            honest.on("sayHello", Action::Hold);
            hostile.on("sayHello", Action::Hold);
            let setup = Setup::new().servers(honest.address(), hostile.address());
            let proxy = setup.service(&service).start(envoy);
            let client = Peer::start(version);
            client.connect("reference", proxy.meltemi(), "connections=1&payload=8388608");
            let pending = client.start_call("reference", "sayHello", &json!({"text": "x"}));
            honest.wait_for_held(1);
            let large = client.start_call(
                "reference",
                "sayHello",
                &json!({"text": "y", "attachments": {"to": "v2"}}),
            );
            hostile.wait_for_held(1);
            let request = hostile.wait_for_frame("the call", |frame| frame.call().is_some());
            let mut answer = Frame::response(request.id, &"x".into());
            answer.body = (0..1000).flat_map(|id| Frame::response(id, &"forged".into()).bytes()).collect();
            answer.body.resize(9 << 20, 0);
            hostile.send(&answer.bytes());
            assert!(large.wait().is_err(), "Dubbo {version}");
            honest.release();
            assert_eq!(pending.wait(), Ok(json!("v1:x")), "Dubbo {version}");
        }
    });
}
