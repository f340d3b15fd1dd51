use super::Choices;
use crate::{Event, Options, Side, SocketId, Sockets, Target};

/// Two of our own, one's client side to the other's server side, carry bytes both ways while sockets are opened,
/// half-closed, closed and reset at any time, over a wire that delivers in any pieces. Neither breaks the protocol; each
/// byte arrives once and in order; and once everything is read, everything that was to arrive has.
pub fn fuzz_pair(data: &[u8]) {
    let mut choices = Choices(data);
    let options = Options {
        receive_window_downstream: 20 + 40 * u32::from(choices.byte()),
        receive_window_upstream: 20 + 40 * u32::from(choices.byte()),
        write_high: 1000,
        write_low: 300,
        max_sockets: 20,
        max_concurrent_streams: 1 + u32::from(choices.byte() & 7),
        max_lingering: 8,
        ..Options::default()
    };
    let mut pair = Pair {
        ends: [End::new(&options, Side::Upstream), End::new(&options, Side::Downstream)],
        tunnels: Vec::new(),
    };
    while !choices.is_empty() {
        pair.step(&mut choices);
    }
    pair.settle();
}

struct End {
    sockets: Sockets,
    side: Side,
    /// Bytes on their way to this end.
    wire: Vec<u8>,
}

#[derive(Default)]
struct Tunnel {
    /// Its socket at each end.
    ids: [Option<SocketId>; 2],
    written: [usize; 2],
    /// Bytes of the other end that arrived.
    read: [usize; 2],
    unconsumed: [usize; 2],
    finished: [bool; 2],
    closed: [bool; 2],
    ended: [bool; 2],
    is_open: [bool; 2],
    /// Reset, refused or cancelled, so that anything may be missing.
    is_broken: bool,
}

struct Pair {
    ends: [End; 2],
    tunnels: Vec<Tunnel>,
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

impl End {
    fn new(options: &Options, side: Side) -> Self {
        let mut sockets = Sockets::new(options.clone());
        // Nobody is on the other side; what is to be said there must not ask for callbacks.
        sockets.transmit(side.other(), &mut Vec::new());
        Self { sockets, side, wire: Vec::new() }
    }
}

/// The byte at a place of a tunnel's stream.
fn pattern(tunnel: usize, end: usize, at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 8) ^ tunnel.wrapping_mul(7) ^ end) as u8
}

impl Pair {
    fn step(&mut self, choices: &mut Choices<'_>) {
        let choice = choices.byte() % 16;
        let end = usize::from(choices.byte() & 1);
        let at = choices.below(self.tunnels.len());
        match choice {
            0 if self.tunnels.len() < 100 => {
                let number = self.tunnels.len().to_string();
                let target = Target { cluster: "v1", endpoint: None, headers: &[("x-number", &number)] };
                if let Some(id) = self.ends[CLIENT].sockets.connect(&target) {
                    self.tunnels.push(Tunnel { ids: [Some(id), None], ..Tunnel::default() });
                }
            }
            1 | 2 => self.accept(at),
            3..=6 => self.write(at, end, usize::from(choices.byte()) * 17),
            7 | 8 => self.consume(at, end, usize::from(choices.byte()) * 20),
            9..=12 => drop(self.deliver(end, usize::from(choices.byte()) * 50)),
            13 => self.finish(at, end),
            14 => self.close(at, end),
            15 if choices.byte() < 40 => self.reset(at, end),
            _ => {}
        }
    }

    fn socket(&mut self, at: usize, end: usize) -> Option<(SocketId, &mut Tunnel, &mut Sockets)> {
        let tunnel = self.tunnels.get_mut(at)?;
        Some((tunnel.ids[end]?, tunnel, &mut self.ends[end].sockets))
    }

    fn accept(&mut self, at: usize) {
        if let Some((id, tunnel, sockets)) = self.socket(at, SERVER)
            && !tunnel.is_open[SERVER]
        {
            sockets.accept(id);
            tunnel.is_open[SERVER] = true;
        }
    }

    fn write(&mut self, at: usize, end: usize, length: usize) {
        if let Some((id, tunnel, sockets)) = self.socket(at, end)
            && let Some(buffer) = sockets.write(id)
        {
            assert!(!tunnel.finished[end]);
            buffer.extend((0..length).map(|offset| pattern(at, end, tunnel.written[end] + offset)));
            tunnel.written[end] += length;
        }
    }

    fn consume(&mut self, at: usize, end: usize, count: usize) {
        if let Some((id, tunnel, sockets)) = self.socket(at, end) {
            let count = count.min(tunnel.unconsumed[end]);
            tunnel.unconsumed[end] -= count;
            sockets.consumed(id, count);
        }
    }

