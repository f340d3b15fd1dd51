//! What follows the header: parts whose lengths are said, and what they hold.

use core::ops::{Range, RangeInclusive};

use meltemi_codecs::layout::Coding;
use meltemi_proxy::plan::raw::Form;

use super::form::{self, Shape};
use super::frames::Frame;
use super::id::meets;

/// A part that was found in all frames that were looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What says its length.
    pub size: Size,
    /// What it holds.
    pub shape: Shape,
}

/// What says the length of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A number in the header.
    Header(usize, Coding),
    /// A number just before it.
    Prefix(Coding),
    /// The frame.
    Rest,
}

/// The parts of frames, and where the first one starts.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The length of the header.
    pub header: usize,
    /// The parts, in order.
    pub all: Vec<Part>,
}

/// How far behind the last known field the first part may start.
const MOST_UNKNOWN: usize = 8;
/// The most parts.
const MOST_PARTS: usize = 6;
/// How many frames are looked at.
const MOST_FRAMES: usize = 1000;
/// The fewest frames that tell a part.
const FEWEST: usize = 3;

/// How a length in the header is written.
const IN_HEADER: [Coding; 5] =
    [Coding::Big(4), Coding::Little(4), Coding::Big(2), Coding::Little(2), Coding::Big(1)];
/// How a length before a part is written.
const BEFORE: [Coding; 6] =
    [Coding::Big(4), Coding::Little(4), Coding::Big(2), Coding::Little(2), Coding::Big(1), Coding::Varint];

