//! Connections of services that the plan does not know: passed through byte by byte, as tcp_proxy would.

use core::time::Duration;
use std::rc::Rc;

use meltemi_sockets::{Accept, Side, SocketId, Target};

use crate::arena::{Arena, Id};
use crate::client::DESTINATION_HEADER;
use crate::clock::{Instant, earliest};
use crate::detection::{Undecided, Verdict};
use crate::net::{HIGH_WATERMARK, Net, Owner};
use crate::plan::{Plan, UnknownAuthority};

/// All relays of a worker.
#[derive(Debug, Default)]
pub(crate) struct Relays {
    relays: Arena<Relay>,
    /// Memory of what clients sent too early.
    unread: usize,
}

/// Names a relay.
pub(crate) type RelayId = Id<Relay>;

/// A client connection and the upstream connection that belongs to it alone.
#[derive(Debug)]
pub(crate) struct Relay {
    /// The service that the plan did not know.
    authority: Rc<str>,
    client: End,
    upstream: End,
    /// What the client sent before the upstream connection was open; its window is not given back until then.
    early: Vec<u8>,
    is_open: bool,
    /// What the client may speak, as long as that is not known.
    undecided: Option<Box<Undecided>>,
    /// Its service may have a protocol that was not known of it.
    is_undetected: bool,
    last_active: Instant,
    /// The plan knows the service now: closed by then, or when nothing has passed for a while.
    ends_at: Option<Instant>,
}

/// One side of a relay.
#[derive(Debug)]
struct End {
    socket: SocketId,
    has_ended: bool,
    /// Bytes from this side whose window waits until the other side has sent them on.
    credit: usize,
}

/// A relay that is to end waits for its client and server to have said nothing for so long.
const QUIET: Duration = Duration::from_secs(1);

/// It does not wait longer than this.
const LONGEST_END: Duration = Duration::from_secs(5 * 60);

impl Relays {
    /// Passes a client connection through to the cluster that Envoy would have used.
    pub(crate) fn open(
        &mut self,
        client: SocketId,
        accept: &Accept,
        destination: Option<&str>,
        now: Instant,
        net: &mut Net,
    ) -> Option<RelayId> {
        let header = destination.map(|address| [(DESTINATION_HEADER, address)]);
        let upstream = accept.cluster.as_deref().and_then(|cluster| {
            let headers = header.as_ref().map_or(&[][..], |header| header.as_slice());
            net.connect(&Target { cluster, endpoint: None, headers })
        });
        let Some(upstream) = upstream else {
            net.close(client);
            return None;
        };
        let id = self.relays.insert(Relay {
            authority: accept.authority.as_str().into(),
            client: End::new(client),
            upstream: End::new(upstream),
            early: Vec::new(),
            is_open: false,
            undecided: None,
            is_undetected: false,
            last_active: now,
            ends_at: None,
        });
        net.own(client, Owner::Relay(id, Side::Downstream));
        net.own(upstream, Owner::Relay(id, Side::Upstream));
        Some(id)
    }

    /// Keeps what the client sends until it is known what it speaks.
    pub(crate) fn watch(&mut self, id: RelayId, undecided: Undecided) {
        if let Some(relay) = self.relays.get_mut(id) {
            relay.undecided = Some(Box::new(undecided));
        }
    }

    #[inline]
    pub(crate) fn is_undecided(&self, id: RelayId) -> bool {
        self.relays.get(id).is_some_and(|relay| relay.undecided.is_some())
    }

    /// Looks at what an undecided client has sent, `bytes` the last.
    pub(crate) fn look(&mut self, id: RelayId, bytes: &[u8], now: Instant) -> Verdict {
        let Some(relay) = self.relays.get_mut(id) else { return Verdict::Open };
        relay.last_active = now;
        relay.keep(bytes, &mut self.unread);
        relay.undecided.as_mut().map_or(Verdict::Open, |undecided| undecided.look(&relay.early, now))
    }

    /// Whether what an undecided client's server says leaves it open what that speaks.
    pub(crate) fn hear(&mut self, id: RelayId, bytes: &[u8]) -> bool {
        let undecided = self.relays.get_mut(id).and_then(|relay| relay.undecided.as_mut());
        undecided.is_some_and(|undecided| undecided.hear(bytes))
    }

    /// By when a client is to be known.
    pub(crate) fn undecided_due(&self, id: RelayId) -> Option<Instant> {
        self.relays.get(id)?.undecided.as_ref()?.due()
    }

