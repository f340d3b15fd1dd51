//! Calls counted under the labels of Istio's standard metrics.
//!
//! What has changed is reported by short streams to the connection manager: their fields are labels and increments, which
//! loggers of Envoy's make counters of. Each costs a good part of what a call of HTTP does, and none of them is for one call.
//! Where there are no such loggers, counters have their labels in their names.

mod names;
mod parties;
mod series;
mod verdict;

use core::time::Duration;
use std::cell::{Ref, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use meltemi_sockets::{Accept, Request};

use self::names::Counting;
use self::parties::Parties;
use self::series::{Key, Series};
use crate::calls::Record;
use crate::clock::Instant;
use crate::net::Net;
use crate::plan::IstioMetrics;
use crate::pool::Pool;

pub use self::names::{Counters, labels, push_label};
pub use self::parties::Workload;
pub(crate) use self::parties::{PartyId, Server};
pub use self::verdict::flags;
pub(crate) use self::verdict::{Verdict, of as verdict, told};

/// The counts of one Envoy thread. Workers that come and go share them: what one has not reported, another does.
#[derive(Debug, Clone, Default)]
pub struct Reports(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    parties: Parties,
    all: Vec<Series>,
    /// Where each is, sorted by what it counts.
    index: Vec<(Key, usize)>,
    /// The one that counted last, and mostly counts next.
    last: usize,
    /// Those that have something to tell, the longest first.
    dirty: VecDeque<usize>,
    /// Those of them whose counters are still to be defined, which takes long: the others do not wait for it.
    naming: VecDeque<usize>,
    due: Option<Instant>,
    /// The service that this proxy is part of, as tracers name it.
    service: String,
    /// Tells the nanoseconds since the Unix epoch.
    wall_clock: Option<fn() -> u64>,
    way: Way,
    counting: Counting,
}

/// How counts become metrics of Envoy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// By streams to the connection manager, whose loggers count.
    #[default]
    Streams,
    /// By counters with names.
    Names,
    /// Not at all.
    Nowhere,
}

/// How long counts gather before they are reported.
const INTERVAL: Duration = Duration::from_secs(5);

/// So many series are reported at once, and more after a pause: calls wait meanwhile.
const MOST_AT_ONCE: usize = 10;
const PAUSE: Duration = Duration::from_millis(100);
/// The pause after some names of counters.
const SHORT_PAUSE: Duration = Duration::from_millis(10);

/// Where reports go in the connection manager.
const PATH: &str = "/report";

impl Reports {
    /// No counts yet, of a proxy of this workload and, as tracers name it, this `service`. `wall_clock` tells the nanoseconds
    /// since the Unix epoch, for what is reported with its time.
    pub fn new(own: Workload, service: String, wall_clock: fn() -> u64) -> Self {
        let (parties, wall_clock) = (Parties::new(own), Some(wall_clock));
        Self(Rc::new(RefCell::new(State { parties, service, wall_clock, ..State::default() })))
    }

    /// Tells the host's counters for metrics by names, and which way counts go unless the plan says that it is by names.
    /// What `shadows` names has no label: Envoy would find it in the names of ours.
    #[must_use]
    pub fn with_way(self, way: Way, counters: Counters, shadows: &[&str]) -> Self {
        self.0.borrow_mut().way = way;
        self.0.borrow_mut().counting = Counting::new(counters, shadows);
        self
    }

    /// The nanoseconds since the Unix epoch; where no clock tells them, the worker's own time is that.
    pub(crate) fn wall_time(&self, now: Instant) -> u64 {
        self.0.borrow().wall_clock.map_or(now.as_nanos(), |clock| clock())
    }

    /// The client of a connection that a tunnel brings.
    pub(crate) fn source(&self, accept: &Accept) -> PartyId {
        let State { parties, way, .. } = &mut *self.0.borrow_mut();
        parties.source(accept, *way)
    }

    /// Whether calls of that client come to the server's own proxy.
    pub(crate) fn is_server(&self, source: PartyId) -> bool {
        self.0.borrow().parties.is_server(source)
    }

