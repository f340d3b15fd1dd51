//! How many calls all proxies together let pass, as a rate limit service counts them.
use core::time::Duration;
use std::rc::Rc;

use meltemi_codecs::Head;

use super::{
    check::{name, within},
    error::{Path, Result, fail},
    index::Index,
    matcher::Rule,
    matches::{attribute_name, matches},
    pattern::Patterns,
    raw,
};

/// The calls of a service about which rate limit services are asked.
#[derive(Debug)]
pub struct GlobalRateLimits {
    index: Index,
    limits: Box<[Rc<GlobalRateLimit>]>,
}

/// What a rate limit service is asked, and what becomes of calls when it does not answer.
#[derive(Debug)]
pub struct GlobalRateLimit {
    /// The cluster of the service.
    pub cluster: Rc<str>,
    /// The domain that it is asked with.
    pub domain: Box<str>,
    /// What it is asked about, at least one: each has at least one entry.
    pub descriptors: Box<[Box<[Entry]>]>,
    /// How many hits a call is, at least one.
    pub hits: u32,
    /// How long an answer may take; never zero.
    pub timeout: Duration,
    /// Whether calls are refused when there is no answer.
    pub denies_on_failure: bool,
    /// What clients are told that are over the limit.
    pub refusal: Rc<str>,
}

/// An entry of a descriptor.
#[derive(Debug)]
pub struct Entry {
    /// Its key.
    pub key: Box<str>,
    /// What is sent with it.
    pub value: EntryValue,
}

/// The value of an entry.
#[derive(Debug)]
pub enum EntryValue {
    /// That of an attribute of the call.
    Attribute(Box<str>),
    /// This.
    Literal(Box<str>),
}

impl GlobalRateLimits {
    /// The limit by which a service is asked about a call.
    #[inline]
    pub fn find(&self, head: &Head) -> Option<&Rc<GlobalRateLimit>> {
        self.limits.get(self.index.find(head)?)
    }

    /// The limits, in the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<GlobalRateLimit>> {
        self.limits.iter()
    }

    pub(super) fn rules(&self) -> &[Rule] {
        self.index.rules()
    }

    /// The attributes whose values are sent.
    pub(super) fn attributes(&self) -> impl Iterator<Item = &str> {
        let entries = self.limits.iter().flat_map(|limit| &limit.descriptors).flatten();
        entries.filter_map(|entry| match &entry.value {
            EntryValue::Attribute(name) => Some(&**name),
            EntryValue::Literal(_) => None,
        })
    }
}

/// How many descriptors one question may hold.
pub const MOST_DESCRIPTORS: usize = 64;

pub(super) fn global_rate_limits(
    path: &Path<'_>,
    raw: &[raw::GlobalRateLimit],
    patterns: &Patterns,
) -> Result<Option<GlobalRateLimits>> {
    let mut rules = Vec::new();
    let mut limits = Vec::new();
    for (number, raw) in raw.iter().enumerate() {
        let path = &path.index(number);
        matches(&path.key("match"), raw.matches.as_deref(), number, patterns, &mut rules)?;
        limits.push(Rc::new(limit(path, raw)?));
    }
    let limits: Box<[_]> = limits.into();
    Ok((!limits.is_empty()).then(|| GlobalRateLimits { index: Index::new(rules), limits }))
}

fn limit(path: &Path<'_>, raw: &raw::GlobalRateLimit) -> Result<GlobalRateLimit> {
    name(&path.key("cluster"), "the name of a cluster", &raw.cluster)?;
    if raw.domain.is_empty() {
        return fail(&path.key("domain"), "is empty; write the domain of the service's own configuration");
    }
    let descriptors = &path.key("descriptors");
    if !(1..=MOST_DESCRIPTORS).contains(&raw.descriptors.len()) {
        let message = format!("{} descriptors; write 1 to {MOST_DESCRIPTORS}", raw.descriptors.len());
        return fail(descriptors, message);
    }
    within(&path.key("hits"), raw.hits, 1, u32::MAX)?;
    let Some(timeout) = raw.timeout.limit() else {
        return fail(&path.key("timeout"), "no answer comes in no time; write at least \"1ms\"");
    };
    let each = raw.descriptors.iter().enumerate();
    Ok(GlobalRateLimit {
        cluster: raw.cluster.as_str().into(),
        domain: raw.domain.as_str().into(),
        descriptors: each.map(|(at, raw)| descriptor(&descriptors.index(at), raw)).collect::<Result<_>>()?,
        hits: raw.hits,
        timeout,
        denies_on_failure: raw.deny_on_failure,
        refusal: ["over the rate limit of the domain ", &raw.domain].concat().into(),
    })
}

fn descriptor(path: &Path<'_>, raw: &[raw::DescriptorEntry]) -> Result<Box<[Entry]>> {
    if raw.is_empty() {
        return fail(path, "has no entry; write {\"key\": ..., \"attribute\": ...}");
    }
    raw.iter().enumerate().map(|(at, raw)| entry(&path.index(at), raw)).collect()
}

fn entry(path: &Path<'_>, raw: &raw::DescriptorEntry) -> Result<Entry> {
    if raw.key.is_empty() {
        return fail(&path.key("key"), "is empty; name the key that the service's configuration has");
    }
    let value = match (&raw.attribute, &raw.value) {
        (Some(attribute), None) => {
            attribute_name(&path.key("attribute"), attribute)?;
            EntryValue::Attribute(attribute.as_str().into())
        }
        (None, Some(value)) => EntryValue::Literal(value.as_str().into()),
        _ => return fail(path, "write exactly one of \"attribute\" and \"value\""),
    };
    Ok(Entry { key: raw.key.as_str().into(), value })
}
