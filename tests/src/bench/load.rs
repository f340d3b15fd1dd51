//! The load generator: a closed loop that keeps a fixed number of requests in flight on each client connection.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use meltemi_codecs::Peer;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token as Key};

use super::frame::{Reader, Seen, Template, token};
use super::outbox::Outbox;
use super::{Case, Protocol};

/// Bytes per read.
const READ: usize = 256 << 10;
/// Without a single answer for so long, what is in flight counts as lost.
const STALL: Duration = Duration::from_secs(5);
/// How long clients that are to be idle may take to get there.
const LONG: Duration = Duration::from_secs(60);
/// Connections that a proxy may close before the measurement is given up.
const MAX_RECONNECTS: u32 = 1000;
/// Longest latency that is distinguished, in nanoseconds.
const MAX_LATENCY: u64 = 60_000_000_000;

/// How long to load the proxy.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Before measuring: connections open, caches and pools fill.
    pub warm_up: Duration,
    /// While measuring.
    pub measured: Duration,
}

/// What one measurement gave.
#[derive(Debug, Clone)]
pub struct Measurement {
    /// Right answers within the measured time.
    pub requests: u64,
    /// The measured time.
    pub elapsed: Duration,
    /// CPU time that the proxy took in it.
    pub cpu: Duration,
    /// Latencies of the answers within it, in nanoseconds.
    pub latencies: Histogram<u64>,
    /// Wrong, missing and failed answers, at any time from the first request to the last.
    pub errors: u64,
    /// What the first of them was.
    pub first_error: Option<String>,
}

impl Measurement {
    /// CPU time of the proxy per request, in microseconds. Not finite if nothing was answered.
    #[must_use]
    pub fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests as f64
    }

    /// Right answers per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// A quantile of the latencies, in microseconds.
    #[must_use]
    pub fn latency_micros(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// Loads what listens at `address` as `case` says. `cpu` returns the CPU time that the proxy has used since it began;
/// it is asked at the start and at the end of the measured time.
///
/// # Errors
///
/// When the proxy cannot be connected to, keeps closing connections, or `cpu` fails. Wrong answers are not errors here: they are counted.
pub fn run(
    address: SocketAddr,
    case: &Case,
    span: Span,
    mut cpu: impl FnMut() -> io::Result<Duration>,
) -> io::Result<Measurement> {
    let mut load = Load::new(address, case)?;
    load.until(Instant::now() + span.warm_up)?;
    load.tally.requests = 0;
    load.tally.latencies.reset();
    let (begin, before) = (Instant::now(), cpu()?);
    load.until(begin + span.measured)?;
    let (elapsed, after) = (begin.elapsed(), cpu()?);
    let (requests, latencies) = (load.tally.requests, load.tally.latencies.clone());
    load.drain(STALL)?;
    Ok(Measurement {
        requests,
        elapsed,
        cpu: after.saturating_sub(before),
        latencies,
        errors: load.tally.errors,
        first_error: load.tally.first_error,
    })
}

/// Opens the clients of a case and lets each make its calls once; then they are idle for as long as this is held.
///
/// # Errors
///
/// When the proxy cannot be connected to. Calls without an answer are counted.
pub fn hold(address: SocketAddr, case: &Case) -> io::Result<Held> {
    let mut load = Load::new(address, case)?;
    load.drain(LONG)?;
    Ok(Held(load))
}

/// Idle clients.
pub struct Held(Load);

impl Held {
    /// How many calls were not answered.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.0.tally.errors
    }
}

struct Load {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    address: SocketAddr,
    protocol: Protocol,
    requests: [Template; 1],
    buffer: Vec<u8>,
    tally: Tally,
    last_answer: Instant,
    reconnects: u32,
}

struct Client {
    stream: TcpStream,
    reader: Reader,
    outbox: Outbox,
    calls: Calls,
}

impl Load {
    fn new(address: SocketAddr, case: &Case) -> io::Result<Self> {
        let poll = Poll::new()?;
        let answer = Template::response(case.protocol, case.body);
        let clients = (0..case.clients)
            .map(|index| {
                Ok(Client {
                    stream: connect(&poll, address, index)?,
                    reader: Reader::new(case.protocol, Peer::Server),
                    outbox: Outbox::default(),
                    calls: Calls::new(index, case, answer.body_len()),
                })
            })
            .collect::<io::Result<_>>()?;
        let mut load = Self {
            poll,
            events: Events::with_capacity(1024),
            clients,
            address,
            protocol: case.protocol,
            requests: [Template::request(case.protocol, case.body)],
            buffer: vec![0; READ],
            tally: Tally::new(),
            last_answer: Instant::now(),
            reconnects: 0,
        };
        for client in &mut load.clients {
            client.calls.fill(&load.requests, &mut client.outbox);
        }
        Ok(load)
    }

