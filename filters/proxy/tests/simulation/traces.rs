//! Traces while everything else happens: retries, second tries, mirrors, calls that are held, deadlines that are written, keys,
//! new plans. Each try says the trace of its own call and of no other, and so do the log and the collector.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::THREADPOOL_EXHAUSTED;
use crate::limiter::{Say, framed};
use crate::random::Random;
use crate::servers::{Endpoint, Policy, Reply, What};
use crate::spans::spans;
use crate::world::{Ask, Setup, World, value};

const ENDPOINTS: [&str; 3] = ["10.0.0.1:20880", "10.0.0.2:20880", "10.0.0.3:20880"];
const SERVICES: [&str; 3] = ["demo", "other", "plain"];
const UPPER: [&str; 5] = ["X-B3-TraceId", "X-B3-SpanId", "X-B3-ParentSpanId", "X-B3-Sampled", "X-B3-Flags"];
const NAMES: [&str; 7] = ["traceparent", "b3", UPPER[0], UPPER[1], UPPER[2], UPPER[3], UPPER[4]];

/// How a caller says its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Nothing,
    Wrong,
    W3c,
    B3,
    Fields,
}

fn service(random: &mut Random) -> Value {
    let mut route = json!({});
    if random.chance(0.7) {
        let hedge = random.chance(0.6).then(|| json!({"after": "3ms"}));
        route["retry"] = json!({
            "attempts": 1 + random.below(4), "on": ["status", "reset", "connect-failure"],
            "statuses": [THREADPOOL_EXHAUSTED], "backoff": {"base": "2ms", "max": "9ms"}, "hedge": hedge,
        });
    }
    if random.chance(0.4) {
        route["mirrors"] = json!([{"cluster": "shadow", "percent": 60}]);
    }
    if random.chance(0.4) {
        route["fault"]["delay"] = json!({"percent": 40, "duration": "5ms"});
    }
    if random.chance(0.2) {
        route["fault"]["abort"] = json!({"percent": 10});
    }
    if random.chance(0.4) {
        route["propagateDeadline"] = json!(true);
    }
    if random.chance(0.4) {
        route["timeout"] = json!("300ms");
    }
    if random.chance(0.3) {
        route["requestAttachments"] = json!({"set": {"via": "%REQ(method)%", "to": "%UPSTREAM_HOST%"}});
    }
    let mut service = json!({
        "protocol": "dubbo", "defaultRoute": route, "upstream": {
            "maxConnectionAge": *random.pick(&["100ms", "1s", "60s"]),
            "connectionsPerEndpoint": 1 + random.below(2), "ejectionTime": "100ms",
        },
    });
    if random.chance(0.3) {
        service["upstream"]["hashBy"] = json!(["user"]);
    }
    if random.chance(0.3) {
        let attributes = json!({"user": {"exact": "nobody"}});
        service["routes"] = json!([{"name": "nobody", "match": [{"attributes": attributes}]}]);
    }
    if random.chance(0.2) {
        service["limits"] = json!({"cutThroughBytes": 1024});
    }
    service
}

fn plan(random: &mut Random) -> Value {
    let mut services = json!({});
    for name in SERVICES {
        let mut service = service(random);
        if name != "plain" {
            let tags = if random.chance(0.5) { json!({"user": {"attribute": "user"}}) } else { json!({}) };
            service["tracing"] =
                json!({"sampling": *random.pick(&[0, 50, 100]), "collector": "collector", "tags": tags});
        }
        services[name] = service;
    }
    json!({"services": services, "accessLog": {}})
}

