//! Where frames end: by a length in the header, one that is a varint, or several that add up.

use core::ops::Range;

use meltemi_codecs::layout::Coding;
use meltemi_codecs::protobuf;

use super::heard::{Side, Talk};

/// What says how long the frames of one side are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framing {
    /// A number at a fixed place, and what is to be added.
    Length(usize, Coding, i64),
    /// A varint after the magic, and what is to be added. It counts what follows it.
    Varint(usize, i64),
    /// A header of fixed length, and numbers in it that say the lengths of the parts after it.
    Parts(usize, Vec<(usize, Coding)>),
}

/// The last place at which a length is looked for.
const LAST_PLACE: usize = 32;
/// What may be added to a length.
const ADDED: core::ops::RangeInclusive<i64> = -8..=64;
/// The longest frame.
const LONGEST: u64 = 16 << 20;
/// How many connections decide.
const MOST_TRIED: usize = 32;
/// How many frames of a side are split.
const MOST_SPLIT: usize = 50_000;
/// One turn in so many may begin elsewhere than a frame.
const MISSES: usize = 5;

/// How many frames decide, of both sides of all connections together: every framing there is is tried on them.
const MOST_FRAMES: usize = 2048;
/// And how many of each side at least.
const FEWEST_FRAMES: usize = 32;
/// How unlikely it must be that bytes of any kind fit as well, in bits: thousands of framings are tried.
const ENOUGH_BITS: f64 = 24.0;

/// How a length in a header is written.
const CODINGS: [Coding; 7] = [
    Coding::Big(4),
    Coding::Little(4),
    Coding::Big(3),
    Coding::Little(3),
    Coding::Big(2),
    Coding::Little(2),
    Coding::Big(1),
];

impl Framing {
    /// The length of the frame at the front of `bytes`, if enough of it is there. No frame has the length 0.
    fn len(&self, bytes: &[u8]) -> Option<u64> {
        let len = match self {
            Self::Length(at, coding, plus) => {
                let (value, _) = coding.read(bytes.get(*at..)?)?;
                // A frame has at least what says how long it is.
                value.checked_add_signed(*plus).filter(|len| *len >= (at + coding.least_width()) as u64)
            }
            Self::Varint(at, plus) => {
                let (value, rest) = protobuf::read_varint(bytes.get(*at..)?)?;
                value.checked_add_signed(*plus)?.checked_add((bytes.len() - rest.len()) as u64)
            }
            Self::Parts(header, parts) => parts.iter().try_fold(*header as u64, |sum, (at, coding)| {
                let (value, _) = coding.read(bytes.get(*at..).unwrap_or_default())?;
                sum.checked_add(value)
            }),
        };
        match (len, self) {
            (None, Self::Parts(header, _)) if bytes.len() < *header => None,
            (len, _) => Some(len.unwrap_or(0)),
        }
    }

    /// Where what has a place in the header is counted from.
    pub fn base(&self, frame: &[u8]) -> usize {
        match self {
            Self::Varint(at, _) => {
                let rest = protobuf::read_varint(frame.get(*at..).unwrap_or_default());
                rest.map_or(0, |(_, rest)| frame.len() - rest.len())
            }
            _ => 0,
        }
    }

    /// The bytes of the header that say the length.
    pub fn taken(&self) -> Vec<Range<usize>> {
        match self {
            Self::Length(at, coding, _) => core::iter::once(*at..at + coding.least_width()).collect(),
            Self::Varint(..) => Vec::new(),
            Self::Parts(_, parts) => {
                parts.iter().map(|(at, coding)| *at..at + coding.least_width()).collect()
            }
        }
    }

    /// Whether each number says something where some side starts to speak, in the first `most` turns of each.
    fn is_live<'s>(&self, most: usize, sides: impl Iterator<Item = &'s Side> + Clone) -> bool {
        let Self::Parts(_, parts) = self else { return true };
        parts.iter().all(|(at, coding)| {
            sides.clone().any(|side| {
                side.turns.iter().take(most).any(|(start, _)| {
                    let number = coding.read(side.bytes.get(start + at..).unwrap_or_default());
                    number.is_some_and(|(value, _)| value > 0)
                })
            })
        })
    }

    /// The frames of a side, and whether there is nothing else. Of a side that is not whole, the last one may be cut.
    pub fn frames(&self, side: &Side) -> (Vec<Range<usize>>, bool) {
        let (mut frames, mut at) = (Vec::new(), 0);
        while let Some(rest) =
            side.bytes.get(at..).filter(|rest| !rest.is_empty() && frames.len() < MOST_SPLIT)
        {
            match self.len(rest) {
                Some(len) if (1..=rest.len() as u64).contains(&len) => {
                    frames.push(at..at + len as usize);
                    at += len as usize;
                }
                Some(len) if len == 0 || len > LONGEST => return (frames, false),
                _ => return (frames, !side.is_whole),
            }
        }
        (frames, true)
    }
}

