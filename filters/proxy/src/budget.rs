//! How much memory connections may take, all together, and who goes first when it is too much.
//!
//! Every sum is kept as it changes. Connections are only looked at one by one when some have to go, and then a 64th of the
//! budget is freed at once: it takes as many bytes again to bring the next look.

use core::cell::Cell;
use core::time::Duration;
use std::rc::Rc;

use meltemi_codecs::Failure;

use crate::client::{Client, ClientId};
use crate::deadlines::sort_descending;
use crate::net::HIGH_WATERMARK;
use crate::pool::Pool;
use crate::relays::RelayId;
use crate::telemetry::Metric;
use crate::upstream::ConnectionId;
use crate::worker::Worker;

/// What the workers of one VM keep for their clients, all together. Each follows the limit of its own plan.
#[derive(Debug, Default)]
pub struct Budget {
    kept: Cell<usize>,
    workers: Cell<usize>,
}

/// What one worker has of a [`Budget`]; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Rc<Budget>,
    kept: usize,
}

/// Memory that a call in flight takes beside its frame.
pub(crate) const CALL: usize = 512;

/// Memory that an operation takes which is not known, while calls of it are in flight.
const OPERATION: usize = 1024;

/// Whoever made no progress for so long goes before all who did.
const STALE: Duration = Duration::from_secs(2);

/// What a server's connection may hold while it makes progress.
const USUAL: usize = 4 * HIGH_WATERMARK;

/// How often a worker that holds more than its part looks whether others need it.
const LOOK: Duration = Duration::from_secs(1);

/// Who holds memory.
#[derive(Debug, Clone, Copy)]
enum Holder {
    Client(ClientId),
    Connection(ConnectionId),
    Relay(RelayId),
}

/// Who goes first: whoever made no progress, of either the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u64);

impl Rank {
    const STALE: u64 = 1 << 63;

    fn new(is_stale: bool, kept: usize) -> Self {
        Self(if is_stale { Self::STALE } else { 0 } | kept as u64)
    }

    fn kept(self) -> usize {
        usize::try_from(self.0 & !Self::STALE).unwrap_or(usize::MAX)
    }
}

impl Share {
    pub(crate) fn new(budget: &Rc<Budget>) -> Self {
        budget.workers.set(budget.workers.get().saturating_add(1));
        Self { budget: budget.clone(), kept: 0 }
    }

    fn set(&mut self, kept: usize) {
        let others = self.budget.kept.get().saturating_sub(self.kept);
        self.budget.kept.set(others.saturating_add(kept));
        self.kept = kept;
    }

    fn total(&self) -> usize {
        self.budget.kept.get()
    }

    /// Whether this worker holds more than an equal part of `most`. Where all together hold more, one does.
    fn is_large(&self, most: usize) -> bool {
        self.kept > self.part(most)
    }

    /// An equal part of `most`.
    pub(crate) fn part(&self, most: usize) -> usize {
        most.checked_div(self.budget.workers.get()).unwrap_or(most)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
        self.budget.workers.set(self.budget.workers.get().saturating_sub(1));
    }
}

impl Client {
    /// Memory that its calls in flight take.
    fn call_memory(&self) -> usize {
        self.calls().len().saturating_mul(CALL).saturating_add(self.calls().held())
    }
}

impl Worker {
    /// Shares a budget with the other workers of its VM. Without this it has one of its own.
    #[must_use]
    pub fn with_budget(mut self, budget: &Rc<Budget>) -> Self {
        self.share = Share::new(budget);
        self
    }

    /// Memory that its connections take, as its [`Budget`] counts it: what has come and is not passed on, calls in flight,
    /// and what was not read.
    pub fn kept(&self) -> usize {
        self.share.kept
    }

    /// Counts what is kept by now, and closes connections if that is too much.
    pub(crate) fn keep_budget(&mut self) {
        let carried = self.count_kept();
        self.fit_windows(carried);
        let most = self.plan.memory_budget;
        self.limit_calls(most);
        if !self.share.is_large(most >> 1) {
            return;
        }
        if self.share.total() > most && self.share.is_large(most) {
            self.shed(most);
        } else {
            self.alarms.wake_at(Some(self.now.after(LOOK)));
        }
    }

