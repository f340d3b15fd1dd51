//! Who may call what, on real servers: whatever a request looks like, no server carries out what the rules forbid. What a
//! server carried out, it writes down itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use meltemi_tests::forge::{Forge, OPEN, SHUT, generic, honest, smuggling};
use meltemi_tests::java::{self, Peer};
use meltemi_tests::{Client, Frame, Proxy, Setup, each_envoy, eventually};
use serde_json::{Value, json};

/// How many forged requests each server gets under each kind of rules.
const FORGED: u64 = 4000;
/// How many requests are under way at once.
const BATCH: u64 = 100;

/// Some requests break a server so that it gives no answer.
const TIMEOUT: &str = "5s";

/// Rules that deny what they name, in the form that policies are brought into.
fn denying() -> Value {
    let rules = [
        json!({"interface": {"exact": SHUT}}),
        json!({"version": {"exact": "2.0"}}),
        json!({"group": {"exact": "grp"}}),
        json!({"method": {"exact": "erase"}}),
        json!({"method": {"prefix": "$invoke"}, "genericMethod": {"exact": "erase"}}),
    ];
    let route = |(number, attributes): (usize, &Value)| json!({"name": format!("rule {number}"), "match": [{"attributes": attributes}], "reject": {"message": "denied"}});
    let routes: Vec<_> = rules.iter().enumerate().map(route).collect();
    json!({"protocol": "dubbo", "routes": routes, "defaultRoute": {"cluster": "v1", "timeout": TIMEOUT}})
}

/// Rules that deny all that they do not name.
fn allowing() -> Value {
    let matches = |method: Value| {
        json!({"attributes": {
            "interface": {"exact": OPEN},
            "version": {"regex": "|0\\.0\\.0"},
            "group": {"present": false},
            "method": method,
        }})
    };
    let mut generic = matches(json!({"exact": "$invoke"}));
    generic["attributes"]["genericMethod"] = json!({"exact": "hello"});
    let mut all: Vec<_> = ["ping", "hello", "take", "keep", "pair", "count"]
        .map(|method| matches(json!({"exact": method})))
        .into();
    all.push(generic);
    json!({"protocol": "dubbo", "routes": [{"name": "allowed", "match": all, "cluster": "v1", "timeout": TIMEOUT}],
        "defaultRoute": {"reject": {"message": "denied"}}})
}

fn start(server: SocketAddr, service: &Value, envoy: &meltemi_tests::Envoy) -> Proxy {
    Setup::new().servers(server, server).service(service).start(envoy)
}

/// Sends `forged` requests of `seed`, with an honest call before each batch, and gives the number of those.
fn send(address: SocketAddr, seed: u64, forged: u64) -> u64 {
    let mut forge = Forge::new(seed);
    let mut client = Client::connect(address);
    // The first calls take a JVM long.
    eventually("a call is answered in time", || {
        client.send_bytes(&honest(u64::MAX));
        (client.receive().status == meltemi_tests::dubbo::OK).then_some(())
    });
    let batches = forged / BATCH;
    for batch in 0..batches {
        let first = batch * (BATCH + 1);
        let mut bytes = honest(first);
        (1..=BATCH).for_each(|number| bytes.extend(forge.request(first + number)));
        client.send_bytes(&bytes);
        let mut answers = BTreeMap::new();
        while answers.len() as u64 <= BATCH {
            let answer = client.receive();
            if answer != Frame::read_only() {
                answers.insert(answer.id, answer);
            }
        }
        let answer = &answers[&first];
        assert_eq!(
            answer.status,
            meltemi_tests::dubbo::OK,
            "an honest call was not answered: {:?}",
            answer.message()
        );
    }
    batches
}

/// What `server` carried out although nobody may ask for it.
fn forbidden(ledger: &BTreeMap<String, u64>) -> Vec<&String> {
    ledger.keys().filter(|entry| !entry.starts_with("Open ") || entry.ends_with(" erase")).collect()
}

/// What the rules are tested with does mislead a server that is asked directly, where it carries on after an error.
#[test]
fn the_forged_requests_mislead_a_server_of_2_7() {
    let (server, address) = Peer::guard(java::VERSIONS[0]);
    send(address, 1, 1000);
    let ledger = server.ledger();
    for expected in ["Shut", "Shut:1.0", "grp/Shut", "Open:2.0", "grp/Open"] {
        let is_reached =
            ledger.keys().any(|entry| entry.strip_prefix(expected).is_some_and(|rest| rest.starts_with(' ')));
        assert!(is_reached, "{expected}: {ledger:?}");
    }
}

#[test]
fn no_request_makes_a_server_do_what_is_denied() {
    each_envoy(|envoy| {
        for version in java::VERSIONS {
            for (seed, (kind, rules)) in [("deny", denying()), ("allow", allowing())].into_iter().enumerate()
            {
                let (server, address) = Peer::guard(version);
                let proxy = start(address, &rules, envoy);
                let honest = send(proxy.meltemi(), seed as u64, FORGED);
                let ledger = server.ledger();
                println!("Dubbo {version}, rules that {kind}: {ledger:?}");
                assert_eq!(forbidden(&ledger), Vec::<&String>::new(), "Dubbo {version}, rules that {kind}");
                assert!(ledger["Open hello honest"] >= honest, "{ledger:?}");
                for method in ["ping", "hello", "take", "keep", "pair", "count"] {
                    assert!(ledger.contains_key(&format!("Open {method}")), "{method} of {ledger:?}");
                }
            }
        }
    });
}

/// Dubbo 2.7 remembers methods of generic calls by name and types, written one after the other: where one ends and the other
/// begins is for the first call to say.
#[test]
fn a_generic_call_cannot_move_letters_from_the_method_to_its_types() {
    each_envoy(|envoy| {
        for version in java::VERSIONS {
            let (server, address) = Peer::guard(version);
            let call = |client: &mut Client, method, kind| {
                client.send_bytes(&generic(1, method, kind));
                client.receive();
            };
            call(&mut Client::connect(address), "erase", "java.lang.String");
            let proxy = start(address, &denying(), envoy);
            let mut client = Client::connect(proxy.meltemi());
            call(&mut client, "hello", "java.lang.String");
            for (method, kind) in
                [("eras", "ejava.lang.String"), ("erasej", "ava.lang.String"), ("erasejava.lang.", "String")]
            {
                call(&mut client, method, kind);
            }
            let ledger = server.ledger();
            assert_eq!((ledger["Open hello"], ledger["Open erase"]), (1, 1), "Dubbo {version}: {ledger:?}");
        }
    });
}

/// Dubbo passes over the header alone of a request that is too large for it, and reads what follows as requests.
#[test]
fn a_request_too_large_for_a_server_carries_no_others() {
    each_envoy(|envoy| {
        for version in java::VERSIONS {
            let (server, address) = Peer::guard(version);
            let proxy = start(address, &denying(), envoy);
            for size in [1 << 20, (8 << 20) - 4096, (8 << 20) + 4096, 12 << 20] {
                let mut client = Client::connect(proxy.meltemi());
                let _ = client.try_send(&smuggling(1, size));
                let _ = client.try_receive();
            }
            let mut client = Client::connect(proxy.meltemi());
            client.send_bytes(&honest(1));
            client.receive();
            let ledger = server.ledger();
            println!("Dubbo {version}: {ledger:?}");
            assert_eq!(forbidden(&ledger), Vec::<&String>::new(), "Dubbo {version}");
        }
    });
}