/// How well a framing fits what one side of some connections sent.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Fit {
    /// How many bytes of the connections that it fits.
    bytes: usize,
    frames: usize,
    /// How often the side started to speak in the middle of a frame.
    misses: usize,
    /// Frames that start where the side did not start to speak.
    extra: usize,
    /// How unlikely it is by chance.
    bits: f64,
    shortest: usize,
    longest: usize,
}

impl Fit {
    fn and(self, other: Self) -> Self {
        let shortest = match (self.frames, other.frames) {
            (0, _) => other.shortest,
            (_, 0) => self.shortest,
            _ => self.shortest.min(other.shortest),
        };
        Self {
            bytes: self.bytes + other.bytes,
            frames: self.frames + other.frames,
            misses: self.misses + other.misses,
            extra: self.extra + other.extra,
            bits: self.bits + other.bits,
            shortest,
            longest: self.longest.max(other.longest),
        }
    }

    /// Whether it is more than chance, and told from a length that is always the same.
    fn is_enough(&self) -> bool {
        self.bits >= ENOUGH_BITS && self.frames >= 3 && self.shortest < self.longest
    }

    /// What comes first is better.
    fn rank(&self, framing: &Framing) -> impl Ord + use<> {
        let (width, at, plus) = match framing {
            Framing::Length(at, coding, plus) => (coding.least_width(), *at, plus.unsigned_abs()),
            // A varint of one byte is a number of one byte, unless it is longer elsewhere.
            Framing::Varint(at, plus) => (0, *at, plus.unsigned_abs()),
            Framing::Parts(header, parts) => (
                parts.iter().map(|(_, coding)| coding.least_width()).sum(),
                parts.first().map_or(0, |(at, _)| *at),
                *header as u64,
            ),
        };
        let bytes = core::cmp::Reverse(self.bytes);
        (bytes, self.misses, self.extra, core::cmp::Reverse(width), at, plus)
    }

    /// How well a framing fits the first `most` frames and turns of a side; `None` if it does not.
    fn of(framing: &Framing, side: &Side, most: usize) -> Option<Self> {
        let all_turns = side.turns.len().min(most);
        let mut turns = side.turns.iter().map(|(start, _)| *start).take(most).peekable();
        let end = side.turns.get(most).map_or(side.bytes.len(), |(start, _)| *start);
        let (mut fit, mut at, mut hits) = (Self::default(), 0, 0_usize);
        fit.shortest = usize::MAX;
        let mut is_exact = end == side.bytes.len();
        while let Some(rest) = side.bytes.get(at..).filter(|_| at < end) {
            while turns.next_if(|start| *start < at).is_some() {
                fit.misses += 1;
            }
            if fit.misses > all_turns / MISSES || fit.frames >= most {
                is_exact = false;
                break;
            }
            let is_hit = turns.next_if(|start| *start == at).is_some();
            match framing.len(rest) {
                Some(len) if (1..=rest.len() as u64).contains(&len) => {
                    let len = len as usize;
                    fit.frames += 1;
                    fit.shortest = fit.shortest.min(len);
                    fit.longest = fit.longest.max(len);
                    match is_hit {
                        true => hits += usize::from(at > 0),
                        false => fit.extra += 1,
                    }
                    at += len;
                }
                Some(len) if len == 0 || len > LONGEST => return None,
                _ if side.is_whole => return None,
                _ => {
                    is_exact = false;
                    break;
                }
            }
        }
        let left = turns.count();
        let looked_at = if fit.frames < most {
            fit.misses += left;
            all_turns
        } else {
            all_turns - left
        };
        if fit.frames == 0 || fit.misses > looked_at / MISSES {
            return None;
        }
        // Any chain of such frames meets a place by chance once in an average frame.
        let average = (at as f64 / fit.frames as f64).max(2.0);
        fit.bits = (hits + usize::from(is_exact && side.is_whole)) as f64 * average.log2();
        fit.bytes = side.bytes.len();
        Some(fit)
    }
}

