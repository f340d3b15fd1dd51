use std::collections::VecDeque;

use super::{DEFAULT_TABLE_SIZE, entry_size};

/// The static and the dynamic table in one index space, RFC 7541 section 2.3.3. Indices count from 1.
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    capacity: usize,
}

struct Entry {
    key: Key,
    name: Box<[u8]>,
    value: Box<[u8]>,
}

/// By which a field is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// The hash of the name.
    name: u32,
    /// The hash of name and value.
    pub(super) whole: u32,
}

impl Key {
    pub(super) fn new(name: &[u8], value: &[u8]) -> Self {
        let hash = |start: u32, text: &[u8]| {
            let (words, rest) = text.as_chunks();
            let words = words.iter().map(|word| u32::from_le_bytes(*word));
            let all = words.chain(rest.iter().map(|&byte| byte.into()));
            all.fold(start, |hash, word| (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9))
        };
        let name = hash(0, name);
        Self { name, whole: hash(name, value) }
    }
}

impl Table {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, capacity: DEFAULT_TABLE_SIZE }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes the size that the dynamic table may have, evicting what no longer fits (section 4.3).
    pub(super) fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.evict(0);
    }

    /// Adds an entry; one larger than the whole table empties it (section 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = entry_size(name, value);
        self.evict(size);
        if size <= self.capacity {
            let key = Key::new(name, value);
            self.entries.push_front(Entry { key, name: name.into(), value: value.into() });
            self.size = self.size.saturating_add(size);
        }
    }

    fn evict(&mut self, room: usize) {
        while self.size.saturating_add(room) > self.capacity {
            let Some(Entry { name, value, .. }) = self.entries.pop_back() else { break };
            self.size = self.size.saturating_sub(entry_size(&name, &value));
        }
    }

    /// Name and value at an index.
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let at = index.checked_sub(1)?;
        match STATIC.get(at) {
            Some(&(name, value)) => Some((name.as_bytes(), value.as_bytes())),
            None => {
                let entry = self.entries.get(at.checked_sub(STATIC.len())?)?;
                Some((&entry.name, &entry.value))
            }
        }
    }

    /// Where a field with that key is: the index, and whether its value is there too. Most were sent before, and are looked for
    /// first among those; the others have no name that begins with `x-`.
    pub(super) fn find(&self, key: Key, name: &[u8], value: &[u8]) -> Option<(usize, bool)> {
        let mut by_name = None;
        for (index, entry) in (STATIC.len().saturating_add(1)..).zip(&self.entries) {
            if entry.key.name == key.name && *entry.name == *name {
                if entry.key.whole == key.whole && *entry.value == *value {
                    return Some((index, true));
                }
                by_name.get_or_insert((index, false));
            }
        }
        if name.starts_with(b"x-") {
            return by_name;
        }
        for (index, entry) in (1_usize..).zip(&STATIC) {
            if entry.0.as_bytes() == name {
                if entry.1.as_bytes() == value {
                    return Some((index, true));
                }
                by_name.get_or_insert((index, false));
            }
        }
        by_name
    }
}

/// RFC 7541 appendix A.
#[rustfmt::skip]
static STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
