//! What a call costs in the worker, from the client's bytes to the server's and back: instructions per call, counted by
//! callgrind, and nanoseconds, which depend on the machine.
//!
//!     cargo bench -p meltemi-proxy --bench worker              # all cases
//!     cargo bench -p meltemi-proxy --bench worker -- traces    # those whose names have that in them
//!
//! Both peers are played by a few lines that do not count. Without valgrind, only the time is told. Copies of large bodies
//! are counted by the byte where the processor has an instruction for them: of a case with bodies over 64 KiB, which come in
//! one frame a callback as Envoy sends them, the instructions by all bytes of request and answer are the copies of each. To
//! see which functions a case spends its instructions in:
//!
//!     valgrind --tool=callgrind --toggle-collect='*World*receive*' <the bench's program> --case '<name>' 200
//!     callgrind_annotate callgrind.out.*
//!
//! What Envoy runs is compiled by V8, to which other things are dear: a copy of one byte costs it six nanoseconds. Node has
//! V8 as well, and runs the same program:
//!
//!     cargo build -p meltemi-proxy --bench worker --profile module --target wasm32-wasip1
//!     node filters/proxy/benches/wasi.mjs target/wasm32-wasip1/module/deps/worker-*.wasm traces
mod cases;
mod frames;
mod servers;

use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant as Clock};
use std::{env, iter};

use cases::{CASES, Case, METHODS, PRINCIPAL};
use frames::{FRAME, HEADERS, PREFACE, WINDOW_UPDATE, block, put_data, put_frame, put_windows, request};
use meltemi_codecs::Codecs;
use meltemi_proxy::{Instant, Labels, LocalReply, Metric, Sink, Worker, plan::Plan};
use meltemi_sockets::{Options, Side};
use serde_json::json;
use servers::Servers;

/// What callgrind counts: the worker, and not the lines that play its peers.
const CALLBACK: &str = "--toggle-collect=*World*receive*";

/// Rounds of the shorter run under callgrind; the longer one has twice as many.
const ROUNDS: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().collect();
    if let [_, flag, name, rounds] = arguments.as_slice()
        && flag == "--case"
    {
        let case = CASES.iter().find(|case| case.name == name).ok_or("no such case")?;
        let mut world = World::new(case)?;
        let rounds: u64 = rounds.parse()?;
        (0..rounds).for_each(|_| world.round());
        return Ok(());
    }
    let wanted: Vec<_> = arguments.iter().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_wanted = |case: &&Case| wanted.is_empty() || wanted.iter().any(|text| case.name.contains(*text));
    println!("{:<44} {:>12} {:>8}", "a call in the worker", "instructions", "ns");
    for case in CASES.iter().filter(is_wanted) {
        let counted = case.instructions().map_or("-".to_owned(), |count| count.to_string());
        println!("{:<44} {counted:>12} {:>8.0}", case.name, case.nanoseconds()?);
    }
    Ok(())
}

impl Case {
    fn calls(&self) -> u64 {
        (self.clients * self.in_flight) as u64
    }

    fn instructions(&self) -> Result<u64, Box<dyn Error>> {
        let (short, long) = (self.count(ROUNDS)?, self.count(ROUNDS * 2)?);
        Ok(long.saturating_sub(short) / ROUNDS / self.calls())
    }

    /// The instructions that this program takes for `rounds` rounds.
    fn count(&self, rounds: u64) -> Result<u64, Box<dyn Error>> {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", CALLBACK])
            .arg(env::current_exe()?)
            .args(["--case", self.name, &rounds.to_string()])
            .output()?;
        let report = String::from_utf8(output.stderr)?;
        let collected = report.split("Collected :").nth(1).and_then(|rest| rest.split_whitespace().next());
        Ok(collected.ok_or("no count in callgrind's report")?.parse()?)
    }

    /// The time of one call in the best of several batches.
    fn nanoseconds(&self) -> Result<f64, Box<dyn Error>> {
        let mut world = World::new(self)?;
        let rounds = 4096 / self.calls().min(1024);
        let batches = iter::repeat_with(|| {
            world.spent = Duration::ZERO;
            (0..rounds).for_each(|_| world.round());
            world.spent
        });
        let best = batches.take(50).min().unwrap_or(Duration::ZERO);
        Ok(best.as_secs_f64() * 1e9 / (rounds * self.calls()) as f64)
    }
}

/// A worker with its clients' tunnels open.
struct World {
    worker: Worker,
    servers: Servers,
    now: Instant,
    /// A round's requests, as tcp_proxy sends them.
    requests: Vec<u8>,
    /// What the worker sent to the other side than that from which it received, and to the same.
    out: Vec<u8>,
    back: Vec<u8>,
    /// How many bytes come in one callback.
    piece: usize,
    body: usize,
    /// The time spent in the worker.
    spent: Duration,
    clients: usize,
    has_identities: bool,
}

struct Silent;

impl Sink for Silent {
    fn count(&mut self, metric: Metric, _: Option<&Labels>, n: u64) {
        black_box((metric, n));
    }

    fn change(&mut self, metric: Metric, _: Option<&Labels>, change: i64) {
        black_box((metric, change));
    }

