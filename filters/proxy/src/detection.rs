//! Which protocol a client speaks, where its service may have several: its first bytes tell.
//!
//! Until then the connection is a relay whose client's bytes wait. So nobody is held up who waits for the server to speak
//! first: once the server does, as once the bytes are of no known protocol or too few of them come in time, it is a relay
//! like any other. A server's signs of life pass, and leave it open.

use core::time::Duration;
use std::rc::Rc;

use meltemi_codecs::{Kind, Peer, Step};
use meltemi_sockets::{Accept, Side, SocketId};

use crate::clock::Instant;
use crate::plan::{Plan, Service};
use crate::relays::RelayId;
use crate::telemetry::Metric;
use crate::worker::Worker;

/// So many bytes that one protocol alone can read are its own.
const CERTAIN: usize = 16;
/// The most bytes that are looked at.
const MOST: usize = 4096;
/// How long bytes may leave it open.
const TIME: Duration = Duration::from_secs(1);

/// What is known of a client that has not been understood.
#[derive(Debug)]
pub(crate) struct Undecided {
    accept: Accept,
    destination: Option<Rc<str>>,
    /// The service in each protocol that it can be.
    candidates: Vec<Rc<Service>>,
    /// Whether some of them are denied by what they say.
    is_guarded: bool,
    /// When its first bytes came.
    since: Option<Instant>,
}

/// What bytes are.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Calls of the service in this protocol.
    Calls(Rc<Service>),
    /// Nothing that is known.
    Unknown,
    /// That more must tell.
    Open,
}

impl Undecided {
    /// One that has said nothing.
    fn new(accept: Accept, destination: Option<Rc<str>>, plan: &Plan) -> Self {
        let mut undecided =
            Self { accept, destination, candidates: Vec::new(), is_guarded: false, since: None };
        undecided.follow(plan);
        undecided
    }

    /// Looks at all bytes that have come.
    pub(crate) fn look(&mut self, bytes: &[u8], now: Instant) -> Verdict {
        self.since = self.since.or(Some(now));
        let mut found = None;
        self.candidates.retain(|service| {
            match service.codec.split(Peer::Client, bytes, service.limits.max_request_bytes) {
                Ok(Step::Frame(frame)) if is_clients(frame.kind) => {
                    found.get_or_insert_with(|| service.clone());
                    true
                }
                Ok(Step::NeedMore { .. }) => true,
                Ok(Step::Frame(_)) | Err(_) => false,
            }
        });
        match (found, &*self.candidates) {
            // Its server may take for calls of another what would be denied.
            (Some(_), [_, _, ..]) if self.is_guarded => Verdict::Unknown,
            (Some(service), _) => Verdict::Calls(service),
            (None, []) => Verdict::Unknown,
            (None, [only]) if bytes.len() >= CERTAIN => Verdict::Calls(only.clone()),
            (None, _) if bytes.len() >= MOST => Verdict::Unknown,
            (None, _) => Verdict::Open,
        }
    }

    /// Whether its server says nothing but signs of life, in a protocol that the client then has.
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> bool {
        self.candidates.retain(|service| {
            let (codec, limit) = (&service.codec, service.limits.max_frame_bytes);
            let mut rest = bytes;
            while let Ok(Step::Frame(frame)) = codec.split(Peer::Server, rest, limit)
                && matches!(frame.kind, Kind::HeartbeatRequest | Kind::HeartbeatResponse | Kind::Drain)
            {
                rest = rest.get(frame.len..).unwrap_or_default();
            }
            rest.is_empty()
        });
        !self.candidates.is_empty()
    }

    /// By when it has to be known.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since.after(TIME))
    }

    /// Whether routes say who may call what: nothing passes that was not read.
    pub(crate) fn is_guarded(&self) -> bool {
        self.is_guarded
    }

    /// Takes the protocols that `plan` has for the service.
    pub(crate) fn follow(&mut self, plan: &Plan) {
        self.candidates = plan.candidates(&self.accept.authority).cloned().collect();
        self.is_guarded = self.candidates.iter().any(|service| service.is_guarded);
    }
}

/// Whether clients send such frames.
fn is_clients(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Request
            | Kind::OneWay
            | Kind::Refused(_)
            | Kind::Opened
            | Kind::HeartbeatRequest
            | Kind::HeartbeatResponse
            | Kind::Event
    )
}

impl Worker {
    /// A tunnel was opened to a service of several protocols.
    #[inline(never)]
    pub(crate) fn detect(&mut self, socket: SocketId, accept: Accept, destination: Option<Rc<str>>) {
        let opened = self.relays.open(socket, &accept, destination.as_deref(), self.now, &mut self.net);
        if let Some(id) = opened {
            self.relays.watch(id, Undecided::new(accept, destination, &self.plan));
        }
    }

    /// Either side of a relay has sent something.
    pub(crate) fn relay_data(&mut self, id: RelayId, side: Side, bytes: &[u8]) {
        if self.relays.is_undecided(id) {
            self.undecided_data(id, side, bytes);
        } else {
            self.pass_relayed(id, side, bytes);
        }
    }

    fn pass_relayed(&mut self, id: RelayId, side: Side, bytes: &[u8]) {
        let part = self.part();
        self.relays.data(id, side, bytes, part, self.now, &mut self.net);
    }

    #[inline(never)]
    fn undecided_data(&mut self, id: RelayId, side: Side, bytes: &[u8]) {
        if side == Side::Upstream {
            if !self.relays.hear(id, bytes) {
                self.give_up_detection(id, "server_first");
            }
            self.pass_relayed(id, side, bytes);
            return;
        }
        match self.relays.look(id, bytes, self.now) {
            Verdict::Calls(service) => self.found(id, service),
            Verdict::Unknown => self.give_up_detection(id, "unknown_bytes"),
            Verdict::Open => self.alarms.wake_at(self.relays.undecided_due(id)),
        }
    }

    /// Either side of a relay has ended.
    pub(crate) fn relay_ended(&mut self, id: RelayId, side: Side) {
        if self.relays.is_undecided(id) {
            self.give_up_detection(id, "ended");
        }
        self.relays.ended(id, side, &mut self.net);
    }

    /// The client's protocol is known: its bytes are calls.
    fn found(&mut self, id: RelayId, service: Rc<Service>) {
        let Some((socket, undecided, early)) = self.relays.take(id, &mut self.net) else { return };
        let key = self.admit(socket, &undecided.accept, service, undecided.destination);
        self.client_data(key, &early);
    }

    /// The client's protocol is not known: its bytes pass through, unless routes say who may call what.
    fn give_up_detection(&mut self, id: RelayId, reason: &'static str) {
        self.telemetry.add_global(Metric::Undetected(reason), 1);
        self.relays.settle(id, self.now, &mut self.net);
    }

    /// Gives up on those whose bytes did not tell in time.
    pub(crate) fn end_detections(&mut self) {
        for id in self.relays.overdue(self.now) {
            self.give_up_detection(id, "timeout");
        }
    }
}
