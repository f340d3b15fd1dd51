use core::cmp::Ordering;
use core::ops::Range;

/// What routing reads of a request: names and values, in the order in which the codec found them.
///
/// A `Head` is made once and reused: [`clear`](Head::clear) keeps memory of usual size, so that decoding a request
/// allocates nothing. What is said again under a name is dropped, and an attribute is found in a few steps however many
/// there are.
#[derive(Debug, Default, Clone)]
pub struct Head {
    text: String,
    entries: Vec<Entry>,
    /// Places of the entries by name, in the order of [`Head::compare`]; kept once there are [`MANY`].
    sorted: Vec<usize>,
    /// A bit for each name, shared by names that look alike: most names that are not here have none of these.
    marks: u64,
    attachments: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    name: Range<usize>,
    value: Range<usize>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The protocol's own.
    Own,
    /// The caller's.
    Attachment,
    /// The caller's, under a name that the protocol has itself.
    Shadowed,
    /// Replaced.
    Gone,
}

/// From so many entries on names are looked up in order. Fewer are as soon compared one by one.
const MANY: usize = 32;

/// Memory over which [`Head::clear`] gives it back.
const MOST_KEPT: usize = 64 * 1024;

impl Head {
    /// The most attachments of one request.
    pub const MOST_ATTACHMENTS: usize = 256;

    /// An empty head.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets every attribute. Memory of usual size is kept, more than 64 KiB given back.
    pub fn clear(&mut self) {
        if self.text.capacity() > MOST_KEPT {
            self.text = String::new();
        }
        if self.entries.capacity().saturating_mul(size_of::<Entry>()) > MOST_KEPT {
            self.entries = Vec::new();
            self.sorted = Vec::new();
        }
        self.text.clear();
        self.entries.clear();
        self.sorted.clear();
        self.marks = 0;
        self.attachments = 0;
    }

    /// Adds an attribute that the protocol itself names, such as Dubbo's `interface`, unless it is known already.
    pub fn push(&mut self, name: &str, value: &str) {
        if self.marks & mark(name) != 0 {
            if self.place(name, true).is_some() {
                return;
            }
            if let Some(entry) = self.place(name, false).and_then(|place| self.entries.get_mut(place)) {
                entry.kind = Kind::Shadowed;
            }
        }
        self.add(name, value, Kind::Own);
    }

    /// Adds an attribute that the caller of the RPC named: an attachment, a metadata entry. One that is known already is
    /// not added, nor any after the [first so many](Head::MOST_ATTACHMENTS).
    pub fn push_attachment(&mut self, name: &str, value: &str) {
        if self.attachments >= Self::MOST_ATTACHMENTS || self.has_attachment(name) {
            return;
        }
        let is_shadowed = self.marks & mark(name) != 0 && self.place(name, true).is_some();
        self.attachments = self.attachments.saturating_add(1);
        self.add(name, value, if is_shadowed { Kind::Shadowed } else { Kind::Attachment });
    }

    /// Whether the caller named an attribute so.
    pub fn has_attachment(&self, name: &str) -> bool {
        self.marks & mark(name) != 0 && self.place(name, false).is_some()
    }

    /// Makes `value` all that is known under `name`, whoever said something of it before; `None` leaves nothing.
    pub fn replace(&mut self, name: &str, value: Option<&str>) {
        if self.marks & mark(name) != 0 {
            for is_own in [true, false] {
                let Some(place) = self.place(name, is_own) else { continue };
                if let Some(entry) = self.entries.get_mut(place) {
                    entry.kind = Kind::Gone;
                }
                self.sorted.retain(|other| *other != place);
            }
        }
        if let Some(value) = value {
            self.add(name, value, Kind::Own);
        }
    }

    fn add(&mut self, name: &str, value: &str, kind: Kind) {
        let start = self.text.len();
        self.text.push_str(name);
        let middle = self.text.len();
        self.text.push_str(value);
        self.marks |= mark(name);
        let place = self.entries.len();
        self.entries.push(Entry { name: start..middle, value: middle..self.text.len(), kind });
        if place.saturating_add(1) == MANY {
            self.sorted.clear();
            for place in 0..MANY {
                self.sort(place);
            }
        } else if place >= MANY {
            self.sort(place);
        }
    }

