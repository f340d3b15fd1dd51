use super::{Form, Layout, Place, Shape, Size, Source, split::Measure};
use crate::{Depth, Frame, Head, Kind, Peer};

impl Layout {
    /// Says what the frame at the front of `input` is, which is not complete: if nothing that is read of it is missing.
    #[inline(never)]
    pub(super) fn read_front(
        &self,
        from: Peer,
        input: &[u8],
        max_len: usize,
        head: &mut Head,
    ) -> Option<Frame> {
        let Ok(Measure::Frame { base, shape, len }) = self.measure(input, max_len) else { return None };
        let frame = input.get(base..).filter(|_| len > input.len())?;
        let statuses = &self.statuses;
        let places = [&statuses.place, &statuses.service].into_iter().flatten().chain(&self.ids);
        let kind = self.kinds.as_ref().map(|kinds| &kinds.place);
        if places.chain(kind).any(|place| shape.is_open(place, frame)) {
            return None;
        }
        let described = self.describe(from, base, shape, len, frame).ok()?;
        if !matches!(described.kind, Kind::Request | Kind::OneWay) {
            return Some(described);
        }
        let parts = shape.whole_parts(frame, len.saturating_sub(base))?;
        let is_there = self.attributes.iter().all(|attribute| match attribute.source {
            // Headers that are shorter than others may end before these.
            Source::Number(number) => number.end() <= frame.len(),
            Source::Text { at, len } => at.saturating_add(len) <= frame.len(),
            Source::Protobuf { part, .. } | Source::Entry { part, .. } | Source::Tagged { part, .. } => {
                part < parts
            }
        });
        if !is_there {
            return None;
        }
        head.clear();
        self.read(input, parts, Depth::Head, head).ok()?;
        Some(described)
    }
}

impl Shape {
    /// Whether what comes may say another number: in a part that goes to the end of the frame, or behind a header that is
    /// shorter than others.
    fn is_open(&self, place: &Place, frame: &[u8]) -> bool {
        match place {
            Place::Header(number) => number.end() > frame.len(),
            Place::Protobuf { part, .. } => self.parts.get(*part).is_some_and(|part| part.size == Size::Rest),
        }
    }

    /// How many parts are there of a frame of `len` bytes whose front is `frame`: all, or all but a last one that is not read.
    fn whole_parts(&self, frame: &[u8], len: usize) -> Option<usize> {
        let mut start = self.header;
        for (place, part) in self.parts.iter().enumerate() {
            let end = part.range(frame, start)?.end;
            if end > frame.len() || part.size == Size::Rest {
                let is_last = place.saturating_add(1) == self.parts.len();
                return (is_last && part.form == Form::Bytes && end <= len).then_some(place);
            }
            start = end;
        }
        Some(self.parts.len())
    }
}
