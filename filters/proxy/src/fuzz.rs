//! The entry for a fuzzer of the worker.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic is how a fuzzer learns of a mistake; none of this runs on the data path"
)]

use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;

use meltemi_codecs::Codecs;
use meltemi_codecs::fuzz::Choices;
use meltemi_sockets::{Options, Side};

use crate::plan::Plan;
use crate::{Instant, Labels, LocalReply, Metric, Sink, Worker};

/// Plays both peers of a worker as `data` says: tunnels, requests and answers that are right or wrong, ends, resets,
/// windows, time that passes, new plans, and bytes that are no frames at all.
///
/// # Panics
///
/// When the worker does, or when a gauge does not come back to zero.
pub fn fuzz_worker(data: &[u8]) {
    play(data);
}

/// What was counted in the end.
fn play(data: &[u8]) -> Sums {
    let mut play = Play::new(data);
    while !play.choices.is_empty() && !play.has_failed {
        play.act();
    }
    play.worker.shut_down(&mut play.sums);
    for (gauge, sum) in &play.sums.gauges {
        assert_eq!(*sum, 0, "{gauge} after the end");
    }
    play.sums
}

/// Routes of every kind, short times and small limits.
const PLANS: [&str; 2] = [
    r#"{"services": {"demo": {
        "protocol": "dubbo",
        "routes": [
            {"name": "split", "match": [{"attributes": {"method": {"exact": "b"}}}],
             "weightedClusters": [{"cluster": "v1", "weight": 1}, {"cluster": "v2", "weight": 1}]},
            {"name": "edit", "match": [{"attributes": {"tag": {"present": true}}}],
             "requestAttachments": {"set": {"k": "v", "w": "%REQ(tag?k):9% %UPSTREAM_HOST%"}, "remove": ["tag"]},
             "responseAttachments": {"addIfAbsent": {"k": "%REQ(k)%"}, "append": {"m": "%REQ(method)%"}},
             "mirrors": [{"cluster": "v2", "timeout": "300ms"}, {"cluster": "demo", "percent": 50}]}
        ],
        "defaultRoute": {"timeout": "1s", "retry": {
            "attempts": 2, "on": ["connect-failure", "reset", "per-try-timeout", "status"], "statuses": [80],
            "perTryTimeout": "100ms", "backoff": {"base": "10ms"}}},
        "idleTimeout": "2s",
        "limits": {"maxFrameBytes": 4096, "maxCallsPerConnection": 4},
        "upstream": {"maxConnectionAge": "500ms", "connectTimeout": "100ms", "maxCallsPerConnection": 2}
    }, "auto": {"protocol": "auto", "limits": {"maxFrameBytes": 4096}}},
    "accessLog": {"log": false, "files": true, "textFormat": "%REQ(method)%\n%REQ(tag)% %RESPONSE_CODE_DETAILS% "}}"#,
    r#"{"services": {"demo": {"protocol": "dubbo", "onNoMatch": "reject", "routes": [
        {"name": "hello", "match": [{"attributes": {"method": {"prefix": "a"}}}]}
    ]}, "auto": {"protocol": "auto", "protocols": ["dubbo", "thrift"], "routes": [
        {"name": "no", "match": [{"attributes": {"method": {"exact": "c"}}}], "reject": {"message": "no"}}
    ]}}}"#,
];

struct Play<'a> {
    choices: Choices<'a>,
    worker: Worker,
    plans: [Rc<Plan>; 2],
    now: Instant,
    sums: Sums,
    has_failed: bool,
    tunnels: u32,
    /// Streams that the worker opened, and the ids of requests on them.
    opened: Vec<u32>,
    requests: Vec<(u32, [u8; 8])>,
    /// Acknowledgements that are due.
    acks: [Vec<u8>; 2],
    /// What is to be written to the worker next.
    next: [Vec<u8>; 2],
}

impl<'a> Play<'a> {
    fn new(data: &'a [u8]) -> Self {
        let codecs = Codecs::all();
        let plans = PLANS.map(|plan| Rc::new(Plan::parse(plan.as_bytes(), &codecs).expect("a plan")));
        let worker = Worker::new(plans[0].clone(), Options::default(), 1);
        let mut play = Self {
            choices: Choices(data),
            worker,
            plans,
            now: Instant::from_nanos(1_000_000_000),
            sums: Sums::default(),
            has_failed: false,
            tunnels: 0,
            opened: Vec::new(),
            requests: Vec::new(),
            acks: [Vec::new(), Vec::new()],
            next: [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Vec::new()],
        };
        play.frame(Side::Downstream, 4, 0, 0, &[]);
        play.frame(Side::Upstream, 4, 0, 0, &[]);
        play.deliver(Side::Downstream);
        play.deliver(Side::Upstream);
        play
    }