    /// Keeps the load up until that time, or until the proxy stalls.
    fn until(&mut self, end: Instant) -> io::Result<()> {
        while Instant::now() < end && !self.stalled() {
            self.turn(end, true)?;
        }
        Ok(())
    }

    /// Waits for what is in flight; what does not come is lost.
    fn drain(&mut self, limit: Duration) -> io::Result<()> {
        let end = Instant::now() + limit;
        while Instant::now() < end
            && !self.stalled()
            && self.clients.iter().any(|client| client.calls.pending > 0)
        {
            self.turn(end, false)?;
        }
        let lost: u64 = self.clients.iter().map(|client| client.calls.pending as u64).sum();
        if lost > 0 {
            self.tally.failed(lost, || "no answer came".into());
        }
        Ok(())
    }

    fn stalled(&self) -> bool {
        self.last_answer.elapsed() > STALL
    }

    /// Handles one round of events. With `refill`, every answer makes room for a new request.
    fn turn(&mut self, end: Instant, refill: bool) -> io::Result<()> {
        let wait = end.saturating_duration_since(Instant::now()).min(STALL);
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let answered = self.tally.requests + self.tally.errors;
        for event in &self.events {
            let Key(index) = event.token();
            let client = &mut self.clients[index];
            let closing = event.is_read_closed();
            let again = refill.then_some(self.requests.as_slice());
            let outcome = client.receive(closing, &mut self.buffer, &mut self.tally, again);
            let outcome = outcome.and_then(|()| client.outbox.flush(&self.requests, &mut client.stream));
            let Err(error) = outcome else {
                continue;
            };
            let lost = client.calls.abandon();
            self.tally.failed(lost.max(1), || format!("connection lost: {error}"));
            self.reconnects += 1;
            if self.reconnects > MAX_RECONNECTS {
                return Err(io::Error::other(format!("the proxy keeps closing connections: {error}")));
            }
            client.stream = connect(&self.poll, self.address, index)?;
            client.reader = Reader::new(self.protocol, Peer::Server);
            client.outbox.clear();
            if refill {
                client.calls.fill(&self.requests, &mut client.outbox);
            }
        }
        if self.tally.requests + self.tally.errors > answered {
            self.last_answer = Instant::now();
        }
        Ok(())
    }
}

fn connect(poll: &Poll, address: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream);
    poll.registry().register(&mut stream, Key(index), Interest::READABLE | Interest::WRITABLE)?;
    Ok(stream)
}

impl Client {
    /// Takes the answers that have come. With the requests `again`, each makes room for a new one.
    fn receive(
        &mut self,
        closing: bool,
        buffer: &mut [u8],
        tally: &mut Tally,
        again: Option<&[Template]>,
    ) -> io::Result<()> {
        loop {
            let n = match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let now = Instant::now();
            let (calls, outbox) = (&mut self.calls, &mut self.outbox);
            self.reader
                .feed(&buffer[..n], |frame| {
                    if let Some(slot) = calls.answered(&frame, now, tally)
                        && let Some(requests) = again
                    {
                        calls.issue(slot, now, requests, outbox);
                    }
                })
                .map_err(io::Error::other)?;
            // A short read has emptied the socket, and whatever comes later is announced anew; only a close may be
            // announced already.
            if n < buffer.len() && !closing {
                return Ok(());
            }
        }
    }
}

/// The calls in flight of one client.
struct Calls {
    /// The client's own part of its ids, so that no two clients ever use the same.
    base: u64,
    /// The bits of an id that the protocol has room for.
    mask: u64,
    /// Calls issued so far.
    issued: u64,
    /// Id and start of the call in each slot; none when it is idle.
    slots: Vec<Option<(u64, Instant)>>,
    pending: usize,
    /// Body length of a right answer.
    body_len: usize,
}

impl Calls {
    fn new(client: usize, case: &Case, body_len: usize) -> Self {
        let slots = vec![None; case.in_flight];
        let mask = case.protocol.codec().max_id();
        Self { base: (client as u64) << 48, mask, issued: 0, slots, pending: 0, body_len }
    }

    /// Puts a call in every idle slot.
    fn fill(&mut self, requests: &[Template], outbox: &mut Outbox) {
        let now = Instant::now();
        for slot in 0..self.slots.len() {
            if self.slots[slot].is_none() {
                self.issue(slot, now, requests, outbox);
            }
        }
    }

