//! Aeraki's demonstrations and examples do in real Envoys what they are there to show: what the generator makes of each is the
//! plan, and calls as the demonstration's own client makes them must meet what it asks for. They lie beside a folder above this
//! one, as `shared/aeraki`; where there is no copy, nothing is tried. Those of Redis are in the tests of Redis.

mod wire;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use meltemi::generate::{IstioVersion, Options, generate};
use meltemi::world::{World, documents};
use meltemi_tests::limiter::Limiter;
use meltemi_tests::{Envoy, Proxy, Setup, each_envoy, eventually};
use serde_json::{Value, json};

use wire::{Client, Server, layout};

const MODULE: &str = "oci://registry.example.org/meltemi@sha256:6f0d0c2b0a8f4f2f9d6d3a9f0b1c2d3e4f5061728394a5b6c7d8e9f001122334";

/// How the names of the demonstrations of a protocol begin.
const PROTOCOLS: [(&str, &[&str]); 6] = [
    (
        "dubbo",
        &[
            "dubbo-plugin--",
            "e2e-dubbo--",
            "e2e-metaprotocol--",
            "metaprotocol-dubbo--",
            "metaprotocol-dubbo-app-level--",
        ],
    ),
    ("thrift", &["thrift-plugin--", "e2e-thrift--", "e2e-gateway--", "metaprotocol-thrift--"]),
    ("trpc", &["metaprotocol-trpc--"]),
    ("brpc", &["metaprotocol-brpc--"]),
    ("qza", &["metaprotocol-qza--"]),
    ("videopacket", &["metaprotocol-videopacket--"]),
];

/// Those whose codecs only their owners have: layouts stand in for them.
const PRIVATE: [&str; 2] = ["qza", "videopacket"];

/// Examples that are in no demonstration: each is put in the place of the last object of one.
const EXAMPLES: [(&str, &str); 8] = [
    ("bboshiZ_demo_metaprotocol_thrift_metarouter_local_ratelimit", "metaprotocol-thrift--metarouter-v1"),
    ("website_en_docs_v1.x_tutorials_local_rate_limit.md.1", "metaprotocol-thrift--metarouter-v1"),
    ("website_en_docs_v1.x_tutorials_local_rate_limit.md.2", "metaprotocol-thrift--metarouter-v1"),
    ("website_en_docs_v1.x_tutorials_local_rate_limit.md.3", "metaprotocol-thrift--metarouter-v1"),
    ("website_zh_docs_v1.x_tutorials_traffic_mirroring.md.1", "metaprotocol-dubbo--metarouter-v1"),
    ("bboshiZ_demo_metaprotocol_trpc_metarouter_v1", "metaprotocol-trpc--metarouter-v1"),
    ("bboshiZ_demo_metaprotocol_trpc_metarouter_v2", "metaprotocol-trpc--metarouter-v1"),
    // The host is of another demonstration.
    ("bboshiZ_test_e2e_metaprotocol_testdata_metarouter_v1", "e2e-metaprotocol--metarouter-v2"),
];

/// What is seen of a demonstration.
#[derive(Debug, Clone, Copy)]
enum Effect {
    /// All calls of a method go to one server, by its number.
    To(&'static [(&'static str, usize)]),
    /// Nothing is asked for: both servers are called.
    Both,
    /// So many calls out of a hundred go to the first server.
    Split(u32),
    /// The second server gets copies of at least and at most so many calls out of a hundred.
    Mirror(usize, usize),
    /// Servers see an entry that the client did not send.
    Mutation,
    /// A server takes so many calls of a method.
    Limit(&'static str, usize),
    /// All servers together take what the rate limit service lets pass.
    GlobalLimit,
    /// Calls of one method go to one server.
    Hash,
    /// A server that fails five calls gets no more.
    Outlier,
}

