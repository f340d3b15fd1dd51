use core::cmp::Ordering;
use core::ops::Range;

use crate::marks::Marks;
use crate::words::are_same;

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
    /// Those of all names.
    marks: Marks,
    attachments: usize,
    /// Where in the frame attachments end, if all that were looked for are here; else 0.
    room: usize,
}

/// Where in a frame an attachment is, or is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Its value is the `len` bytes from offset `at` on.
    Over {
        /// Offset of the value.
        at: usize,
        /// Length of the value in bytes.
        len: usize,
    },
    /// There is none of its name. One may be added before the byte at this offset, with which the attachments end.
    Before(usize),
}

#[derive(Debug, Clone)]
struct Entry {
    /// Where its name starts in the text; its value follows it.
    start: usize,
    middle: usize,
    end: usize,
    kind: Kind,
    /// Where its value is in the frame; 0 if nobody says.
    at: usize,
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
        // A request may say nothing at all, and yet have room.
        self.room = 0;
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
        self.marks = Marks::default();
        self.attachments = 0;
    }

    /// Adds an attribute that the protocol itself names, such as Dubbo's `interface`, unless it is known already.
    // Codecs push in several places: one call each costs less than what of it would be inlined.
    #[inline(never)]
    pub fn push(&mut self, name: &str, value: &str) {
        let mark = Marks::of(name.as_bytes());
        if !self.marks.have(mark) || self.gives_way(name) {
            self.add(name, value, Kind::Own, mark, 0);
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
        self.push_attachment_at(name, value, 0);
    }

    /// The same; whether it is added. Unless `at` is 0, the value is in the frame from that offset on as it is here.
    pub(crate) fn push_attachment_at(&mut self, name: &str, value: &str, at: usize) -> bool {
        let mark = Marks::of(name.as_bytes());
        let kind = if !self.marks.have(mark) { Some(Kind::Attachment) } else { self.kind_of_new(name) };
        let kind = kind.filter(|_| self.attachments < Self::MOST_ATTACHMENTS);
        if let Some(kind) = kind {
            self.attachments = self.attachments.saturating_add(1);
            self.add(name, value, kind, mark, at);
        }
        kind.is_some()
    }

    /// Notes that the attachments of the frame end with the byte at that offset, and that all that were looked for are here,
    /// each under a name of its own.
    pub(crate) fn set_room(&mut self, at: usize) {
        self.room = at;
    }

    /// Where in the frame that was read the attachment of that name is, or may be added, if the codec can tell: for an
    /// [`Edit`](crate::Edit) of that frame. Where only some attachments were [looked for](crate::Codec::find), of those alone.
    pub fn place(&self, name: &str) -> Option<Place> {
        let mut named =
            self.entries.iter().filter(|entry| entry.kind != Kind::Own && self.is_named(entry, name));
        match if self.marks.have(Marks::of(name.as_bytes())) { named.next() } else { None } {
            _ if self.room == 0 => None,
            None => Some(Place::Before(self.room)),
            Some(entry) if entry.at == 0 || entry.kind == Kind::Gone => None,
            Some(entry) => Some(Place::Over { at: entry.at, len: entry.value().len() }),
        }
    }

    /// Whether the caller named an attribute so.
    pub fn has_attachment(&self, name: &str) -> bool {
        self.marks.have(Marks::of(name.as_bytes())) && self.places(name).1.is_some()
    }

    /// Makes `value` all that is known under `name`, whoever said something of it before; `None` leaves nothing.
    pub fn replace(&mut self, name: &str, value: Option<&str>) {
        let mark = Marks::of(name.as_bytes());
        if self.marks.have(mark) {
            let (own, attachment) = self.places(name);
            for place in [own, attachment].into_iter().flatten() {
                if let Some(entry) = self.entries.get_mut(place) {
                    entry.kind = Kind::Gone;
                }
                self.sorted.retain(|other| *other != place);
            }
        }
        if let Some(value) = value {
            self.add(name, value, Kind::Own, mark, 0);
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
    fn add(&mut self, name: &str, value: &str, kind: Kind, mark: Marks, at: usize) {
        let start = self.text.len();
        self.text.push_str(name);
        let middle = self.text.len();
        self.text.push_str(value);
        self.marks = self.marks.and(mark);
        self.entries.push(Entry { start, middle, end: self.text.len(), kind, at });
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
        if !self.marks.have(Marks::of(name.as_bytes())) {
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

    /// Those of all names.
    pub(crate) fn marks(&self) -> Marks {
        self.marks
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
        let known = self.text.as_bytes().get(entry.name());
        known.is_some_and(|known| are_same(known, name.as_bytes()))
    }

    fn name(&self, entry: &Entry) -> &str {
        self.text.get(entry.name()).unwrap_or_default()
    }

    fn resolve(&self, entry: &Entry) -> Option<(&str, &str)> {
        Some((self.text.get(entry.name())?, self.text.get(entry.value())?))
    }
}

#[cfg(test)]
mod tests;