    /// Puts an entry where it belongs by name.
    fn sort(&mut self, place: usize) {
        let Some(entry) = self.entries.get(place).filter(|entry| entry.kind != Kind::Gone) else { return };
        let key = (self.name(entry), entry.kind == Kind::Own);
        let at = self.sorted.partition_point(|other| self.compare(*other, key) == Ordering::Less);
        self.sorted.insert(at, place);
    }

    /// How an entry stands to a name: by length first, which seldom leaves bytes to compare, and the protocol's own
    /// before the caller's.
    fn compare(&self, place: usize, (name, is_own): (&str, bool)) -> Ordering {
        let Some(entry) = self.entries.get(place) else { return Ordering::Greater };
        let own = self.name(entry);
        let by_length = own.len().cmp(&name.len());
        by_length.then_with(|| own.cmp(name)).then_with(|| is_own.cmp(&(entry.kind == Kind::Own)))
    }

    /// Where the attribute of that name is: the protocol's own, or the caller's.
    fn place(&self, name: &str, is_own: bool) -> Option<usize> {
        let is_meant = |place: &usize| {
            self.entries.get(*place).is_some_and(|entry| {
                self.name(entry) == name && entry.kind != Kind::Gone && (entry.kind == Kind::Own) == is_own
            })
        };
        if self.entries.len() < MANY {
            return (0..self.entries.len()).find(is_meant);
        }
        let key = (name, is_own);
        let at = self.sorted.partition_point(|other| self.compare(*other, key) == Ordering::Less);
        self.sorted.get(at).copied().filter(is_meant)
    }

    /// The value of the attribute `name`, the protocol's own before the caller's.
    pub fn get(&self, name: &str) -> Option<&str> {
        if self.marks & mark(name) == 0 {
            return None;
        }
        if self.entries.len() < MANY {
            return self.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        }
        let at = self.sorted.partition_point(|other| self.compare(*other, (name, true)) == Ordering::Less);
        let (known, value) = self.resolve(self.entries.get(*self.sorted.get(at)?)?)?;
        (known == name).then_some(value)
    }

    /// How many attributes there are, at most.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was told.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What [`get`](Head::get) finds: every attribute once as (name, value), in order of discovery.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.of_kind(|kind| matches!(kind, Kind::Own | Kind::Attachment))
    }

    /// The attributes that the protocol itself names.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.of_kind(|kind| kind == Kind::Own)
    }

    /// The attributes that the caller named, those too that the protocol has itself.
    pub fn attachments(&self) -> impl Iterator<Item = (&str, &str)> {
        self.of_kind(|kind| matches!(kind, Kind::Attachment | Kind::Shadowed))
    }

    fn of_kind(&self, is_meant: impl Fn(Kind) -> bool) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().filter(move |entry| is_meant(entry.kind)).filter_map(|entry| self.resolve(entry))
    }

    fn name(&self, entry: &Entry) -> &str {
        self.text.get(entry.name.clone()).unwrap_or_default()
    }

    fn resolve(&self, entry: &Entry) -> Option<(&str, &str)> {
        Some((self.text.get(entry.name.clone())?, self.text.get(entry.value.clone())?))
    }
}

