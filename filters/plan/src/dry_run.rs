//! Authorization that is tried out.
use std::rc::Rc;

use meltemi_codecs::{Depth, Head};

use super::{
    check::name,
    error::{Path, Result, fail},
    guard::{self, Guard},
    index::Index,
    matches::{attributes, matches},
    pattern::Patterns,
    raw,
};

/// Rules by which nothing is denied, but could be.
#[derive(Debug)]
pub struct DryRun {
    /// How far a request must be read to know.
    pub depth: Depth,
    /// Whether rules match on what the tunnel reports of a connection.
    pub asks_source: bool,
    index: Index,
    /// The name of each rule, and whether it denies.
    rules: Box<[(Rc<str>, bool)]>,
    denies_others: bool,
    guard: Guard,
}

impl DryRun {
    /// Why the call would be denied, if it would be; `head` must be read to its [`depth`](DryRun::depth).
    pub fn denies(&self, head: &Head) -> Option<String> {
        if let Some(doubt) = self.guard.doubt(head) {
            return Some(doubt);
        }
        match self.index.find(head).and_then(|rule| self.rules.get(rule)) {
            Some((name, true)) => Some(["by rule ", name].concat()),
            None if self.denies_others => Some("no rule allows it".to_owned()),
            _ => None,
        }
    }
}

pub(super) fn dry_run(path: &Path<'_>, raw: &raw::DryRun, patterns: &Patterns) -> Result<DryRun> {
    if !raw.deny_others && !raw.rules.iter().any(|rule| rule.deny) {
        return fail(path, "denies nothing; write \"deny\" of a rule or \"denyOthers\", or leave it out");
    }
    let mut rules = Vec::new();
    let mut named = Vec::new();
    let list = path.key("rules");
    for (number, raw) in raw.rules.iter().enumerate() {
        let path = &list.index(number);
        name(&path.key("name"), "the name of a rule", &raw.name)?;
        matches(&path.key("match"), raw.matches.as_deref(), number, patterns, &mut rules)?;
        named.push((Rc::from(&*raw.name), raw.deny));
    }
    let asks_source = attributes(&rules).any(guard::is_source);
    Ok(DryRun {
        depth: guard::depth(&rules),
        asks_source,
        guard: Guard::new(&rules),
        index: Index::new(rules),
        rules: named.into(),
        denies_others: raw.deny_others,
    })
}
