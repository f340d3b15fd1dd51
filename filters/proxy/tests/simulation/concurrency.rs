//! Clusters that take fewer calls the longer their answers take.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use meltemi_proxy::Metric;
use serde_json::{Value, json};

use crate::dubbo::{SERVER_ERROR, THREADPOOL_EXHAUSTED};
use crate::servers::{Policy, Reply, What};
use crate::streams::{self, opened, opening};
use crate::world::{Ask, Setup, World};

const A: &str = "10.0.0.1:20880";

const MS: Duration = Duration::from_millis(1);

/// A server that works on so many calls at a time, each for so long, and on others in their order.
#[derive(Clone, Default)]
struct Server {
    /// When each of its workers is free.
    workers: Rc<RefCell<Vec<u64>>>,
    /// When answers are due.
    due: Rc<RefCell<Vec<u64>>>,
    /// How long it works on a call, in nanoseconds.
    time: Rc<Cell<u64>>,
    /// The calls that it had at a time, at most, since that was asked last.
    most: Rc<Cell<usize>>,
}

impl Server {
    fn new(workers: usize, time: Duration) -> Self {
        let server = Self::default();
        server.workers.borrow_mut().resize(workers, 0);
        server.works_for(time);
        server
    }

    fn works_for(&self, time: Duration) {
        self.time.set(time.as_nanos() as u64);
    }

    fn reply(&self, now: u64) -> Reply {
        let mut workers = self.workers.borrow_mut();
        let worker = workers.iter_mut().min().expect("a worker");
        *worker = now.max(*worker) + self.time.get();
        let mut due = self.due.borrow_mut();
        due.retain(|due| *due > now);
        due.push(*worker);
        self.most.set(self.most.get().max(due.len()));
        What::Echo(0).after(Duration::from_nanos(*worker - now))
    }
}

fn world(upstream: Value) -> World {
    let mut world = World::new(Setup::demo(json!({"upstream": upstream})));
    world.cluster("demo", &[A], Policy::RoundRobin);
    world
}

fn adaptive() -> Value {
    json!({"adaptiveConcurrency": {"minRttCalcInterval": "10s", "maxConcurrencyLimit": 200}})
}

/// What becomes of a call every so many microseconds, for so long: how many are answered and refused, and the longest time to an answer in milliseconds.
fn load(world: &mut World, client: usize, every: u64, time: Duration) -> (usize, usize, u64) {
    let calls = time.as_micros() as u64 / every;
    let mut made = Vec::new();
    for _ in 0..calls {
        made.push(world.call(client, Ask::new("echo")));
        world.run_for(Duration::from_micros(every));
    }
    world.await_all(&made);
    let refused =
        made.iter().filter(|call| world.calls[**call].error() == Some(THREADPOOL_EXHAUSTED)).count();
    let answered: Vec<_> =
        made.iter().map(|call| &world.calls[*call]).filter(|call| call.error().is_none()).collect();
    let took = answered.iter().map(|call| call.answer.as_ref().unwrap().at - call.sent_at);
    (answered.len(), refused, took.max().unwrap_or_default() / 1_000_000)
}

#[test]
fn a_server_that_is_asked_for_more_than_it_can_do_is_protected_and_recovers() {
    // Ten calls at a time, each for ten milliseconds: a thousand in a second.
    for (upstream, is_protected) in [(adaptive(), true), (json!({}), false)] {
        let server = Server::new(10, 10 * MS);
        let mut world = world(upstream);
        let own = server.clone();
        world.serve(move |arrival, _| own.reply(arrival.at));
        let client = world.connect();
        load(&mut world, client, 4000, 3000 * MS);
        let (answered, refused, _) = load(&mut world, client, 4000, 2000 * MS);
        assert_eq!((answered, refused), (500, 0), "a quarter of what it can do");
        // Until answers say so, nothing tells that it is too much.
        let (_, refused_at_first, _) = load(&mut world, client, 400, 1000 * MS);
        server.most.set(0);
        let (answered, refused, slowest) = load(&mut world, client, 400, 4000 * MS);
        let most = server.most.get();
        if is_protected {
            assert!(most <= 40 && slowest <= 45, "{most} at a time, {slowest} ms");
            assert!(answered >= 3600 && answered + refused == 10_000, "{answered} of 4000");
            assert_eq!(world.sum(Metric::ConcurrencyBlocked), (refused_at_first + refused) as i64);
            let why = &world.metrics.replies[0].detail;
            assert_eq!(why, "cluster demo has as many calls in flight as it answers in good time");
        } else {
            assert!(most > 1000 && slowest > 1000, "{most} at a time, {slowest} ms");
        }
        let (answered, refused, slowest) = load(&mut world, client, 4000, 4000 * MS);
        assert!(
            refused <= 50 && answered + refused == 1000 && slowest <= 25,
            "{refused} refused, {slowest} ms"
        );
    }
}

