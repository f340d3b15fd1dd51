//! Months in a row: clients that come, stay for minutes or weeks, and go, over tunnel connections that Envoy renews.

use std::collections::BTreeMap;
use std::time::Duration;

use meltemi_proxy::Metric;
use meltemi_sockets::Options;

use crate::random::Random;
use crate::servers::Policy;
use crate::world::{Ask, Setup, World};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const ENDPOINTS: [&str; 3] = ["10.0.0.1:20880", "10.0.0.2:20880", "10.0.0.3:20880"];

/// One worker thread of Envoy. Each of its tunnel connections is a [`World`] with a worker of its own.
struct Thread {
    /// Seconds since the start.
    now: u64,
    /// By number, of which the last takes new clients.
    tunnels: BTreeMap<usize, Tunnel>,
    programs: Vec<Program>,
    random: Random,
    /// For how long a tunnel connection takes new clients: the cluster's `max_connection_duration`.
    duration: u64,
    options: Options,
    opened: usize,
    most_tunnels: usize,
    most_connections: usize,
    calls: usize,
    moves: usize,
}

struct Tunnel {
    world: World,
    opened: u64,
}

/// A client that connects again whenever its connection is closed.
struct Program {
    tunnel: usize,
    client: usize,
    ends_at: u64,
    calls_at: u64,
    /// Seconds between its calls.
    pace: u64,
}

impl Thread {
    fn new(duration: u64, options: Options) -> Self {
        Self {
            now: 0,
            tunnels: BTreeMap::new(),
            programs: Vec::new(),
            random: Random::new(7),
            duration,
            options,
            opened: 0,
            most_tunnels: 0,
            most_connections: 0,
            calls: 0,
            moves: 0,
        }
    }

    /// A program that stays for so many seconds and calls at that pace.
    fn start(&mut self, stay: u64, pace: u64) {
        let (tunnel, client) = self.connect();
        let calls_at = self.now + self.random.between(0..pace);
        self.programs.push(Program { tunnel, client, ends_at: self.now + stay, calls_at, pace });
    }

    /// Opens a client connection on the tunnel connection that takes new ones.
    fn connect(&mut self) -> (usize, usize) {
        let last = self.tunnels.last_key_value();
        if last.is_none_or(|(_, last)| last.world.proxy.is_refused || self.now >= last.opened + self.duration)
        {
            self.opened += 1;
            self.tunnels.insert(self.opened, self.open());
            self.most_tunnels = self.most_tunnels.max(self.tunnels.len());
        }
        (self.opened, self.tunnel(self.opened).world.connect())
    }

    fn open(&self) -> Tunnel {
        let mut world =
            World::new(Setup { seed: self.opened as u64, options: self.options.clone(), ..Setup::default() });
        world.now += self.now * 1_000_000_000;
        world.cluster("demo", &ENDPOINTS, Policy::Random);
        Tunnel { world, opened: self.now }
    }

    fn tunnel(&mut self, number: usize) -> &mut Tunnel {
        self.tunnels.get_mut(&number).expect("a tunnel connection with a client")
    }

    /// Lets a second pass.
    fn tick(&mut self) {
        self.now += 1;
        for (number, tunnel) in &mut self.tunnels {
            if *number != self.opened {
                tunnel.world.supersede();
            }
            tunnel.world.run_for(Duration::from_secs(1));
        }
        let mut programs = std::mem::take(&mut self.programs);
        programs.retain_mut(|program| self.act(program));
        self.programs.append(&mut programs);
        self.close_empty();
        let connections = self.tunnels.values().map(|tunnel| tunnel.world.manager.open()).sum();
        self.most_connections = self.most_connections.max(connections);
    }

    /// What a program does in this second; false when it ends.
    fn act(&mut self, program: &mut Program) -> bool {
        let now = self.now;
        let world = &mut self.tunnel(program.tunnel).world;
        let is_closed = world.proxy.clients[program.client].closed_at.is_some();
        if now >= program.ends_at {
            if !is_closed {
                world.half_close(program.client);
            }
            return false;
        }
        if is_closed {
            (program.tunnel, program.client) = self.connect();
            self.moves += 1;
        }
        if now >= program.calls_at {
            program.calls_at = now + program.pace;
            self.calls += 1;
            self.tunnel(program.tunnel).world.call(program.client, Ask::new("echo"));
        }
        true
    }

    /// Envoy closes a tunnel connection that takes no more clients and has none; whatever was called on it was answered.
    fn close_empty(&mut self) {
        let last = self.opened;
        self.tunnels.retain(|number, tunnel| {
            let is_empty = tunnel.world.proxy.clients.iter().all(|client| client.closed_at.is_some());
            if *number == last || !is_empty {
                return true;
            }
            tunnel.end();
            false
        });
    }
}

impl Tunnel {
    fn end(&mut self) {
        self.world.shut_down();
        assert_eq!(self.world.failure, None);
        for call in &self.world.calls {
            assert!(call.endpoint().is_some(), "{call:?} is lost");
        }
        for gauge in [Metric::InFlight, Metric::ClientConnectionsActive, Metric::UpstreamConnectionsActive] {
            assert_eq!(self.world.metrics.sum(gauge), 0, "{gauge:?}");
        }
    }
}

/// Runs a thread with programs that stay for minutes, and such that stay for weeks.
fn run(duration: u64, options: Options, time: u64) -> Thread {
    let mut thread = Thread::new(duration, options);
    for _ in 0..3 {
        thread.start(time * 2, MINUTE);
    }
    for second in 0..time {
        if second % (6 * MINUTE) == 0 {
            let (stay, pace) = *thread.random.pick(&[(2 * MINUTE, 10), (HOUR, MINUTE), (DAY, 3 * HOUR)]);
            thread.start(stay, pace);
        }
        if second % DAY == 0 {
            thread.start(20 * DAY, HOUR);
        }
        thread.tick();
    }
    thread.tunnels.values_mut().for_each(Tunnel::end);
    assert!(thread.calls > 7_000 * (time / DAY) as usize, "{} calls", thread.calls);
    thread
}

#[test]
fn a_month_leaves_few_tunnel_connections_and_loses_no_call() {
    let thread = run(4 * HOUR, Options::default(), 30 * DAY);
    assert!(thread.opened >= 30 * 6 - 1, "{} tunnel connections in all", thread.opened);
    assert!(thread.most_tunnels <= 2, "{} tunnel connections at once", thread.most_tunnels);
    // Each worker has one to each endpoint, and one more while it is renewed.
    assert!(thread.most_connections <= 2 * 2 * ENDPOINTS.len(), "{}", thread.most_connections);
    assert!(thread.moves > 1000, "{} moves", thread.moves);
}

#[test]
fn a_handover_for_want_of_stream_ids_loses_no_call() {
    let options = Options { handover_stream_id: 60_000, last_stream_id: 120_000, ..Options::default() };
    let thread = run(1000 * DAY, options, 5 * DAY);
    assert!(thread.opened >= 3, "{} tunnel connections in all", thread.opened);
    assert!(thread.most_tunnels <= 2, "{} tunnel connections at once", thread.most_tunnels);
    assert!(thread.most_connections <= 2 * 2 * ENDPOINTS.len(), "{}", thread.most_connections);
}
