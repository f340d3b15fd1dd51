//! What there is in frames whose ends are known, step by step.

use core::ops::Range;
use std::collections::BTreeSet;

use meltemi_codecs::Peer;
use meltemi_codecs::layout::Coding;
use meltemi_proxy::plan::raw::Form;

use super::form::Shape;
use super::frames::{Frame, Frames};
use super::framing::Framing;
use super::id::{self, Id, Pairing, Place};
use super::kind::{Classes, Kind};
use super::name::Names;
use super::part::{Part, Parts, Size};

/// What was found in frames.
#[derive(Debug, Default)]
pub struct Found {
    /// The bytes that all start with, and where.
    pub magic: Option<(usize, Vec<u8>)>,
    /// The request id.
    pub id: Option<Id>,
    /// Other places that say the same as the id.
    pub copies: Vec<Place>,
    /// What tells frames apart.
    pub kind: Option<Kind>,
    /// What frames are by their order and ids.
    pub classes: Classes,
    /// What follows the header.
    pub parts: Parts,
    /// What calls are named by.
    pub names: Names,
    /// Answers that repeat a number behind the parts, where no place can be named, and its coding.
    pub floating: Option<(usize, Coding)>,
}

/// The longest magic.
const LONGEST_MAGIC: usize = 4;
/// How far behind the last known field something may say what a frame is.
const MOST_UNKNOWN: usize = 8;

impl Found {
    /// Finds all there is.
    pub fn new(frames: &Frames<'_>, client: &Framing, server: &Framing) -> Self {
        let lengths = [client.taken(), server.taken()].concat();
        let is_little = match client {
            Framing::Varint(..) | Framing::Length(_, Coding::Big(1) | Coding::Little(1), _) => None,
            _ => Some(matches!(client, Framing::Length(_, Coding::Little(_), _))),
        };
        let mut found = Self { magic: magic(frames, client, &lengths), ..Self::default() };
        let mut taken = lengths;
        if let (Some((at, bytes)), false) = (&found.magic, matches!(client, Framing::Varint(..))) {
            taken.push(*at..at + bytes.len());
        }
        found.id = id::in_header(frames, &taken, is_little);
        let ids: Vec<Range<usize>> = found.id.iter().filter_map(|id| id.place.taken()).collect();
        taken.extend(ids.iter().cloned());
        let pairing = found.id.as_ref().map(|id| id.pairing.clone());

        found.parts = given(frames, client).unwrap_or_default();
        let is_given = !found.parts.all.is_empty();
        let header = if is_given { found.parts.header } else { end(&taken) + MOST_UNKNOWN };
        found.tell(frames, pairing.as_ref(), header, &ids, &taken);
        if !is_given {
            found.parts = found.parts_after(frames, &taken);
            // What lies behind the header is in it by chance.
            let header = if found.parts.all.is_empty() { end(&taken) } else { found.parts.header };
            let is_behind = |kind: &Kind| kind.place.taken().is_some_and(|bytes| bytes.end > header);
            if found.kind.as_ref().is_some_and(is_behind) {
                found.tell(frames, pairing.as_ref(), header, &ids, &taken);
                found.parts = found.parts_after(frames, &taken);
            }
        }
        found.look_into_messages(frames);
        if found.id.is_none() {
            found.look_behind_parts(frames, is_little == Some(true), &taken);
        }
        taken.extend(found.kind.iter().filter_map(|kind| kind.place.taken()));
        taken.extend(found.parts.all.iter().filter_map(|part| part.size.taken()));
        found.names = Names::find(&found.requests(frames), &found.parts, &taken, is_little == Some(true));
        found
    }

    /// Requests that are no signs of life.
    pub fn requests<'a, 'f>(&self, frames: &'a Frames<'f>) -> Vec<&'a Frame<'f>> {
        let is_call = |frame: &&Frame<'_>| !self.kind.as_ref().is_some_and(|kind| kind.is_heartbeat(frame));
        frames.of(Peer::Client).filter(is_call).collect()
    }

    /// Finds what tells frames apart, in so many bytes of the header. What says how long a part is does not.
    fn tell(
        &mut self,
        frames: &Frames<'_>,
        pairing: Option<&Pairing>,
        header: usize,
        ids: &[Range<usize>],
        taken: &[Range<usize>],
    ) {
        let Some(pairing) = pairing else { return };
        self.classes = Classes::new(frames, pairing, ids);
        let taken = &[taken, &lengths_of_parts(frames, &self.classes, taken)].concat();
        self.kind = Kind::in_header(frames, &self.classes, header, taken);
        if self.kind.as_ref().is_none_or(|kind| kind.heartbeat.is_none()) {
            self.classes = core::mem::take(&mut self.classes).without_heartbeats();
            self.kind = Kind::in_header(frames, &self.classes, header, taken);
        }
    }

    fn parts_after(&self, frames: &Frames<'_>, taken: &[Range<usize>]) -> Parts {
        let mut taken = taken.to_vec();
        // A kind that is told by the bytes behind the known fields may turn out to be none.
        let known = end(&taken);
        taken.extend(
            self.kind.iter().filter_map(|kind| kind.place.taken()).filter(|bytes| bytes.end <= known),
        );
        let parts = Parts::find(&self.requests(frames), known..=frames.shortest(), &taken);
        parts.unwrap_or(Parts { header: known, all: Vec::new() })
    }