    /// Counts what is kept: says how much of that is bytes on their way.
    fn count_kept(&mut self) -> usize {
        let calls = self.calls.len().saturating_mul(CALL).saturating_add(self.calls.held());
        let named = self.telemetry.unknown_operations().saturating_mul(OPERATION);
        let carried = self.carried();
        self.share.set(calls.saturating_add(named).saturating_add(carried));
        carried
    }

    /// Short of memory, nobody has more calls than an equal part of the first half has room for; one in any case.
    fn limit_calls(&mut self, most: usize) {
        let half = most >> 1;
        let is_short = self.most_for_calls.is_some();
        // It is not over at once: clients are looked at, one by one, when it is.
        let end = if is_short { half.saturating_sub(most >> 3) } else { half };
        self.most_for_calls =
            (self.share.total() > end).then(|| half.checked_div(self.clients.len()).unwrap_or(most).max(1));
        if is_short && self.most_for_calls.is_none() {
            for client in self.clients.ids() {
                self.list_client(client);
            }
        }
    }

    /// Whether a client has as many calls as it may while memory is short.
    pub(crate) fn has_its_part(&self, client: &Client) -> bool {
        self.most_for_calls.is_some_and(|most| client.call_memory() >= most)
    }

    /// Closes connections until a 64th of the budget is free: those without progress before those with some, of either
    /// the largest first.
    fn shed(&mut self, most: usize) {
        let mut holders: Vec<(Rank, Holder)> = Vec::new();
        for (id, client) in self.clients.iter_mut() {
            let socket = client.socket();
            let unsent = self.net.memory(socket);
            let kept = client.call_memory().saturating_add(client.counted()).saturating_add(unsent);
            if kept > 0 {
                // It may have read since it was last written to.
                client.note_sent(self.net.sent(socket), self.now);
                let since = client.stands_since(self.net.queued(socket) > 0);
                let is_stale = since.is_some_and(|since| self.now.since(since) >= STALE);
                holders.push((Rank::new(is_stale, kept), Holder::Client(id)));
            }
        }
        for (id, connection) in self.connections.iter_mut() {
            let socket = connection.socket();
            let kept = connection.intake().inbox().memory().saturating_add(self.net.memory(socket));
            let since = connection.stands_since(self.net.sent(socket), self.now);
            // Copies of calls are nobody's loss.
            let is_mirror = self.pools.get(connection.pool()).is_some_and(Pool::is_mirror);
            let is_stale = is_mirror || self.now.since(since) >= STALE;
            // What all clients share goes for little only if it stands still.
            if kept > if is_stale { 0 } else { USUAL } {
                holders.push((Rank::new(is_stale, kept), Holder::Connection(id)));
            }
        }
        for (id, kept, last_active) in self.relays.holders(&self.net) {
            if kept > 0 {
                let is_stale = self.now.since(last_active) >= STALE;
                holders.push((Rank::new(is_stale, kept), Holder::Relay(id)));
            }
        }
        sort_descending(&mut holders);
        let mut excess = self.share.total().saturating_sub(most.saturating_sub(most >> 6));
        for (rank, holder) in holders {
            if excess == 0 {
                break;
            }
            let kept = rank.kept();
            excess = excess.saturating_sub(kept);
            let detail = |who| {
                let (most, kept) = (most >> 20, kept >> 10);
                format!("the memory budget of {most} MiB is used up, this {who} holds {kept} KiB of it")
            };
            match holder {
                Holder::Connection(id) => self.give_up_connection(id, &detail("server connection")),
                Holder::Client(id) => {
                    let detail = detail("client");
                    self.give_up(id, "memory", Failure::Overloaded, &detail);
                }
                Holder::Relay(id) => {
                    self.telemetry.add_global(Metric::ClientConnectionsGivenUp("memory"), 1);
                    self.relays.reset(id, &mut self.net);
                }
            }
        }
        self.count_kept();
        self.alarms.wake_at(Some(self.now.after(LOOK)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_given_back() {
        let budget = Rc::new(Budget::default());
        let mut first = Share::new(&budget);
        let mut second = Share::new(&budget);
        first.set(70);
        second.set(40);
        first.set(60);
        assert_eq!(second.total(), 100);
        assert!(first.is_large(100) && !second.is_large(100));
        drop(first);
        assert_eq!(second.total(), 40);
        assert!(!second.is_large(40), "it is alone with all of it");
        drop(second);
        assert_eq!((budget.kept.get(), budget.workers.get()), (0, 0));
    }
}
