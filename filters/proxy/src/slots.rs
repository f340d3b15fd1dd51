//! The requests in flight on one upstream connection, by the ids that the proxy gave them.
//!
//! An id names its slot in its low bits and counts up above them. A slot is used again only after its answer came or
//! with a new connection, so a late answer to a call that was given up can never reach another call, however few bits
//! the protocol's ids have. Where answers come in the order of requests, so are their slots remembered.

use std::collections::VecDeque;

use crate::calls::CallId;
use crate::matching::Matching;

/// Low bits of an id that hold the slot's number plus one; zero names no slot, for calls without an answer.
const SLOT_BITS: u32 = 16;

/// Calls given up whose answers may still come, over which a connection takes no more.
const MOST_ABANDONED: usize = 256;

#[derive(Debug)]
pub(crate) struct Slots {
    matching: Matching,
    slots: Vec<Slot>,
    free: VecDeque<usize>,
    /// The slots taken, in the order of requests, where answers are known by that.
    order: VecDeque<usize>,
    in_flight: usize,
    abandoned: usize,
    /// As many slots as there can be.
    most: u64,
    /// The bits of ids that the protocol has.
    mask: u64,
    sequence: u64,
}

#[derive(Debug, Clone, Copy)]
enum Slot {
    Free,
    Busy { id: u64, call: CallId },
    Abandoned { id: u64 },
}

/// Whom a response is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    Call(CallId),
    /// A call that was given up.
    Abandoned,
    /// Nobody that ever asked.
    Unknown,
    /// Which answer is whose nobody knows any more.
    Broken,
}

/// What becomes of a connection on which a call was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It takes more calls.
    Open,
    /// It takes no more: they would wait for an answer that may never come.
    Retire,
    /// It takes no more, as its server seems to answer none.
    Unresponsive,
}

/// The place of the slot that an id names, if it names one.
#[inline]
fn index_of(id: u64) -> Option<usize> {
    usize::try_from(id & ((1 << SLOT_BITS) - 1)).unwrap_or(0).checked_sub(1)
}

impl Slots {
    /// No calls yet, on a connection of a protocol with ids up to `max_id`.
    pub(crate) fn new(matching: Matching, max_id: u64) -> Self {
        // Only whole bits of the largest id are used, so that no sum is ever over it.
        let bits = max_id.checked_add(1).map_or(u64::BITS, u64::ilog2);
        Self {
            matching,
            slots: Vec::new(),
            free: VecDeque::new(),
            order: VecDeque::new(),
            in_flight: 0,
            abandoned: 0,
            most: matching.slots(max_id, (1 << SLOT_BITS) - 1),
            mask: 1_u64.checked_shl(bits).unwrap_or(0).wrapping_sub(1),
            sequence: 0,
        }
    }

    /// Calls that wait for an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The calls that wait for an answer.
    pub(crate) fn calls(&self) -> impl Iterator<Item = CallId> {
        self.slots.iter().filter_map(|slot| match *slot {
            Slot::Busy { call, .. } => Some(call),
            Slot::Free | Slot::Abandoned { .. } => None,
        })
    }

    /// Whether one more call than are in flight can be sent; `has_part` if a frame of the server has come in part.
    pub(crate) fn has_room(&self, has_part: bool) -> bool {
        // What began to come before is no answer to a call that is sent now.
        let is_between = !has_part || !self.matching.is_by_order() || !self.order.is_empty();
        is_between && self.has_slot()
    }

    fn has_slot(&self) -> bool {
        !self.free.is_empty() || (self.slots.len() as u64) < self.most
    }

