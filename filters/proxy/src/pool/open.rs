//! The open connections of a pool that take calls.

use crate::upstream::ConnectionId;

/// The connections of which one takes a call. Spare ones were opened only because others were being written large requests:
/// small calls share few connections, since each read and write costs more than what is in it.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// Spare ones last.
    all: Vec<ConnectionId>,
    spare: usize,
    /// How many of the first take calls by their load alone: those that are not spare, or none where they have ranks.
    equals: usize,
    has_ranks: bool,
    /// Where the next search for the least loaded one starts, so that ties rotate.
    next: usize,
    /// The same by rank: by itself, since of many connections each start leads to others, and each is to come to its turn.
    next_by_rank: usize,
}

/// Over more connections than this, the least loaded of so many neighbours is taken instead of the least of all; or the
/// first that can take a call, where those cannot.
const MOST_COMPARED: usize = 32;

impl Open {
    #[inline]
    pub(super) fn all(&self) -> &[ConnectionId] {
        &self.all
    }

    pub(super) fn add(&mut self, key: ConnectionId) {
        self.all.insert(self.regular(), key);
        self.count();
    }

    /// Makes one spare.
    pub(super) fn set_aside(&mut self, key: ConnectionId) {
        if let Some(place) = self.all.iter().position(|&other| other == key) {
            self.all.remove(place);
            self.all.push(key);
            self.spare = self.spare.saturating_add(1);
            self.count();
        }
    }

    /// Has calls be given by rank, or by load.
    pub(super) fn rank(&mut self, has_ranks: bool) {
        self.has_ranks = has_ranks;
        self.count();
    }

    /// Takes one out. If it was not spare, the newest spare one that is its heir takes its place.
    pub(super) fn remove(&mut self, key: ConnectionId, is_heir: impl Fn(ConnectionId) -> bool) {
        let regular = self.regular();
        let Some(place) = self.all.iter().position(|&other| other == key) else { return };
        let mut spare = self.all.iter().skip(regular).copied();
        let heir = spare.rposition(is_heir).filter(|_| place < regular);
        self.all.remove(place);
        if let Some(heir) = heir {
            let first = regular.saturating_sub(1);
            self.all.swap(first, first.saturating_add(heir));
        }
        if place >= regular || heir.is_some() {
            self.spare = self.spare.saturating_sub(1);
        }
        self.count();
    }

    /// The one with the least `load` (`None` = cannot take a call), the first of equals in rotation; a spare one if no other
    /// can. None where they have ranks.
    pub(super) fn choose(&mut self, load: &dyn Fn(ConnectionId) -> Option<usize>) -> Option<ConnectionId> {
        let next = self.next;
        self.next = next.wrapping_add(1);
        let (regular, spare) = self.all.split_at_checked(self.equals)?;
        least(regular, next, load).or_else(|| if self.has_ranks { None } else { least(spare, next, load) })
    }

    /// The one with the least `rank`, likewise. Of many, some are compared that lie apart: each is among them often.
    pub(super) fn choose_by_rank(
        &mut self,
        rank: &dyn Fn(ConnectionId) -> Option<u64>,
    ) -> Option<ConnectionId> {
        let next = self.next_by_rank;
        self.next_by_rank = next.wrapping_add(1);
        let (regular, spare) = self.all.split_at_checked(self.regular())?;
        let step = regular.len().div_ceil(MOST_COMPARED);
        let least = |connections: &[ConnectionId], step: usize| {
            let (before, after) = connections.split_at_checked(next.checked_rem(connections.len())?)?;
            let all = after.iter().chain(before).step_by(step);
            let (_, best) = all.filter_map(|&key| Some((rank(key)?, key))).min_by_key(|(rank, _)| *rank)?;
            Some(best)
        };
        least(regular, step.max(1)).or_else(|| least(regular, 1)).or_else(|| least(spare, 1))
    }

    fn count(&mut self) {
        self.equals = if self.has_ranks { 0 } else { self.regular() };
    }

    /// How many are not spare.
    #[inline]
    fn regular(&self) -> usize {
        self.all.len().saturating_sub(self.spare)
    }
}

#[inline(never)]
fn least(
    connections: &[ConnectionId],
    next: usize,
    load: &dyn Fn(ConnectionId) -> Option<usize>,
) -> Option<ConnectionId> {
    let (before, after) = connections.split_at_checked(next.checked_rem(connections.len())?)?;
    let mut best: Option<(usize, ConnectionId)> = None;
    for (compared, &connection) in after.iter().chain(before).enumerate() {
        if compared >= MOST_COMPARED && best.is_some() {
            break;
        }
        let Some(load) = load(connection) else { continue };
        if best.is_none_or(|(least, _)| load < least) {
            best = Some((load, connection));
            if load == 0 {
                break;
            }
        }
    }
    best.map(|(_, connection)| connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Id;

    fn open<const N: usize>() -> (Open, [ConnectionId; N]) {
        let mut open = Open::default();
        let keys = core::array::from_fn(|n| Id::new(n as u32, 1));
        keys.into_iter().for_each(|key| open.add(key));
        (open, keys)
    }

    #[test]
    fn the_least_loaded_connection_is_chosen_and_equals_take_turns() {
        assert_eq!(Open::default().choose(&|_| Some(0)), None);
        let (mut open, [a, b, c]) = open();
        let turns: Vec<_> = (0..6).map(|_| open.choose(&|_| Some(1)).unwrap()).collect();
        assert_eq!(turns, [a, b, c, a, b, c]);
        for _ in 0..3 {
            assert_eq!(open.choose(&|id| Some(if id == b { 2 } else { 5 })), Some(b));
            assert_eq!(open.choose(&|id| (id == c).then_some(9)), Some(c));
            assert_eq!(open.choose(&|_| None), None);
        }
    }

    #[test]
    fn of_many_connections_a_few_are_compared_and_all_come_to_their_turn() {
        let (mut open, keys) = open::<500>();
        let mut loads = vec![0_usize; 500];
        let place = |id| keys.iter().position(|&key| key == id).unwrap();
        for _ in 0..5000 {
            let chosen = open.choose(&|id| loads.get(place(id)).copied()).unwrap();
            loads[place(chosen)] += 1;
        }
        assert!(loads.iter().all(|&load| load == 10), "{loads:?}");
    }

    #[test]
    fn a_spare_connection_is_chosen_when_no_other_can_be_until_it_takes_the_place_of_one() {
        let (mut open, [a, b, c, d]) = open();
        let turns = |open: &mut Open| -> Vec<_> {
            let mut turns: Vec<_> = (0..4).map(|_| open.choose(&|_| Some(3)).unwrap()).collect();
            turns.sort_by_key(|id| [a, b, c, d].iter().position(|key| key == id));
            turns
        };
        open.set_aside(d);
        open.set_aside(c);
        assert_eq!(turns(&mut open), [a, a, b, b]);
        assert_eq!(open.choose(&|id| (id == c).then_some(7)), Some(c));
        open.remove(a, |id| id == c);
        assert_eq!(turns(&mut open), [b, b, c, c]);
        open.remove(b, |id| id == a);
        assert_eq!((turns(&mut open), open.all()), (vec![c; 4], &[c, d][..]));
        open.remove(d, |_| true);
        assert_eq!((turns(&mut open), open.spare), (vec![c; 4], 0));
        open.remove(c, |_| true);
        assert_eq!((open.choose(&|_| Some(0)), open.spare), (None, 0));
    }
}