    /// The relays whose clients should be known by now.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<RelayId> {
        let due = |relay: &Relay| relay.undecided.as_ref().and_then(|undecided| undecided.due());
        let overdue = self.relays.iter().filter(|(_, relay)| due(relay).is_some_and(|due| due <= now));
        overdue.map(|(id, _)| id).collect()
    }

    /// An undecided client stays a relay.
    pub(crate) fn settle(&mut self, id: RelayId, now: Instant, net: &mut Net) {
        let Some(relay) = self.relays.get_mut(id) else { return };
        let is_guarded = relay.undecided.take().is_some_and(|undecided| undecided.is_guarded());
        relay.is_undetected = true;
        if is_guarded {
            self.close(id, net);
        } else if relay.is_open {
            self.pass_early(id, now, net);
        }
    }

    /// Ends the relay of an undecided client, which goes on: its socket, what is known of it, and what it has sent.
    pub(crate) fn take(&mut self, id: RelayId, net: &mut Net) -> Option<(SocketId, Undecided, Vec<u8>)> {
        let relay = self.relays.remove(id)?;
        self.unread = self.unread.saturating_sub(relay.early.capacity());
        net.reset(relay.upstream.socket);
        Some((relay.client.socket, *relay.undecided?, relay.early))
    }

    /// The upstream connection is open.
    pub(crate) fn connected(&mut self, id: RelayId, now: Instant, net: &mut Net) {
        let Some(relay) = self.relays.get_mut(id) else { return };
        relay.is_open = true;
        if relay.undecided.is_none() {
            self.pass_early(id, now, net);
        }
    }

    /// Passes on what the client sent early.
    fn pass_early(&mut self, id: RelayId, now: Instant, net: &mut Net) {
        let Some(relay) = self.relays.get_mut(id) else { return };
        let early = core::mem::take(&mut relay.early);
        let has_ended = relay.client.has_ended;
        self.unread = self.unread.saturating_sub(early.capacity());
        if !early.is_empty() {
            self.data(id, Side::Downstream, &early, HIGH_WATERMARK, now, net);
            self.writable(id, Side::Upstream, net);
        }
        if has_ended {
            self.ended(id, Side::Downstream, net);
        }
    }

    /// Passes on what `side` sent. Who has more than `part` unsent is fed no further.
    pub(crate) fn data(
        &mut self,
        id: RelayId,
        side: Side,
        bytes: &[u8],
        part: usize,
        now: Instant,
        net: &mut Net,
    ) {
        let Some(relay) = self.relays.get_mut(id) else { return };
        relay.last_active = now;
        if side == Side::Downstream && !relay.is_open {
            relay.keep(bytes, &mut self.unread);
            return;
        }
        let (from, to) = relay.from(side);
        pass(from, to, bytes, part.min(HIGH_WATERMARK), net);
    }

    /// Nothing more comes from `side`.
    pub(crate) fn ended(&mut self, id: RelayId, side: Side, net: &mut Net) {
        let Some(relay) = self.relays.get_mut(id) else { return };
        let is_open = relay.is_open;
        let (from, to) = relay.from(side);
        from.has_ended = true;
        // What a client sent early comes first.
        if is_open || side == Side::Upstream {
            net.finish(to.socket);
            if to.has_ended {
                self.close(id, net);
            }
        }
    }

    /// What was queued for `side` has left: the other may send more.
    pub(crate) fn writable(&mut self, id: RelayId, side: Side, net: &mut Net) {
        if let Some(relay) = self.relays.get_mut(id) {
            let (from, _) = relay.from(side.other());
            net.consumed(from.socket, core::mem::take(&mut from.credit));
        }
    }

    /// Each side that has no more than `most` unsent may be fed again: others left it little.
    pub(crate) fn go_on(&mut self, most: usize, net: &mut Net) {
        for (_, relay) in self.relays.iter_mut() {
            for side in [Side::Downstream, Side::Upstream] {
                let (from, to) = relay.from(side);
                if from.credit > 0 && net.queued(to.socket) < most.min(HIGH_WATERMARK) {
                    net.consumed(from.socket, core::mem::take(&mut from.credit));
                }
            }
        }
    }

    /// Ends a relay, of which one side may be gone, after what is on its way.
    pub(crate) fn close(&mut self, id: RelayId, net: &mut Net) {
        if let Some(relay) = self.relays.remove(id) {
            self.unread = self.unread.saturating_sub(relay.early.capacity());
            net.close(relay.client.socket);
            net.close(relay.upstream.socket);
        }
    }

    /// Ends a relay, and drops what is on its way.
    pub(crate) fn reset(&mut self, id: RelayId, net: &mut Net) {
        if let Some(relay) = self.relays.get(id) {
            net.reset(relay.client.socket);
            net.reset(relay.upstream.socket);
            self.close(id, net);
        }
    }

    /// Ends the relays whose service `plan` knows, so that their clients connect again and are treated as it says: at
    /// once where calls may be denied, else at a quiet moment. Where it refuses whom it does not know, it ends all of them.
    pub(crate) fn follow(&mut self, plan: &Plan, now: Instant, net: &mut Net) {
        let latest = now.after(LONGEST_END);
        let mut guarded = Vec::new();
        for (id, relay) in self.relays.iter_mut() {
            match plan.service(&relay.authority) {
                _ if plan.unknown_authority == UnknownAuthority::Refuse => guarded.push(id),
                Some(service) if service.others.is_some() && relay.undecided.is_some() => {
                    relay.undecided.iter_mut().for_each(|undecided| undecided.follow(plan));
                }
                Some(service) if service.is_guarded => guarded.push(id),
                Some(service) if service.others.is_some() && relay.is_undetected => relay.ends_at = None,
                Some(_) => relay.ends_at = relay.ends_at.or(Some(latest)),
                None => relay.ends_at = None,
            }
        }
        for id in guarded {
            self.close(id, net);
        }
    }

    /// Closes the relays whose time has come; says when that of another does.
    pub(crate) fn sweep(&mut self, now: Instant, net: &mut Net) -> Option<Instant> {
        let mut over = Vec::new();
        let mut next = None;
        for (id, relay) in self.relays.iter() {
            match relay.due() {
                Some(due) if due <= now => over.push(id),
                due => next = earliest(next, due),
            }
            next = earliest(next, relay.undecided.as_ref().and_then(|undecided| undecided.due()));
        }
        for id in over {
            self.close(id, net);
        }
        next
    }

    /// Memory of what clients sent before their connections were open.
    pub(crate) fn unread(&self) -> usize {
        self.unread
    }

    /// What may still come of those that are slow, into windows of these sizes.
    pub(crate) fn coming(&self, [downstream, upstream]: [usize; 2]) -> usize {
        let rest = |window: usize, held: usize| if held > 0 { window.saturating_sub(held) } else { 0 };
        self.relays.iter().fold(0, |sum: usize, (_, relay)| {
            let early = relay.client.credit.saturating_add(relay.early.len());
            sum.saturating_add(rest(downstream, early)).saturating_add(rest(upstream, relay.upstream.credit))
        })
    }

    /// Each relay with the memory that it takes, and when something came on it last.
    pub(crate) fn holders(&self, net: &Net) -> impl Iterator<Item = (RelayId, usize, Instant)> {
        let holder = |(id, relay): (_, &Relay)| (id, relay.memory(net), relay.last_active);
        self.relays.iter().map(holder)
    }
}