    /// The service that this proxy is part of, as tracers name it.
    pub(crate) fn service(&self) -> Ref<'_, str> {
        Ref::map(self.0.borrow(), |state| match &*state.service {
            "" => "meltemi",
            service => service,
        })
    }

    /// A server that has been connected to.
    pub(crate) fn destination(&self, server: &Server<'_>) -> PartyId {
        self.0.borrow_mut().parties.destination(server)
    }

    /// Counts a call of a client that has ended; `pool` is that of its cluster, if one was chosen.
    #[inline(never)]
    pub(crate) fn ended(&self, record: &Record, pool: Option<&Pool>, now: Instant, rules: &IstioMetrics) {
        let state = &mut *self.0.borrow_mut();
        if state.way == Way::Nowhere && !rules.by_names {
            return;
        }
        let source = record.source.as_ref().map(|source| source.party).unwrap_or_default();
        let served = pool.and_then(|pool| pool.endpoints().party(record.endpoint));
        let destination = served.unwrap_or_else(|| {
            let cluster = pool.map_or("", |pool| pool.cluster());
            state.parties.unserved(source, cluster, &record.service)
        });
        let key = Key { source, destination, verdict: verdict::of(record, rules.exception_status) };
        let at = match state.all.get(state.last) {
            Some(last) if last.key == key => state.last,
            _ => state.find(key, rules.max_series),
        };
        state.last = at;
        let Some(series) = state.all.get_mut(at) else { return };
        series.add(now.since(record.started), record.request_bytes as usize, record.response_bytes as usize);
        if !core::mem::replace(&mut series.is_dirty, true) {
            state.dirty.push_back(at);
            state.due = state.due.or(Some(now.after(INTERVAL)));
        }
    }

    /// When what has gathered is to be reported, if anything has.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.0.borrow().due
    }

    /// Reports what has gathered, or some of it, if that is due.
    pub(crate) fn flush(&self, net: &mut Net, now: Instant, rules: Option<&IstioMetrics>) {
        let state = &mut *self.0.borrow_mut();
        let by_names = state.way == Way::Names || rules.is_some_and(|rules| rules.by_names);
        if state.due.is_none_or(|due| due > now) || !by_names && !net.is_open() {
            return;
        }
        if !by_names {
            state.dirty.append(&mut state.naming);
        }
        let way = if by_names { Way::Names } else { Way::Streams };
        let mut told = 0_usize;
        while told < MOST_AT_ONCE
            && let Some(at) = state.dirty.pop_front()
        {
            let Some(series) = state.all.get_mut(at) else { continue };
            if by_names && !state.counting.has_all(&series.counters) {
                state.naming.push_back(at);
                continue;
            }
            told = told.saturating_add(1);
            series.is_dirty = false;
            let parts = series.take(way);
            if by_names {
                state.counting.count(&parts, &series.counters);
                continue;
            }
            let outcome = verdict::fields(series.key.verdict);
            let labels = state.parties.labels(&series.key, &outcome);
            for part in parts {
                let counts = part.fields();
                let fields = labels.into_iter().chain([&counts[..]]).flatten();
                send(net, &fields.map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>());
            }
        }
        state.name();
        let pause = if by_names { SHORT_PAUSE } else { PAUSE };
        let is_more = !state.dirty.is_empty() || !state.naming.is_empty();
        state.due = is_more.then(|| now.after(pause));
    }
}

fn send(net: &mut Net, fields: &[(&str, &str)]) {
    net.request(&Request {
        method: "GET",
        scheme: "http",
        authority: "meltemi",
        path: PATH,
        cluster: None,
        headers: fields,
        body: &[],
    });
}

impl State {
    /// Defines some counters of the series that has waited longest for them.
    fn name(&mut self) {
        let Some(at) = self.naming.front().copied() else { return };
        if let Some(series) = self.all.get_mut(at) {
            let outcome = verdict::fields(series.key.verdict);
            let labels = self.parties.labels(&series.key, &outcome);
            let clock = self.wall_clock.unwrap_or(|| 0);
            if !self.counting.define(&labels, &mut series.counters, clock) {
                return;
            }
        }
        self.naming.pop_front();
        self.dirty.push_back(at);
    }

    /// Where calls like this count: by themselves, or once there are `most` of their kind, with the others.
    fn find(&mut self, key: Key, most: usize) -> usize {
        let found = self.index.binary_search_by(|(known, _)| known.cmp(&key));
        match found {
            Ok(place) => self.index.get(place).map_or(0, |(_, at)| *at),
            Err(place) if self.all.len() < most => self.insert(place, key),
            Err(_) => {
                let [source, destination] =
                    [key.source, key.destination].map(|party| self.parties.other(party));
                let other = Key { source, destination, ..key };
                match self.index.binary_search_by(|(known, _)| known.cmp(&other)) {
                    Ok(place) => self.index.get(place).map_or(0, |(_, at)| *at),
                    Err(place) => self.insert(place, other),
                }
            }
        }
    }

    fn insert(&mut self, place: usize, key: Key) -> usize {
        let at = self.all.len();
        self.all.push(Series::new(key));
        self.index.insert(place, (key, at));
        at
    }
}
