//! Strings that look like services and methods, and numbers that may be commands.

use core::ops::Range;
use std::collections::{BTreeMap, BTreeSet};

use meltemi_codecs::layout::Coding;
use meltemi_proxy::plan::raw::Form;

use super::frames::Frame;
use super::id::meets;
use super::part::Parts;

/// Something that requests say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Where.
    pub place: Place,
    /// The different things that they say.
    pub values: BTreeSet<String>,
    /// How many say one.
    pub count: usize,
}

/// Where requests say something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A part that is text.
    Part(usize),
    /// An entry of a part, or a field.
    Entry(usize, String),
    /// A number in a part of tags.
    Tag(usize, String, Coding),
    /// A number in the header.
    Number(usize, Coding),
}

/// What calls are named by.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Names {
    /// What is called.
    pub service: Option<Candidate>,
    /// What of it.
    pub method: Option<Candidate>,
}

/// How many requests are looked at.
pub const MOST_FRAMES: usize = 2000;
/// How many places of parts are looked at.
const MOST_CANDIDATES: usize = 128;
/// How many different values are kept of a candidate.
const MOST_VALUES: usize = 64;
/// The largest number that may be a command.
const LARGEST_COMMAND: u64 = 4096;
/// What services are called where they have a name.
const SERVICE: [&str; 4] = ["service", "interface", "callee", "target"];
/// What methods are called.
const METHOD: [&str; 6] = ["method", "func", "cmd", "command", "action", "operation"];

impl Names {
    /// Finds them in the parts of requests, and in what of the first `end` bytes is not `taken`.
    pub fn find(requests: &[&Frame<'_>], parts: &Parts, taken: &[Range<usize>], is_little: bool) -> Self {
        let requests = requests.get(..MOST_FRAMES).unwrap_or(requests);
        let texts = texts(requests, parts, is_little);
        let is_enough = |candidate: &&Candidate| candidate.count * 5 >= requests.len() * 4;
        let (numbers, texts): (Vec<&Candidate>, Vec<&Candidate>) =
            texts.iter().filter(is_enough).partition(|found| matches!(found.place, Place::Tag(..)));
        // How much they look like it, and their places.
        let (mut service, mut method) = (None, None);
        for (place, candidate) in texts.iter().enumerate() {
            let weight = candidate.as_service(&texts);
            if weight > service.map_or(0, |(most, _): (usize, usize)| most) {
                service = Some((weight, place));
            }
        }
        for (place, candidate) in texts.iter().enumerate() {
            let weight = match service {
                Some((_, service)) if service == place => 0,
                service => candidate.as_method(service.and_then(|(_, at)| texts.get(at).copied())),
            };
            if weight > method.map_or(0, |(most, _): (usize, usize)| most) {
                method = Some((weight, place));
            }
        }
        let get = |found: Option<(usize, usize)>| texts.get(found?.1).map(|found| (*found).clone());
        let (mut service, mut method) = (get(service), get(method));
        if service.is_none() && method.is_none() {
            // A command, and perhaps one of its own under it.
            let mut numbers = numbers.into_iter().filter(|found| found.values.len() > 1).cloned();
            (service, method) = match (numbers.next(), numbers.next()) {
                (command, None) => (None, command),
                both => both,
            };
        }
        let has_dots = |names: &Candidate| names.values.iter().all(|value| value.contains('.'));
        // A service with a name of its own has methods with names too.
        if method.is_none() && !service.as_ref().is_some_and(has_dots) {
            method = number(requests, parts.header, taken, is_little);
        }
        Self { service, method }
    }
}

impl Candidate {
    fn add(&mut self, value: &str) {
        self.count += 1;
        if self.values.len() < MOST_VALUES && !self.values.contains(value) {
            self.values.insert(value.to_owned());
        }
    }

    fn is_called(&self, names: &[&str]) -> bool {
        let Place::Entry(_, key) = &self.place else { return false };
        let key = key.to_ascii_lowercase();
        names.iter().any(|name| key.contains(name))
    }

    /// How much it looks like the service.
    fn as_service(&self, others: &[&Self]) -> usize {
        let all = |is: fn(&str) -> bool| self.values.iter().all(|value| is_name(value) && is(value));
        let has_dots = all(|value| value.contains('.') && !value.starts_with('/'));
        let has_slashes = all(|value| value.contains(['/', ':']) && !value.starts_with('/'));
        let is_in_another = others.iter().any(|other| {
            other.place != self.place
                && other.values != self.values
                && other.values.iter().all(|long| self.values.iter().any(|value| long.contains(&**value)))
        });
        // Letters alone may be anything, unless they are called so.
        let is_called = self.is_called(&SERVICE) && !self.is_called(&METHOD) && all(|_| true);
        match has_dots || has_slashes || is_called {
            true => {
                1 + 4 * usize::from(is_called)
                    + 2 * usize::from(has_dots)
                    + usize::from(has_dots && is_in_another)
            }
            false => 0,
        }
    }