/// The first that is in a name says what there is to see.
const EFFECTS: [(&str, Effect); 21] = [
    ("rate-limit-server", Effect::Both),
    ("global-ratelimit", Effect::GlobalLimit),
    ("qza--metarouter-rate-limit", Effect::Limit("sayHello", 5)),
    ("local-ratelimit", Effect::Limit("sayHello", 2)),
    ("local_ratelimit", Effect::Limit("sayHello", 2)),
    ("local_rate_limit.md.1", Effect::Limit("sayHello", 2)),
    ("local_rate_limit.md.2", Effect::Limit("sayHello", 10)),
    ("local_rate_limit.md.3", Effect::Limit("ping", 100)),
    ("hash-lb", Effect::Hash),
    ("outlier", Effect::Outlier),
    ("e2e-metaprotocol--traffic-mirroring", Effect::Mirror(20, 80)),
    ("traffic_mirroring.md.1", Effect::To(&[("sayHello", 0)])),
    ("mirroring", Effect::Mirror(100, 100)),
    ("e2e-thrift--virtualservice-traffic-splitting", Effect::Split(30)),
    ("traffic-split", Effect::Split(20)),
    ("mutation", Effect::Mutation),
    ("multi-route", Effect::To(&[("v1", 0), ("v2", 1)])),
    ("attribute-", Effect::To(&[("sayHello01", 0), ("sayHello", 1)])),
    ("method-", Effect::To(&[("sayHello01", 0), ("sayHello", 1)])),
    ("v2", Effect::To(&[("sayHello", 1)])),
    ("v1", Effect::To(&[("sayHello", 0)])),
];

/// Those of which the names say less.
const OTHERS: [(&str, Effect); 4] = [
    ("e2e-dubbo--virtualservice-header-exact", Effect::To(&[("sayHello", 1)])),
    ("e2e-gateway--metarouter", Effect::Both),
    ("metaprotocol-brpc--destinationrule", Effect::Both),
    ("metaprotocol-brpc--serviceentry", Effect::Both),
];

fn effect(name: &str) -> Effect {
    let exact = OTHERS.iter().find(|(known, _)| *known == name);
    let found = exact.or_else(|| EFFECTS.iter().find(|(part, _)| name.contains(part)));
    found.unwrap_or_else(|| panic!("what is {name} to show?")).1
}

/// The files of a folder of the copy, by their names.
fn files(folder: &str) -> BTreeMap<String, PathBuf> {
    let Some(folder) = meltemi_tests::files::aeraki(folder) else { return BTreeMap::new() };
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path)).collect()
}

fn objects(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    documents("demo.yaml", &text).unwrap().into_iter().map(|document| document.object).collect()
}

/// The demonstrations and examples of a protocol: their names, and what is in the cluster then.
fn demonstrations(protocol: &str) -> BTreeMap<String, Vec<Value>> {
    let starts = PROTOCOLS.iter().find(|(name, _)| *name == protocol).unwrap().1;
    let is_of_it = |name: &str| starts.iter().any(|start| name.starts_with(start));
    let demos: BTreeMap<_, _> = files("demos").into_iter().filter(|(name, _)| is_of_it(name)).collect();
    let mut all: BTreeMap<_, _> = demos.iter().map(|(name, path)| (name.clone(), objects(path))).collect();
    let examples = files("examples");
    for (example, demo) in EXAMPLES.iter().filter(|(_, demo)| demos.contains_key(*demo)) {
        let mut world = all[*demo].clone();
        let replaced = world.pop().unwrap();
        let mut own = objects(&examples[*example]);
        own[0]["metadata"]["namespace"] = replaced["metadata"]["namespace"].clone();
        all.insert((*example).to_owned(), [world, own].concat());
    }
    if let Some(rule) = all.remove("e2e-metaprotocol--consistent-hash-lb_destinationrule") {
        // One applies both files, and the rule takes the place of the one with the versions.
        let routed = all.get_mut("e2e-metaprotocol--consistent-hash-lb_metarouter-sample").unwrap();
        routed.retain(|object| object["kind"] != "DestinationRule");
        routed.extend(rule.into_iter().filter(|object| object["kind"] == "DestinationRule"));
    }
    if PRIVATE.contains(&protocol) {
        let spec = json!({"protocol": protocol, "layout": layout(protocol)});
        let metadata = json!({"name": protocol});
        let own = json!({"apiVersion": "meltemi.io/v1alpha1", "kind": "ApplicationProtocol", "metadata": metadata, "spec": spec});
        all.values_mut().for_each(|world| world.push(own.clone()));
    }
    all
}

/// The service that servers see, or else that clients do, of which a gateway's comes first.
fn service(world: &[Value], is_inbound: bool) -> Value {
    let mut read = World::default();
    world.iter().for_each(|object| assert!(read.add(object).unwrap(), "{object}"));
    let output = generate(&read, &Options::new(IstioVersion(30), MODULE.to_owned()));
    let mut found = BTreeMap::new();
    for object in output.objects {
        let plan = &json!(object.spec)["pluginConfig"];
        found.extend(plan["services"].as_object().cloned().into_iter().flatten());
    }
    let mut of_side = found.into_iter().filter(|(name, _)| name.starts_with("inbound.") == is_inbound);
    of_side.next().expect("a service").1
}

