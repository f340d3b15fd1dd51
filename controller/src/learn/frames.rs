use core::ops::Range;
use std::collections::BTreeSet;

use meltemi_codecs::Peer;

use super::framing::Framing;
use super::heard::{Side, Talk};

/// A frame that was captured.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The number of its connection.
    pub talk: usize,
    /// Who sent it.
    pub from: Peer,
    /// All of it.
    pub whole: &'a [u8],
    /// What places in the header are counted in: all, but for a length that is a varint and what is before that.
    pub bytes: &'a [u8],
}

/// The frames of some connections, each before those that were sent after it.
#[derive(Debug, Default)]
pub struct Frames<'a> {
    /// The frames.
    pub all: Vec<Frame<'a>>,
    /// How many connections they are of.
    pub connections: usize,
    /// How many connections the framing does not fit.
    pub left_out: usize,
}

impl<'a> Frames<'a> {
    /// Splits what was heard.
    pub fn new(talks: &[&'a Talk], (client, server): (&Framing, &Framing)) -> Self {
        let mut frames = Self::default();
        for talk in talks {
            let room = MOST - frames.all.len();
            if room == 0 {
                break;
            }
            let split = [(Peer::Client, client, &talk.client), (Peer::Server, server, &talk.server)];
            let mut found = Vec::new();
            let fits = split.into_iter().all(|(from, framing, side)| {
                let (ranges, fits) = framing.frames(side);
                for range in ranges {
                    let whole = side.bytes.get(range.clone()).unwrap_or_default();
                    let bytes = whole.get(framing.base(whole)..).unwrap_or_default();
                    found.push((turn(side, &range), Frame { talk: frames.connections, from, whole, bytes }));
                }
                fits
            });
            if !fits || found.is_empty() {
                frames.left_out += 1;
                continue;
            }
            found.sort_by_key(|(turn, _)| *turn);
            frames.all.extend(found.into_iter().map(|(_, frame)| frame).take(room));
            frames.connections += 1;
        }
        frames
    }

    /// What one side sent.
    pub fn of(&self, from: Peer) -> impl Iterator<Item = &Frame<'a>> {
        self.all.iter().filter(move |frame| frame.from == from)
    }

    /// How many different lengths the frames of one side have.
    pub fn lengths(&self, from: Peer) -> usize {
        self.of(from).map(|frame| frame.whole.len()).collect::<BTreeSet<_>>().len()
    }

    /// The bytes that every frame has.
    pub fn shortest(&self) -> usize {
        self.all.iter().map(|frame| frame.bytes.len()).min().unwrap_or(0)
    }
}

/// The most frames that are looked at.
pub const MOST: usize = 50_000;

/// The turn in which a frame ends.
fn turn(side: &Side, frame: &Range<usize>) -> usize {
    let after = side.turns.partition_point(|(start, _)| *start < frame.end);
    after.checked_sub(1).and_then(|last| side.turns.get(last)).map_or(0, |(_, turn)| *turn)
}