    /// Starts a call in an idle slot. Ids hold client, number and slot.
    fn issue(&mut self, slot: usize, now: Instant, requests: &[Template], outbox: &mut Outbox) {
        let id = self.base | (self.issued & 0xffff_ffff) << 16 | slot as u64;
        self.issued += 1;
        self.slots[slot] = Some((id, now));
        self.pending += 1;
        outbox.push(requests, 0, id & self.mask, &token(id));
    }

    /// Takes a frame from the server, and returns which slot it frees.
    fn answered(&mut self, frame: &Seen, now: Instant, tally: &mut Tally) -> Option<usize> {
        if frame.event {
            return None;
        }
        let slot = (frame.id & 0xffff) as usize;
        let waiting = self.slots.get(slot).copied().flatten();
        let Some((id, start)) = waiting.filter(|(id, _)| id & self.mask == frame.id) else {
            tally.failed(1, || format!("an answer that nobody waits for: {frame:?}"));
            return None;
        };
        self.slots[slot] = None;
        self.pending -= 1;
        if frame.ok && frame.token == token(id) && frame.body_len == self.body_len {
            tally.succeeded(now - start);
        } else {
            tally.failed(1, || format!("not the answer to its request: {frame:?}"));
        }
        Some(slot)
    }

    /// Gives up all calls in flight, and returns how many there were.
    fn abandon(&mut self) -> u64 {
        self.slots.fill(None);
        std::mem::take(&mut self.pending) as u64
    }
}

struct Tally {
    requests: u64,
    latencies: Histogram<u64>,
    errors: u64,
    first_error: Option<String>,
}

impl Tally {
    fn new() -> Self {
        let latencies = Histogram::new_with_max(MAX_LATENCY, 3).expect("valid bounds");
        Self { requests: 0, latencies, errors: 0, first_error: None }
    }

    fn succeeded(&mut self, latency: Duration) {
        self.requests += 1;
        self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    fn failed(&mut self, count: u64, what: impl FnOnce() -> String) {
        self.errors += count;
        self.first_error.get_or_insert_with(what);
    }
}

#[cfg(test)]
mod tests {
    use super::super::backend;
    use super::*;

    const BRIEF: Span = Span { warm_up: Duration::from_millis(20), measured: Duration::from_millis(200) };

    fn measure(case: &Case) -> Measurement {
        let servers =
            backend::start(case.protocol, &["127.0.0.1:0".parse().unwrap()], &[64, 16 << 10, 1 << 20])
                .unwrap();
        let mut cpu = Duration::ZERO;
        run(servers[0], case, BRIEF, || {
            cpu += Duration::from_millis(3);
            Ok(cpu)
        })
        .unwrap()
    }

    #[test]
    fn every_answer_of_the_servers_is_right() {
        for body in [64, 16 << 10, 1 << 20] {
            let measurement = measure(&Case { protocol: Protocol::Dubbo, clients: 3, in_flight: 4, body });
            assert!(measurement.requests > 0);
            assert_eq!((measurement.errors, measurement.first_error), (0, None));
            assert_eq!(measurement.cpu, Duration::from_millis(3));
            assert_eq!(measurement.latencies.len(), measurement.requests);
        }
        for protocol in Protocol::ALL {
            let measurement = measure(&Case { protocol, clients: 3, in_flight: 4, body: 64 });
            assert!(measurement.requests > 0);
            assert_eq!((measurement.errors, measurement.first_error), (0, None), "{protocol:?}");
        }
    }

    #[test]
    fn wrong_answers_are_counted() {
        let case = Case { protocol: Protocol::Dubbo, clients: 3, in_flight: 2, body: 64 };
        let requests = [Template::request(case.protocol, case.body)];
        let mut calls = Calls::new(2, &case, 100);
        let mut tally = Tally::new();
        calls.fill(&requests, &mut Outbox::default());
        let now = Instant::now();
        let right = |id| Seen {
            request: false,
            event: false,
            two_way: false,
            ok: true,
            id,
            token: token(id),
            body_len: 100,
        };
        let first = calls.base;
        let second = calls.base | 1 << 16 | 1;
        assert_eq!(calls.answered(&right(7), now, &mut tally), None);
        assert_eq!(calls.answered(&Seen { token: token(second), ..right(first) }, now, &mut tally), Some(0));
        assert_eq!(calls.answered(&right(first), now, &mut tally), None);
        assert_eq!(tally.errors, 3);
        assert_eq!(calls.answered(&right(second), now, &mut tally), Some(1));
        assert_eq!((tally.requests, calls.pending), (1, 0));
    }
}
