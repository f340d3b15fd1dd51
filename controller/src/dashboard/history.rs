//! What happened in the last minutes.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::traffic::{Look, Seen};

/// How long looks are kept.
const SPAN: Duration = Duration::from_secs(600);

/// How many looks are kept at most.
const KEPT: usize = 300;

/// How many bytes they may take, about: each may have thousands of series.
const ROOM: usize = 128 << 20;

/// The looks of the last minutes, those of all proxies together, and what each proxy did last.
#[derive(Debug)]
pub(super) struct History {
    pub(super) interval: Duration,
    pub(super) ticks: VecDeque<Tick>,
    pub(super) seen: Vec<Seen>,
    /// Why it is not known which proxies there are.
    pub(super) trouble: Option<String>,
    /// How many bytes the looks may take, about.
    room: usize,
}

/// What all proxies did in one interval.
#[derive(Debug)]
pub(super) struct Tick {
    /// When it was, in milliseconds of Unix time.
    pub(super) at: u64,
    pub(super) look: Look,
    /// About how many bytes it takes.
    bytes: usize,
}

impl History {
    /// Nothing happened yet.
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, ticks: VecDeque::new(), seen: Vec::new(), trouble: None, room: ROOM }
    }

    /// Keeps what the proxies did last.
    pub(super) fn tick(&mut self, seen: &[Seen]) {
        let looks: Vec<&Arc<Look>> = seen.iter().filter_map(|seen| seen.look.as_ref()).collect();
        self.seen = seen.to_vec();
        if looks.is_empty() {
            return;
        }
        let most = SPAN.as_secs() / self.interval.as_secs().max(1);
        let most = usize::try_from(most).unwrap_or(KEPT).clamp(1, KEPT);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let look = together(&looks);
        let (bytes, room) = (look.bytes(), self.room);
        let is_full = |ticks: &VecDeque<Tick>| {
            ticks.len() >= most || ticks.iter().map(|tick| tick.bytes).sum::<usize>() + bytes > room
        };
        while is_full(&self.ticks) && self.ticks.pop_front().is_some() {}
        self.ticks.push_back(Tick { at, look, bytes });
    }
}

/// A call that passes two proxies is counted by both. Where the proxies of a service's clients are among those that are
/// looked at, the calls are those that they saw, and the proxies of its servers tell only who calls.
fn together(looks: &[&Arc<Look>]) -> Look {
    let mut sum = Look::default();
    let seen_by_clients: BTreeSet<&String> =
        looks.iter().flat_map(|look| look.servers.keys()).map(|(service, _)| service).collect();
    for look in looks {
        sum.add(look, |service| seen_by_clients.contains(service) && look.serves(service));
    }
    sum
}

/// The history, even if something panicked with it: there is no half of a tick.
pub(super) fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(requests: f64, client: Option<&str>, server: Option<&str>) -> Arc<Look> {
        let mut look = Look::default();
        look.methods.entry(("Greeter".to_owned(), "say".to_owned())).or_default().requests = requests;
        look.clients.extend(client.map(|name| (("Greeter".to_owned(), name.to_owned()), requests)));
        look.servers.extend(server.map(|name| (("Greeter".to_owned(), name.to_owned()), requests)));
        look.into()
    }

    fn requests(looks: &[&Arc<Look>]) -> f64 {
        together(looks).methods.values().map(|figures| figures.requests).sum()
    }

    #[test]
    fn a_call_that_two_proxies_saw_is_one() {
        let (client, other) = (look(8.0, None, Some("v1")), look(4.0, None, Some("v1")));
        let server = look(12.0, Some("td/ns/a/sa/b"), None);
        assert_eq!(requests(&[&client, &other, &server]), 12.0);
        assert_eq!(requests(&[&server, &client, &other]), 12.0, "in any order");
        assert_eq!(requests(&[&server]), 12.0, "of servers alone");
        let sum = together(&[&client, &other, &server]);
        assert_eq!(sum.clients.values().sum::<f64>(), 12.0);
        assert_eq!(sum.servers.values().sum::<f64>(), 12.0);
        // One that is neither, without mutual TLS, is counted.
        assert_eq!(requests(&[&client, &look(1.0, None, None)]), 9.0);
    }

    #[test]
    fn old_looks_make_room() {
        let seen = Seen { look: Some(look(1.0, None, None)), ..Seen::default() };
        for (seconds, kept) in [(2, 300), (5, 120), (1, 300), (3600, 1)] {
            let mut history = History::new(Duration::from_secs(seconds));
            history.tick(&[Seen::default()]);
            assert!(history.ticks.is_empty(), "nothing is known");
            (0..KEPT + 5).for_each(|_| history.tick(std::slice::from_ref(&seen)));
            assert_eq!(history.ticks.len(), kept, "every {seconds} s");
        }
    }

    #[test]
    fn large_looks_make_room_sooner() {
        let mut history = History { room: 1000, ..History::new(Duration::from_secs(2)) };
        let mut tick = |bytes: usize| {
            let look =
                Look { servers: [(("s".repeat(bytes), String::new()), 1.0)].into(), ..Look::default() };
            history.tick(&[Seen { look: Some(look.into()), ..Seen::default() }]);
            history.ticks.len()
        };
        let kept: Vec<usize> = [300, 300, 300, 1000, 10, 10].into_iter().map(&mut tick).collect();
        assert_eq!(kept, [1, 2, 2, 1, 1, 2], "the last is kept however large it is");
    }
}
