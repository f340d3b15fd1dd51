//! The calls that wait for a connection of a pool: clients take turns, and each one's calls keep their order.
//!
//! Calls that wait for different endpoints are in different lanes: where one has no room, no other call of its lane is looked
//! at, however many there are.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::calls::CallId;
use crate::client::ClientId;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// What clients have waiting, and the proxy itself; never nothing.
    // In boxes, as in the other map by client.
    lines: FxHashMap<Option<ClientId>, Box<Line>>,
    /// Whose turn is next, in the order of the numbers of their turns.
    turns: VecDeque<(u64, Option<ClientId>)>,
    len: usize,
    /// The last number that was given, to a turn or a call.
    last: u64,
}

/// The waiting calls of one client, or of the proxy.
#[derive(Debug)]
struct Line {
    turn: u64,
    /// By their numbers, each with its calls in the order of their places; never without any.
    lanes: Vec<(Lane, VecDeque<(Place, CallId)>)>,
}

/// What calls wait for: an endpoint of no matter which, or what the bucket of that number leads to.
pub(crate) type Lane = u16;

/// Where a call waits in its client's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    number: u64,
    lane: Lane,
}

/// A call whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) call: CallId,
    client: Option<ClientId>,
    /// Those before it have nothing that is not blocked.
    pub(crate) turn: u64,
    place: Place,
}

/// Some lanes.
#[derive(Debug, Clone)]
pub(crate) struct Lanes([u64; 33]);

impl Default for Lanes {
    fn default() -> Self {
        Self([0; 33])
    }
}

impl Lanes {
    fn has(&self, lane: Lane) -> bool {
        self.0.get(usize::from(lane / 64)).is_some_and(|bits| bits >> (lane % 64) & 1 == 1)
    }

    fn add(&mut self, lane: Lane) {
        if let Some(bits) = self.0.get_mut(usize::from(lane / 64)) {
            *bits |= 1 << (lane % 64);
        }
    }
}

impl Next {
    /// Has its lane be one of `lanes`.
    pub(crate) fn block(&self, lanes: &mut Lanes) {
        lanes.add(self.place.lane);
    }
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many calls are in these lanes.
    pub(crate) fn count(&self, lanes: &Lanes) -> usize {
        let all = self.lines.values().flat_map(|line| &line.lanes);
        all.filter(|(lane, _)| lanes.has(*lane)).map(|(_, calls)| calls.len()).sum()
    }

    /// Has a call wait behind the others of its client.
    pub(crate) fn push(&mut self, client: Option<ClientId>, lane: Lane, call: CallId) -> Place {
        let place = Place { number: self.number(), lane };
        let turn = self.last;
        let line = self.lines.entry(client).or_insert_with(|| {
            self.turns.push_back((turn, client));
            Box::new(Line { turn, lanes: Vec::new() })
        });
        let at = line.find(lane).unwrap_or_else(|at| {
            line.lanes.insert(at, (lane, VecDeque::new()));
            at
        });
        if let Some((_, calls)) = line.lanes.get_mut(at) {
            calls.push_back((place, call));
        }
        self.len = self.len.saturating_add(1);
        place
    }

    /// The call whose turn it is.
    pub(crate) fn front(&self) -> Option<CallId> {
        self.next(0, &Lanes::default()).map(|next| next.call)
    }

    /// The call whose turn it is from that turn on, if it is in none of the `blocked` lanes.
    pub(crate) fn next(&self, from: u64, blocked: &Lanes) -> Option<Next> {
        let at = self.turns.partition_point(|(turn, _)| *turn < from);
        self.turns.range(at..).find_map(|(turn, client)| {
            let lanes = self.lines.get(client)?.lanes.iter().filter(|(lane, _)| !blocked.has(*lane));
            let (place, call) =
                lanes.filter_map(|(_, calls)| calls.front()).min_by_key(|(place, _)| *place)?;
            Some(Next { call: *call, client: *client, turn: *turn, place: *place })
        })
    }

    /// Takes out a call whose turn it is; its client's turn is the last then.
    pub(crate) fn take(&mut self, next: &Next) {
        self.remove(next.client, next.place);
        let turn = self.number();
        if let Some(line) = self.lines.get_mut(&next.client) {
            let before = core::mem::replace(&mut line.turn, turn);
            self.end_turn(before);
            self.turns.push_back((turn, next.client));
        }
    }

    /// Takes out a call that waits no longer.
    pub(crate) fn remove(&mut self, client: Option<ClientId>, place: Place) {
        let Some(line) = self.lines.get_mut(&client) else { return };
        let Ok(at) = line.find(place.lane) else { return };
        let Some((_, calls)) = line.lanes.get_mut(at) else { return };
        let Ok(index) = calls.binary_search_by_key(&place, |(place, _)| *place) else { return };
        calls.remove(index);
        self.len = self.len.saturating_sub(1);
        if calls.is_empty() {
            line.lanes.remove(at);
        }
        if line.lanes.is_empty() {
            let turn = line.turn;
            self.lines.remove(&client);
            self.end_turn(turn);
        }
    }

    /// Takes everything out, in the order of the turns.
    pub(crate) fn drain(&mut self) -> Vec<CallId> {
        let take = || {
            let next = self.next(0, &Lanes::default())?;
            self.take(&next);
            Some(next.call)
        };
        core::iter::from_fn(take).collect()
    }

    fn end_turn(&mut self, turn: u64) {
        if let Ok(at) = self.turns.binary_search_by_key(&turn, |(turn, _)| *turn) {
            self.turns.remove(at);
        }
    }

    fn number(&mut self) -> u64 {
        self.last = self.last.wrapping_add(1);
        self.last
    }
}

impl Line {
    fn find(&self, lane: Lane) -> Result<usize, usize> {
        self.lanes.binary_search_by_key(&lane, |(lane, _)| *lane)
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
        let places = (0..).zip(clients).map(|(n, of)| queue.push(client(*of), 0, call(n))).collect();
        (queue, places)
    }

    #[test]
    fn clients_take_turns_and_their_calls_keep_their_order() {
        let (mut queue, _) = queue(&[7, 7, 7, 8, 9, 9]);
        assert_eq!((queue.len(), queue.front()), (6, Some(call(0))));
        let first = queue.next(0, &Lanes::default()).unwrap();
        queue.take(&first);
        assert_eq!(first.call, call(0));
        // A newcomer comes after those who wait, and one who had its turn.
        queue.push(client(5), 0, call(6));
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
        queue.push(client(7), 0, call(2));
        assert_eq!(queue.drain(), [1, 2].map(call));
    }

    #[test]
    fn lanes_that_are_blocked_are_passed_over_and_the_others_keep_the_order() {
        let mut queue = Queue::default();
        for (n, (of, lane)) in
            [(7, 5), (7, 9), (7, 5), (8, 5), (8, 2048), (7, 9), (8, 0)].into_iter().enumerate()
        {
            queue.push(client(of), lane, call(n as u32));
        }
        let mut blocked = Lanes::default();
        queue.next(0, &blocked).unwrap().block(&mut blocked);
        assert_eq!((queue.count(&blocked), queue.len()), (3, 7));
        let mut from = 0;
        let mut taken = Vec::new();
        while let Some(next) = queue.next(from, &blocked) {
            queue.take(&next);
            (from, taken) = (next.turn, [taken, vec![next.call]].concat());
        }
        assert_eq!(taken, [1, 4, 5, 6].map(call));
        assert_eq!(queue.drain(), [0, 3, 2].map(call));
        assert!(queue.is_empty() && queue.turns.is_empty() && queue.lines.is_empty());
    }
}
