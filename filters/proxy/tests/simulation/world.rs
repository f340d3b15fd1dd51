//! A worker between both of its peers, under a virtual clock.
//!
//! Envoy's rule for network filters is kept to the letter: what the worker writes towards one side leaves only in the
//! callback for bytes of the other.

mod calls;
mod metrics;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use meltemi_codecs::Codecs;
use meltemi_proxy::{Instant, LEAST_UNREAD, Leftovers, Metric, Reports, Worker, plan::Plan};
use meltemi_sockets::{Options, Side};
use serde_json::{Value, json};

use crate::clients::TcpProxy;
use crate::dubbo::DubboWire;
use crate::http2::{self, Habits};
use crate::limiter::Limiter;
use crate::pipe::Pipe;
use crate::random::Random;
use crate::servers::ConnectionManager;
use crate::toy::WIDE;
use crate::wire::Wire;

pub use self::calls::{Answer, Ask, Call, Delivery, value};
pub use self::metrics::Metrics;

/// What a simulation starts with.
pub struct Setup {
    pub seed: u64,
    pub wire: Rc<dyn Wire>,
    pub plan: Value,
    /// In its place, one that another worker has.
    pub shared_plan: Option<Rc<Plan>>,
    /// The most time that bytes spend on their way, in nanoseconds. Over a microsecond they are cut and held up at random.
    pub delay: u64,
    pub downstream: Habits,
    pub upstream: Habits,
    pub options: Options,
    pub reports: Reports,
    pub leftovers: Leftovers,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            wire: Rc::new(DubboWire),
            plan: json!({"services": {"demo": {"protocol": "dubbo"}}}),
            shared_plan: None,
            delay: 1000,
            downstream: Habits::default(),
            upstream: Habits::default(),
            options: Options::default(),
            reports: Reports::default(),
            leftovers: Leftovers::default(),
        }
    }
}

impl Setup {
    /// The service `demo` of Dubbo as `service` says.
    pub fn demo(mut service: Value) -> Self {
        service["protocol"] = json!("dubbo");
        Self { plan: json!({"services": {"demo": service}}), ..Self::default() }
    }
}

/// Everything.
pub struct World {
    /// Nanoseconds since the start.
    pub now: u64,
    pub random: Random,
    pub wire: Rc<dyn Wire>,
    codecs: Codecs,
    pub proxy: TcpProxy,
    pub manager: ConnectionManager,
    pub limiter: Limiter,
    pub calls: Vec<Call>,
    pub metrics: Metrics,
    /// The worker said that a peer broke HTTP/2.
    pub failure: Option<meltemi_sockets::Error>,
    /// Callbacks of the worker so far.
    pub callbacks: u64,
    /// Callbacks whose bytes passed without being read.
    pub passed_unread: u64,
    /// What happens is written to stderr.
    is_told: bool,
    pub first_plan: Rc<Plan>,
    worker: Worker,
    delay: u64,
    pipes: [Pipe; 4],
    steps: BTreeMap<(u64, u64), Step>,
    serial: u64,
}

/// Where a pipe leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToWorker(Side),
    ToPeer(Side),
}

enum Step {
    Deliver(Way),
    Act(Box<dyn FnOnce(&mut World)>),
}

/// Envoy's buffers bring no more bytes than these to a callback.
const MOST_READ: usize = 1 << 20;

/// A worker that needs more callbacks than this spins.
const MOST_CALLBACKS: u64 = 2_000_000;

impl World {
    pub fn new(setup: Setup) -> Self {
        let codecs = Codecs::new([setup.wire.codec(), Rc::new(WIDE)]);
        let plan = setup.shared_plan.unwrap_or_else(|| parse(&setup.plan, &codecs));
        let worker = Worker::new(plan.clone(), setup.options, setup.seed);
        Self {
            now: 1_000_000_000,
            random: Random::new(setup.seed),
            proxy: TcpProxy::new(setup.downstream),
            manager: ConnectionManager::new(setup.upstream),
            limiter: Limiter::default(),
            calls: Vec::new(),
            metrics: Metrics::default(),
            failure: None,
            callbacks: 0,
            passed_unread: 0,
            is_told: std::env::var_os("MELTEMI_TRACE").is_some(),
            first_plan: plan,
            worker: worker.with_reports(&setup.reports).with_leftovers(&setup.leftovers),
            wire: setup.wire,
            codecs,
            delay: setup.delay,
            pipes: Default::default(),
            steps: BTreeMap::new(),
            serial: 0,
        }
    }