    /// Takes a slot for `call`: its number and the request id to send. `None` if all are taken.
    pub(crate) fn take(&mut self, call: CallId) -> Option<(usize, u64)> {
        if !self.has_slot() {
            return None;
        }
        let slot = self.free.pop_front().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            self.slots.len().saturating_sub(1)
        });
        let id = self.next_id(slot.saturating_add(1) as u64);
        *self.slots.get_mut(slot)? = Slot::Busy { id, call };
        if self.matching.is_by_order() {
            self.order.push_back(slot);
        }
        self.in_flight = self.in_flight.saturating_add(1);
        Some((slot, id))
    }

    /// An id for a request that is not answered: it names no slot.
    pub(crate) fn one_way_id(&mut self) -> u64 {
        self.next_id(0)
    }

    fn next_id(&mut self, low: u64) -> u64 {
        self.sequence = self.sequence.wrapping_add(1);
        (self.sequence << SLOT_BITS | low) & self.mask
    }

    /// The call that the response `id` would answer.
    pub(crate) fn answered_by(&self, id: u64) -> Option<CallId> {
        let by_order = self.matching.is_by_order();
        let index = match by_order {
            true => self.order.front().copied()?,
            false => index_of(id)?,
        };
        let needs_id = !by_order || (self.mask != 0 && self.matching.needs_ids());
        match self.slots.get(index)? {
            Slot::Busy { id: expected, call } if !needs_id || *expected == id => Some(*call),
            _ => None,
        }
    }

    /// Finds whom the response `id` is for, and frees the slot.
    pub(crate) fn answer(&mut self, id: u64) -> Answered {
        if self.matching.is_by_order() {
            return self.answer_next(id);
        }
        let index = index_of(id);
        index.and_then(|index| self.answer_in(index, id, true)).unwrap_or(Answered::Unknown)
    }

    fn answer_next(&mut self, id: u64) -> Answered {
        let needs_id = self.mask != 0 && self.matching.needs_ids();
        let answered = self.order.front().copied().and_then(|index| self.answer_in(index, id, needs_id));
        if answered.is_some() {
            self.order.pop_front();
        }
        answered.unwrap_or(Answered::Broken)
    }

    /// Whom the response `id` is for if it is the answer in a slot, which is free then.
    fn answer_in(&mut self, index: usize, id: u64, needs_id: bool) -> Option<Answered> {
        let slot = self.slots.get_mut(index)?;
        let answered = match *slot {
            Slot::Busy { id: expected, call } if !needs_id || expected == id => {
                self.in_flight = self.in_flight.saturating_sub(1);
                Answered::Call(call)
            }
            Slot::Abandoned { id: expected } if !needs_id || expected == id => {
                self.abandoned = self.abandoned.saturating_sub(1);
                Answered::Abandoned
            }
            _ => return None,
        };
        *slot = Slot::Free;
        self.free.push_back(index);
        Some(answered)
    }

    /// Whom a frame with that id is for, which is not the last one; the slot stays taken.
    pub(crate) fn find(&self, id: u64) -> Answered {
        let index = index_of(id);
        match index.and_then(|index| self.slots.get(index)) {
            Some(Slot::Busy { id: expected, call }) if *expected == id => Answered::Call(*call),
            Some(Slot::Abandoned { id: expected }) if *expected == id => Answered::Abandoned,
            _ => Answered::Unknown,
        }
    }

    /// The id of the request in `slot`.
    pub(crate) fn id(&self, slot: usize) -> Option<u64> {
        match self.slots.get(slot)? {
            Slot::Busy { id, .. } | Slot::Abandoned { id } => Some(*id),
            Slot::Free => None,
        }
    }

    /// Frees the slot of a call of which no more comes.
    pub(crate) fn release(&mut self, slot: usize) {
        if let Some(id) = self.id(slot) {
            self.answer_in(slot, id, true);
        }
    }

    /// Gives up the call in `slot`, which stays taken, so that a late answer finds nobody.
    pub(crate) fn abandon(&mut self, slot: usize) -> Fate {
        if let Some(slot) = self.slots.get_mut(slot)
            && let Slot::Busy { id, .. } = *slot
        {
            *slot = Slot::Abandoned { id };
            self.in_flight = self.in_flight.saturating_sub(1);
            self.abandoned = self.abandoned.saturating_add(1);
        }
        match self.matching.is_by_order() {
            true => Fate::Retire,
            false if self.abandoned > MOST_ABANDONED => Fate::Unresponsive,
            false => Fate::Open,
        }
    }

    /// Empties every slot: the calls that waited.
    pub(crate) fn drain(&mut self) -> Vec<CallId> {
        let calls = self.slots.drain(..).filter_map(|slot| match slot {
            Slot::Busy { call, .. } => Some(call),
            Slot::Free | Slot::Abandoned { .. } => None,
        });
        let calls = calls.collect();
        self.free.clear();
        self.order.clear();
        self.in_flight = 0;
        self.abandoned = 0;
        calls
    }
}

#[cfg(test)]
mod tests {
    use meltemi_codecs::Sharing;

    use super::*;
    use crate::arena::Id;

    fn call(n: u32) -> CallId {
        Id::new(n, 1)
    }

    fn slots(sharing: Sharing, max_id: u64) -> Slots {
        Slots::new(Matching::new(sharing), max_id)
    }

    #[test]
    fn an_answer_finds_its_call_once() {
        let mut slots = slots(Sharing::Shared, u64::MAX);
        let (_, first) = slots.take(call(7)).unwrap();
        let (_, second) = slots.take(call(8)).unwrap();
        assert_ne!(first, second);
        assert_eq!(slots.answer(second), Answered::Call(call(8)));
        assert_eq!(slots.answer(second), Answered::Unknown);
        assert_eq!(slots.answer(first), Answered::Call(call(7)));
        assert_eq!(slots.in_flight(), 0);
    }

