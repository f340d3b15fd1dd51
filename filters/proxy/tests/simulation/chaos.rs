//! Thousands of runs, each with a plan, peers and mishaps of its own, all from one seed: whatever happens, every call
//! gets exactly one answer, its own.
//!
//! `MELTEMI_SEED=<n>` repeats one run, `MELTEMI_RUNS=<n>` makes so many.

use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::Value;

use crate::counts::{SHADOWS, check_copies, check_counts};
use crate::dubbo::{SERVER_ERROR, SERVER_TIMEOUT, SERVICE_ERROR, THREADPOOL_EXHAUSTED};
use crate::limiter::Say;
use crate::mixed;
use crate::random::Random;
use crate::scene::Scene;
use crate::servers::{Endpoint, Policy, Reply, What};
use crate::siege::{LINGER, check_leavers, lay_siege};
use crate::wire::Message;
use crate::world::{Ask, World};

#[derive(Debug, Clone, Copy)]
enum Mishap {
    Kill,
    Refuse,
    Silence,
    CloseConnection,
    ResetConnection,
    ReadOnly,
    Heartbeat,
    ClientLeaves,
    ClientHalfCloses,
    ClientStops,
    SlowClient,
    SlowServer,
    NewPlan,
}

fn run(seed: u64) {
    let mut random = Random::new(seed);
    let scene = Scene::new(seed, &mut random);
    let blame = Blame(&scene);
    let mut world = World::new(scene.setup(&mut random));
    let endpoints: Vec<&str> = scene.endpoints.iter().map(String::as_str).collect();
    let policies = [Policy::RoundRobin, Policy::Random, Policy::LeastRequest];
    let policy = |random: &mut Random| match *random.pick(&policies) {
        _ if scene.hashes => Policy::Ring,
        policy => policy,
    };
    world.cluster("demo", &endpoints, policy(&mut random));
    world.cluster("v2", &["10.0.1.1:20880", "10.0.1.2:20880"], policy(&mut random));
    world.cluster("shadow", &SHADOWS, policy(&mut random));
    if scene.is_superseded {
        world.after(scene.in_span(&mut random), World::supersede);
    }
    if scene.asks.is_some() {
        judge(&mut world, &mut random);
    }
    world.manager.connect_time = (50_000, *random.pick(&[60_000, 5_000_000, 60_000_000]));
    serve(&mut world, &scene, &mut random);
    if scene.is_mixed {
        mixed::come(&mut world, &scene, &mut random);
    }
    make_calls(&mut world, &scene, &mut random);
    if !scene.is_calm {
        for _ in 0..random.below(12) {
            let mishap = *random.pick(&[
                Mishap::Kill,
                Mishap::Refuse,
                Mishap::Silence,
                Mishap::CloseConnection,
                Mishap::ResetConnection,
                Mishap::ReadOnly,
                Mishap::Heartbeat,
                Mishap::ClientLeaves,
                Mishap::ClientHalfCloses,
                Mishap::ClientStops,
                Mishap::ClientStops,
                Mishap::SlowClient,
                Mishap::SlowServer,
                Mishap::NewPlan,
            ]);
            // The connection of a client of which nothing is known has no time-out but Envoy's.
            let mishap = match mishap {
                Mishap::Silence if scene.is_mixed => Mishap::Refuse,
                mishap => mishap,
            };
            let plan = scene.plan(random.chance(0.5));
            world.after(scene.in_span(&mut random), move |world| happen(world, mishap, plan));
        }
        for _ in 0..if scene.is_besieged { 1 + random.below(3) } else { 0 } {
            let most = scene.most_calls_of_client;
            world.after(scene.in_span(&mut random), move |world| lay_siege(world, most));
        }
        if scene.goes_away && random.chance(0.4) {
            let at = scene.in_span(&mut random);
            world.after(at, |world| {
                let streams: Vec<u32> = world.manager.connections.keys().copied().collect();
                let last = world.random.below(streams.len() + 1);
                let last =
                    streams.get(last).map_or(world.manager.http2.last_peer_stream(), |stream| stream - 1);
                world.lose_streams_after(last);
            });
        } else if scene.goes_away {
            let (at, later) = (scene.in_span(&mut random), Duration::from_millis(random.between(0..300)));
            match random.chance(0.7) {
                true => world.after(at, move |world| {
                    world.give_notice();
                    world.after(later, World::go_away);
                }),
                false => world.after(at, World::go_away),
            }
        }
    }
    world.run_for(Duration::from_millis(scene.span));
    if !scene.is_calm {
        heal(&mut world);
    }
    // Large answers through windows of a hundred bytes take their time.
    for _ in 0..20 {
        world.run_for(Duration::from_secs(30));
        if world
            .calls
            .iter()
            .all(|call| call.ask.is_one_way || call.answer.is_some() || is_gone(&world, call.client))
        {
            break;
        }
    }
    check_calls(&world, &scene);
    mixed::check(&world, &scene);
    quiet_down(&mut world, &scene);
    drop(blame);
}

