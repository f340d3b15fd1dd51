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
    /// Places of the entries by name, in order; kept once there are [`MANY`].
    sorted: Vec<usize>,
    /// A bit for each name, shared by names that look alike: most names that are not here have none of these.
    marks: u64,
    attachments: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    /// Where its name starts in the text; its value follows it.
    start: usize,
    middle: usize,
    end: usize,
    kind: Kind,
}

impl Entry {
    fn name(&self) -> Range<usize> {
        self.start..self.middle
    }

    fn value(&self) -> Range<usize> {
        self.middle..self.end
    }
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
    #[inline]
    pub fn clear(&mut self) {
        if !self.is_empty() {
            self.forget();
        }
    }

    fn forget(&mut self) {
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
    // Codecs push in several places: one call each costs less than what of it would be inlined.
    #[inline(never)]
    pub fn push(&mut self, name: &str, value: &str) {
        let mark = mark(name);
        if self.marks & mark == 0 || self.gives_way(name) {
            self.add(name, value, Kind::Own, mark);
        }
    }

    /// Adds an attribute of the protocol's own that is a number.
    #[inline(never)]
    pub fn push_number(&mut self, name: &str, value: i64) {
        let mut digits = [0; 20];
        let mut rest = value.unsigned_abs();
        let mut start = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit = b'0' | (rest % 10) as u8;
            start = start.saturating_sub(1);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            start = start.saturating_sub(1);
            if let Some(sign) = digits.get_mut(start) {
                *sign = b'-';
            }
        }
        let text = digits.get(start..).and_then(|digits| core::str::from_utf8(digits).ok());
        self.push(name, text.unwrap_or_default());
    }

    /// Adds an attribute that the caller of the RPC named: an attachment, a metadata entry. One that is known already is
    /// not added, nor any after the [first so many](Head::MOST_ATTACHMENTS).
    pub fn push_attachment(&mut self, name: &str, value: &str) {
        let mark = mark(name);
        let kind = if self.marks & mark == 0 { Some(Kind::Attachment) } else { self.kind_of_new(name) };
        if let Some(kind) = kind.filter(|_| self.attachments < Self::MOST_ATTACHMENTS) {
            self.attachments = self.attachments.saturating_add(1);
            self.add(name, value, kind, mark);
        }
    }

    /// Whether the caller named an attribute so.
    pub fn has_attachment(&self, name: &str) -> bool {
        self.marks & mark(name) != 0 && self.places(name).1.is_some()
    }

    /// Makes `value` all that is known under `name`, whoever said something of it before; `None` leaves nothing.
    pub fn replace(&mut self, name: &str, value: Option<&str>) {
        let mark = mark(name);
        if self.marks & mark != 0 {
            let (own, attachment) = self.places(name);
            for place in [own, attachment].into_iter().flatten() {
                if let Some(entry) = self.entries.get_mut(place) {
                    entry.kind = Kind::Gone;
                }
                self.sorted.retain(|other| *other != place);
            }
        }
        if let Some(value) = value {
            self.add(name, value, Kind::Own, mark);
        }
    }

    /// Makes room for an attribute of the protocol's own; whether there is none.
    #[cold]
    fn gives_way(&mut self, name: &str) -> bool {
        let (own, attachment) = self.places(name);
        if let Some(entry) = attachment.and_then(|place| self.entries.get_mut(place)) {
            entry.kind = Kind::Shadowed;
        }
        own.is_none()
    }

    /// What an attachment of that name would be; `None` if there is one.
    #[inline(never)]
    fn kind_of_new(&self, name: &str) -> Option<Kind> {
        match self.places(name) {
            (_, Some(_)) => None,
            (Some(_), None) => Some(Kind::Shadowed),
            (None, None) => Some(Kind::Attachment),
        }
    }

    #[inline]
    fn add(&mut self, name: &str, value: &str, kind: Kind, mark: u64) {
        let start = self.text.len();
        self.text.push_str(name);
        let middle = self.text.len();
        self.text.push_str(value);
        self.marks |= mark;
        self.entries.push(Entry { start, middle, end: self.text.len(), kind });
        if self.entries.len() >= MANY {
            self.sort_last();
        }
    }

    /// Puts the last entry where it belongs by name, and all others when it is the first for which that matters.
    #[cold]
    fn sort_last(&mut self) {
        let end = self.entries.len();
        let start = if end == MANY { 0 } else { end.saturating_sub(1) };
        for place in start..end {
            let Some(entry) = self.entries.get(place).filter(|entry| entry.kind != Kind::Gone) else {
                continue;
            };
            let at = self.lower_bound(self.name(entry), entry.kind == Kind::Own);
            self.sorted.insert(at, place);
        }
    }

    /// Where in order an attribute of that name is, or would be: by length first, which seldom leaves bytes to compare,
    /// and the protocol's own before the caller's.
    fn lower_bound(&self, name: &str, is_own: bool) -> usize {
        self.sorted.partition_point(|place| {
            let Some(entry) = self.entries.get(*place) else { return false };
            let known = self.name(entry);
            let by_name = known.len().cmp(&name.len()).then_with(|| known.cmp(name));
            by_name.then(is_own.cmp(&(entry.kind == Kind::Own))) == Ordering::Less
        })
    }

    /// Where the attributes of that name are: the protocol's own, and the caller's.
    fn places(&self, name: &str) -> (Option<usize>, Option<usize>) {
        let mut places = (None, None);
        let mut note = |place: usize| match self
            .entries
            .get(place)
            .filter(|entry| self.is_named(entry, name))
            .map(|entry| entry.kind)
        {
            Some(Kind::Own) => places.0 = Some(place),
            Some(Kind::Attachment | Kind::Shadowed) => places.1 = Some(place),
            Some(Kind::Gone) | None => {}
        };
        if self.entries.len() < MANY {
            (0..self.entries.len()).for_each(note);
        } else {
            let at = self.lower_bound(name, true);
            self.sorted.iter().skip(at).take(2).for_each(|place| note(*place));
        }
        places
    }

    /// The value of the attribute `name`, the protocol's own before the caller's.
    pub fn get(&self, name: &str) -> Option<&str> {
        if self.marks & mark(name) == 0 {
            return None;
        }
        let entry = if self.entries.len() < MANY {
            self.entries.iter().find(|entry| {
                self.is_named(entry, name) && matches!(entry.kind, Kind::Own | Kind::Attachment)
            })
        } else {
            let place = self.sorted.get(self.lower_bound(name, true))?;
            self.entries.get(*place).filter(|entry| self.is_named(entry, name))
        };
        self.text.get(entry?.value())
    }

    /// How many attributes there are, at most.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it is empty.
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

    fn is_named(&self, entry: &Entry, name: &str) -> bool {
        entry.middle.saturating_sub(entry.start) == name.len()
            && self.text.as_bytes().get(entry.name()) == Some(name.as_bytes())
    }

    fn name(&self, entry: &Entry) -> &str {
        self.text.get(entry.name()).unwrap_or_default()
    }

    fn resolve(&self, entry: &Entry) -> Option<(&str, &str)> {
        Some((self.text.get(entry.name())?, self.text.get(entry.value())?))
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
    fn numbers_are_text() {
        for value in [0, 1, -1, 9, 10, 1_234_567_890, i64::MAX, i64::MIN] {
            let mut head = Head::new();
            head.push_number("n", value);
            assert_eq!(head.get("n"), Some(&*value.to_string()));
        }
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
                assert_eq!(map.len(), entries.len(), "a name occurs twice");
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
