//! Tables whose ids become stale: an id of something that is gone finds nothing, whatever has taken its place.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;

use slab::Slab;

/// Values by their ids.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    entries: Slab<Entry<T>>,
    /// The serial number of the last value that was inserted.
    serial: u32,
}

#[derive(Debug)]
struct Entry<T> {
    serial: u32,
    value: T,
}

/// Names one value of an [`Arena`]: its place, and a number that tells the tenants of the place apart.
///
/// Numbers repeat after four billion values; whoever keeps ids lets go of stale ones long before.
pub(crate) struct Id<T> {
    index: u32,
    serial: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Arena<T> {
    pub(crate) fn insert(&mut self, value: T) -> Id<T> {
        self.serial = self.serial.wrapping_add(1);
        let index = self.entries.insert(Entry { serial: self.serial, value });
        Id::of(index, self.serial)
    }

    pub(crate) fn get(&self, id: Id<T>) -> Option<&T> {
        let entry = self.entries.get(id.index as usize)?;
        (entry.serial == id.serial).then_some(&entry.value)
    }

    pub(crate) fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        let entry = self.entries.get_mut(id.index as usize)?;
        (entry.serial == id.serial).then_some(&mut entry.value)
    }

    pub(crate) fn remove(&mut self, id: Id<T>) -> Option<T> {
        self.get(id)?;
        self.entries.try_remove(id.index as usize).map(|entry| entry.value)
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(Id<T>, &T) -> bool) {
        self.entries.retain(|index, entry| keep(Id::of(index, entry.serial), &entry.value));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        self.entries.iter().map(|(index, entry)| (Id::of(index, entry.serial), &entry.value))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Id<T>, &mut T)> {
        self.entries.iter_mut().map(|(index, entry)| (Id::of(index, entry.serial), &mut entry.value))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().map(|(_, entry)| &entry.value)
    }

    /// Every id: what is done with one may remove others, whose ids find nothing then.
    pub(crate) fn ids(&self) -> Vec<Id<T>> {
        self.iter().map(|(id, _)| id).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { entries: Slab::new(), serial: 0 }
    }
}

impl<T> Id<T> {
    pub(crate) const fn new(index: u32, serial: u32) -> Self {
        Self { index, serial, of: PhantomData }
    }

    fn of(index: usize, serial: u32) -> Self {
        // So many values do not fit the memory of a VM.
        Self::new(u32::try_from(index).unwrap_or(u32::MAX), serial)
    }
}

// Derived ones would want the same of `T`.

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.serial == other.serial
    }
}

impl<T> Eq for Id<T> {}

impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.index, self.serial).hash(state);
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.index, self.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_finds_its_value_and_no_later_one_in_its_place() {
        let mut arena = Arena::default();
        let [first, second] = ["first", "second"].map(|value| arena.insert(value));
        assert_eq!((arena.get(first), arena.get(second)), (Some(&"first"), Some(&"second")));
        assert_eq!(arena.remove(first), Some("first"));
        let third = arena.insert("third");
        assert_eq!(third.index, first.index);
        assert_eq!(arena.get(first), None);
        assert_eq!(arena.get_mut(first), None);
        assert_eq!(arena.remove(first), None);
        assert_eq!(arena.get(third), Some(&"third"));
        assert_eq!(arena.len(), 2);
    }

    #[test]
    fn ids_are_those_that_were_given() {
        let mut arena = Arena::default();
        let ids: Vec<_> = (0..5).map(|n| arena.insert(n)).collect();
        assert_eq!(arena.ids(), ids);
        arena.retain(|id, n| {
            assert_eq!(id, ids[*n]);
            n % 2 == 0
        });
        assert_eq!(arena.ids(), [ids[0], ids[2], ids[4]]);
        arena.iter_mut().for_each(|(_, n)| *n += 1);
        assert_eq!(arena.values().copied().collect::<Vec<_>>(), [1, 3, 5]);
    }
}