    fn finish(&mut self, at: usize, end: usize) {
        if let Some((id, tunnel, sockets)) = self.socket(at, end) {
            sockets.finish(id);
            tunnel.finished[end] = true;
        }
    }

    fn close(&mut self, at: usize, end: usize) {
        if let Some((id, tunnel, sockets)) = self.socket(at, end) {
            sockets.close(id);
            tunnel.is_broken |= !tunnel.is_open[end];
            tunnel.closed[end] = true;
            tunnel.ids[end] = None;
        }
    }

    fn reset(&mut self, at: usize, end: usize) {
        if let Some((id, tunnel, sockets)) = self.socket(at, end) {
            sockets.reset(id);
            tunnel.is_broken = true;
            tunnel.ids[end] = None;
        }
    }

    /// Has an end take up to so many bytes off its wire, and then say what it has to say.
    fn deliver(&mut self, end: usize, count: usize) -> bool {
        let other = 1 - end;
        let mut moved = false;
        let count = count.min(self.ends[end].wire.len());
        let input: Vec<u8> = self.ends[end].wire.drain(..count).collect();
        moved |= !input.is_empty();
        let mut rest = &input[..];
        let side = self.ends[end].side;
        while let Some(event) =
            self.ends[end].sockets.receive(side, &mut rest).unwrap_or_else(|error| panic!("{error}"))
        {
            moved = true;
            self.event(end, event);
        }
        let mut out = Vec::new();
        self.ends[end].sockets.transmit(side, &mut out);
        moved |= !out.is_empty();
        self.ends[other].wire.append(&mut out);
        moved
    }

    fn find(&mut self, end: usize, id: SocketId) -> (usize, &mut Tunnel) {
        let found = self.tunnels.iter_mut().enumerate().find(|(_, tunnel)| tunnel.ids[end] == Some(id));
        found.unwrap_or_else(|| panic!("an event of a socket that was given up"))
    }

    fn event(&mut self, end: usize, event: Event<'_>) {
        match event {
            Event::Accepted { id, accept } => {
                let number = accept.headers.iter().find(|(name, _)| name == "x-number");
                let at = number.and_then(|(_, number)| number.parse::<usize>().ok());
                let tunnel = at.and_then(|at| self.tunnels.get_mut(at));
                tunnel.unwrap_or_else(|| panic!("a tunnel that nobody opened")).ids[SERVER] = Some(id);
            }
            Event::Connected { id, .. } => self.find(end, id).1.is_open[CLIENT] = true,
            Event::Refused { id, .. } => {
                let tunnel = self.find(end, id).1;
                tunnel.is_broken = true;
                tunnel.ids[end] = None;
            }
            Event::Data { id, bytes } => {
                let (at, tunnel) = self.find(end, id);
                assert!(!tunnel.ended[end]);
                for (offset, byte) in bytes.iter().enumerate() {
                    assert_eq!(*byte, pattern(at, 1 - end, tunnel.read[end] + offset));
                }
                tunnel.read[end] += bytes.len();
                tunnel.unconsumed[end] += bytes.len();
                assert!(tunnel.read[end] <= tunnel.written[1 - end]);
            }
            Event::Ended { id } => {
                let tunnel = self.find(end, id).1;
                assert!(!tunnel.ended[end]);
                tunnel.ended[end] = true;
                assert!(tunnel.is_broken || tunnel.read[end] == tunnel.written[1 - end]);
            }
            Event::Reset { id, .. } => {
                let tunnel = self.find(end, id).1;
                // The other end gave it up, or its window was overrun, which it must never be.
                assert!(tunnel.is_broken || tunnel.closed[1 - end]);
                tunnel.ids[end] = None;
                tunnel.is_broken |= !tunnel.ended[end];
            }
            Event::Writable { id } => {
                self.find(end, id);
            }
            Event::Alarm | Event::Response { .. } | Event::GoingAway { .. } => panic!("{event:?}"),
        }
    }

    /// Reads everything until nothing moves, and looks at what must have arrived.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for at in 0..self.tunnels.len() {
                self.accept(at);
                for end in [CLIENT, SERVER] {
                    self.consume(at, end, usize::MAX);
                }
            }
            for end in [CLIENT, SERVER] {
                moved |= self.deliver(end, usize::MAX);
            }
            if !moved {
                break;
            }
        }
        for at in 0..self.tunnels.len() {
            for end in [CLIENT, SERVER] {
                let tunnel = &self.tunnels[at];
                if tunnel.is_broken || !tunnel.is_open[CLIENT] || tunnel.closed[1 - end] {
                    continue;
                }
                // What `end` wrote was read by the other, which is still there.
                assert_eq!(tunnel.read[1 - end], tunnel.written[end], "tunnel {at}");
                assert_eq!(tunnel.ended[1 - end], tunnel.finished[end] || tunnel.closed[end], "tunnel {at}");
            }
        }
    }
}
