//! What must not be in doubt of a call that may be denied by what it says.
use meltemi_codecs::{Depth, Head};
use rustc_hash::FxHashMap;

use super::{
    matcher::{LONGEST_READ, Rule},
    matches::attributes,
    source,
};

/// The attributes by which calls are denied, as far as they may leave it in doubt whether they are to be.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// Those whose values are read from end to end.
    to_be_read: Box<[Box<str>]>,
    /// Those that a call says itself, by the lengths of their names.
    said: Box<[Box<str>]>,
    /// The lengths of those names, each as a bit: most other names have another.
    lengths: u64,
}

impl Guard {
    /// What has to be known of a call where one of `rules` may deny it.
    pub(super) fn new(rules: &[Rule]) -> Self {
        // A map as those of names are, though nothing is kept for a name: a set would be another type, and code of its own.
        let mut seen = FxHashMap::default();
        let read = rules.iter().flat_map(|rule| &rule.predicates).filter(|predicate| predicate.test.reads());
        let read = read.map(|predicate| &predicate.attribute);
        let to_be_read = read.filter(|name| seen.insert(&***name, 0_usize).is_none()).cloned().collect();
        seen.clear();
        let said = attributes(rules).filter(|name| !is_source(name) && seen.insert(name, 0).is_none());
        let mut sorted: Vec<Box<str>> = Vec::new();
        for name in said {
            let at = sorted.partition_point(|known| known.len() <= name.len());
            sorted.insert(at, name.into());
        }
        let lengths = sorted.iter().fold(0, |lengths, name| lengths | length(name));
        Self { to_be_read, said: sorted.into(), lengths }
    }

    /// Why it is in doubt what the call says, if it is.
    #[inline]
    pub(super) fn doubt(&self, head: &Head) -> Option<String> {
        if self.said.is_empty() && self.to_be_read.is_empty() { None } else { self.find_doubt(head) }
    }

    fn find_doubt(&self, head: &Head) -> Option<String> {
        let is_unread = |name: &str| head.get(name).is_some_and(|value| value.len() > LONGEST_READ);
        if let Some(name) = self.to_be_read.iter().find(|name| is_unread(name)) {
            return Some(["the attribute ", name, " is too long"].concat());
        }
        // A server that does not look at the case of names would take it for the attribute.
        let (other, name) = head.iter().find_map(|(other, _)| Some((other, self.like(other)?)))?;
        Some(["the attribute ", other, " is called like ", name, " but for its case"].concat())
    }

    /// The name that another differs from by case alone.
    fn like(&self, other: &str) -> Option<&str> {
        if self.lengths & length(other) == 0 && other.is_ascii() {
            return None;
        }
        // These are letters of ASCII in another case, to whoever knows Unicode's.
        let fold = |letter| match letter {
            '\u{212a}' => 'k',
            '\u{17f}' => 's',
            '\u{130}' | '\u{131}' => 'i',
            other => other,
        };
        let folded = (!other.is_ascii()).then(|| other.chars().map(fold).collect::<String>());
        let folded = folded.as_deref().unwrap_or(other);
        let first = self.said.partition_point(|name| name.len() < folded.len());
        let mut alike = self.said.get(first..)?.iter().take_while(|name| name.len() == folded.len());
        alike.find(|name| name.eq_ignore_ascii_case(folded) && ***name != *other).map(|name| &**name)
    }
}

/// The bit of a name's length; that of all that are longer is the last.
fn length(name: &str) -> u64 {
    1 << name.len().min(63)
}

/// Whether an attribute is one of the connection.
pub(super) fn is_source(attribute: &str) -> bool {
    attribute.starts_with(source::PREFIX)
}

/// How far calls must be read that `rules` may deny: what a call says must not be two things.
pub(super) fn depth(rules: &[Rule]) -> Depth {
    if attributes(rules).all(is_source) { Depth::Operation } else { Depth::Verified }
}
