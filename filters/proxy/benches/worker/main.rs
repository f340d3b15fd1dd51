//! What a call costs in the worker, from the client's bytes to the server's and back: instructions per call, counted by
//! callgrind, and nanoseconds, which depend on the machine.
//!
//!     cargo bench -p meltemi-proxy --bench worker
//!
//! Both peers are played by a few lines that do not count. Without valgrind, only the time is told. Copies of large bodies
//! are counted by the byte where the processor has an instruction for them: of a case with bodies over 64 KiB, which come in
//! one frame a callback as Envoy sends them, the instructions by all bytes of request and answer are the copies of each. To
//! see which functions a case spends its instructions in:
//!
//!     valgrind --tool=callgrind --toggle-collect='*World*receive*' <the bench's program> --case '<name>' 200
//!     callgrind_annotate callgrind.out.*
mod cases;

use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant as Clock};
use std::{env, iter};

use cases::{CASES, Case, METHODS, PRINCIPAL};
use meltemi_codecs::Codecs;
use meltemi_proxy::{Instant, Labels, LocalReply, Metric, Sink, Worker, plan::Plan};
use meltemi_sockets::{Options, Side};
use serde_json::json;

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
    println!("{:<44} {:>12} {:>8}", "a call in the worker", "instructions", "ns");
    for case in CASES {
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

/// A worker with its clients' tunnels open and one upstream connection.
struct World {
    worker: Worker,
    now: Instant,
    /// A round's requests, as tcp_proxy sends them.
    requests: Vec<u8>,
    /// The answers to them, as the connection manager sends them.
    answers: Vec<u8>,
    out: Vec<u8>,
    /// What the worker sent in a round, to be answered.
    sent: Vec<u8>,
    /// How many bytes come in one callback.
    piece: usize,
    /// The upstream connection's stream.
    stream: u32,
    body: usize,
    /// The time spent in the worker.
    spent: Duration,
    clients: usize,
    has_identities: bool,
    /// Bytes that the worker sent upstream since windows were granted.
    taken: usize,
}

struct Silent;

impl Sink for Silent {
    fn count(&mut self, metric: Metric, _: Option<&Labels>, n: u64) {
        black_box((metric, n));
    }

    fn change(&mut self, metric: Metric, _: Option<&Labels>, change: i64) {
        black_box((metric, change));
    }

    fn log(&mut self, _: &LocalReply) {}
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const HEADER: usize = 16;

/// The longest DATA frame, with its head.
const FRAME: usize = 16_384 + 9;

impl World {
    fn new(case: &Case) -> Result<Self, Box<dyn Error>> {
        let service = (case.service)();
        // Clients say how long they wait where that counts.
        let has_time = service["defaultRoute"]["propagateDeadline"].is_boolean();
        let metrics = if case.reports { json!({"istio": {}}) } else { json!({}) };
        let plan = json!({"services": {"demo": service}, "metrics": metrics}).to_string();
        let plan = Rc::new(Plan::parse(plan.as_bytes(), &Codecs::all())?);
        let mut requests = Vec::new();
        for client in 0..case.clients {
            let calls: Vec<u8> = (0..case.in_flight)
                .flat_map(|call| request(call as u64, METHODS[call % case.methods], case.body, has_time))
                .collect();
            put_data(&mut requests, tunnel(client), &calls);
        }
        let mut world = Self {
            worker: Worker::new(plan, Options::default(), 1),
            now: Instant::from_nanos(1_000_000_000),
            requests,
            answers: Vec::new(),
            out: Vec::new(),
            sent: Vec::new(),
            piece: if case.body > 1 << 16 { FRAME } else { usize::MAX },
            stream: 0,
            body: case.body,
            spent: Duration::ZERO,
            clients: case.clients,
            has_identities: case.has_identities,
            taken: 0,
        };
        world.open(case.clients);
        (0..10).for_each(|_| world.round());
        Ok(world)
    }

    /// Opens the tunnels, and lets the first call find its connection.
    fn open(&mut self, clients: usize) {
        let mut bytes = PREFACE.to_vec();
        let mut from_manager = Vec::new();
        for out in [&mut bytes, &mut from_manager] {
            // A window of 2^31-1 for each stream, and for all of them together.
            put_frame(out, SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
            put_frame(out, WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
        }
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
        put_data(&mut bytes, tunnel(0), &request(0, METHODS[0], self.body.min(1000), false));
        self.receive(Side::Downstream, &bytes);
        let mut streams = Vec::new();
        let ready = |kind, stream| {
            if kind == HEADERS {
                streams.push(stream)
            }
        };
        each_frame(self.out.strip_prefix(PREFACE).unwrap_or_default(), ready);
        self.stream = streams[0];
        // Every connection is one to the same endpoint, so that the worker keeps the first.
        let mut fields = vec![(":status", "200"), ("x-meltemi-host", "10.0.0.1:20880")];
        if self.has_identities {
            let server = "spiffe://cluster.local/ns/demo/sa/server";
            fields.extend([
                ("x-meltemi-workload", "v1;demo;demo;v1;Kubernetes"),
                ("x-meltemi-identity", server),
            ]);
        }
        let answer = block(&fields);
        put_frame(&mut from_manager, HEADERS, 4, self.stream, &answer);
        for _ in 0..8 {
            self.receive(Side::Upstream, &from_manager);
            from_manager.clear();
            self.receive(Side::Downstream, &[]);
            each_frame(&self.out, |kind, stream| {
                if kind == HEADERS {
                    put_frame(&mut from_manager, HEADERS, 4, stream, &answer);
                }
            });
        }
    }

    /// Every client makes its calls, and all are answered.
    fn round(&mut self) {
        self.now = self.now.after(Duration::from_micros(20));
        if self.taken > 1 << 28 {
            self.grant();
        }
        let requests = std::mem::take(&mut self.requests);
        self.sent.clear();
        for piece in requests.chunks(self.piece) {
            self.receive(Side::Downstream, piece);
            self.sent.extend_from_slice(&self.out);
        }
        self.requests = requests;
        self.answer();
        let answers = std::mem::take(&mut self.answers);
        for piece in answers.chunks(self.piece) {
            self.receive(Side::Upstream, piece);
        }
        self.answers = answers;
    }

    /// Grants again what the worker has sent. Answers are as long as requests, and every client has its share.
    fn grant(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        let share = taken / self.clients;
        let tunnels =
            (0..self.clients).map(|client| (tunnel(client), share)).chain([(0, share * self.clients)]);
        let upstream = [(self.stream, taken), (0, taken)].into_iter();
        let update = |grants: &mut dyn Iterator<Item = (u32, usize)>| {
            let mut bytes = Vec::new();
            grants.for_each(|(stream, count)| {
                put_frame(&mut bytes, WINDOW_UPDATE, 0, stream, &(count as u32).to_be_bytes());
            });
            bytes
        };
        let bytes = [update(&mut { tunnels }), update(&mut { upstream })];
        self.receive(Side::Downstream, &bytes[0]);
        self.receive(Side::Upstream, &bytes[1]);
    }

    /// The connection manager's answer to what the worker wrote: the requests come back as responses, PINGs as
    /// acknowledgements.
    fn answer(&mut self) {
        self.answers.clear();
        let mut calls = Vec::new();
        let mut rest = self.sent.as_slice();
        while let Some((&[a, b, c, kind, flags, ..], after)) = rest.split_first_chunk::<9>() {
            let (payload, after) =
                after.split_at(usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
            rest = after;
            match kind {
                DATA => calls.extend_from_slice(payload),
                PING if flags == 0 => put_frame(&mut self.answers, PING, 1, 0, payload),
                _ => {}
            }
        }
        assert!(calls.len() > self.requests.len() / 2, "requests are held up");
        self.taken += calls.len();
        let mut at = 0;
        while let Some(frame) = calls.get_mut(at..).filter(|frame| !frame.is_empty()) {
            // A response with status OK and a value.
            frame[2..4].copy_from_slice(&[2, 20]);
            frame[HEADER] = 0x91;
            at += HEADER + u32::from_be_bytes([frame[12], frame[13], frame[14], frame[15]]) as usize;
        }
        put_data(&mut self.answers, self.stream, &calls);
    }

    /// Envoy's callback. This alone is measured.
    #[inline(never)]
    fn receive(&mut self, side: Side, bytes: &[u8]) {
        let start = Clock::now();
        self.worker.receive(side, bytes, self.now).expect("HTTP/2 in order");
        self.out.clear();
        let other = if side == Side::Downstream { Side::Upstream } else { Side::Downstream };
        self.worker.transmit(other, &mut self.out);
        self.worker.flush(&mut Silent);
        self.spent += start.elapsed();
    }
}

fn tunnel(client: usize) -> u32 {
    1 + 2 * client as u32
}

/// A Dubbo request of so many bytes, or a few more.
fn request(id: u64, method: &str, size: usize, has_time: bool) -> Vec<u8> {
    let mut body = Vec::new();
    let short = |body: &mut Vec<u8>, text: &str| {
        match text.len() {
            len @ 0..32 => body.push(len as u8),
            len => body.extend([0x30 + (len >> 8) as u8, len as u8]),
        }
        body.extend_from_slice(text.as_bytes());
    };
    for text in ["2.0.2", "org.meltemi.demo.Greeter", "1.0.0", method, "[B"] {
        short(&mut body, text);
    }
    let mut attachments = vec![b'H'];
    for text in ["path", "org.meltemi.demo.Greeter", "interface", "org.meltemi.demo.Greeter", "tag", "gray"] {
        short(&mut attachments, text);
    }
    for text in ["timeout", "3000"].into_iter().filter(|_| has_time) {
        short(&mut attachments, text);
    }
    attachments.push(b'Z');
    let mut argument = size.saturating_sub(HEADER + body.len() + attachments.len() + 3);
    while argument > 0xffff {
        // A chunk that others follow.
        body.extend([b'A', 0xff, 0xff]);
        body.resize(body.len() + 0xffff, 7);
        argument -= 0xffff;
    }
    body.push(b'B');
    body.extend_from_slice(&(argument as u16).to_be_bytes());
    body.resize(body.len() + argument, 7);
    body.append(&mut attachments);
    let mut frame = vec![0xda, 0xbb, 0xc2, 0];
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.append(&mut body);
    frame
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal without indexing, RFC 7541 section 6.2.2.
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn put_data(out: &mut Vec<u8>, stream: u32, bytes: &[u8]) {
    for chunk in bytes.chunks(16_384) {
        put_frame(out, DATA, 0, stream, chunk);
    }
}

fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn each_frame(mut bytes: &[u8], mut see: impl FnMut(u8, u32)) {
    while let Some((&[a, b, c, kind, _, s0, s1, s2, s3], rest)) = bytes.split_first_chunk() {
        see(kind, u32::from_be_bytes([s0, s1, s2, s3]));
        bytes = &rest[usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)..];
    }
}
