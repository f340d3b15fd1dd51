//! Calls that are told of one by one, for a time.
use std::rc::Rc;

use meltemi_codecs::{Codec, Depth, Head};

use super::{
    check::{name, within},
    error::{Path, Result},
    guard::is_source,
    index::Index,
    matches::{attribute_name, attributes, matches},
    pattern::Patterns,
    raw,
    share::{Share, share},
};

/// Calls of a service that are told of one by one in the log, for a time.
#[derive(Debug)]
pub struct Tap {
    /// The name that its lines have.
    pub name: Rc<str>,
    /// Nanoseconds from the Unix epoch to when it ends.
    pub until: u64,
    /// The attributes whose values are told.
    pub attributes: Vec<Rc<str>>,
    share: Share,
    /// Default: every call.
    calls: Option<Index>,
}

/// How many taps a proxy has at a time.
const MOST: u32 = 16;

/// How many attributes one tells.
const MOST_ATTRIBUTES: u32 = 16;

impl Tap {
    /// Whether a call is told of; `head` must be read to [`depth`](super::Service::depth), and is none of a request that is
    /// not read. `random` is uniform over all its values.
    pub fn takes(&self, head: Option<&Head>, random: u32) -> bool {
        let is_meant = |calls: &Index| head.is_some_and(|head| calls.find(head).is_some());
        self.share.has(random) && self.calls.as_ref().is_none_or(is_meant)
    }
}

/// How far requests must be read for taps.
pub(super) struct Read {
    pub(super) depth: Depth,
    pub(super) asks_source: bool,
}

/// How far requests of a service must be read for its taps.
#[inline(never)]
pub(super) fn read(taps: &[Tap], codec: &dyn Codec) -> Read {
    let mut read = Read { depth: Depth::Operation, asks_source: false };
    let mut add = |name: &str| match is_source(name) {
        true => read.asks_source = true,
        false => read.depth = read.depth.max(codec.depth(name)),
    };
    for tap in taps {
        tap.attributes.iter().for_each(|name| add(name));
        tap.calls.iter().for_each(|calls| attributes(calls.rules()).for_each(&mut add));
    }
    read
}

/// The taps of a service; each service has its own, as it reads calls by its protocol.
pub(super) fn taps(path: &Path<'_>, raw: &[raw::Tap], patterns: &Patterns) -> Result<Vec<Tap>> {
    within(path, count(raw.len()), 0, MOST)?;
    let mut taps = Vec::new();
    for (number, raw) in raw.iter().enumerate() {
        taps.push(tap(&path.index(number), raw, patterns)?);
    }
    Ok(taps)
}

fn tap(path: &Path<'_>, raw: &raw::Tap, patterns: &Patterns) -> Result<Tap> {
    name(&path.key("name"), "the name of a tap", &raw.name)?;
    let mut rules = Vec::new();
    matches(&path.key("match"), raw.matches.as_deref(), 0, patterns, &mut rules)?;
    let told = path.key("attributes");
    within(&told, count(raw.attributes.len()), 0, MOST_ATTRIBUTES)?;
    let mut attributes = Vec::new();
    for (number, name) in raw.attributes.iter().enumerate() {
        attribute_name(&told.index(number), name)?;
        attributes.push(Rc::from(name.as_str()));
    }
    Ok(Tap {
        name: raw.name.as_str().into(),
        until: u64::from(raw.until).saturating_mul(1_000_000_000),
        attributes,
        share: share(&path.key("percent"), raw.percent)?,
        calls: raw.matches.is_some().then(|| Index::new(rules)),
    })
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