#[test]
fn a_server_that_becomes_slower_gets_fewer_calls_at_a_time_and_more_when_it_is_well() {
    let server = Server::new(20, 10 * MS);
    let mut world = world(adaptive());
    let own = server.clone();
    world.serve(move |arrival, _| own.reply(arrival.at));
    let client = world.connect();
    load(&mut world, client, 1000, 4000 * MS);
    assert_eq!(world.sum(Metric::ConcurrencyLimit), 200, "it has no reason to be less");
    // All it can do is three hundred calls in a second by now.
    server.works_for(65 * MS);
    load(&mut world, client, 1000, 1500 * MS);
    server.most.set(0);
    load(&mut world, client, 1000, 1500 * MS);
    assert!(server.most.get() <= 20, "{} at a time", server.most.get());
    let limit = world.sum(Metric::ConcurrencyLimit);
    assert!(limit <= 20, "{limit}");
    server.works_for(10 * MS);
    load(&mut world, client, 1000, 3000 * MS);
    let (answered, refused, _) = load(&mut world, client, 1000, 1000 * MS);
    assert!(refused <= 50 && answered + refused == 1000, "{refused} refused");
}

/// How many of twenty calls at once are refused.
fn refused(world: &mut World, client: usize) -> usize {
    let calls = world.call_all(client, (0..20).map(|_| Ask::new("echo")));
    world.await_all(&calls);
    calls.iter().filter(|call| world.calls[**call].error() == Some(THREADPOOL_EXHAUSTED)).count()
}

#[test]
fn failures_that_come_fast_are_no_answers() {
    let mut world = world(adaptive());
    world.serve(|_, _| What::Error(SERVER_ERROR).now());
    let client = world.connect();
    (0..40).for_each(|_| _ = refused(&mut world, client));
    assert_eq!(refused(&mut world, client), 17, "the least time is not known yet");
    world.serve(|_, _| What::Echo(0).after(10 * MS));
    load(&mut world, client, 2000, 3000 * MS);
    assert_eq!(refused(&mut world, client), 0);
}

#[test]
fn a_server_that_hangs_gets_few_calls() {
    let service = json!({"upstream": adaptive(), "defaultRoute": {"timeout": "100ms"}});
    let mut world = World::new(Setup::demo(service));
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|_, _| What::Echo(0).after(10 * MS));
    let client = world.connect();
    load(&mut world, client, 2000, 3000 * MS);
    assert_eq!(refused(&mut world, client), 0);
    world.serve(|_, _| What::Nothing.now());
    load(&mut world, client, 2000, 1500 * MS);
    assert_eq!(refused(&mut world, client), 17);
}