/// One bit for a name, by its length and its last byte.
fn mark(name: &str) -> u64 {
    let last = name.as_bytes().last().copied().unwrap_or_default();
    1_u64.wrapping_shl(u32::from(last).wrapping_mul(5).wrapping_add(name.len() as u32))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn all(head: &Head) -> Vec<(&str, &str)> {
        head.iter().collect()
    }

    #[test]
    fn what_replaces_is_all_that_is_known() {
        let mut head = Head::new();
        head.push("method", "a");
        head.push_attachment("source.ip", "forged");
        head.push("source.ip", "forged too");
        head.push_attachment("tag", "x");
        head.replace("source.ip", Some("10.0.0.1"));
        assert_eq!(all(&head), [("method", "a"), ("tag", "x"), ("source.ip", "10.0.0.1")]);
        assert_eq!(head.attachments().collect::<Vec<_>>(), [("tag", "x")]);
        head.replace("source.ip", None);
        head.replace("never", None);
        assert_eq!(all(&head), [("method", "a"), ("tag", "x")]);
        assert_eq!(head.get("source.ip"), None);
    }

    #[test]
    fn the_first_of_a_name_is_kept() {
        let mut head = Head::new();
        head.push("path", "own");
        for (name, value) in [("path", "a"), ("tag", "b"), ("path", "again"), ("tag", "again")] {
            head.push_attachment(name, value);
        }
        head.push("path", "again");
        assert_eq!(all(&head), [("path", "own"), ("tag", "b")]);
        assert_eq!(head.attachments().collect::<Vec<_>>(), [("path", "a"), ("tag", "b")]);
        head.push("tag", "own");
        assert_eq!(all(&head), [("path", "own"), ("tag", "own")]);
    }

    #[test]
    fn attachments_are_bounded() {
        let mut head = Head::new();
        (0..1000).for_each(|number| head.push_attachment(&format!("name{number}"), "x"));
        assert_eq!(head.attachments().count(), 256);
        assert_eq!((head.get("name255"), head.get("name256")), (Some("x"), None));
    }

    #[test]
    fn large_requests_leave_little_memory() {
        let mut head = Head::new();
        let large = "x".repeat(1 << 20);
        head.push("interface", &large);
        head.push("path", &large);
        (0..10_000).for_each(|number| head.push(&number.to_string(), ""));
        head.clear();
        let kept = head.text.capacity()
            + head.entries.capacity() * size_of::<Entry>()
            + head.sorted.capacity() * size_of::<usize>();
        assert!(kept <= 2 * MOST_KEPT, "{kept}");
        // What is usual is not allocated again.
        head.push("interface", "org.example.Greeter");
        let text = head.text.as_ptr();
        head.clear();
        head.push("interface", "org.example.Greeter");
        assert_eq!(head.text.as_ptr(), text);
    }

    /// Names that share their marks, and few enough that they repeat.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof![(0..100_u32).prop_map(|number| format!("{number:03}x")), "[a-c]{0,2}"]
    }

    #[derive(Debug, Clone)]
    enum Act {
        Push(String),
        Attach(String),
        Replace(String, bool),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            2 => name().prop_map(Act::Push),
            6 => name().prop_map(Act::Attach),
            1 => (name(), any::<bool>()).prop_map(|(name, is_some)| Act::Replace(name, is_some)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Few or many, attributes are found as two maps would find them.
        #[test]
        fn lookups_agree_with_two_maps(acts in vec(act(), 0..120)) {
            let mut head = Head::new();
            let (mut own, mut attached) = (BTreeMap::new(), BTreeMap::new());
            for (number, act) in acts.iter().enumerate() {
                let value = number.to_string();
                match act {
                    Act::Push(name) => {
                        head.push(name, &value);
                        own.entry(name.as_str()).or_insert(value);
                    }
                    Act::Attach(name) => {
                        assert_eq!(head.has_attachment(name), attached.contains_key(name.as_str()));
                        head.push_attachment(name, &value);
                        attached.entry(name.as_str()).or_insert(value);
                    }
                    Act::Replace(name, is_some) => {
                        head.replace(name, is_some.then_some(value.as_str()));
                        attached.remove(name.as_str());
                        match is_some {
                            true => own.insert(name.as_str(), value),
                            false => own.remove(name.as_str()),
                        };
                    }
                }
            }
            let mut found = attached.clone();
            found.extend(own.clone());
            let to_map = |entries: Vec<(&str, &str)>| {
                let map: BTreeMap<_, _> =
                    entries.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
                assert_eq!(map.len(), entries.len(), "a name stands twice");
                map
            };
            let expected = |map: &BTreeMap<&str, String>| -> BTreeMap<String, String> {
                map.iter().map(|(name, value)| (name.to_string(), value.clone())).collect()
            };
            assert_eq!(to_map(head.iter().collect()), expected(&found));
            assert_eq!(to_map(head.attributes().collect()), expected(&own));
            assert_eq!(to_map(head.attachments().collect()), expected(&attached));
            for name in (0..100).map(|number| format!("{number:03}x")).chain(["a".to_owned(), String::new()]) {
                assert_eq!(head.get(&name), found.get(name.as_str()).map(String::as_str), "{name}");
            }
        }
    }
}