impl Relay {
    /// Keeps what the client sent early.
    fn keep(&mut self, bytes: &[u8], unread: &mut usize) {
        let before = self.early.capacity();
        self.early.extend_from_slice(bytes);
        *unread = unread.saturating_sub(before).saturating_add(self.early.capacity());
    }

    /// The end of a side, and the other.
    fn from(&mut self, side: Side) -> (&mut End, &mut End) {
        match side {
            Side::Downstream => (&mut self.client, &mut self.upstream),
            Side::Upstream => (&mut self.upstream, &mut self.client),
        }
    }

    /// When to look whether it can end.
    fn due(&self) -> Option<Instant> {
        self.ends_at.map(|ends_at| ends_at.min(self.last_active.after(QUIET)))
    }

    fn memory(&self, net: &Net) -> usize {
        let unsent = net.memory(self.client.socket).saturating_add(net.memory(self.upstream.socket));
        unsent.saturating_add(self.early.capacity())
    }
}

impl End {
    fn new(socket: SocketId) -> Self {
        Self { socket, has_ended: false, credit: 0 }
    }
}

/// Writes to `to` what `from` sent, and gives the window back unless `to` is slow and has `most` to read.
fn pass(from: &mut End, to: &End, bytes: &[u8], most: usize, net: &mut Net) {
    if !net.pass(to.socket, bytes) {
        net.consumed(from.socket, bytes.len());
        return;
    }
    from.credit = from.credit.saturating_add(bytes.len());
    if net.queued(to.socket) < most {
        net.consumed(from.socket, core::mem::take(&mut from.credit));
    } else {
        net.await_writable(to.socket);
    }
}

