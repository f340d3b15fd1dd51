//! The calls that wait for a connection of a pool: clients take turns, and each one's calls keep their order.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::FxHashMap;

use crate::calls::CallId;
use crate::client::ClientId;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// What clients have waiting, and the proxy itself; never nothing.
    lines: FxHashMap<Option<ClientId>, Line>,
    /// Whose turn is next, by the numbers of their turns.
    turns: BTreeMap<u64, Option<ClientId>>,
    len: usize,
    /// The last number that was given, to a turn or a call.
    last: u64,
}

/// The waiting calls of one client, or of the proxy.
#[derive(Debug)]
struct Line {
    turn: u64,
    /// By the numbers of their places, which are in order.
    calls: VecDeque<(Place, CallId)>,
}

/// Where a call waits in its client's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Has a call wait behind the others of its client.
    pub(crate) fn push(&mut self, client: Option<ClientId>, call: CallId) -> Place {
        let place = Place(self.number());
        let turn = self.last;
        let line = self.lines.entry(client).or_insert_with(|| {
            self.turns.insert(turn, client);
            Line { turn, calls: VecDeque::new() }
        });
        line.calls.push_back((place, call));
        self.len = self.len.saturating_add(1);
        place
    }

    /// The call whose turn it is.
    pub(crate) fn front(&self) -> Option<CallId> {
        let (_, client) = self.turns.first_key_value()?;
        let (_, call) = self.lines.get(client)?.calls.front()?;
        Some(*call)
    }

    /// Takes out the call whose turn it is; its client's turn is the last then.
    pub(crate) fn pop(&mut self) -> Option<CallId> {
        let (_, client) = self.turns.pop_first()?;
        let turn = self.number();
        let line = self.lines.get_mut(&client)?;
        let (_, call) = line.calls.pop_front()?;
        self.len = self.len.saturating_sub(1);
        if line.calls.is_empty() {
            self.lines.remove(&client);
        } else {
            line.turn = turn;
            self.turns.insert(turn, client);
        }
        Some(call)
    }

    /// Takes out a call that waits no longer.
    pub(crate) fn remove(&mut self, client: Option<ClientId>, place: Place) {
        let Some(line) = self.lines.get_mut(&client) else { return };
        let Ok(index) = line.calls.binary_search_by_key(&place, |(place, _)| *place) else { return };
        line.calls.remove(index);
        self.len = self.len.saturating_sub(1);
        if line.calls.is_empty() {
            self.turns.remove(&line.turn);
            self.lines.remove(&client);
        }
    }

    /// Takes everything out, in the order of the turns.
    pub(crate) fn drain(&mut self) -> Vec<CallId> {
        core::iter::from_fn(|| self.pop()).collect()
    }

    fn number(&mut self) -> u64 {
        self.last = self.last.wrapping_add(1);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Id;

    fn client(n: u32) -> Option<ClientId> {
        Some(Id::new(n, 1))
    }

    fn call(n: u32) -> CallId {
        Id::new(n, 1)
    }

    /// A queue with calls of these clients, numbered in their order; and their places.
    fn queue(clients: &[u32]) -> (Queue, Vec<Place>) {
        let mut queue = Queue::default();
        let places = (0..).zip(clients).map(|(n, of)| queue.push(client(*of), call(n))).collect();
        (queue, places)
    }

    #[test]
    fn clients_take_turns_and_their_calls_keep_their_order() {
        let (mut queue, _) = queue(&[7, 7, 7, 8, 9, 9]);
        assert_eq!((queue.len(), queue.front()), (6, Some(call(0))));
        assert_eq!(queue.pop(), Some(call(0)));
        // A newcomer comes after those who wait, and one who had its turn.
        queue.push(client(5), call(6));
        assert_eq!(queue.drain(), [3, 4, 1, 6, 5, 2].map(call));
        assert!(queue.is_empty() && queue.front().is_none());
        assert!(queue.turns.is_empty() && queue.lines.is_empty());
    }

    #[test]
    fn a_call_that_waits_no_longer_leaves_nothing_behind() {
        let (mut queue, places) = queue(&[7, 7, 8, 7]);
        queue.remove(client(7), places[1]);
        queue.remove(client(7), places[1]);
        queue.remove(client(9), places[0]);
        assert_eq!(queue.len(), 3);
        queue.remove(client(8), places[2]);
        queue.remove(client(7), places[0]);
        assert_eq!((queue.len(), queue.front()), (1, Some(call(3))));
        queue.remove(client(7), places[3]);
        assert!(queue.is_empty() && queue.turns.is_empty() && queue.lines.is_empty());
    }

    #[test]
    fn who_comes_back_has_no_turn_before_others() {
        let (mut queue, places) = queue(&[7, 8]);
        queue.remove(client(7), places[0]);
        queue.push(client(7), call(2));
        assert_eq!(queue.drain(), [1, 2].map(call));
    }
}