    /// Looks for the id, its copies, and the kind in messages that both requests and answers have.
    fn look_into_messages(&mut self, frames: &Frames<'_>) {
        let is_message =
            |part: &Part| part.shape.form == Form::Protobuf && !matches!(part.size, Size::Prefix(_));
        let Some(place) = self.parts.all.iter().position(is_message) else { return };
        let parts = self.parts.clone();
        let messages: Vec<Option<&[u8]>> = frames
            .all
            .iter()
            .map(|frame| parts.split(frame.bytes).and_then(|parts| parts.get(place).copied()))
            .collect();
        match &self.id {
            None => self.id = id::in_message(frames, &messages),
            Some(id) => self.copies = id::copies(frames, id, &messages),
        }
        let Some(id) = &self.id else { return };
        if self.kind.is_none() {
            self.classes = Classes::new(frames, &id.pairing, &[]).without_heartbeats();
            self.kind = Kind::in_message(&self.classes, &messages)
                .filter(|kind| kind.place != id.place && !self.copies.contains(&kind.place));
        }
    }

    /// Looks for an id that has no fixed place: it still tells frames apart.
    fn look_behind_parts(&mut self, frames: &Frames<'_>, is_little: bool, taken: &[Range<usize>]) {
        if self.parts.all.is_empty() {
            return;
        }
        let codings = match is_little {
            true => [Coding::Little(4), Coding::Little(8)],
            false => [Coding::Big(4), Coding::Big(8)],
        };
        let parts = &self.parts;
        let pairing = codings.into_iter().find_map(|coding| {
            let read = |frame: &Frame<'_>| Some(coding.read(frame.bytes.get(parts.end(frame.bytes)?..)?)?.0);
            Some((Pairing::by(frames, read)?, coding))
        });
        if let Some((pairing, coding)) = &pairing {
            self.floating = Some((pairing.answers(), *coding));
        }
        let pairing = pairing.map(|(pairing, _)| pairing).or_else(|| self.counted(frames, taken));
        if let Some(pairing) = pairing {
            self.classes = Classes::new(frames, &pairing, &[]).without_heartbeats();
            self.kind = Kind::in_header(frames, &self.classes, self.parts.header, taken);
        }
    }

    /// Pairs requests and answers in their order: those requests are one-way that have a value of their own somewhere in the
    /// header, if without them there are as many as answers.
    fn counted(&self, frames: &Frames<'_>, taken: &[Range<usize>]) -> Option<Pairing> {
        let all = Pairing::in_order(frames, |_| false);
        let free = (0..self.parts.header).filter(|at| !taken.iter().any(|bytes| bytes.contains(at)));
        all.or_else(|| {
            let values = |at: usize| -> BTreeSet<u8> {
                frames.of(Peer::Client).filter_map(|frame| frame.bytes.get(at).copied()).collect()
            };
            free.flat_map(|at| values(at).into_iter().map(move |value| (at, value))).find_map(
                |(at, value)| Pairing::in_order(frames, |frame| frame.bytes.get(at) == Some(&value)),
            )
        })
    }
}

/// Where the last of some fields ends.
pub fn end(taken: &[Range<usize>]) -> usize {
    taken.iter().map(|bytes| bytes.end).max().unwrap_or(0)
}

/// What says in the header how long parts are, whether or not some requests are signs of life.
fn lengths_of_parts(frames: &Frames<'_>, classes: &Classes, taken: &[Range<usize>]) -> Vec<Range<usize>> {
    let known = end(taken);
    let all: Vec<&Frame<'_>> = frames.of(Peer::Client).collect();
    let calls = classes.calls().filter_map(|at| frames.all.get(at)).collect();
    let found = [all, calls].into_iter().filter_map(|requests| {
        let parts = Parts::find(&requests, known..=frames.shortest(), taken)?;
        Some(parts.all.into_iter().filter_map(|part| part.size.taken()))
    });
    found.flatten().collect()
}

/// The parts whose lengths add up to that of the frame.
fn given(frames: &Frames<'_>, client: &Framing) -> Option<Parts> {
    let Framing::Parts(header, lengths) = client else { return None };
    let mut parts = Parts { header: *header, all: Vec::new() };
    let requests: Vec<&[u8]> = frames.of(Peer::Client).map(|frame| frame.bytes).collect();
    for (at, coding) in lengths {
        let size = Size::Header(*at, *coding);
        let plain = || {
            let shape = Shape { form: Form::Bytes, separator: None, size: None };
            Parts { header: *header, all: [&parts.all[..], &[Part { size, shape }]].concat() }
        };
        parts = parts.with_most(size, &requests).unwrap_or_else(plain);
    }
    Some(parts)
}

/// The bytes that all frames have before their first other field, or the first that are not zero.
fn magic(frames: &Frames<'_>, framing: &Framing, lengths: &[Range<usize>]) -> Option<(usize, Vec<u8>)> {
    let first = frames.all.first()?;
    let shortest = frames.all.iter().map(|frame| frame.whole.len()).min()?;
    let is_fixed = |at: usize| {
        let byte = first.whole.get(at);
        frames.all.iter().all(|frame| frame.whole.get(at) == byte)
    };
    if let Framing::Varint(at, _) = framing {
        return (*at > 0 && (0..*at).all(is_fixed))
            .then(|| (0, first.whole.get(..*at).unwrap_or_default().to_vec()));
    }
    let is_free = |at: &usize| !lengths.iter().any(|taken| taken.contains(at));
    let known = end(lengths).min(shortest);
    // Magic comes first, or right after the length.
    let start = if is_free(&0) { 0 } else { (0..shortest).find(is_free)? };
    let ends = if start == 0 { known } else { shortest };
    let same = (start..ends.min(start + LONGEST_MAGIC)).take_while(|at| is_free(at) && is_fixed(*at));
    let mut bytes: Vec<u8> = same.filter_map(|at| first.whole.get(at).copied()).collect();
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    (!bytes.is_empty() && bytes.first() != Some(&0)).then_some((start, bytes))
}