#[test]
fn tries_that_end_before_an_answer_could_come_say_nothing() {
    let plan = |timeout: &str| {
        let service =
            json!({"protocol": "dubbo", "upstream": adaptive(), "defaultRoute": {"timeout": timeout}});
        json!({"services": {"demo": service}})
    };
    let mut world = World::new(Setup { plan: plan("1s"), ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|_, _| What::Echo(0).after(50 * MS));
    let client = world.connect();
    for _ in 0..60 {
        world.call_and_wait(client, Ask::new("echo"));
    }
    let limit = world.sum(Metric::ConcurrencyLimit);
    assert!((3..50).contains(&limit), "{limit}");
    world.serve(|_, _| What::Nothing.now());
    world.set_plan(&plan("10ms"));
    load(&mut world, client, 2000, 3000 * MS);
    // Of answers that came before.
    let limit = world.sum(Metric::ConcurrencyLimit);
    assert!((3..50).contains(&limit), "nobody knows how long answers take: {limit}");
}

#[test]
fn the_least_time_is_not_measured_by_calls_that_were_let_pass_before() {
    let held = json!({"name": "held", "match": [{"attributes": {"method": {"exact": "held"}}}],
        "fault": {"delay": {"duration": "1s", "percent": 100}}});
    let server = Server::new(1, 10 * MS);
    let mut upstream = adaptive();
    upstream["adaptiveConcurrency"]["jitter"] = json!(0);
    let mut world = World::new(Setup::demo(json!({"upstream": upstream, "routes": [held]})));
    world.cluster("demo", &[A], Policy::RoundRobin);
    let own = server.clone();
    world.serve(move |arrival, _| own.reply(arrival.at));
    let client = world.connect();
    load(&mut world, client, 20_000, 5000 * MS);
    assert_eq!(world.sum(Metric::ConcurrencyLimit), 200);
    // A little before the least time is measured again, eleven seconds after the start.
    load(&mut world, client, 20_000, 5000 * MS);
    let calls: Vec<_> = (0..60).map(|_| world.call(client, Ask::new("held"))).collect();
    load(&mut world, client, 20_000, 1700 * MS);
    world.await_all(&calls);
    load(&mut world, client, 20_000, 500 * MS);
    assert_eq!(world.sum(Metric::ConcurrencyLimit), 3, "fewer calls than it takes were made since");
    load(&mut world, client, 20_000, 500 * MS);
    assert_eq!(world.sum(Metric::ConcurrencyLimit), 200);
}

#[test]
fn calls_in_flight_when_it_is_switched_on_measure_nothing() {
    let server = Server::new(1, 10 * MS);
    let mut world = world(json!({}));
    let own = server.clone();
    world.serve(move |arrival, _| own.reply(arrival.at));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let calls = world.call_all(client, (0..60).map(|_| Ask::new("echo")));
    world.run_for(5 * MS);
    let plan = json!({"services": {"demo": {"protocol": "dubbo", "upstream": adaptive()}}});
    world.set_plan(&plan);
    world.await_all(&calls);
    load(&mut world, client, 20_000, 500 * MS);
    assert_eq!(world.sum(Metric::ConcurrencyLimit), 3, "fewer calls than it takes were made since");
    load(&mut world, client, 20_000, 3000 * MS);
    assert_eq!(world.sum(Metric::ConcurrencyLimit), 200);
}

#[test]
fn a_plan_with_shorter_intervals_is_followed_at_once() {
    let plan = |rule: Value| {
        let upstream = json!({"adaptiveConcurrency": rule});
        json!({"services": {"demo": {"protocol": "dubbo", "upstream": upstream}}})
    };
    let slow = json!({"concurrencyUpdateInterval": "1h", "minRttCalcInterval": "24h"});
    let mut world = World::new(Setup { plan: plan(slow), ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|_, _| What::Echo(0).after(10 * MS));
    let client = world.connect();
    load(&mut world, client, 10_000, 2000 * MS);
    assert_eq!(world.sum(Metric::ConcurrencyLimit), 3);
    world.set_plan(&plan(json!({"minRttCalcInterval": "5s", "maxConcurrencyLimit": 100})));
    load(&mut world, client, 10_000, 3000 * MS);
    assert_eq!(world.sum(Metric::ConcurrencyLimit), 100);
    // It is measured again by what the plan says now, and no sooner than that.
    world.run_for(3000 * MS);
    assert_eq!(refused(&mut world, client), 17);
}

#[test]
fn a_plan_with_fewer_calls_is_followed_while_the_least_time_is_measured() {
    let plan = |least: usize| {
        let upstream = json!({"adaptiveConcurrency": {"minConcurrency": least}});
        json!({"services": {"demo": {"protocol": "dubbo", "upstream": upstream}}})
    };
    let mut world = World::new(Setup { plan: plan(10), ..Setup::default() });
    world.cluster("demo", &[A], Policy::RoundRobin);
    world.serve(|_, _| What::Echo(0).after(10 * MS));
    let client = world.connect();
    assert_eq!(refused(&mut world, client), 10);
    world.set_plan(&plan(2));
    assert_eq!((refused(&mut world, client), world.sum(Metric::ConcurrencyLimit)), (18, 2));
}

#[test]
fn one_way_calls_are_dropped_over_the_limit_and_no_samples() {
    let mut world = world(adaptive());
    world.serve(|_, _| What::Echo(0).after(100 * MS));
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    let calls = world.call_all(client, (0..3).map(|_| Ask::new("echo")));
    world.run_for(10 * MS);
    let lost = world.call(client, Ask::new("tell").one_way());
    world.await_all(&calls);
    let sent = world.call(client, Ask::new("tell").one_way());
    world.run_for(10 * MS);
    assert_eq!([lost, sent].map(|call| world.calls[call].deliveries.len()), [0, 1]);
    assert_eq!(world.sum(Metric::ConcurrencyBlocked), 1);
    let calls: Vec<_> = (0..200).map(|_| world.call(client, Ask::new("tell").one_way())).collect();
    world.run_for(10 * MS);
    assert!(calls.iter().all(|call| world.calls[*call].deliveries.len() == 1), "none is in flight");
    assert_eq!(world.sum(Metric::ConcurrencyLimit), 3, "nothing was measured");
}

#[test]
fn streams_take_no_place() {
    let mut scene = streams::Scene::new(json!({"upstream": {"adaptiveConcurrency": {"minConcurrency": 1}}}));
    let client = scene.connect();
    for id in 1..20 {
        scene.write(client, &opening(id));
        scene.run();
        assert_eq!(scene.server().len(), 1, "stream {id}");
        scene.answer(&opened(id));
        scene.run();
    }
    assert_eq!(scene.world.sum(Metric::ConcurrencyBlocked), 0);
}

#[test]
fn a_second_try_is_not_made_over_the_limit() {
    let retry = json!({"attempts": 1, "hedge": {"after": "20ms"}});
    for (least, tries) in [(1, 1), (2, 2)] {
        let upstream = json!({"adaptiveConcurrency": {"minConcurrency": least}});
        let mut world =
            World::new(Setup::demo(json!({"upstream": upstream, "defaultRoute": {"retry": retry}})));
        world.cluster("demo", &[A, "10.0.0.2:20880"], Policy::RoundRobin);
        let client = world.connect();
        (0..4).for_each(|_| _ = world.call_and_wait(client, Ask::new("warm-up")));
        world.serve(|_, _| What::Echo(0).after(100 * MS));
        let call = world.call_and_wait(client, Ask::new("echo"));
        assert_eq!(world.calls[call].deliveries.len(), tries);
    }
}

#[test]
fn what_was_learned_outlives_a_plan_and_the_gauge_follows() {
    let plan = |upstream: Value| json!({"services": {"demo": {"protocol": "dubbo", "upstream": upstream}}});
    let mut world = world(adaptive());
    world.serve(|_, _| What::Echo(0).after(10 * MS));
    let client = world.connect();
    load(&mut world, client, 2000, 3000 * MS);
    assert_eq!(world.sum(Metric::ConcurrencyLimit), 200);
    let mut other = adaptive();
    other["adaptiveConcurrency"]["maxConcurrencyLimit"] = json!(10);
    world.set_plan(&plan(other));
    assert_eq!((refused(&mut world, client), world.sum(Metric::ConcurrencyLimit)), (10, 10));
    world.set_plan(&plan(json!({})));
    assert_eq!((refused(&mut world, client), world.sum(Metric::ConcurrencyLimit)), (0, 0));
    world.set_plan(&plan(adaptive()));
    assert_eq!(refused(&mut world, client), 17, "it begins anew");
    assert_eq!(world.sum(Metric::ConcurrencyLimit), 3);
    world.leave(client);
    world.run_out();
    assert_eq!(world.metrics.sum(Metric::ConcurrencyLimit), 0, "the pool is gone");
}

#[test]
fn a_worker_that_ends_takes_its_limit_back() {
    let mut world = world(adaptive());
    let client = world.connect();
    world.call_and_wait(client, Ask::new("echo"));
    assert_eq!(world.sum(Metric::ConcurrencyLimit), 3);
    world.shut_down();
    assert_eq!(world.metrics.sum(Metric::ConcurrencyLimit), 0);
}
