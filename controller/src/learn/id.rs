//! The request id: a number that answers repeat, and that differs from request to request.

use core::ops::Range;
use std::collections::{BTreeSet, HashMap, VecDeque};

use meltemi_codecs::Peer;
use meltemi_codecs::layout::Coding;

use super::form;
use super::frames::{Frame, Frames};

/// Which answer belongs to which request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Pairing {
    /// By the number of the request, that of its answer, and the other way round.
    pub partners: HashMap<usize, usize>,
    /// How many frames servers sent.
    pub of_servers: usize,
    /// Requests without an answer that were followed by one with it, on their connection.
    pub unanswered: BTreeSet<usize>,
}

/// A number that answers repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    /// Where it is.
    pub place: Place,
    /// What it tells.
    pub pairing: Pairing,
    /// Whether nothing shows which of the zero bytes on both sides of its lowest byte are its own.
    pub is_lowest: bool,
}

/// Where a number is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the header.
    Header(usize, Coding),
    /// In a part that holds protobuf.
    Field(Vec<u32>),
}

/// The last place in a header at which an id is looked for.
const LAST_PLACE: usize = 64;
/// How an id in a header is written.
const CODINGS: [Coding; 7] = [
    Coding::Big(8),
    Coding::Little(8),
    Coding::Big(4),
    Coding::Little(4),
    Coding::Big(2),
    Coding::Little(2),
    Coding::Big(1),
];
/// The fewest answers that tell an id.
const FEWEST: usize = 3;
/// The most by which a counter grows from one request of a connection to the next.
const LARGEST_STEP: u64 = 256;
/// How many frames decide whether bytes are random.
const MOST_COMPARED: usize = 64;
/// How many frames are looked at.
const MOST_FRAMES: usize = 10_000;
/// How many numbers of a message are tried.
const MOST_FIELDS: usize = 64;
/// How many requests of a connection may wait for an answer.
const MOST_OPEN: usize = 256;

impl Pairing {
    /// How many answers have a request.
    pub fn answers(&self) -> usize {
        self.partners.len() / 2
    }

    /// Pairs frames in their order, but for requests that are not answered; `None` if the numbers of both differ.
    pub fn in_order(frames: &Frames<'_>, is_one_way: impl Fn(&Frame<'_>) -> bool) -> Option<Self> {
        let mut pairing = Self::default();
        let (mut talk, mut open) = (0, VecDeque::new());
        for (at, frame) in frames.all.iter().enumerate().take(MOST_FRAMES) {
            if frame.talk != talk {
                open.clear();
                talk = frame.talk;
            }
            match frame.from {
                Peer::Client if is_one_way(frame) => drop(pairing.unanswered.insert(at)),
                Peer::Client => open.push_back(at),
                Peer::Server => {
                    pairing.of_servers += 1;
                    let request = open.pop_front()?;
                    pairing.partners.extend([(request, at), (at, request)]);
                }
            }
        }
        open.is_empty().then_some(pairing)
    }

    /// Pairs frames by a number; `None` if it is no request id.
    pub fn by(frames: &Frames<'_>, number: impl Fn(&Frame<'_>) -> Option<u64>) -> Option<Self> {
        Self::by_number(frames, |_, frame| number(frame))
    }

    /// The same, where the number of the frame is of use too.
    fn by_number(frames: &Frames<'_>, number: impl Fn(usize, &Frame<'_>) -> Option<u64>) -> Option<Self> {
        let mut pairing = Self::default();
        let mut open: VecDeque<(u64, usize)> = VecDeque::new();
        let (mut talk, mut values, mut clashes) = (0, HashMap::<u64, usize>::new(), 0);
        for (at, frame) in frames.all.iter().enumerate().take(MOST_FRAMES) {
            if frame.talk != talk {
                open.clear();
                values.clear();
                talk = frame.talk;
            }
            let number = number(at, frame);
            match frame.from {
                Peer::Client => {
                    open.extend(number.map(|number| (number, at)));
                    if open.len() > MOST_OPEN {
                        open.pop_front();
                    }
                }
                Peer::Server => {
                    pairing.of_servers += 1;
                    let found = open.iter().position(|(value, _)| Some(*value) == number);
                    let Some((value, request)) = found.and_then(|place| open.remove(place)) else {
                        // Most answers must repeat it: this ends soon where they do not.
                        if pairing.of_servers > 16 && pairing.answers() * 2 < pairing.of_servers {
                            return None;
                        }
                        continue;
                    };
                    pairing.partners.extend([(request, at), (at, request)]);
                    let seen = values.entry(value).or_default();
                    clashes += usize::from(*seen > 0);
                    *seen += 1;
                    // What was asked before it and is still open may never be answered.
                    pairing.unanswered.extend(open.iter().map(|(_, at)| *at).filter(|at| *at < request));
                }
            }
        }
        pairing.unanswered.retain(|request| !pairing.partners.contains_key(request));
        let answers = pairing.answers();
        let is_id = answers >= FEWEST && answers * 5 >= pairing.of_servers * 4 && clashes * 10 <= answers;
        is_id.then_some(pairing)
    }
}