/// One demonstration with its servers.
struct Show<'a> {
    name: &'a str,
    effect: Effect,
    service: Value,
    servers: [Server; 2],
    limiter: Option<Limiter>,
}

impl<'a> Show<'a> {
    fn new(name: &'a str, protocol: &'static str, world: &[Value]) -> Self {
        let effect = effect(name);
        let is_inbound = matches!(effect, Effect::Limit(..) | Effect::GlobalLimit);
        let limiter = matches!(effect, Effect::GlobalLimit).then(|| {
            let limits = "{domain: production, descriptors: [{key: method, value: sayHello, rate_limit: {unit: year, requests_per_unit: 5}}]}";
            Limiter::start(limits, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        });
        let mut service = service(world, is_inbound);
        if is_inbound {
            // A server's sidecar has one server.
            service["defaultRoute"] = json!({"cluster": "outbound|0|v1|"});
        }
        // Its clusters are those of this test: `v1` of the demonstration in place of `outbound|9090|v1|host`.
        let text = service.to_string();
        let parts = text.split('"').map(|part| match part.split('|').collect::<Vec<_>>()[..] {
            ["outbound", "8081", ..] => cluster("limiter", name),
            ["outbound", _, "", _] => cluster("demo", name),
            ["outbound", _, subset, _] => cluster(subset, name),
            _ => part.to_owned(),
        });
        let service = serde_json::from_str(&parts.collect::<Vec<_>>().join("\"")).unwrap();
        let is_broken = matches!(effect, Effect::Outlier);
        let servers = [false, is_broken].map(|is_broken| Server::start(protocol, is_broken));
        Self { name, effect, service, servers, limiter }
    }

    fn add_clusters(&self, setup: Setup) -> Setup {
        let [v1, v2] = [0, 1].map(|server| self.servers[server].address);
        let mut clusters = vec![("demo", vec![v1, v2]), ("sample", vec![v1, v2])];
        clusters.extend([("v1", vec![v1]), ("batchjob", vec![v1]), ("v2", vec![v2]), ("user", vec![v2])]);
        clusters.extend(self.limiter.iter().map(|limiter| ("limiter", vec![limiter.address()])));
        clusters.iter().fold(setup, |setup, (of, servers)| setup.cluster(&cluster(of, self.name), servers))
    }

    fn calls(&self) -> [usize; 2] {
        self.servers.each_ref().map(Server::calls)
    }

    /// Makes so many calls, which all are answered; how many each server had.
    fn reached(&self, client: &mut Client, method: &str, count: usize) -> [usize; 2] {
        let before = self.calls();
        assert_eq!(client.passed(method, count), count, "{}", self.name);
        let after = self.calls();
        [0, 1].map(|server| after[server] - before[server])
    }

    fn run(&self, client: &mut Client) {
        let name = self.name;
        match self.effect {
            Effect::To(wanted) => {
                for (method, server) in wanted {
                    let reached = self.reached(client, method, 20);
                    assert_eq!(reached[*server], 20, "{name}: {method} went to {reached:?}");
                }
            }
            Effect::Both => {
                let reached = self.reached(client, "sayHello", 60);
                assert!(reached[0] > 0 && reached[1] > 0, "{name}: {reached:?}");
            }
            Effect::Split(percent) => {
                const CALLS: u32 = 400;
                let reached = self.reached(client, "sayHello", CALLS as usize);
                let share = f64::from(percent) / 100.0;
                let deviation = (f64::from(CALLS) * share * (1.0 - share)).sqrt();
                let far = (reached[0] as f64 - f64::from(CALLS) * share).abs() / deviation;
                assert!(far < 6.5 && reached[0] + reached[1] == CALLS as usize, "{name}: {reached:?}");
            }
            Effect::Mirror(least, most) => {
                assert_eq!(client.passed("sayHello", 100), 100, "{name}");
                assert_eq!(self.calls()[0], 100, "{name}");
                eventually("copies arrive", || (self.calls()[1] >= least).then_some(()));
                assert!(self.calls()[1] <= most, "{name}: {:?}", self.calls());
            }
            Effect::Mutation => {
                let reached = self.reached(client, "sayHello", 20);
                for (server, _) in reached.iter().enumerate().filter(|(_, calls)| **calls > 0) {
                    assert_eq!(self.servers[server].foo1().as_deref(), Some("bar1"), "{name}");
                }
            }
            Effect::Limit(method, most) => {
                assert_eq!(client.passed(method, most + 5), most, "{name}");
                assert_eq!(self.calls(), [most, 0], "{name}");
            }
            Effect::GlobalLimit => {
                let failures: Vec<String> = (0..15).filter_map(|_| client.call("sayHello").err()).collect();
                // A busy machine may take more than the 100 ms that the demonstration has for a decision.
                let is_late = |failure: &&String| failure.contains("did not answer in time");
                let (passed, late) = (15 - failures.len(), failures.iter().filter(is_late).count());
                assert!(passed <= 5 && passed + late >= 5, "{name}: {passed} passed, {failures:?}");
                assert!(
                    failures.iter().any(|failure| failure.contains("the domain production")),
                    "{failures:?}"
                );
                assert_eq!(self.calls(), [passed, 0], "{name}");
                assert_eq!(client.call("other"), Ok(()), "{name}");
            }
            Effect::Hash => {
                let mut used = [0; 2];
                for method in 0..60 {
                    let reached = self.reached(client, &format!("method{method}"), 4);
                    assert!(reached.contains(&4), "{name}: {reached:?}");
                    used = [used[0] + reached[0], used[1] + reached[1]];
                }
                assert!(!used.contains(&0), "{name}: {used:?}");
            }
            Effect::Outlier => {
                assert_eq!(client.passed("sayHello", 60), 55, "{name}");
                assert_eq!(self.calls(), [55, 5], "{name}");
            }
        }
    }
}

/// The cluster of a demonstration.
fn cluster(of: &str, name: &str) -> String {
    format!("{of} of {name}")
}

/// An Envoy with a listener for each demonstration.
fn start(envoy: &Envoy, protocol: &str, shows: &[Show<'_>]) -> Proxy {
    let services: BTreeMap<_, _> = shows.iter().map(|show| (show.name, &show.service)).collect();
    let mut plan = json!({"services": services});
    if PRIVATE.contains(&protocol) {
        plan["protocols"] = json!({protocol: layout(protocol)});
    }
    let setup = shows.iter().fold(Setup::new().plan(&plan), |setup, show| show.add_clusters(setup));
    let setup = setup.change(|bootstrap| {
        let resources = &mut bootstrap["static_resources"];
        for cluster in resources["clusters"].as_array_mut().unwrap() {
            // Istio makes rings of those with a hash.
            if cluster["name"].as_str().unwrap().contains("hash-lb") {
                cluster["lb_policy"] = json!("RING_HASH");
            }
        }
        let listeners = resources["listeners"].as_array_mut().unwrap();
        let mut demo = listeners.iter().find(|listener| listener["name"] == "demo").unwrap().clone();
        for show in shows {
            demo["name"] = json!(show.name);
            let tunnel = &mut demo["filter_chains"][0]["filters"][0]["typed_config"]["tunneling_config"];
            tunnel["hostname"] = json!(show.name);
            tunnel["headers_to_add"][0]["header"]["value"] = json!(cluster("demo", show.name));
            listeners.push(demo.clone());
        }
    });
    setup.start(envoy)
}

fn show(protocol: &'static str) {
    let all = demonstrations(protocol);
    each_envoy(|envoy| {
        let shows: Vec<_> = all.iter().map(|(name, world)| Show::new(name, protocol, world)).collect();
        let proxy = start(envoy, protocol, &shows);
        for show in &shows {
            println!("{}: {:?}", show.name, show.effect);
            show.run(&mut Client::connect(proxy.listener(show.name), protocol));
        }
    });
}

#[test]
fn those_of_dubbo() {
    show("dubbo");
}

#[test]
fn those_of_thrift() {
    show("thrift");
}

#[test]
fn those_of_trpc_and_brpc() {
    show("trpc");
    show("brpc");
}

#[test]
fn those_of_private_protocols() {
    show("qza");
    show("videopacket");
}

#[test]
fn none_is_left_out() {
    let is_shown =
        |name: &str| PROTOCOLS.iter().any(|(_, starts)| starts.iter().any(|start| name.starts_with(start)));
    for name in
        files("demos").keys().filter(|name| !name.starts_with("redis--") && !name.starts_with("e2e-redis--"))
    {
        assert!(is_shown(name), "{name}");
    }
}