fn is_gone(world: &World, client: usize) -> bool {
    let client = &world.proxy.clients[client];
    client.left_at.is_some() || client.broke_at.is_some()
}

/// A client that was passed through, or that its server left before anything was known of it, is closed as by that server.
fn is_lost_unread(world: &World, scene: &Scene, key: usize) -> bool {
    let client = &world.proxy.clients[key];
    let mut calls = world.calls.iter().filter(|call| call.client == key);
    let is_lost = client.closed_at.is_some() && !scene.is_calm && scene.is_mixed;
    is_lost && (client.hears_server || calls.all(|call| call.deliveries.is_empty()))
}

/// Servers that answer late, fail, or never answer.
fn serve(world: &mut World, scene: &Scene, random: &mut Random) {
    let slowest = random.between(1..40);
    let (is_calm, error) = (scene.is_calm, if scene.protocol == "dubbo" { SERVER_ERROR } else { 8 });
    let trouble = if is_calm { 0.0 } else { *random.pick(&[0.0, 0.05, 0.3]) };
    let more = if scene.is_light { 0 } else { 50_000 };
    let last = if scene.has_last { 0.1 } else { 0.0 };
    let attach = if scene.sets_attachments { 0.5 } else { 0.0 };
    world.serve(move |arrival, random| {
        let times = if arrival.method == LINGER { 100_000..400_000 } else { 0..slowest * 1000 };
        let after = Duration::from_micros(random.between(times));
        let what = match random.chance(trouble) {
            true if random.chance(last) => What::Last(Some(Duration::from_micros(random.between(0..3000)))),
            true => random
                .pick(&[
                    What::Error(error),
                    What::Error(error),
                    What::Nothing,
                    What::Close,
                    What::Reset,
                    What::Torn(7),
                ])
                .clone(),
            false if random.chance(attach) => What::Attach(vec![("load".to_owned(), "7".to_owned())]),
            false if random.chance(last) => What::Last(None),
            false if more > 0 && random.chance(0.05) => What::Halting(random.below(10)),
            false => What::Echo(if random.chance(0.1) { random.below(more) } else { 0 }),
        };
        Reply { after, what }
    });
}

/// A rate limit service that is late, lies and fails.
fn judge(world: &mut World, random: &mut Random) {
    world.limiter_cluster("limiter", &["10.0.9.1:8081", "10.0.9.2:8081"]);
    let trouble = *random.pick(&[0.0, 0.1, 0.5]);
    world.judge(move |_, random| {
        let wrong = [
            Say::Nothing,
            Say::Over(0),
            Say::Over(1),
            Say::Body(vec![0, 0, 0, 0, 9, 1]),
            Say::Status(14),
            Say::ResetStream,
            Say::Close(true),
            Say::Close(false),
            Say::GoAway,
            Say::Garbage,
        ];
        let say = if random.chance(trouble) { random.pick(&wrong).clone() } else { Say::Ok };
        (Duration::from_micros(random.between(0..25_000)), say)
    });
}

