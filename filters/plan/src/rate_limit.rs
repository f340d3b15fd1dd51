//! How many calls of a service one proxy lets pass.
use core::time::Duration;
use std::rc::Rc;

use meltemi_codecs::Head;

use super::{
    check::within,
    error::{Path, Result, fail},
    index::Index,
    matcher::Rule,
    matches::matches,
    pattern::Patterns,
    raw,
};

/// The token buckets of a service.
#[derive(Debug)]
pub struct LocalRateLimit {
    conditions: Index,
    /// The bucket of each condition, in their order.
    own: Box<[TokenBucket]>,
    /// That of the calls that no condition matches.
    other: Option<TokenBucket>,
}

/// How a bucket is filled, and which it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenBucket {
    /// Names the bucket in this proxy. Another plan that says the same of it means the same bucket.
    pub name: Rc<str>,
    /// The most that it holds, at least one.
    pub max_tokens: u32,
    /// How many are added each time, at least one.
    pub tokens_per_fill: u32,
    /// How often that is, never zero.
    pub fill_interval: Duration,
    /// What clients are told when it is empty.
    pub refusal: Rc<str>,
}

impl LocalRateLimit {
    /// The bucket that a call takes a token of.
    #[inline]
    pub fn bucket(&self, head: &Head) -> Option<&TokenBucket> {
        match self.conditions.find(head) {
            Some(condition) => self.own.get(condition),
            None => self.other.as_ref(),
        }
    }

    /// All its buckets.
    pub fn buckets(&self) -> impl Iterator<Item = &TokenBucket> {
        self.own.iter().chain(&self.other)
    }

    pub(super) fn rules(&self) -> &[Rule] {
        self.conditions.rules()
    }
}

/// As often as Envoy's own rate limits are filled at most.
pub const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);

pub(super) fn local_rate_limit(
    path: &Path<'_>,
    raw: &raw::LocalRateLimit,
    authority: &str,
    patterns: &Patterns,
) -> Result<LocalRateLimit> {
    if raw.conditions.is_empty() && raw.token_bucket.is_none() {
        return fail(path, "limits nothing; write \"tokenBucket\" or \"conditions\", or leave it out");
    }
    let mut rules = Vec::new();
    let mut own = Vec::new();
    let conditions = path.key("conditions");
    for (number, raw) in raw.conditions.iter().enumerate() {
        let path = &conditions.index(number);
        matches(&path.key("match"), raw.matches.as_deref(), number, patterns, &mut rules)?;
        let place = format!("{authority}/{number}");
        own.push(bucket(&path.key("tokenBucket"), &raw.token_bucket, &place)?);
    }
    let other = raw.token_bucket.as_ref().map(|raw| bucket(&path.key("tokenBucket"), raw, authority));
    Ok(LocalRateLimit { conditions: Index::new(rules), own: own.into(), other: other.transpose()? })
}

fn bucket(path: &Path<'_>, raw: &raw::TokenBucket, place: &str) -> Result<TokenBucket> {
    within(&path.key("maxTokens"), raw.max_tokens, 1, u32::MAX)?;
    within(&path.key("tokensPerFill"), raw.tokens_per_fill, 1, u32::MAX)?;
    let fill_interval = raw.fill_interval.duration();
    if fill_interval < SHORTEST_INTERVAL {
        let message = format!("{} is too short; write at least \"50ms\"", raw.fill_interval);
        return fail(&path.key("fillInterval"), message);
    }
    let raw::TokenBucket { max_tokens, tokens_per_fill, .. } = *raw;
    let name = format!("{place} {max_tokens} {tokens_per_fill} {}", raw.fill_interval).into();
    let refusal = format!("over the rate limit of {tokens_per_fill} calls in {}", raw.fill_interval).into();
    Ok(TokenBucket { name, max_tokens, tokens_per_fill, fill_interval, refusal })
}
