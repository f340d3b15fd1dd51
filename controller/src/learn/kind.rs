//! What tells requests, answers, one-way requests and signs of life apart.

use core::ops::Range;
use std::collections::{BTreeMap, BTreeSet};

use meltemi_codecs::Peer;
use meltemi_codecs::layout::Coding;

use super::form;
use super::frames::{Frame, Frames};
use super::id::{Pairing, Place, meets};

/// A number that says what a frame is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// Where it is.
    pub place: Place,
    /// Which bits of it.
    pub mask: u64,
    /// The value of most requests that are answered, and how many have it.
    pub request: Option<(u64, usize)>,
    /// That of their answers.
    pub response: Option<(u64, usize)>,
    /// That of requests that are not answered.
    pub one_way: Option<(u64, usize)>,
    /// That of signs of life, and that of their answers.
    pub heartbeat: Option<(u64, u64, usize)>,
}

/// What frames are, as far as their order and their ids say it, by their numbers.
#[derive(Debug, Default)]
pub struct Classes {
    requests: Vec<usize>,
    responses: Vec<usize>,
    unanswered: Vec<usize>,
    heartbeats: Vec<usize>,
    heartbeat_replies: Vec<usize>,
}

/// Requests that say the same, and what was answered.
type Alike = (Vec<usize>, BTreeSet<Vec<u8>>);

/// How many values a number that says what a frame is may have.
const MOST_VALUES: usize = 16;

impl Classes {
    /// Sorts frames by what `pairing` says. Signs of life are requests that are the same but for the places in `taken`, as
    /// their answers are, and shorter than others.
    pub fn new(frames: &Frames<'_>, pairing: &Pairing, taken: &[Range<usize>]) -> Self {
        let mut classes =
            Self { unanswered: pairing.unanswered.iter().copied().collect(), ..Self::default() };
        let bare = |at: usize| {
            let frame = frames.all.get(at)?;
            let mut bytes = frame.bytes.to_vec();
            for at in taken.iter().cloned().flatten() {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = 0;
                }
            }
            Some(bytes)
        };
        let asked: BTreeSet<usize> = pairing
            .partners
            .keys()
            .copied()
            .filter(|at| frames.all.get(*at).is_some_and(|frame| frame.from == Peer::Client))
            .collect();
        // By what they say apart from their ids: how many, and what was answered.
        let mut said: BTreeMap<Vec<u8>, Alike> = BTreeMap::new();
        let shortest = asked.iter().filter_map(|at| frames.all.get(*at)).map(|frame| frame.bytes.len()).min();
        for at in &asked {
            let is_short = frames.all.get(*at).is_some_and(|frame| Some(frame.bytes.len()) == shortest);
            if let (true, Some(bytes), Some(answer)) =
                (is_short, bare(*at), pairing.partners.get(at).and_then(|at| bare(*at)))
            {
                let (requests, answers) = said.entry(bytes).or_default();
                requests.push(*at);
                answers.insert(answer);
            }
        }
        let differ = asked
            .iter()
            .any(|at| frames.all.get(*at).is_some_and(|frame| Some(frame.bytes.len()) > shortest));
        if let (true, Some((requests, answers))) = (differ && said.len() == 1, said.into_values().next())
            && answers.len() == 1
        {
            classes.heartbeat_replies =
                requests.iter().filter_map(|at| pairing.partners.get(at)).copied().collect();
            classes.heartbeats = requests;
        }
        classes.requests =
            asked.into_iter().filter(|at| classes.heartbeats.binary_search(at).is_err()).collect();
        let answers = classes.requests.iter().filter_map(|at| pairing.partners.get(at));
        classes.responses = answers.copied().collect();
        classes
    }

    /// The same, where nothing tells signs of life from other requests.
    pub fn without_heartbeats(mut self) -> Self {
        self.requests.append(&mut self.heartbeats);
        self.responses.append(&mut self.heartbeat_replies);
        self
    }

    /// Requests that are no signs of life.
    pub fn calls(&self) -> impl Iterator<Item = usize> {
        self.requests.iter().chain(&self.unanswered).copied()
    }

    /// How many different lengths requests without an answer have.
    pub fn unanswered_lengths(&self, frames: &Frames<'_>) -> usize {
        let found = self.unanswered.iter().filter_map(|at| frames.all.get(*at));
        found.map(|frame| frame.whole.len()).collect::<BTreeSet<_>>().len()
    }

    /// Signs of life as they were seen first, and their answers.
    pub fn heartbeat(&self) -> Option<(usize, usize)> {
        Some((*self.heartbeats.first()?, *self.heartbeat_replies.first()?))
    }
}

impl Kind {
    /// Finds what says what frames are in the first `end` bytes of the header, outside of what other fields take.
    pub fn in_header(
        frames: &Frames<'_>,
        classes: &Classes,
        end: usize,
        taken: &[Range<usize>],
    ) -> Option<Self> {
        let end = end.min(frames.shortest());
        let places = (1..=4).flat_map(|width: u8| (0..end).map(move |at| (at, Coding::Big(width))));
        let free = places.filter(|(at, coding)| {
            let bytes = *at..at + coding.least_width();
            bytes.end <= end && !taken.iter().any(|other| meets(other, &bytes))
        });
        let found = free.filter_map(|(at, coding)| {
            let read = |number: usize| Some(coding.read(frames.all.get(number)?.bytes.get(at..)?)?.0);
            Self::of(classes, Place::Header(at, coding), coding.least_width() == 1, read)
        });
        // The first of those that tell the most.
        found.reduce(|best, other| if other.tells() > best.tells() { other } else { best })
    }