fn make_calls(world: &mut World, scene: &Scene, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let calls = 1 + random.below(15);
        let mut times: Vec<_> = (0..calls).map(|_| scene.in_span(random)).collect();
        times.sort_unstable();
        let bursts: Vec<Vec<Ask>> =
            times.iter().map(|_| (0..random.size(6)).map(|_| scene.ask(random)).collect()).collect();
        let start = if random.chance(0.5) { Duration::ZERO } else { times[0] / 2 };
        let is_mixed = scene.is_mixed;
        world.after(start, move |world| {
            let client = if is_mixed { mixed::connect(world) } else { world.connect() };
            for (time, asks) in times.into_iter().zip(bursts) {
                world.after(time - start.min(time), move |world| {
                    if !world.can_call(client) {
                    } else if is_mixed && world.random.chance(0.3) {
                        let calls = asks.into_iter().map(|ask| world.prepare(client, ask).1);
                        let bytes = calls.collect::<Vec<_>>().concat();
                        mixed::write_slowly(world, client, bytes);
                    } else {
                        world.call_all(client, asks);
                    }
                });
            }
        });
    }
}

fn happen(world: &mut World, mishap: Mishap, plan: Value) {
    let endpoints: Vec<String> = world.manager.endpoints.keys().cloned().collect();
    let endpoint = world.random.pick(&endpoints).clone();
    let streams = world.manager.streams_to(&endpoint);
    let stream = if streams.is_empty() { None } else { Some(*world.random.pick(&streams)) };
    let client = world.random.below(world.proxy.clients.len());
    let has_client = world.can_call(client);
    let has_caller = has_client && world.proxy.clients[client].is_caller();
    let later = Duration::from_millis(world.random.between(1..300));
    match mishap {
        Mishap::Kill => {
            world.kill(&endpoint);
            world.after(later, move |world| world.set_endpoint(&endpoint, Endpoint::Up));
        }
        Mishap::Refuse | Mishap::Silence => {
            let state = if matches!(mishap, Mishap::Refuse) { Endpoint::Refusing } else { Endpoint::Silent };
            world.set_endpoint(&endpoint, state);
            world.after(later, move |world| world.set_endpoint(&endpoint, Endpoint::Up));
        }
        Mishap::CloseConnection => stream.into_iter().for_each(|stream| world.close_upstream(stream, true)),
        Mishap::ResetConnection => stream.into_iter().for_each(|stream| world.close_upstream(stream, false)),
        Mishap::ReadOnly | Mishap::Heartbeat => {
            let message = match mishap {
                Mishap::ReadOnly => Message::ReadOnly,
                _ => Message::Heartbeat { id: 5 },
            };
            let can_hear = |stream: &u32| {
                let is_alike = world.manager.greetings.is_empty();
                is_alike || world.manager.connections[stream].has_protocol()
            };
            if let Some(stream) = stream.filter(can_hear) {
                let bytes = world.manager.connections[&stream].wire.bytes(&message);
                world.write_upstream(stream, &bytes);
            }
            if has_caller {
                world.heartbeat(client);
            }
        }
        Mishap::ClientLeaves if has_client => world.leave(client),
        Mishap::ClientHalfCloses if has_client => world.half_close(client),
        Mishap::SlowClient if has_client => {
            world.set_client_reading(client, false);
            world.after(later, move |world| world.set_client_reading(client, true));
        }
        Mishap::ClientStops => stop(world, later),
        Mishap::SlowServer => {
            if let Some(stream) = stream {
                world.set_server_reading(stream, false);
                world.after(later, move |world| world.set_server_reading(stream, true));
            }
        }
        Mishap::NewPlan => world.set_plan(&plan),
        Mishap::ClientLeaves | Mishap::ClientHalfCloses | Mishap::SlowClient => {}
    }
}