    fn log(&mut self, reply: &LocalReply) {
        black_box(reply.line());
    }
}

impl World {
    fn new(case: &Case) -> Result<Self, Box<dyn Error>> {
        let service = (case.service)();
        // Clients say how long they wait where that counts.
        let metrics = if case.reports { json!({"istio": {}}) } else { json!({}) };
        let mut plan = json!({"services": {"demo": service}, "metrics": metrics});
        let access_log = (case.access_log)();
        if access_log.is_object() {
            plan["accessLog"] = access_log;
        }
        let plan = plan.to_string();
        let plan = Rc::new(Plan::parse(plan.as_bytes(), &Codecs::all())?);
        let mut requests = Vec::new();
        for client in 0..case.clients {
            let calls: Vec<u8> = (0..case.in_flight)
                .flat_map(|call| {
                    request(call as u64, METHODS[call % case.methods], case.body, case.attachments)
                })
                .collect();
            put_data(&mut requests, tunnel(client), &calls);
        }
        let mut world = Self {
            worker: Worker::new(plan, Options::default(), 1),
            servers: Servers::new(case.has_identities),
            now: Instant::from_nanos(1_000_000_000),
            requests,
            out: Vec::new(),
            back: Vec::new(),
            piece: if case.body > 1 << 16 { FRAME } else { usize::MAX },
            body: case.body,
            spent: Duration::ZERO,
            clients: case.clients,
            has_identities: case.has_identities,
        };
        world.open(case.clients);
        (0..10).for_each(|_| world.round());
        Ok(world)
    }

    /// Opens the tunnels, and lets the first call find its connection.
    fn open(&mut self, clients: usize) {
        let mut bytes = PREFACE.to_vec();
        put_windows(&mut bytes);
        let mut windows = Vec::new();
        put_windows(&mut windows);
        self.receive(Side::Upstream, &windows);
        let identity = format!("spiffe://{PRINCIPAL}");
        for client in 0..clients {
            let mut fields =
                vec![(":method", "CONNECT"), (":authority", "demo"), ("x-meltemi-cluster", "demo")];
            if self.has_identities {
                fields.push(("x-meltemi-peer-identity", &identity));
            }
            put_frame(&mut bytes, HEADERS, 4, tunnel(client), &block(&fields));
        }
        // A large one would have connections for itself while it comes.
        put_data(&mut bytes, tunnel(0), &request(0, METHODS[0], self.body.min(1000), &[]));
        self.exchange(&bytes);
    }

    /// Every client makes its calls, and all are answered.
    fn round(&mut self) {
        self.now = self.now.after(Duration::from_micros(20));
        if self.servers.taken() > 1 << 28 {
            self.grant();
        }
        let requests = std::mem::take(&mut self.requests);
        let count = self.exchange(&requests);
        assert!(count > requests.len() / 2, "requests are held up");
        self.requests = requests;
    }

    /// Clients send, and servers answer as long as the worker sends. How many bytes of calls reached servers.
    fn exchange(&mut self, requests: &[u8]) -> usize {
        let mut sent = Vec::new();
        for piece in requests.chunks(self.piece) {
            self.receive(Side::Downstream, piece);
            sent.extend_from_slice(&self.out);
        }
        let (mut count, mut answers) = (0, Vec::new());
        loop {
            answers.clear();
            count += self.servers.answer(&sent, &mut answers);
            if answers.is_empty() {
                return count;
            }
            sent.clear();
            for piece in answers.chunks(self.piece) {
                self.receive(Side::Upstream, piece);
                sent.extend_from_slice(&self.back);
            }
        }
    }

    /// Grants again what the worker has sent. Answers are as long as requests, and every client has its share.
    fn grant(&mut self) {
        let upstream = self.servers.take();
        let taken: usize = upstream.iter().map(|(_, taken)| taken).sum();
        let share = taken / self.clients;
        let downstream: Vec<_> = (0..self.clients).map(|client| (tunnel(client), share)).collect();
        for (side, grants) in [(Side::Downstream, downstream), (Side::Upstream, upstream)] {
            let all = (0, grants.iter().map(|(_, count)| count).sum::<usize>());
            let mut bytes = Vec::new();
            for (stream, count) in grants.into_iter().chain([all]).filter(|(_, count)| *count > 0) {
                put_frame(&mut bytes, WINDOW_UPDATE, 0, stream, &(count as u32).to_be_bytes());
            }
            self.receive(side, &bytes);
        }
    }

    /// Envoy's callback. This alone is measured.
    #[inline(never)]
    fn receive(&mut self, side: Side, bytes: &[u8]) {
        let start = Clock::now();
        self.worker.receive(side, bytes, self.now).expect("HTTP/2 in order");
        self.out.clear();
        let other = if side == Side::Downstream { Side::Upstream } else { Side::Downstream };
        self.worker.transmit(other, &mut self.out);
        self.back.clear();
        self.worker.transmit(side, &mut self.back);
        self.worker.flush(&mut Silent);
        self.spent += start.elapsed();
    }
}

fn tunnel(client: usize) -> u32 {
    1 + 2 * client as u32
}