/// What splits both sides of the most connections: one framing for both, or one for each.
pub fn find(talks: &[&Talk]) -> Option<(Framing, Framing)> {
    let talks = talks.get(..MOST_TRIED).unwrap_or(talks);
    let most = (MOST_FRAMES / (2 * talks.len()).max(1)).max(FEWEST_FRAMES);
    let client: fn(&Talk) -> &Side = |talk| &talk.client;
    let server: fn(&Talk) -> &Side = |talk| &talk.server;
    // Where a side always says as much, anything that is always the same could be the length.
    let [asks_vary, answers_vary] = [client, server].map(|side| {
        // What is said at once may be many frames.
        let sides = talks.iter().map(|talk| side(talk)).filter(|side| side.turns.len() > 1);
        let mut lengths = sides.flat_map(Side::turn_lengths).peekable();
        let first = lengths.peek().copied();
        first.is_none() || lengths.any(|length| Some(length) != first)
    });
    let both = |framing: &Framing| {
        let fits = talks.iter().filter_map(|talk| {
            Some(Fit::of(framing, &talk.client, most)?.and(Fit::of(framing, &talk.server, most)?))
        });
        fits.fold(Fit::default(), Fit::and)
    };
    if let Some(framing) = best(lengths().chain(varints()), both) {
        return Some((framing.clone(), framing));
    }
    let of_side = |side: fn(&Talk) -> &Side, all: &mut dyn Iterator<Item = Framing>| {
        let fit = |framing: &Framing| {
            let fits = talks.iter().filter_map(|talk| Fit::of(framing, side(talk), most));
            fits.fold(Fit::default(), Fit::and)
        };
        best(all.filter(|framing| framing.is_live(most, talks.iter().map(|talk| side(talk)))), fit)
    };
    if !asks_vary || !answers_vary {
        return None;
    }
    let of_both = |all: fn() -> Box<dyn Iterator<Item = Framing>>| {
        Some((of_side(client, &mut all())?, of_side(server, &mut all())?))
    };
    of_both(|| Box::new(sums())).or_else(|| of_both(|| Box::new(lengths())))
}

fn best(all: impl Iterator<Item = Framing>, fit: impl Fn(&Framing) -> Fit) -> Option<Framing> {
    let fitting = all.filter_map(|framing| {
        let fit = fit(&framing);
        fit.is_enough().then_some((framing, fit))
    });
    fitting.min_by_key(|(framing, fit)| fit.rank(framing)).map(|(framing, _)| framing)
}

fn lengths() -> impl Iterator<Item = Framing> {
    let places = (0..=LAST_PLACE).flat_map(|at| CODINGS.map(|coding| (at, coding)));
    places.flat_map(|(at, coding)| ADDED.map(move |plus| Framing::Length(at, coding, plus)))
}

fn varints() -> impl Iterator<Item = Framing> {
    (0..=8).flat_map(|at| (-8..=8).map(move |plus| Framing::Varint(at, plus)))
}

/// Two or three numbers side by side, and a header that ends with them or some bytes later.
fn sums() -> impl Iterator<Item = Framing> {
    let widths = [1, 2, 4];
    let pairs = widths.iter().flat_map(move |one| widths.map(|two| vec![*one, two]));
    let pairs: Vec<Vec<u8>> = pairs.collect();
    let triples = pairs.iter().flat_map(|pair| widths.map(|last| [&pair[..], &[last]].concat()));
    let all: Vec<Vec<u8>> = triples.chain(pairs.iter().cloned()).collect();
    let codings: [fn(u8) -> Coding; 2] = [Coding::Big, Coding::Little];
    (0..=LAST_PLACE).flat_map(move |start| {
        let all = all.clone();
        codings.into_iter().flat_map(move |coding| {
            all.clone().into_iter().flat_map(move |widths| {
                let mut end = start;
                let parts: Vec<(usize, Coding)> = widths
                    .iter()
                    .map(|width| {
                        let at = end;
                        end += usize::from(*width);
                        (at, coding(*width))
                    })
                    .collect();
                (end..=end + 8).map(move |header| Framing::Parts(header, parts.clone()))
            })
        })
    })
}
