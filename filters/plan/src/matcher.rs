use core::fmt;
use std::rc::Rc;

use meltemi_codecs::Head;

use super::{address::Block, pattern::Pattern, steps};

/// What one attribute must be.
#[derive(Debug)]
pub(super) struct Predicate {
    pub(super) attribute: Box<str>,
    pub(super) test: Test,
    pub(super) invert: bool,
}

/// A test of one value.
#[derive(Debug)]
pub(super) enum Test {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<str>),
    Regex(Rc<Pattern>),
    Range { start: i64, end: i64 },
    Address(Box<[Block]>),
    Present(bool),
}

/// The longest value that is read from end to end, in bytes. Longer ones match no test that would have to, so that a
/// route costs a microsecond at most, whatever clients send.
pub(super) const LONGEST_READ: usize = 512;

impl Predicate {
    /// Whether a call with this attribute value, or without the attribute, is meant.
    #[inline]
    pub(super) fn matches(&self, value: Option<&str>) -> bool {
        steps::take();
        self.test.passes(value) != self.invert
    }
}

impl Test {
    #[inline]
    fn passes(&self, value: Option<&str>) -> bool {
        let Some(value) = value else { return matches!(self, Test::Present(false)) };
        match self {
            Test::Exact(text) => value == &**text,
            Test::Prefix(text) => value.starts_with(&**text),
            Test::Present(present) => *present,
            _ => value.len() <= LONGEST_READ && self.accepts(value),
        }
    }

    /// Reads a value of bounded length.
    #[inline]
    fn accepts(&self, value: &str) -> bool {
        steps::read(value.len());
        match self {
            Test::Suffix(text) => value.ends_with(&**text),
            Test::Contains(text) => value.contains(&**text),
            Test::Regex(pattern) => pattern.is_match(value),
            Test::Range { start, end } => {
                value.parse::<i64>().is_ok_and(|number| (*start..*end).contains(&number))
            }
            Test::Address(blocks) => {
                value.parse().is_ok_and(|address| blocks.iter().any(|block| block.has(address)))
            }
            Test::Exact(_) | Test::Prefix(_) | Test::Present(_) => false,
        }
    }

    /// Whether the test reads values from end to end.
    pub(super) fn reads(&self) -> bool {
        !matches!(self, Test::Exact(_) | Test::Prefix(_) | Test::Present(_))
    }
}

/// As the command explains it: `exact "sayHello"`, `not prefix "x"`.
impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.invert { "not " } else { "" })?;
        match &self.test {
            Test::Exact(text) => write!(f, "exact {text:?}"),
            Test::Prefix(text) => write!(f, "prefix {text:?}"),
            Test::Suffix(text) => write!(f, "suffix {text:?}"),
            Test::Contains(text) => write!(f, "contains {text:?}"),
            Test::Regex(pattern) => write!(f, "regex {:?}", pattern.source()),
            Test::Range { start, end } => write!(f, "range {start} to {end}"),
            Test::Address(blocks) => {
                f.write_str("cidr")?;
                blocks.iter().try_for_each(|block| write!(f, " {block}"))
            }
            Test::Present(present) => write!(f, "present {present}"),
        }
    }
}

/// One alternative of a route: all its predicates together.
#[derive(Debug)]
pub(super) struct Rule {
    /// The number of the route in its service.
    pub(super) route: usize,
    /// In the order of the plan.
    pub(super) predicates: Box<[Predicate]>,
}

impl Rule {
    /// The first predicate that the call does not meet.
    pub(super) fn obstacle(&self, head: &Head) -> Option<&Predicate> {
        self.predicates.iter().find(|predicate| !predicate.matches(head.get(&predicate.attribute)))
    }

    /// Whether the call meets all predicates but the `known` ones, by bit, that it is known to meet.
    #[inline]
    pub(super) fn matches_rest(&self, mut known: u64, head: &Head) -> bool {
        self.predicates.iter().all(|predicate| {
            let met = known & 1 == 1;
            known >>= 1;
            met || predicate.matches(head.get(&predicate.attribute))
        })
    }
}