/// A client of its own sends a request in part: the rest comes later, or never.
fn stop(world: &mut World, later: Duration) {
    let client = world.connect();
    let size = 100 + world.random.below(40_000);
    let ask = Ask::new("find").size(size);
    let ask = if world.random.chance(0.2) { ask.one_way() } else { ask };
    let (_, mut bytes) = world.prepare(client, ask);
    let rest = bytes.split_off(world.random.below(bytes.len()));
    world.proxy.clients[client].has_stopped = true;
    world.write(client, &bytes);
    let how = world.random.below(3);
    world.after(later, move |world| {
        world.proxy.clients[client].has_stopped = false;
        match how {
            _ if !world.can_call(client) => {}
            0 => world.leave(client),
            // As good as left: there is no answer to a part.
            1 => {
                world.half_close(client);
                world.proxy.clients[client].left_at = Some(world.now);
            }
            _ => world.write(client, &rest),
        }
    });
}

/// From now on nothing fails; what was lost without a trace is found out by closing its connection.
fn heal(world: &mut World) {
    let endpoints: Vec<String> = world.manager.endpoints.keys().cloned().collect();
    for endpoint in &endpoints {
        world.set_endpoint(endpoint, Endpoint::Up);
    }
    world.serve(|_, _| Reply::echo());
    for _ in 0..8 {
        world.run_for(Duration::from_millis(500));
        for endpoint in &endpoints {
            for stream in world.manager.streams_to(endpoint) {
                if world.manager.connections[&stream].in_flight > 0 {
                    world.close_upstream(stream, true);
                }
            }
        }
    }
}

fn check_calls(world: &World, scene: &Scene) {
    assert_eq!(world.failure, None);
    // Clients that had a part of an answer.
    let torn = world.metrics.sum(Metric::ClientConnectionsGivenUp("torn_answer"));
    let clients = world.proxy.clients.iter();
    let reset = clients
        .filter(|client| client.reset == Some(8) && client.left_at.or(client.broke_at).is_none())
        .count();
    // Without alarms, what was counted last is reported late.
    let is_known = reset as i64 <= torn || scene.goes_away;
    assert!(is_known, "{reset} clients were reset for {torn} answers");
    // No client is closed with a megabyte to read, and those that are closed read.
    let dropped = world.metrics.sum(Metric::ClientConnectionsGivenUp("undelivered"));
    assert_eq!(dropped, 0, "clients were dropped");
    let can_repeat = scene.on.iter().any(|on| *on != "connect-failure") || scene.hedge.is_some();
    for (number, call) in world.calls.iter().enumerate() {
        let client = &world.proxy.clients[call.client];
        // A client that sends on after it was closed gets no error.
        let is_told = scene.may_close && client.reset == Some(0);
        let is_gone = is_gone(world, call.client) || is_lost_unread(world, scene, call.client);
        let is_torn = client.reset == Some(8) && !scene.is_calm;
        let is_gone = is_gone || is_torn;
        assert!(
            client.reset.is_none() || is_told || is_gone,
            "client {} was reset: {:?}",
            call.client,
            client.reset
        );
        let tries = call.deliveries.len() - check_copies(number, call);
        let most = if call.ask.is_one_way || !can_repeat { 1 } else { 1 + scene.attempts as usize };
        assert!(tries <= most, "call {number} was delivered {tries} times, at most {most} allowed");
        let is_closed = is_gone || (scene.may_close && client.closed_at.is_some());
        let is_answered = call.ask.is_one_way || call.answer.is_some();
        assert!(is_answered || is_closed, "call {number} of client {} got no answer", call.client);
        if scene.is_calm {
            assert_eq!(tries, 1, "call {number}");
            assert_eq!(call.error(), None, "call {number}");
        }
        if let Some(answer) = &call.answer {
            if let (Some(timeout), true) = (scene.timeout, scene.keeps_time()) {
                let took = Duration::from_nanos(answer.at - call.sent_at);
                let (held, slack) = (scene.held.unwrap_or_default(), 400);
                let most = Duration::from_millis(held + timeout + slack);
                assert!(took <= most, "call {number} took {took:?}");
            }
            match &answer.result {
                // A response without attachments gets none: not every client could read it.
                Ok(_) if scene.sets_attachments && !answer.attachments.is_empty() => {
                    assert!(answer.attachments.contains(&("by".to_owned(), "meltemi".to_owned())));
                    assert!(
                        answer.attachments.contains(&("load".to_owned(), format!("7,{}", call.ask.method)))
                    );
                }
                Ok(_) => {}
                Err((SERVER_TIMEOUT, _)) => assert!(scene.timeout.is_some() || scene.per_try.is_some()),
                Err((SERVER_ERROR | THREADPOOL_EXHAUSTED | 8 | 9, _)) => {}
                Err((SERVICE_ERROR, _)) => assert!(scene.aborts),
                Err((status, text)) => panic!("call {number} failed with {status}: {text}"),
            }
        }
        for delivery in &call.deliveries {
            if scene.sets_attachments {
                assert!(delivery.attachments.contains(&("via".to_owned(), "meltemi".to_owned())));
                assert!(delivery.attachments.iter().all(|(name, _)| name != "secret"));
                let tag = call.ask.attachments.iter().find(|(name, _)| name == "tag");
                let what = format!("{} {}", call.ask.method, tag.map_or("", |(_, tag)| tag));
                assert!(delivery.attachments.contains(&("what".to_owned(), what)));
                assert!(delivery.attachments.contains(&("to".to_owned(), delivery.endpoint.clone())));
            }
        }
    }
    check_leavers(world, scene);
    if !scene.goes_away {
        assert_eq!(world.metrics.sum(Metric::InFlight), 0);
    }
}