/// Finds the id in the header, outside of what is taken by other fields. `is_little` is how the length is written, where that
/// shows.
pub fn in_header(frames: &Frames<'_>, taken: &[Range<usize>], is_little: Option<bool>) -> Option<Id> {
    let end = frames.shortest().min(LAST_PLACE);
    let prefers_little = is_little.unwrap_or(false);
    let (mut best, mut found) = (None, Vec::new());
    for (at, coding) in (0..end).flat_map(|at| CODINGS.map(|coding| (at, coding))) {
        let bytes = at..at + coding.least_width();
        if bytes.end > end
            || taken.iter().any(|other| meets(other, &bytes))
            || !is_number(frames, &bytes, coding)
        {
            continue;
        }
        let read = |frame: &Frame<'_>| Some(coding.read(frame.bytes.get(at..)?)?.0);
        let Some(pairing) = Pairing::by(frames, read) else { continue };
        let step = step(frames, &pairing, read);
        let is_counter = step.is_some_and(|step| step <= LARGEST_STEP.min(coding.max() >> 6).max(4));
        if !is_counter && !is_random(frames, &pairing, &bytes) {
            continue;
        }
        found.push((pairing.answers(), at, coding));
        let rank = (
            core::cmp::Reverse(pairing.answers()),
            !is_counter,
            step.filter(|_| is_counter),
            matches!(coding, Coding::Little(_)) != prefers_little && coding.least_width() > 1,
            core::cmp::Reverse(coding.least_width()),
            at % coding.least_width() != 0,
            at,
        );
        if best.as_ref().is_none_or(|(least, _)| rank < *least) {
            best = Some((rank, Id { place: Place::Header(at, coding), pairing, is_lowest: false }));
        }
    }
    let (_, mut id) = best?;
    // Small ids in either order: what is taken for zeros of theirs may be another field, which is not to be overwritten.
    if let (None, Place::Header(at, coding)) = (is_little, &id.place) {
        let place = lowest(*at, *coding);
        let is_other = |(answers, at, other): &(usize, usize, Coding)| {
            let is_opposite = matches!(coding, Coding::Little(_)) != matches!(other, Coding::Little(_));
            is_opposite
                && other.least_width().min(coding.least_width()) > 1
                && lowest(*at, *other) == place
                && *answers == id.pairing.answers()
        };
        let mut rest = (*at..*at + coding.least_width()).filter(|at| *at != place);
        let is_small = rest.all(|at| frames.all.iter().all(|frame| frame.bytes.get(at) == Some(&0)));
        if is_small && found.iter().any(is_other) {
            id.place = Place::Header(place, Coding::Big(1));
            id.is_lowest = true;
        }
    }
    Some(id)
}

/// Where the lowest byte of a number is.
fn lowest(at: usize, coding: Coding) -> usize {
    match coding {
        Coding::Little(_) => at,
        _ => at + coding.least_width() - 1,
    }
}

/// Finds the id among the fields of messages, one for each frame.
pub fn in_message(frames: &Frames<'_>, messages: &[Option<&[u8]>]) -> Option<Id> {
    let paths: BTreeSet<Vec<u32>> = messages
        .iter()
        .take(MOST_FRAMES)
        .flatten()
        .take(8)
        .flat_map(|message| form::numbers(message).into_iter().take(MOST_FIELDS))
        .collect();
    let found = paths.into_iter().filter_map(|path| {
        let pairing = Pairing::by_number(frames, |at, _| form::number((*messages.get(at)?)?, &path))?;
        Some(Id { place: Place::Field(path), pairing, is_lowest: false })
    });
    // Of equals, the first that is in the fewest messages.
    found.min_by_key(|id| (core::cmp::Reverse(id.pairing.answers()), id.place.depth()))
}

