//! Tables whose ids become stale: an id of something that is gone finds nothing, whatever has taken its place.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;

/// Values by their ids.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    /// The serial number of the last value that was inserted.
    serial: u32,
}

#[derive(Debug)]
struct Place<T> {
    /// That of the value, or of the last that was here.
    serial: u32,
    value: Option<T>,
}

/// Names one value of an [`Arena`]: its place, and a number that distinguishes the tenants of the place.
///
/// Numbers repeat after four billion values; whoever keeps ids lets go of stale ones long before.
pub(crate) struct Id<T> {
    index: u32,
    serial: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Arena<T> {
    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> Id<T> {
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        if let Some(index) = self.free.pop()
            && let Some(place) = self.places.get_mut(index as usize)
        {
            place.serial = serial;
            place.value = Some(value);
            return Id::new(index, serial);
        }
        self.places.push(Place { serial, value: Some(value) });
        Id::of(self.places.len().saturating_sub(1), serial)
    }

    pub(crate) fn get(&self, id: Id<T>) -> Option<&T> {
        let place = self.places.get(id.index as usize)?;
        if place.serial == id.serial { place.value.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        let place = self.places.get_mut(id.index as usize)?;
        if place.serial == id.serial { place.value.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, id: Id<T>) -> Option<T> {
        let place = self.places.get_mut(id.index as usize)?;
        if place.serial != id.serial {
            return None;
        }
        let value = place.value.take()?;
        self.free.push(id.index);
        Some(value)
    }

    /// Removes a value without moving it, once `last` has taken what is wanted of it.
    #[inline]
    pub(crate) fn discard<R>(&mut self, id: Id<T>, last: impl FnOnce(&mut T) -> R) -> Option<R> {
        let place = self.places.get_mut(id.index as usize).filter(|place| place.serial == id.serial)?;
        let result = last(place.value.as_mut()?);
        place.value = None;
        self.free.push(id.index);
        Some(result)
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(Id<T>, &T) -> bool) {
        for id in self.ids() {
            if self.get(id).is_some_and(|value| !keep(id, value)) {
                self.remove(id);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(index, place)| Some((Id::of(index, place.serial), place.value.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Id<T>, &mut T)> {
        let places = self.places.iter_mut().enumerate();
        places.filter_map(|(index, place)| Some((Id::of(index, place.serial), place.value.as_mut()?)))
    }

    /// Every id: what is done with one may remove others, whose ids find nothing then.
    pub(crate) fn ids(&self) -> Vec<Id<T>> {
        self.iter().map(|(id, _)| id).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len().saturating_sub(self.free.len())
    }
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), serial: 0 }
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
        let discarded = [first, third, third].map(|id| arena.discard(id, |value| value.len()));
        assert_eq!(discarded, [None, Some(5), None]);
        assert_eq!((arena.get(third), arena.len()), (None, 1));
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
        assert_eq!(arena.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [1, 3, 5]);
    }
}