/// Clients go, connections age, alarms stop.
fn quiet_down(world: &mut World, scene: &Scene) {
    for client in 0..world.proxy.clients.len() {
        let is_open = world.proxy.clients[client].left_at.is_none();
        if is_open {
            world.half_close(client);
        }
    }
    let quiet_after = world.run_out();
    // Connections are renewed until their pool has been idle for ten times their age.
    assert!(quiet_after < Duration::from_secs(700), "quiet only after {quiet_after:?}");
    for (number, client) in world.proxy.clients.iter().enumerate() {
        assert!(client.closed_at.is_some() || client.left_at.is_some(), "client {number} was not closed");
        assert!(world.proxy.http2.queued(client.stream) == 0);
    }
    if scene.goes_away {
        // No alarm can be set any more, so idle connections stay until Envoy closes the tunnel.
        world.shut_down();
    } else {
        assert_eq!(world.manager.open(), 0);
    }
    let gauges = [Metric::InFlight, Metric::ClientConnectionsActive, Metric::UpstreamConnectionsActive];
    for gauge in gauges.into_iter().chain([Metric::ConcurrencyLimit]) {
        assert_eq!(world.metrics.sum(gauge), 0, "{gauge:?}");
    }
    assert_eq!(world.manager.alarms_out, 0);
    check_counts(world);
    assert_eq!(world.kept(), 0);
    // A closed stream is reset only if its peer goes on sending, as large answers to calls given up are.
    let resets = world.manager.http2.guards().resets;
    // One for each client whose protocol was found.
    let found = if scene.is_mixed { world.proxy.clients.len() as u32 } else { 0 };
    let resets = resets.saturating_sub(found);
    assert!(resets == 0 || !scene.is_light || scene.is_besieged, "the worker reset {resets} streams");
    let alarms = world.manager.alarms_set;
    // A few for each try and its pause, one for the age of a connection, and none for nothing.
    let most = 300 + world.calls.len() * 4 * (1 + scene.attempts as usize) + world.manager.asked.len();
    assert!(alarms <= most, "{alarms} alarms");
}

/// Says which run failed.
struct Blame<'a>(&'a Scene);

impl Drop for Blame<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with MELTEMI_SEED={}: {:#?}", self.0.seed, self.0);
        }
    }
}

/// Runs one part in `of` of all seeds.
fn run_part(part: u64, of: u64) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("MELTEMI_SEED") {
        if part == 0 {
            run(seed);
        }
        return;
    }
    let runs = number("MELTEMI_RUNS").unwrap_or(3000);
    (0..runs).filter(|seed| seed % of == part).for_each(run);
}

#[test]
fn every_call_gets_its_answer_whatever_happens_1_of_2() {
    run_part(0, 2);
}

#[test]
fn every_call_gets_its_answer_whatever_happens_2_of_2() {
    run_part(1, 2);
}