    /// Finds a field of messages, one for each frame, that one-way requests have another value in. In a message, nothing
    /// else is told apart.
    pub fn in_message(classes: &Classes, messages: &[Option<&[u8]>]) -> Option<Self> {
        let message = |at: usize| messages.get(at).copied().flatten();
        let paths: BTreeSet<Vec<u32>> = classes
            .unanswered
            .iter()
            .take(MOST_VALUES)
            .filter_map(|at| message(*at))
            .flat_map(form::numbers)
            .collect();
        // The first in the order of the numbers of fields.
        paths.into_iter().find_map(|path| {
            let read = |at: usize| Some(form::number(message(at)?, &path).unwrap_or(0));
            let kind = Self::of(classes, Place::Field(path.clone()), false, read)?;
            kind.one_way.is_some().then_some(Self { request: None, response: None, heartbeat: None, ..kind })
        })
    }

    fn of(
        classes: &Classes,
        place: Place,
        may_mask: bool,
        read: impl Fn(usize) -> Option<u64>,
    ) -> Option<Self> {
        let values = |places: &[usize], mask: u64| -> Option<BTreeMap<u64, usize>> {
            let mut values = BTreeMap::new();
            for at in places {
                *values.entry(read(*at)? & mask).or_default() += 1;
                if values.len() > MOST_VALUES {
                    return None;
                }
            }
            Some(values)
        };
        let one = |values: &BTreeMap<u64, usize>| match values.len() {
            1 => values.first_key_value().map(|(value, count)| (*value, *count)),
            _ => None,
        };
        // A few that are rare are requests by their direction.
        let most = |values: &BTreeMap<u64, usize>| {
            let all: usize = values.values().sum();
            let most = values.iter().max_by_key(|(value, count)| (**count, core::cmp::Reverse(**value)));
            most.map(|(value, count)| (*value, *count)).filter(|(_, count)| count * 4 >= all * 3)
        };
        let judge = |mask: u64| -> Option<Self> {
            let requests = values(&classes.requests, mask)?;
            let responses = values(&classes.responses, mask)?;
            let request = most(&requests)?;
            let response = one(&responses).filter(|(value, _)| !requests.contains_key(value));
            // Some that have no answer are requests that were lost.
            let mut unanswered = values(&classes.unanswered, mask)?;
            unanswered.retain(|value, _| !requests.contains_key(value));
            let one_way = one(&unanswered).filter(|(value, _)| !responses.contains_key(value));
            let heartbeat = || {
                let (asked, count) = one(&values(&classes.heartbeats, mask)?)?;
                let (reply, _) = one(&values(&classes.heartbeat_replies, mask)?)?;
                let known =
                    [Some(request.0), response.map(|(value, _)| value), one_way.map(|(value, _)| value)];
                let is_new = |value| !known.contains(&Some(value)) && !requests.contains_key(&value);
                let is_new = is_new(asked) && is_new(reply) && asked != reply;
                is_new.then_some((asked, reply, count))
            };
            let heartbeat = heartbeat();
            let (place, request) = (place.clone(), response.is_some().then_some(request));
            Some(Self { place, mask, request, response, one_way, heartbeat })
        };
        let exact = judge(u64::MAX);
        let kind = match exact {
            None if may_mask => judge(flags(classes, &read)?)?,
            exact => exact?,
        };
        (kind.tells() > 0).then_some(kind)
    }

    /// Whether a frame is a sign of life.
    pub fn is_heartbeat(&self, frame: &Frame<'_>) -> bool {
        let Place::Header(at, coding) = self.place else { return false };
        let value =
            coding.read(frame.bytes.get(at..).unwrap_or_default()).map(|(value, _)| value & self.mask);
        self.heartbeat.is_some_and(|(asked, ..)| Some(asked) == value)
    }

    fn tells(&self) -> usize {
        usize::from(self.response.is_some())
            + 2 * usize::from(self.one_way.is_some())
            + 2 * usize::from(self.heartbeat.is_some())
    }
}

/// The bits that are the same in all frames of a class, and differ between two.
fn flags(classes: &Classes, read: &impl Fn(usize) -> Option<u64>) -> Option<u64> {
    let (mut same, mut firsts) = (0xff, Vec::new());
    for class in [
        &classes.requests,
        &classes.responses,
        &classes.unanswered,
        &classes.heartbeats,
        &classes.heartbeat_replies,
    ] {
        let mut first = None;
        for at in class {
            let value = read(*at)?;
            same &= !(value ^ *first.get_or_insert(value));
        }
        firsts.extend(first);
    }
    let differ = firsts.iter().zip(firsts.iter().skip(1)).fold(0, |bits, (one, next)| bits | (one ^ next));
    Some(same & differ).filter(|mask| *mask != 0)
}
