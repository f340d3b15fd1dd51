use core::fmt;

use rustc_hash::FxHashMap;

use super::steps;

/// A map from texts of the plan, in the order of the plan. Its keys are the operator's, never a peer's, and so its hash
/// need not withstand an attack.
pub(super) struct Map<V> {
    /// All maps share one type of table, which keeps the module small.
    numbers: FxHashMap<Box<str>, usize>,
    values: Box<[V]>,
    /// Bytes of the longest key: what is longer need not be hashed.
    longest: usize,
}

impl<V> Map<V> {
    /// The keys must differ.
    pub(super) fn new(entries: Vec<(Box<str>, V)>) -> Self {
        let mut numbers = FxHashMap::default();
        numbers.reserve(entries.len());
        let longest = entries.iter().map(|(key, _)| key.len()).max().unwrap_or_default();
        let values = entries.into_iter().enumerate().map(|(number, (key, value))| {
            numbers.insert(key, number);
            value
        });
        Self { values: values.collect(), numbers, longest }
    }

    /// The value of a key, which may come from a peer and be of any length.
    pub(super) fn get(&self, key: &str) -> Option<&V> {
        if key.len() > self.longest {
            return None;
        }
        steps::compare(key.len());
        self.values.get(*self.numbers.get(key)?)
    }

    /// The keys and their values, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        let mut keys: Vec<(usize, &str)> =
            self.numbers.iter().map(|(key, number)| (*number, &**key)).collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, key)| key).zip(&self.values)
    }

    /// The values.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.values.iter()
    }
}

impl<V: fmt::Debug> fmt::Debug for Map<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.numbers.iter().map(|(key, number)| (key, self.values.get(*number))))
            .finish()
    }
}