    #[test]
    fn a_given_up_slot_is_not_used_until_its_answer_came() {
        let mut slots = slots(Sharing::Shared, 0x7fff_ffff);
        let (slot, late) = slots.take(call(1)).unwrap();
        assert_eq!(slots.abandon(slot), Fate::Open);
        for n in 0..70_000 {
            let (other, id) = slots.take(call(n)).unwrap();
            assert_ne!(other, slot);
            assert!(id <= 0x7fff_ffff);
            assert_eq!(slots.answer(id), Answered::Call(call(n)));
        }
        assert_eq!(slots.answer(late), Answered::Abandoned);
        assert_eq!(slots.answer(late), Answered::Unknown);
    }

    #[test]
    fn a_connection_with_too_many_given_up_is_unresponsive() {
        let mut slots = slots(Sharing::Shared, u64::MAX);
        let mut give_up = |n| {
            let (slot, id) = slots.take(call(n)).unwrap();
            (slots.abandon(slot), id)
        };
        let ids: Vec<_> =
            (0..256).map(&mut give_up).map(|(fate, id)| (fate == Fate::Open).then_some(id)).collect();
        assert!(ids.iter().all(Option::is_some));
        assert_eq!(give_up(256).0, Fate::Unresponsive);
        for id in ids.into_iter().flatten() {
            assert_eq!(slots.answer(id), Answered::Abandoned);
        }
        let (slot, _) = slots.take(call(257)).unwrap();
        assert_eq!(slots.abandon(slot), Fate::Open);
    }

    #[test]
    fn small_ids_stay_small() {
        for max_id in [1, 2, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX - 1, u64::MAX] {
            let mut slots = slots(Sharing::Shared, max_id);
            let mut ids = Vec::new();
            while let Some((_, id)) = slots.take(call(0)) {
                assert!(id <= max_id, "{id} > {max_id}");
                ids.push(id);
            }
            assert_eq!(ids.len() as u64, max_id.min(0xffff));
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), slots.in_flight());
        }
    }

    #[test]
    fn a_one_way_id_names_no_call() {
        let mut slots = slots(Sharing::Shared, u64::MAX);
        slots.take(call(3)).unwrap();
        let id = slots.one_way_id();
        assert_eq!(slots.answer(id), Answered::Unknown);
    }

    #[test]
    fn an_exclusive_connection_has_one_call() {
        let mut slots = slots(Sharing::Exclusive, 0);
        assert_eq!(slots.take(call(5)), Some((0, 0)));
        assert_eq!(slots.take(call(6)), None);
        assert_eq!(slots.answer(99), Answered::Call(call(5)), "whatever its id");
        assert_eq!(slots.take(call(6)), Some((0, 0)));
        assert_eq!(slots.one_way_id(), 0);
        assert_eq!(slots.abandon(0), Fate::Retire);
        assert!(!slots.has_room(false));
        assert_eq!(slots.answer(0), Answered::Abandoned);
        assert_eq!(slots.answer(0), Answered::Broken);
    }

    #[test]
    fn answers_in_order_are_those_of_calls_in_order() {
        for max_id in [0, 0xff, u64::MAX] {
            let mut slots = slots(Sharing::InOrder, max_id);
            let taken: Vec<_> = (0..1000).map(|n| slots.take(call(n)).unwrap()).collect();
            assert!(taken.iter().all(|&(_, id)| id <= max_id));
            assert_eq!(slots.abandon(taken[1].0), Fate::Retire);
            assert_eq!(slots.answer(taken[0].1), Answered::Call(call(0)));
            let (slot, last) = slots.take(call(1000)).unwrap();
            assert_eq!(slot, taken[0].0, "used again, and last in turn");
            assert_eq!(slots.answer(taken[1].1), Answered::Abandoned);
            for n in 2..1000 {
                assert_eq!(slots.answer(taken[n as usize].1), Answered::Call(call(n)));
            }
            assert_eq!(slots.answer(last), Answered::Call(call(1000)));
            assert_eq!(slots.answer(last), Answered::Broken);
        }
    }

    #[test]
    fn an_id_out_of_order_gives_the_connection_up() {
        let mut slots = slots(Sharing::InOrder, u64::MAX);
        let [(_, first), (_, second)] = [1, 2].map(|n| slots.take(call(n)).unwrap());
        assert_eq!(slots.answer(second), Answered::Broken);
        assert_eq!(slots.answer(first), Answered::Call(call(1)));
    }

    #[test]
    fn what_began_to_come_before_is_no_answer() {
        for (sharing, has_room) in
            [(Sharing::Shared, true), (Sharing::InOrder, false), (Sharing::Exclusive, false)]
        {
            let mut slots = slots(sharing, 0);
            assert!(slots.has_room(false));
            assert_eq!(slots.has_room(true), has_room);
            slots.take(call(1));
            assert_eq!(slots.has_room(true), sharing == Sharing::InOrder, "it is the first call's");
        }
    }
}