    /// How much it looks like the method of a service.
    fn as_method(&self, service: Option<&Self>) -> usize {
        let is_word = |value: &String| is_name(value) && !value.contains(['.', '/', ':']);
        let is_path = |value: &String| {
            let names_service =
                |service: &Self| service.values.iter().any(|name| value.contains(name.as_str()));
            is_name(value) && value.starts_with('/') || is_name(value) && service.is_some_and(names_service)
        };
        if !self.values.iter().all(is_word) && !self.values.iter().all(is_path) {
            return 0;
        }
        let differs = self.values.len() > 1;
        let is_called = self.is_called(&METHOD);
        // Without a service, one word that is always the same may be anything.
        match service.is_some() || differs || is_called {
            true => 1 + 4 * usize::from(is_called) + 2 * usize::from(differs),
            false => 0,
        }
    }
}

/// Whether text can be the name of something.
fn is_name(text: &str) -> bool {
    let first = text.strip_prefix('/').unwrap_or(text).chars().next();
    first.is_some_and(|char| char.is_ascii_alphabetic() || "_$".contains(char))
        && text.len() <= 256
        && text.chars().all(|char| char.is_ascii_alphanumeric() || "._$/:-".contains(char))
}

/// The texts of requests, in the order in which they are found.
fn texts(requests: &[&Frame<'_>], parts: &Parts, is_little: bool) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut add = |place: Place, value: &str| {
        let is_full = found.len() >= MOST_CANDIDATES;
        match found.iter_mut().find(|candidate| candidate.place == place) {
            Some(candidate) => candidate.add(value),
            None if is_full => {}
            None => found.push(Candidate { place, values: BTreeSet::from([value.to_owned()]), count: 1 }),
        }
    };
    for frame in requests {
        for (number, (part, bytes)) in
            parts.all.iter().zip(parts.split(frame.bytes).unwrap_or_default()).enumerate()
        {
            if part.shape.form == Form::Text {
                add(Place::Part(number), &String::from_utf8_lossy(bytes));
            }
            let mut seen = BTreeSet::new();
            for entry in part.shape.entries(bytes) {
                if !seen.insert(entry.path.clone()) {
                    continue;
                }
                let width = u8::try_from(entry.bytes.len()).unwrap_or(u8::MAX);
                match entry.text.filter(|text| !text.is_empty()) {
                    Some(text) => add(Place::Entry(number, entry.path), &text),
                    None if part.shape.form == Form::Tlv && matches!(width, 1 | 2 | 4) => {
                        let coding = if is_little { Coding::Little(width) } else { Coding::Big(width) };
                        let value = coding.read(&entry.bytes).map_or(0, |(value, _)| value);
                        add(Place::Tag(number, entry.path, coding), &value.to_string());
                    }
                    None => {}
                }
            }
        }
    }
    found.sort_by_key(|candidate| candidate.place.order());
    found
}

impl Place {
    /// Fields in the order of their numbers.
    fn order(&self) -> (usize, Vec<u32>) {
        match self {
            Self::Part(number) => (*number, Vec::new()),
            Self::Entry(number, path) | Self::Tag(number, path, _) => {
                (*number, path.split('.').map(|field| field.parse().unwrap_or(u32::MAX)).collect())
            }
            Self::Number(at, _) => (*at, Vec::new()),
        }
    }
}

/// A number in the header of requests that has a few small values.
fn number(requests: &[&Frame<'_>], end: usize, taken: &[Range<usize>], is_little: bool) -> Option<Candidate> {
    let codings = match is_little {
        true => [Coding::Little(2), Coding::Big(1)],
        false => [Coding::Big(2), Coding::Big(1)],
    };
    let places = (0..end).flat_map(|at| codings.map(|coding| (at, coding)));
    let free = places.filter(|(at, coding)| {
        let bytes = *at..at + coding.least_width();
        bytes.end <= end && !taken.iter().any(|other| meets(other, &bytes))
    });
    let mut found = free.filter_map(|(at, coding)| {
        let mut values = BTreeMap::<u64, usize>::new();
        for frame in requests {
            let (value, _) = coding.read(frame.bytes.get(at..)?)?;
            *values.entry(value).or_default() += 1;
            if value > LARGEST_COMMAND || values.len() > MOST_VALUES || values.len() * 2 > requests.len() {
                return None;
            }
        }
        // What is nearly always the same is a flag rather than a command.
        let most = values.values().max().copied().unwrap_or(0);
        let texts = values.keys().map(u64::to_string).collect();
        let place = Place::Number(at, coding);
        (most * 4 <= requests.len() * 3).then_some(Candidate { place, values: texts, count: requests.len() })
    });
    found.next()
}