    fn act(&mut self) {
        let (side, stream) = self.stream();
        match self.choices.below(16) {
            0 | 1 => self.open_tunnel(),
            2..=4 => {
                let tunnel = self.tunnel();
                let request = match self.choices.below(8) {
                    0 => self.start(),
                    _ => self.request(),
                };
                self.frame(Side::Downstream, 0, 0, tunnel, &request);
            }
            5 | 6 => {
                let status: &[(&str, &str)] = match self.choices.below(4) {
                    0 => &[(":status", "503"), ("x-meltemi-session", "MTAuMC4wLjE6MQ==")],
                    1 => &[(":status", "200"), ("x-meltemi-host", "10.0.0.1:1")],
                    _ => &[(":status", "200"), ("x-meltemi-host", "10.0.0.2:1")],
                };
                let flags = 4 | u8::from(self.choices.below(8) == 0);
                let block = block(status);
                self.frame(Side::Upstream, 1, flags, stream, &block);
            }
            7..=9 => {
                let request = self.choices.below(self.requests.len());
                if let Some(&(stream, id)) = self.requests.get(request) {
                    let answer = self.answer(id);
                    self.frame(Side::Upstream, 0, 0, stream, &answer);
                }
            }
            10 => self.frame(side, 0, 1, stream, &[]),
            11 => self.frame(side, 3, 0, stream, &[0, 0, 0, 2]),
            12 => {
                let count = self.choices.below(64);
                let bytes = self.choices.bytes(count);
                match self.choices.below(64) {
                    0 => self.next[index(side)].extend_from_slice(bytes),
                    _ => self.frame(side, 0, 0, stream, bytes),
                }
            }
            13 => {
                let plan = self.choices.below(2);
                self.worker.set_plan(self.plans[plan].clone());
            }
            14 if self.choices.below(8) == 0 => self.frame(Side::Upstream, 7, 0, 0, &[0; 8]),
            14 => self.frame(side, 8, 0, stream, &[0, 0, 1, 0]),
            _ => self.now = self.now.after(Duration::from_millis(1 << self.choices.below(12))),
        }
        if self.choices.below(3) > 0 {
            self.deliver(side);
        }
    }

    /// A side and a stream of it, mostly one that is there.
    fn stream(&mut self) -> (Side, u32) {
        match self.choices.below(2) {
            0 => (Side::Downstream, self.tunnel()),
            _ => {
                let stream = self.choices.below(self.opened.len());
                (Side::Upstream, self.opened.get(stream).copied().unwrap_or(1))
            }
        }
    }

    /// The stream of a tunnel, rarely one that was not opened.
    fn tunnel(&mut self) -> u32 {
        let more = usize::from(self.choices.below(64) == 0);
        if self.tunnels == 0 {
            self.open_tunnel();
        }
        1 + 2 * self.choices.below(self.tunnels as usize + more) as u32
    }

    fn open_tunnel(&mut self) {
        let authority = ["demo", "demo", "auto", "other"][self.choices.below(4)];
        let fields = [(":method", "CONNECT"), (":authority", authority), ("x-meltemi-cluster", "demo")];
        let stream = 1 + 2 * self.tunnels;
        self.tunnels += 1;
        self.frame(Side::Downstream, 1, 4, stream, &block(&fields));
    }

    /// What begins as some protocol does, or as none.
    fn start(&mut self) -> Vec<u8> {
        let starts: [&[u8]; 6] = [
            b"\xda",
            b"\xda\xbb\xc2\x00",
            b"\x00\x00\x00\x11\x80\x01\x00\x01\x00\x00\x00\x01a\x00\x00\x00\x01\x00",
            b"PRPC\x00\x00\x00\x40",
            b"\x09\x30\x00\x00\x00\x00\x00\x40\x00\x20",
            b"GET / HTTP/1.1\r\n\r\n",
        ];
        let start = starts[self.choices.below(starts.len())];
        let cut = self.choices.below(start.len());
        if self.choices.below(2) == 0 { start.to_vec() } else { start[..cut].to_vec() }
    }

    /// A Dubbo request, whole or wrong.
    fn request(&mut self) -> Vec<u8> {
        let flags = [0xc2, 0xc2, 0xc2, 0x82, 0xe2, 0xc6][self.choices.below(6)];
        let mut body = b"\x052.0.2\x04demo\x050.0.0".to_vec();
        body.extend_from_slice(&[1, b'a' + self.choices.below(3) as u8, 0]);
        match self.choices.below(4) {
            0 => body.extend_from_slice(b"H\x03tag\x01xZ"),
            1 => body.resize(16 << self.choices.below(10), b'N'),
            _ => body.extend_from_slice(b"HZ"),
        }
        let id = [0, 0, 0, 0, 0, 0, 0, self.choices.byte()];
        let is_heartbeat = flags == 0xe2;
        self.dubbo(flags, 0, id, if is_heartbeat { b"N" } else { &body })
    }

