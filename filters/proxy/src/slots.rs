//! The requests in flight on one upstream connection, by the ids that the proxy gave them.
//!
//! An id names its slot in its low bits and counts up above them. A slot is used again only after its answer came or
//! with a new connection, so a late answer to a call that was given up can never reach another call, however few bits
//! the protocol's ids have.

use std::collections::VecDeque;

use meltemi_codecs::Sharing;

use crate::call::CallId;

/// Low bits of an id that hold the slot's number plus one; zero names no slot, for calls without an answer.
const SLOT_BITS: u32 = 16;

#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: VecDeque<usize>,
    in_flight: usize,
    abandoned: usize,
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
}

impl Slots {
    /// Calls that wait for an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Calls that were given up and whose answer has not come.
    pub(crate) fn abandoned(&self) -> usize {
        self.abandoned
    }

    /// The calls that wait for an answer.
    pub(crate) fn calls(&self) -> impl Iterator<Item = CallId> {
        self.slots.iter().filter_map(|slot| match *slot {
            Slot::Busy { call, .. } => Some(call),
            Slot::Free | Slot::Abandoned { .. } => None,
        })
    }

    /// Whether a slot can be taken, with ids up to `max_id`.
    pub(crate) fn has_room(&self, max_id: u64) -> bool {
        // The number plus one must fit the low bits and the protocol's ids. Without ids there is one slot.
        !self.free.is_empty() || (self.slots.len() as u64) < max_id.clamp(1, (1 << SLOT_BITS) - 1)
    }

    /// Takes a slot for `call`: its number and the request id to send. `None` if all are taken.
    pub(crate) fn take(&mut self, call: CallId, max_id: u64) -> Option<(usize, u64)> {
        if !self.has_room(max_id) {
            return None;
        }
        let slot = self.free.pop_front().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            self.slots.len().saturating_sub(1)
        });
        let id = self.next_id(slot.saturating_add(1) as u64, max_id);
        *self.slots.get_mut(slot)? = Slot::Busy { id, call };
        self.in_flight = self.in_flight.saturating_add(1);
        Some((slot, id))
    }

    /// An id for a request that is not answered: it names no slot.
    pub(crate) fn one_way_id(&mut self, max_id: u64) -> u64 {
        self.next_id(0, max_id)
    }

    fn next_id(&mut self, low: u64, max_id: u64) -> u64 {
        self.sequence = self.sequence.wrapping_add(1);
        if max_id == 0 {
            return 0;
        }
        // Only whole bits of the largest id are used, so that no sum is ever over it.
        let unused = max_id.saturating_add(1).max(2).ilog2();
        let mask = if max_id == u64::MAX { u64::MAX } else { (1_u64 << unused.min(63)).wrapping_sub(1) };
        ((self.sequence << SLOT_BITS) & mask) | low
    }

    /// Finds whom the response `id` is for, and frees the slot.
    pub(crate) fn answer(&mut self, id: u64, sharing: Sharing) -> Answered {
        let index = match sharing {
            Sharing::Shared => usize::try_from(id & ((1 << SLOT_BITS) - 1)).unwrap_or(0).checked_sub(1),
            // One call at a time: the response is its answer, whatever id it bears.
            Sharing::Exclusive => self.slots.iter().position(|slot| !matches!(slot, Slot::Free)),
        };
        let Some(index) = index else { return Answered::Unknown };
        let Some(slot) = self.slots.get_mut(index) else { return Answered::Unknown };
        let is_exclusive = sharing == Sharing::Exclusive;
        let answered = match *slot {
            Slot::Busy { id: expected, call } if is_exclusive || expected == id => {
                self.in_flight = self.in_flight.saturating_sub(1);
                Answered::Call(call)
            }
            Slot::Abandoned { id: expected } if is_exclusive || expected == id => {
                self.abandoned = self.abandoned.saturating_sub(1);
                Answered::Abandoned
            }
            _ => return Answered::Unknown,
        };
        *slot = Slot::Free;
        self.free.push_back(index);
        answered
    }

    /// Gives up the call in `slot`.
    pub(crate) fn abandon(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot)
            && let Slot::Busy { id, .. } = *slot
        {
            *slot = Slot::Abandoned { id };
            self.in_flight = self.in_flight.saturating_sub(1);
            self.abandoned = self.abandoned.saturating_add(1);
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
        self.in_flight = 0;
        self.abandoned = 0;
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Id;

    fn call(n: u32) -> CallId {
        Id::new(n, 1)
    }

    #[test]
    fn an_answer_finds_its_call_once() {
        let mut slots = Slots::default();
        let (_, first) = slots.take(call(7), u64::MAX).unwrap();
        let (_, second) = slots.take(call(8), u64::MAX).unwrap();
        assert_ne!(first, second);
        assert_eq!(slots.answer(second, Sharing::Shared), Answered::Call(call(8)));
        assert_eq!(slots.answer(second, Sharing::Shared), Answered::Unknown);
        assert_eq!(slots.answer(first, Sharing::Shared), Answered::Call(call(7)));
        assert_eq!(slots.in_flight(), 0);
    }

    #[test]
    fn a_given_up_slot_is_not_used_until_its_answer_came() {
        let mut slots = Slots::default();
        let (slot, late) = slots.take(call(1), 0x7fff_ffff).unwrap();
        slots.abandon(slot);
        for n in 0..70_000 {
            let (other, id) = slots.take(call(n), 0x7fff_ffff).unwrap();
            assert_ne!(other, slot);
            assert!(id <= 0x7fff_ffff);
            assert_eq!(slots.answer(id, Sharing::Shared), Answered::Call(call(n)));
        }
        assert_eq!(slots.answer(late, Sharing::Shared), Answered::Abandoned);
        assert_eq!(slots.abandoned(), 0);
    }

    #[test]
    fn small_ids_stay_small() {
        for max_id in [1, 2, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX - 1, u64::MAX] {
            let mut slots = Slots::default();
            let mut ids = Vec::new();
            while let Some((_, id)) = slots.take(call(0), max_id) {
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
    fn without_ids_there_is_one_slot() {
        let mut slots = Slots::default();
        assert_eq!(slots.take(call(5), 0), Some((0, 0)));
        assert_eq!(slots.take(call(6), 0), None);
        assert_eq!(slots.answer(0, Sharing::Exclusive), Answered::Call(call(5)));
        assert_eq!(slots.take(call(6), 0), Some((0, 0)));
        assert_eq!(slots.one_way_id(0), 0);
    }

    #[test]
    fn a_one_way_id_names_no_call() {
        let mut slots = Slots::default();
        slots.take(call(3), u64::MAX).unwrap();
        let id = slots.one_way_id(u64::MAX);
        assert_eq!(slots.answer(id, Sharing::Shared), Answered::Unknown);
    }
}
