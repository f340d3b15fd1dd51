//! Calls counted by RPC service and by who is at the other end.
//!
//! Peers and services are numbered, so that a call costs one look-up by two numbers.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use crate::telemetry::{Labels, Metric, Names, Sink};

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// The workload; `None` for clients, which have none here.
    pub(crate) workload: Option<Rc<str>>,
    pub(crate) principal: Rc<str>,
}

impl Peer {
    fn labels(&self, service: Rc<str>) -> Labels {
        let principal = self.principal.clone();
        match self.workload.clone() {
            None => Labels::Source { service, principal },
            Some(workload) => Labels::Destination { service, workload, principal },
        }
    }
}

/// Number of a peer in [`Peers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PeerId(u32);

/// Counts of one metric. As many peers and pairs of service and peer are known as the caller allows; the calls of all
/// others are counted as `other`.
#[derive(Debug)]
pub(crate) struct Peers {
    metric: Metric,
    peers: Vec<Peer>,
    /// By workload and principal, as one text: maps by texts are the same code.
    by_peer: FxHashMap<Rc<str>, PeerId>,
    counts: Vec<Count>,
    /// Sorted by service and peer, with where its count is.
    by_pair: Vec<((u64, PeerId), usize)>,
    /// The one under which the calls of all that are not known are counted.
    other_peer: Peer,
    other: Option<usize>,
    dirty: Vec<usize>,
}

#[derive(Debug)]
struct Count {
    labels: Labels,
    pending: u64,
}

/// The number of every peer that is not known.
const OTHER: PeerId = PeerId(u32::MAX);

impl Peers {
    /// No counts yet. `other` is for every peer that is not known.
    pub(crate) fn new(metric: Metric, other: Peer) -> Self {
        Self {
            metric,
            other_peer: other,
            peers: Vec::new(),
            by_peer: FxHashMap::default(),
            counts: Vec::new(),
            by_pair: Vec::new(),
            other: None,
            dirty: Vec::new(),
        }
    }

    /// The number of a peer, known from now on unless `most` are.
    pub(crate) fn peer(&mut self, peer: Peer, most: usize) -> PeerId {
        let key = [peer.workload.as_deref().unwrap_or_default(), "\0", &*peer.principal].concat();
        if let Some(id) = self.by_peer.get(&*key) {
            return *id;
        }
        match u32::try_from(self.peers.len()) {
            Ok(number) if self.peers.len() < most => {
                self.peers.push(peer);
                self.by_peer.insert(key.into(), PeerId(number));
                PeerId(number)
            }
            _ => OTHER,
        }
    }

    /// Counts calls of a service, which is given by number and name. A pair that is new must be admitted by `names`.
    pub(crate) fn add(
        &mut self,
        number: u64,
        service: &Rc<str>,
        peer: PeerId,
        n: u64,
        names: (&Names, usize),
    ) {
        let pair = (number, peer);
        let place = self.by_pair.binary_search_by(|(known, _)| known.cmp(&pair));
        let known = place.map(|place| self.by_pair.get(place).map_or(usize::MAX, |(_, at)| *at));
        let index = known.unwrap_or_else(|place| self.pair(place, pair, service, names));
        if let Some(count) = self.counts.get_mut(index).filter(|_| n > 0) {
            if count.pending == 0 {
                self.dirty.push(index);
            }
            count.pending = count.pending.saturating_add(n);
        }
    }

    /// Where a pair counts that belongs at this place and is not known.
    #[inline(never)]
    fn pair(
        &mut self,
        place: usize,
        pair: (u64, PeerId),
        service: &Rc<str>,
        (names, most): (&Names, usize),
    ) -> usize {
        let index = self.counts.len();
        let known = self.peers.get(pair.1.0 as usize).map(|known| known.labels(service.clone()));
        let labels = match (known.filter(|labels| names.admit(labels, most)), self.other) {
            (Some(labels), _) => {
                self.by_pair.insert(place, (pair, index));
                labels
            }
            (None, Some(other)) => return other,
            (None, None) => {
                self.other = Some(index);
                self.other_peer.labels("other".into())
            }
        };
        self.counts.push(Count { labels, pending: 0 });
        index
    }

    /// Whether there is something to flush.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Gives every count to `sink`.
    pub(crate) fn flush(&mut self, sink: &mut dyn Sink) {
        for index in self.dirty.drain(..) {
            if let Some(count) = self.counts.get_mut(index) {
                sink.count(self.metric, Some(&count.labels), core::mem::take(&mut count.pending));
            }
        }
    }
}