    fn answer(&mut self, id: [u8; 8]) -> Vec<u8> {
        match self.choices.below(6) {
            0 => self.dubbo(2, 80, id, b"\x01x"),
            1 => self.dubbo(0xe2, 0, id, b"N"),
            2 => self.dubbo(0xa2, 0, id, b"\x01R"),
            _ => self.dubbo(2, 20, id, b"\x94N"),
        }
    }

    fn dubbo(&mut self, flags: u8, status: u8, id: [u8; 8], body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xda, 0xbb, flags, status];
        frame.extend_from_slice(&id);
        frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
        frame.extend_from_slice(body);
        if self.choices.below(8) == 0 {
            let at = self.choices.below(frame.len());
            frame[at] = self.choices.byte();
        }
        if self.choices.below(4) == 0 {
            frame.truncate(self.choices.below(frame.len()));
        }
        frame
    }

    fn frame(&mut self, side: Side, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let next = &mut self.next[index(side)];
        for payload in payload.chunks(16_384).chain(payload.is_empty().then_some(payload)) {
            put_frame(next, kind, flags, stream, payload);
        }
    }

    /// The callback for what `side` has to send.
    fn deliver(&mut self, side: Side) {
        let mut bytes = core::mem::take(&mut self.next[index(side)]);
        bytes.append(&mut self.acks[index(side)]);
        let mut out = Vec::new();
        let other = if side == Side::Downstream { Side::Upstream } else { Side::Downstream };
        if side == Side::Upstream && self.worker.pass_unread(&bytes, bytes.len(), self.now, &mut out) {
            out.extend_from_slice(&bytes[9..]);
        } else {
            self.has_failed |= self.worker.receive(side, &bytes, self.now).is_err();
            self.worker.transmit(other, &mut out);
        }
        self.worker.flush(&mut self.sums);
        self.read(other, &out);
    }

    /// Notes what the worker opened and asked for.
    fn read(&mut self, side: Side, out: &[u8]) {
        let mut rest = out.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap_or(out);
        while let Some(head) = rest.first_chunk::<9>() {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let payload = rest.get(9..9 + length).expect("a whole frame");
            match (head[3], side) {
                (0, Side::Upstream) => {
                    let ids = payload.windows(16).filter(|bytes| bytes[..2] == [0xda, 0xbb]);
                    let ids = ids.filter_map(|bytes| bytes[4..12].first_chunk::<8>());
                    self.requests.extend(ids.map(|id| (stream, *id)));
                }
                (1, Side::Upstream) => self.opened.push(stream),
                (4 | 6, _) if head[4] == 0 => {
                    let payload = if head[3] == 6 { payload } else { &[] };
                    put_frame(&mut self.acks[index(side)], head[3], 1, 0, payload);
                }
                _ => {}
            }
            rest = &rest[9 + length..];
        }
        assert!(rest.is_empty(), "a frame was cut short");
    }
}

/// What the worker counted.
#[derive(Default)]
struct Sums {
    counters: BTreeMap<String, u64>,
    gauges: BTreeMap<String, i64>,
}

impl Sink for Sums {
    fn count(&mut self, metric: Metric, _: Option<&Labels>, n: u64) {
        *self.counters.entry(format!("{metric:?}")).or_default() += n;
    }

    fn change(&mut self, metric: Metric, labels: Option<&Labels>, change: i64) {
        *self.gauges.entry(format!("{metric:?} {labels:?}")).or_default() += change;
    }

    fn log(&mut self, reply: &LocalReply) {
        assert!(!reply.detail.is_empty() || reply.event == "log_entries_dropped");
    }
}

fn index(side: Side) -> usize {
    usize::from(side == Side::Upstream)
}

/// A header list as literals without indexing, RFC 7541 section 6.2.2.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_peers_do_makes_the_worker_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut counters = BTreeMap::new();
        for _ in 0..3000 {
            let length = random.usize(1..600);
            let data: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            for (name, n) in play(&data).counters {
                *counters.entry(name).or_insert(0) += n;
            }
        }
        // It came to all that.
        let names = [
            "Undetected(\"unknown_bytes\")",
            "Undetected(\"server_first\")",
            "Undetected(\"ended\")",
            "Undetected(\"timeout\")",
            "Responses(Success)",
            "Retries",
            "Timeouts",
            "Resets",
            "Cancelled",
            "DecodeErrors",
            "Heartbeats",
        ];
        assert_eq!(names.map(|name| counters.contains_key(name)), [true; 11], "{counters:?}");
    }
}