/// The fields of messages that say what the id does, in every frame.
pub fn copies(frames: &Frames<'_>, id: &Id, messages: &[Option<&[u8]>]) -> Vec<Place> {
    let Place::Header(at, coding) = id.place else { return Vec::new() };
    let Some(first) = messages.iter().flatten().next() else { return Vec::new() };
    let says_so = |path: &Vec<u32>| {
        frames.all.iter().zip(messages).all(|(frame, message)| {
            let id = coding.read(frame.bytes.get(at..).unwrap_or_default()).map(|(id, _)| id);
            let copy = message.map(|message| form::number(message, path).unwrap_or(0));
            id.is_some() && copy == id
        })
    };
    form::numbers(first).into_iter().take(MOST_FIELDS).filter(says_so).map(Place::Field).collect()
}

impl Place {
    /// The bytes of the header that it takes.
    pub fn taken(&self) -> Option<Range<usize>> {
        match self {
            Self::Header(at, coding) => Some(*at..at + coding.least_width()),
            Self::Field(_) => None,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::Header(..) => 0,
            Self::Field(path) => path.len(),
        }
    }
}

/// Whether two ranges have a byte in common.
pub fn meets(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}

/// Whether the bytes can be one number: the lowest differs, and the highest does so too or is zero.
fn is_number(frames: &Frames<'_>, bytes: &Range<usize>, coding: Coding) -> bool {
    let (high, low) = match coding {
        Coding::Little(_) => (bytes.end - 1, bytes.start),
        _ => (bytes.start, bytes.end - 1),
    };
    let mut requests = frames.of(Peer::Client);
    let Some(first) = requests.next() else { return false };
    let (mut low_differs, mut high_differs) = (false, false);
    for frame in requests {
        low_differs |= frame.bytes.get(low) != first.bytes.get(low);
        high_differs |= frame.bytes.get(high) != first.bytes.get(high);
    }
    // Ids of several connections may all differ in the high bytes alone.
    high_differs || low_differs && first.bytes.get(high) == Some(&0)
}

/// By how much the number grows from one request to the next, as a rule; `None` if it does not.
fn step(frames: &Frames<'_>, pairing: &Pairing, read: impl Fn(&Frame<'_>) -> Option<u64>) -> Option<u64> {
    let mut last: Option<(usize, u64)> = None;
    let (mut steps, mut back) = (Vec::new(), 0);
    for (at, frame) in frames.all.iter().enumerate() {
        if frame.from != Peer::Client || !pairing.partners.contains_key(&at) {
            continue;
        }
        let Some(value) = read(frame) else { continue };
        if let Some((talk, before)) = last
            && talk == frame.talk
        {
            match value.checked_sub(before) {
                Some(step) => steps.push(step),
                None => back += 1,
            }
        }
        last = Some((frame.talk, value));
    }
    let middle = steps.len() / 2;
    steps.sort_unstable();
    steps.get(middle).copied().filter(|step| *step > 0 && steps.len() >= 3 * back)
}

/// Whether every byte differs from request to request as those of random numbers do, and none is always a letter: what
/// differs so may be a name, which answers repeat too.
fn is_random(frames: &Frames<'_>, pairing: &Pairing, bytes: &Range<usize>) -> bool {
    let answered: Vec<&Frame<'_>> = frames
        .all
        .iter()
        .enumerate()
        .filter(|(at, frame)| frame.from == Peer::Client && pairing.partners.contains_key(at))
        .map(|(_, frame)| frame)
        .take(MOST_COMPARED)
        .collect();
    bytes.clone().all(|at| {
        let values: BTreeSet<u8> = answered.iter().filter_map(|frame| frame.bytes.get(at).copied()).collect();
        values.len() * 4 >= answered.len() * 3 && !values.iter().all(u8::is_ascii_alphabetic)
    })
}