/// What clients say beside their traces: mostly what they have said before.
fn others(random: &mut Random) -> Vec<(String, String)> {
    let sets: [&[(&str, &str)]; 6] = [
        &[],
        &[("user", "ada")],
        &[("user", "ada"), ("timeout", "250")],
        &[("user", "eve"), ("Traceparent", "x"), ("b", "é")],
        &[("user", "eve"), ("traceparenu", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")],
        &[("group", "g"), ("user", "a name that is longer than thirty-one characters"), ("z", "")],
    ];
    let set = random.below(sets.len());
    sets[set].iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

struct Said {
    form: Form,
    id: String,
    span: String,
    is_sampled: bool,
    user: String,
}

fn ask(number: usize, random: &mut Random) -> (Ask, Said) {
    let form = *random.pick(&[
        Form::Nothing,
        Form::Nothing,
        Form::Nothing,
        Form::Wrong,
        Form::W3c,
        Form::B3,
        Form::Fields,
    ]);
    let (id, span, is_sampled) =
        (format!("{:032x}", number + 1), format!("{:016x}", number + 77), random.chance(0.5));
    let flag = u8::from(is_sampled).to_string();
    let fields = match form {
        Form::Nothing => vec![],
        Form::Wrong => vec![("traceparent", format!("00-{id}-{span}"))],
        Form::W3c => vec![("traceparent", format!("00-{id}-{span}-0{flag}"))],
        Form::B3 => vec![("b3", format!("{id}-{span}-{flag}"))],
        Form::Fields => vec![(UPPER[0], id.clone()), (UPPER[1], span.clone()), (UPPER[3], flag)],
    };
    let mut attachments = others(random);
    let at = random.below(attachments.len() + 1);
    for (name, value) in fields {
        attachments.insert(at, (name.to_owned(), value));
    }
    let user = attachments.iter().find(|(name, _)| name == "user").map(|(_, user)| user.clone());
    let size = if random.chance(0.1) { random.size(20_000) } else { random.size(300) };
    let mut ask = Ask::new(["echo", "find", "late"][random.below(3)]).size(size);
    ask.attachments = attachments;
    if random.chance(0.1) {
        ask = ask.one_way();
    }
    (ask, Said { form, id, span, is_sampled, user: user.unwrap_or_default() })
}

/// Of a try: trace, span, and whether it is sampled.
fn told(form: Form, attachments: &[(String, String)]) -> (String, String, bool) {
    let get = |name| value(attachments, name).unwrap_or_else(|| panic!("no {name} in {attachments:?}"));
    match form {
        Form::Nothing | Form::Wrong | Form::W3c => {
            let text = get("traceparent");
            let parts: Vec<_> = text.split('-').collect();
            assert!(text.len() == 55 && parts[0] == "00", "{text}");
            (parts[1].to_owned(), parts[2].to_owned(), parts[3] == "01")
        }
        Form::B3 => {
            let parts: Vec<_> = get("b3").split('-').collect();
            (parts[0].to_owned(), parts[1].to_owned(), parts[2] == "1")
        }
        Form::Fields => (get(UPPER[0]).to_owned(), get(UPPER[1]).to_owned(), get(UPPER[3]) == "1"),
    }
}

fn plain(attachments: &[(String, String)], is_traced: bool) -> Vec<(String, String)> {
    let own =
        |name: &str| name == "via" || name == "to" || name == "timeout" || is_traced && NAMES.contains(&name);
    let mut rest: Vec<_> = attachments.iter().filter(|(name, _)| !own(name)).cloned().collect();
    rest.sort();
    rest
}

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let first = plan(&mut random);
    let delay = *random.pick(&[1000, 100_000, 1_000_000]);
    let mut world = World::new(Setup { seed, plan: first.clone(), delay, ..Setup::default() });
    world.cluster(
        "demo",
        &ENDPOINTS,
        *random.pick(&[Policy::RoundRobin, Policy::Random, Policy::LeastRequest, Policy::Ring]),
    );
    world.cluster("shadow", &["10.0.1.1:20880"], Policy::RoundRobin);
    world.limiter_cluster("collector", &["10.0.9.1:4317"]);
    world.judge(|_, _| (Duration::from_millis(1), Say::Body(framed(&[]))));
    world.serve(|arrival, random| {
        let after =
            Duration::from_micros(random.between(0..if arrival.method == "late" { 20_000 } else { 3000 }));
        let what = match random.below(20) {
            0 | 1 => What::Error(THREADPOOL_EXHAUSTED),
            2 if arrival.times == 1 => What::Reset,
            3 if arrival.times == 1 => What::Nothing,
            _ => What::Echo(0),
        };
        Reply { after, what }
    });
    let clients: Vec<(usize, &str)> = (0..4)
        .map(|number| SERVICES[number % 3])
        .map(|name| (world.connect_to(name, "demo"), name))
        .collect();
    let mut said: BTreeMap<usize, (Said, &str)> = BTreeMap::new();
    for _ in 0..60 {
        let (client, name) = *random.pick(&clients);
        let asks: Vec<_> =
            (0..1 + random.below(5)).map(|more| ask(world.calls.len() + more, &mut random)).collect();
        let (asks, what): (Vec<_>, Vec<_>) = asks.into_iter().unzip();
        if !world.can_call(client) {
            continue;
        }
        let calls = world.call_all(client, asks);
        said.extend(calls.into_iter().zip(what.into_iter().map(|what| (what, name))));
        match random.below(30) {
            0 => {
                let plan = plan(&mut random);
                world.set_plan(&plan);
            }
            1 => {
                let endpoint = *random.pick(&ENDPOINTS);
                world.kill(endpoint);
                world.after(Duration::from_millis(15), move |world| {
                    world.set_endpoint(endpoint, Endpoint::Up)
                });
            }
            2 => {
                for stream in world.manager.streams_to(ENDPOINTS[0]) {
                    world.close_upstream(stream, true);
                }
            }
            _ => {}
        }
        world.run_for(Duration::from_micros(random.between(0..6000)));
    }
    world.run_for(Duration::from_secs(2));
    for endpoint in ENDPOINTS.into_iter().chain(["10.0.1.1:20880"]) {
        for stream in world.manager.streams_to(endpoint) {
            world.close_upstream(stream, true);
        }
    }
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.sum(Metric::InFlight), 0, "seed {seed}");

    let mut spans_told = BTreeMap::new();
    let mut begun: BTreeMap<String, usize> = BTreeMap::new();
    for (number, call) in world.calls.iter().enumerate() {
        let (said, name) = &said[&number];
        let is_traced = *name != "plain";
        assert!(call.ask.is_one_way || call.answer.is_some(), "seed {seed} call {number}");
        for delivery in &call.deliveries {
            assert_eq!(
                plain(&call.ask.attachments, is_traced),
                plain(&delivery.attachments, is_traced),
                "seed {seed} call {number}"
            );
            if !is_traced {
                continue;
            }
            let (id, span, is_sampled) = told(said.form, &delivery.attachments);
            match said.form {
                Form::Nothing | Form::Wrong => {
                    assert_ne!(id, said.id);
                    assert_eq!(*begun.entry(id.clone()).or_insert(number), number, "seed {seed}");
                }
                _ => assert_eq!((&id, is_sampled), (&said.id, said.is_sampled), "seed {seed} call {number}"),
            }
            assert_ne!(span, said.span);
            let earlier = spans_told.insert(span, (id, is_sampled, number));
            assert!(earlier.is_none(), "seed {seed} call {number}");
        }
        let ids: BTreeSet<_> = begun.iter().filter(|(_, of)| **of == number).collect();
        assert!(ids.len() <= 1, "seed {seed} call {number}: {ids:?}");
    }
    // The log.
    let peers: BTreeMap<String, usize> =
        clients.iter().map(|(client, _)| (format!("192.0.2.1:{}", 40_000 + client), *client)).collect();
    let mut lines = 0;
    for line in world.metrics.replies.iter().filter(|line| matches!(line.event, "call" | "local_reply")) {
        let client = peers[line.peer.as_deref().expect("a peer")];
        // Requests have their numbers by order.
        let mut of_client = (0..world.calls.len()).filter(|call| world.calls[*call].client == client);
        let number = of_client.nth(line.request_id as usize - 1 - 1000 * client).expect("a call");
        let (said, name) = &said[&number];
        lines += 1;
        let trace = line.trace_id.as_deref();
        match said.form {
            _ if *name == "plain" => assert_eq!(trace, None, "seed {seed} call {number}"),
            Form::Nothing | Form::Wrong => {
                let of = *begun.entry(trace.expect("a trace").to_owned()).or_insert(number);
                assert_eq!(of, number, "seed {seed}");
            }
            _ => assert_eq!(trace, Some(&*said.id), "seed {seed} call {number}"),
        }
    }
    assert!(lines >= world.calls.len() / 2, "{lines}");
    // The collector.
    let all = spans(&world);
    let mut known = BTreeSet::new();
    for span in &all {
        assert!(known.insert(span.id.clone()), "seed {seed}: {span:?}");
        let of = said
            .values()
            .find(|(said, _)| !matches!(said.form, Form::Nothing | Form::Wrong) && said.id == span.trace);
        let parent = of.map_or("", |(said, _)| &said.span);
        assert_eq!(span.parent, parent, "seed {seed}");
        assert!(of.is_none_or(|(said, _)| said.is_sampled), "seed {seed}");
        assert!(of.is_some() || begun.contains_key(&span.trace), "seed {seed}: {span:?}");
        let number =
            of.map_or_else(|| begun[&span.trace], |(of, _)| usize::from_str_radix(&of.id, 16).unwrap() - 1);
        if span.attributes.contains_key("user") {
            assert_eq!(span.of("user"), said[&number].0.user, "seed {seed}");
        }
        if let Some((id, _, of)) = spans_told.get(&span.id) {
            assert_eq!((id, *of), (&span.trace, number), "seed {seed}");
        }
    }
    let missing = spans_told.iter().filter(|(id, (_, is_sampled, _))| *is_sampled && !known.contains(*id));
    let missing: Vec<_> = missing.collect();
    assert_eq!(missing, [], "seed {seed}");
    assert!(!all.is_empty());
}

#[test]
fn each_try_says_the_trace_of_its_own_call() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match number("MELTEMI_SEED") {
        Some(seed) => run(seed),
        None => (0..number("MELTEMI_RUNS").unwrap_or(50)).for_each(run),
    }
}