#[cfg(test)]
mod tests {
    use meltemi_sockets::Options;

    use super::*;

    /// A relay of the service `demo`, with its sockets.
    struct Play {
        net: Net,
        relays: Relays,
        id: RelayId,
        client: SocketId,
        upstream: SocketId,
    }

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    fn play() -> Play {
        let mut net = Net::new(Options::default());
        let mut relays = Relays::default();
        // Any socket will do for that of a client.
        let client = net.connect(&Target::default()).unwrap();
        let accept = Accept { authority: "demo".into(), cluster: Some("demo".into()), ..Accept::default() };
        relays.open(client, &accept, None, at(0), &mut net);
        let id = relays.relays.ids()[0];
        let upstream = relays.relays.get(id).unwrap().upstream.socket;
        Play { net, relays, id, client, upstream }
    }

    impl Play {
        fn data(&mut self, side: Side, bytes: &[u8]) {
            self.relays.data(self.id, side, bytes, HIGH_WATERMARK, at(0), &mut self.net);
        }

        fn owners(&self) -> [Owner; 2] {
            [self.client, self.upstream].map(|socket| self.net.owner(socket))
        }

        fn follow(&mut self, plan: &str) {
            let plan = Plan::parse(plan.as_bytes(), &meltemi_codecs::Codecs::all()).unwrap();
            self.relays.follow(&plan, at(0), &mut self.net);
        }
    }

    #[test]
    fn what_comes_early_waits_for_the_connection_and_takes_memory() {
        let mut play = play();
        play.data(Side::Downstream, b"early");
        play.relays.ended(play.id, Side::Downstream, &mut play.net);
        assert_eq!(play.net.queued(play.upstream), 0);
        let holders: Vec<_> = play.relays.holders(&play.net).collect();
        assert!(play.relays.unread() >= 5 && holders == [(play.id, play.relays.unread(), at(0))]);
        play.relays.connected(play.id, at(1), &mut play.net);
        assert_eq!((play.net.queued(play.upstream), play.relays.unread()), (5, 0));
        assert!(play.net.write(play.upstream).is_none(), "the client has ended");
        play.data(Side::Upstream, b"answer");
        assert_eq!(play.net.queued(play.client), 6);
    }

    #[test]
    fn it_ends_with_the_second_of_its_sides() {
        for side in [Side::Downstream, Side::Upstream] {
            let mut play = play();
            play.relays.connected(play.id, at(0), &mut play.net);
            play.relays.ended(play.id, side, &mut play.net);
            assert_eq!(
                play.owners(),
                [Side::Downstream, Side::Upstream].map(|end| Owner::Relay(play.id, end))
            );
            play.relays.ended(play.id, side.other(), &mut play.net);
            assert_eq!((play.owners(), play.relays.relays.len()), ([Owner::Nobody; 2], 0));
        }
    }

    #[test]
    fn what_is_dropped_takes_no_memory() {
        for end in [Relays::close, Relays::reset] {
            let mut play = play();
            play.data(Side::Downstream, b"early");
            end(&mut play.relays, play.id, &mut play.net);
            assert_eq!((play.relays.unread(), play.owners()), (0, [Owner::Nobody; 2]));
        }
    }

    #[test]
    fn a_service_that_the_plan_comes_to_know_ends_it_when_it_is_quiet() {
        let mut play = play();
        assert_eq!(play.relays.sweep(at(3_600_000), &mut play.net), None);
        play.follow(r#"{"services": {"demo": {"protocol": "dubbo"}}}"#);
        play.relays.connected(play.id, at(700), &mut play.net);
        play.relays.data(play.id, Side::Upstream, b"x", HIGH_WATERMARK, at(700), &mut play.net);
        assert_eq!(play.relays.sweep(at(1000), &mut play.net), Some(at(1700)));
        assert_eq!(play.relays.sweep(at(1700), &mut play.net), None);
        assert_eq!(play.owners(), [Owner::Nobody; 2]);
    }

    #[test]
    fn a_plan_that_refuses_strangers_ends_it_at_once() {
        let mut play = play();
        play.follow(r#"{"unknownAuthority": "refuse", "services": {}}"#);
        assert_eq!(play.owners(), [Owner::Nobody; 2]);
    }
}