    /// A new plan, from the next callback on.
    pub fn set_plan(&mut self, plan: &Value) {
        self.worker.set_plan(parse(plan, &self.codecs));
    }

    /// Tells what happens, if `MELTEMI_TRACE` is set.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            eprintln!("{:>14.6} {}", self.now as f64 / 1e6, what());
        }
    }

    /// Has something happen after a delay.
    pub fn after(&mut self, delay: Duration, act: impl FnOnce(&mut World) + 'static) {
        let at = self.now + delay.as_nanos() as u64;
        self.schedule(at, Step::Act(Box::new(act)));
    }

    /// Runs for so long.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time.as_nanos() as u64;
        while self.steps.first_key_value().is_some_and(|((at, _), _)| *at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Runs until something is so.
    ///
    /// # Panics
    ///
    /// It never is.
    #[track_caller]
    pub fn run_until(&mut self, is_so: impl Fn(&World) -> bool) {
        while !is_so(self) {
            assert!(self.step(), "nothing more happens");
        }
    }

    /// Runs until nothing more happens; says how long that took.
    pub fn run_out(&mut self) -> Duration {
        let start = self.now;
        while self.step() {}
        Duration::from_nanos(self.now - start)
    }

    /// Runs until each of these calls has an answer.
    #[track_caller]
    pub fn await_all(&mut self, calls: &[usize]) {
        for &call in calls {
            self.run_until(|world| world.calls[call].answer.is_some());
        }
    }

    /// Makes a call and runs until it has an answer; its number.
    #[track_caller]
    pub fn call_and_wait(&mut self, client: usize, ask: Ask) -> usize {
        let call = self.call(client, ask);
        self.await_all(&[call]);
        call
    }

    /// The sum of a counter or gauge over all operations, once the worker has reported what it counted.
    pub fn sum(&mut self, metric: Metric) -> i64 {
        self.run_for(Duration::from_millis(300));
        self.metrics.sum(metric)
    }

    /// Bytes of clients and servers that are on their way or inside the worker.
    pub fn held(&self) -> u64 {
        let (proxy, manager) = (self.proxy.http2.guards(), self.manager.http2.guards());
        (proxy.bytes_sent + manager.bytes_sent) - (proxy.bytes_received + manager.bytes_received)
    }

    /// Memory that clients take in the worker, as it counts it.
    pub fn kept(&self) -> usize {
        self.worker.kept()
    }

    /// Pools of upstream connections.
    pub fn pools(&self) -> usize {
        self.worker.pools()
    }

    /// How many calls each endpoint answered.
    pub fn served(&self) -> BTreeMap<String, usize> {
        let mut served: BTreeMap<_, _> =
            self.manager.endpoints.keys().map(|endpoint| (endpoint.clone(), 0)).collect();
        for endpoint in self.calls.iter().filter_map(Call::endpoint) {
            *served.entry(endpoint.to_owned()).or_default() += 1;
        }
        served
    }

    /// Another worker takes the new clients.
    pub fn supersede(&mut self) {
        self.worker.supersede(Instant::from_nanos(self.now));
    }

    /// Drops the worker's connections, as when Envoy closes the tunnel.
    pub fn shut_down(&mut self) {
        self.worker.shut_down(&mut self.metrics);
    }

    /// Sends what a peer has to send.
    pub fn flush(&mut self, side: Side) {
        let bytes = match side {
            Side::Downstream => self.proxy.http2.flush(&mut self.random),
            // Envoy makes the connection manager's codec when the first bytes arrive.
            Side::Upstream if !self.manager.has_begun => return,
            Side::Upstream => self.manager.http2.flush(&mut self.random),
        };
        self.send(Way::ToWorker(side), bytes);
    }

    fn schedule(&mut self, at: u64, step: Step) {
        self.serial += 1;
        self.steps.insert((at, self.serial), step);
    }

    fn step(&mut self) -> bool {
        let Some(((at, _), step)) = self.steps.pop_first() else { return false };
        self.now = self.now.max(at);
        match step {
            Step::Act(act) => act(self),
            Step::Deliver(way) => self.deliver(way),
        }
        true
    }

    fn send(&mut self, way: Way, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        // Arrivals fall on ticks, so that neighbours sometimes arrive as one.
        let tick = (self.delay / 16).max(1);
        let mut at = self.pipe(way).last();
        let is_erratic = self.delay > 1000;
        let mut rest = bytes.as_slice();
        let mut cuts = 0;
        while !rest.is_empty() {
            // Envoy's connection manager writes each DATA frame by itself.
            let (whole, is_frame) = match way {
                Way::ToWorker(Side::Upstream) => http2::up_to_large_data(rest),
                _ => (rest.len(), false),
            };
            let is_cut = is_erratic && cuts < 8 && !(is_frame && self.random.chance(0.5));
            let count = if is_cut { self.random.size(rest.len()) } else { whole };
            cuts += 1;
            let (chunk, after) = rest.split_at(count);
            rest = after;
            let delay = if is_erratic { self.random.between(0..self.delay) } else { self.delay };
            at = at.max((self.now + delay) / tick * tick).max(self.now);
            self.pipe(way).push(at, chunk, is_frame && count == whole);
            self.schedule(at, Step::Deliver(way));
        }
    }

    fn pipe(&mut self, way: Way) -> &mut Pipe {
        &mut self.pipes[match way {
            Way::ToWorker(Side::Downstream) => 0,
            Way::ToWorker(Side::Upstream) => 1,
            Way::ToPeer(Side::Downstream) => 2,
            Way::ToPeer(Side::Upstream) => 3,
        }]
    }

    fn deliver(&mut self, way: Way) {
        let now = self.now;
        let bytes = self.pipe(way).arrived(now);
        if bytes.is_empty() {
            return;
        }
        match way {
            Way::ToWorker(side) => bytes.chunks(MOST_READ).for_each(|part| self.call_back(side, part)),
            Way::ToPeer(Side::Downstream) => {
                for event in self.proxy.http2.receive(&bytes) {
                    self.tunnel_event(event);
                }
                self.flush(Side::Downstream);
            }
            Way::ToPeer(Side::Upstream) => {
                self.manager.has_begun = true;
                for event in self.manager.http2.receive(&bytes) {
                    self.manager_event(event);
                }
                self.flush(Side::Upstream);
            }
        }
    }

    /// Envoy's callback: bytes of one side come, bytes for the other leave.
    fn call_back(&mut self, side: Side, bytes: &[u8]) {
        if self.failure.is_some() {
            return;
        }
        self.callbacks += 1;
        assert!(self.callbacks < MOST_CALLBACKS, "the worker spins");
        let now = Instant::from_nanos(self.now);
        let other = match side {
            Side::Downstream => Side::Upstream,
            Side::Upstream => Side::Downstream,
        };
        let mut out = Vec::new();
        let is_much = side == Side::Upstream && bytes.len() >= LEAST_UNREAD;
        if is_much && self.worker.pass_unread(&bytes[..9], bytes.len(), now, &mut out) {
            self.passed_unread += 1;
            out.extend_from_slice(&bytes[9..]);
        } else {
            self.failure = self.worker.receive(side, bytes, now).err();
            self.worker.transmit(other, &mut out);
        }
        self.worker.flush(&mut self.metrics);
        self.send(Way::ToPeer(other), out);
    }

    fn tunnel_event(&mut self, event: http2::Event) {
        match event {
            http2::Event::Head { stream, fields } => self.tunnel_head(stream, &fields),
            http2::Event::Data { stream, bytes } => self.tunnel_data(stream, &bytes),
            http2::Event::End { stream } => self.tunnel_ended(stream),
            http2::Event::Reset { stream, code } => self.tunnel_reset(stream, code),
            http2::Event::GoAway { last, .. } => self.tunnels_refused(last),
        }
    }

    fn manager_event(&mut self, event: http2::Event) {
        match event {
            http2::Event::Head { stream, fields } => self.manager_head(stream, &fields),
            http2::Event::Data { stream, bytes } => self.upstream_data(stream, &bytes),
            http2::Event::End { stream } => self.upstream_ended(stream),
            http2::Event::Reset { stream, .. } => self.upstream_reset(stream),
            http2::Event::GoAway { last, code } => panic!("GOAWAY {last} {code} to the connection manager"),
        }
    }
}

fn parse(plan: &Value, codecs: &Codecs) -> Rc<Plan> {
    Rc::new(Plan::parse(plan.to_string().as_bytes(), codecs).expect("a plan"))
}