impl Parts {
    /// The bytes of each part of a frame; `None` if one does not fit.
    pub fn split<'f>(&self, frame: &'f [u8]) -> Option<Vec<&'f [u8]>> {
        let mut at = self.header;
        self.all.iter().map(|part| part.size.take(frame, &mut at)).collect()
    }

    /// Where the last part of a frame ends.
    pub fn end(&self, frame: &[u8]) -> Option<usize> {
        let mut at = self.header;
        for part in &self.all {
            part.size.take(frame, &mut at)?;
        }
        Some(at)
    }

    /// Finds the parts of frames whose header ends within `ends`. Their lengths may lie anywhere but in `taken`.
    pub fn find(frames: &[&Frame<'_>], ends: RangeInclusive<usize>, taken: &[Range<usize>]) -> Option<Self> {
        let frames: Vec<&[u8]> = frames.iter().take(MOST_FRAMES).map(|frame| frame.bytes).collect();
        if frames.len() < FEWEST {
            return None;
        }
        let starts = *ends.start()..=(*ends.end()).min(ends.start() + MOST_UNKNOWN);
        let mut best: Option<(usize, Self)> = None;
        // The one that explains the most; of equal ones the first, whose lengths are the widest.
        let mut offer = |parts: Self| {
            let explained = parts.explained(&frames);
            if explained > best.as_ref().map_or(0, |(most, _)| *most) {
                best = Some((explained, parts));
            }
        };
        for header in starts.clone() {
            for (at, coding) in (0..header).flat_map(|at| IN_HEADER.map(|coding| (at, coding))) {
                let bytes = at..at + coding.least_width();
                if bytes.end <= header && !taken.iter().any(|other| meets(other, &bytes)) {
                    let parts = Self { header, all: Vec::new() };
                    let found = parts.with(Size::Header(at, coding), &frames);
                    // A number just before the part is its own, unless an id in it must be able to change it: so is one after
                    // which the part could start as well.
                    let is_own = |parts: &Self| {
                        let before = Self { header: at, all: Vec::new() };
                        let is_before =
                            || bytes.end == header || before.with(Size::Prefix(coding), &frames).is_some();
                        parts.all.iter().all(|part| part.shape.form != Form::Protobuf) && is_before()
                    };
                    if let Some(parts) = found.filter(|parts| !is_own(parts)) {
                        offer(parts);
                    }
                }
            }
        }
        for header in starts.clone() {
            let mut parts = Self { header, all: Vec::new() };
            while let Some(more) = parts.with_prefixed(&frames)
                && parts.all.len() < MOST_PARTS
            {
                parts = more;
            }
            offer(parts);
        }
        for header in starts {
            if let Some(parts) = (Self { header, all: Vec::new() }).with(Size::Rest, &frames) {
                offer(parts);
            }
        }
        best.map(|(_, parts)| parts)
    }

    /// The parts and one more with its length before it, as the part before has it if that fits.
    fn with_prefixed(&self, frames: &[&[u8]]) -> Option<Self> {
        let before = match self.all.last() {
            Some(Part { size: Size::Prefix(coding), .. }) => Some(*coding),
            _ => None,
        };
        let same = before.and_then(|coding| {
            let size = Size::Prefix(coding);
            self.with(size, frames).or_else(|| self.with_empty(size, frames)?.with(size, frames))
        });
        same.or_else(|| BEFORE.iter().find_map(|coding| self.with(Size::Prefix(*coding), frames)))
    }

    /// The parts and one more that is empty in all frames.
    fn with_empty(&self, size: Size, frames: &[&[u8]]) -> Option<Self> {
        let is_empty = |frame: &&[u8]| {
            let mut at = self.end(frame).unwrap_or(usize::MAX);
            size.take(frame, &mut at).is_some_and(<[u8]>::is_empty)
        };
        let shape = Shape { form: Form::Bytes, separator: None, size: None };
        let all = [&self.all[..], &[Part { size, shape }]].concat();
        frames.iter().all(is_empty).then_some(Self { header: self.header, all })
    }

    /// The parts and one more, if all frames have it and what it holds has a form.
    pub fn with(&self, size: Size, frames: &[&[u8]]) -> Option<Self> {
        let contents: Option<Vec<&[u8]>> = frames
            .iter()
            .map(|frame| {
                let mut at = self.end(frame)?;
                size.take(frame, &mut at)
            })
            .collect();
        let contents = contents?;
        let is_length = |content: &&[u8]| content.len() != contents.first().map_or(0, |first| first.len());
        // A number in the header that is always the same may be anything.
        if matches!(size, Size::Header(..)) && !contents.iter().any(is_length) {
            return None;
        }
        let shape = form::of(&contents)?;
        // Little that goes to the end anyway may parse by chance.
        if size == Size::Rest && !matches!(shape.form, Form::Json | Form::Pairs) {
            return None;
        }
        let mut parts = self.clone();
        parts.all.push(Part { size, shape });
        Some(parts)
    }

    /// The same, if only most frames have something there that has a form.
    pub fn with_most(&self, size: Size, frames: &[&[u8]]) -> Option<Self> {
        let has_it = |frame: &&&[u8]| {
            let mut at = self.end(frame).unwrap_or(usize::MAX);
            size.take(frame, &mut at).is_some_and(|part| !part.is_empty())
        };
        let full: Vec<&[u8]> = frames.iter().filter(has_it).copied().collect();
        let contents = full.iter().map(|frame| {
            let mut at = self.end(frame)?;
            size.take(frame, &mut at)
        });
        let shape = form::of(&contents.collect::<Option<Vec<_>>>()?)?;
        let mut parts = self.clone();
        parts.all.push(Part { size, shape });
        Some(parts)
    }

    fn explained(&self, frames: &[&[u8]]) -> usize {
        let split = frames.iter().filter_map(|frame| self.split(frame));
        split.flatten().map(<[u8]>::len).sum()
    }
}

impl Size {
    /// The bytes of the header that it takes.
    pub fn taken(self) -> Option<Range<usize>> {
        match self {
            Self::Header(at, coding) => Some(at..at + coding.least_width()),
            Self::Prefix(_) | Self::Rest => None,
        }
    }

    /// The part that starts at `at`, which moves to its end.
    fn take<'f>(self, frame: &'f [u8], at: &mut usize) -> Option<&'f [u8]> {
        let len = match self {
            Self::Header(place, coding) => coding.read(frame.get(place..)?)?.0,
            Self::Prefix(coding) => {
                let (len, width) = coding.read(frame.get(*at..)?)?;
                *at += width;
                len
            }
            Self::Rest => frame.len().checked_sub(*at)? as u64,
        };
        let end = at.checked_add(usize::try_from(len).ok()?)?;
        let part = frame.get(*at..end)?;
        *at = end;
        Some(part)
    }
}
