//! Global rate limits: what a rate limit service is asked about a call, what it answers, and what is known without asking.
//!
//! The messages are `RateLimitRequest` and `RateLimitResponse` of
//! [`envoy.service.ratelimit.v3`](https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/ratelimit/v3/rls.proto).

use core::hash::Hasher;
use core::time::Duration;
use std::rc::Rc;

use meltemi_codecs::Head;
use meltemi_codecs::protobuf::{Field, Fields, enclose, write_bytes, write_entry, write_number};
use rustc_hash::FxHasher;

use crate::clock::Instant;
use crate::lines::cut;
use crate::plan::{Entry, EntryValue, GlobalRateLimit};

/// What a service is asked about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) limit: ByIdentity,
    /// The request.
    pub(crate) message: Vec<u8>,
}

/// A limit of a plan, which is itself alone.
#[derive(Debug, Clone)]
pub(crate) struct ByIdentity(pub(crate) Rc<GlobalRateLimit>);

/// What it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok,
    /// The call is over the limit, as are others that ask the same until so much later.
    OverLimit(Duration),
}

/// Why there is no answer, as the metric's label has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// No connection: there is no such cluster, it has no endpoint, or that does not accept.
    NoConnection,
    /// The connection was lost.
    Reset,
    /// None came in time.
    Deadline,
    /// What came is an error, or no answer.
    Error,
}

/// The longest value of an attribute that is sent.
const LONGEST_VALUE: usize = 1024;

impl PartialEq for ByIdentity {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ByIdentity {}

impl NoAnswer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoConnection => "no_connection",
            Self::Reset => "reset",
            Self::Deadline => "deadline",
            Self::Error => "error",
        }
    }

    /// What clients are told where that refuses their calls.
    pub(crate) fn refusal(self) -> &'static str {
        match self {
            Self::NoConnection => "the rate limit service cannot be reached",
            Self::Reset => "the connection to the rate limit service was lost",
            Self::Deadline => "the rate limit service did not answer in time",
            Self::Error => "the rate limit service answered with an error",
        }
    }
}

impl Question {
    /// The question about a call, if there is anything to ask.
    pub(super) fn new(limit: &Rc<GlobalRateLimit>, head: &Head) -> Option<Self> {
        let mut message = Vec::new();
        write_bytes(DOMAIN, limit.domain.as_bytes(), &mut message);
        let before = message.len();
        for descriptor in &limit.descriptors {
            let start = message.len();
            let is_complete = descriptor.iter().all(|entry| put(entry, head, &mut message).is_some());
            match is_complete {
                true => enclose(DESCRIPTORS, start, &mut message),
                false => message.truncate(start),
            }
        }
        if message.len() == before {
            return None;
        }
        if limit.hits != 1 {
            write_number(HITS, u64::from(limit.hits), &mut message);
        }
        Some(Self { limit: ByIdentity(limit.clone()), message })
    }
}

fn put(entry: &Entry, head: &Head, out: &mut Vec<u8>) -> Option<()> {
    let value = match &entry.value {
        EntryValue::Literal(value) => value,
        EntryValue::Attribute(name) => {
            let value = head.get(name)?;
            cut(value, LONGEST_VALUE)
        }
    };
    write_entry(1, &entry.key, value.as_bytes(), out);
    Some(())
}

/// The fields of a request.
const DOMAIN: u32 = 1;
const DESCRIPTORS: u32 = 2;
const HITS: u32 = 3;

/// The codes of an answer.
const OK: u64 = 1;
const OVER_LIMIT: u64 = 2;

impl Answer {
    /// Reads an answer; none if it is not one.
    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        let mut code = 0;
        let mut reset = Duration::ZERO;
        for field in Fields::new(message) {
            let field = field.ok()?;
            match field.number {
                1 => code = field.value.varint()?,
                // While a descriptor is over its limit, so is whatever has it.
                2 => reset = reset.max(over_for(&field)?),
                _ => {}
            }
        }
        match code {
            OK => Some(Self::Ok),
            OVER_LIMIT => Some(Self::OverLimit(reset)),
            _ => None,
        }
    }
}

/// How long the descriptor of that status is over its limit.
fn over_for(status: &Field<'_>) -> Option<Duration> {
    let mut code = 0;
    let mut reset = Duration::ZERO;
    for field in status.fields()? {
        let field = field.ok()?;
        match field.number {
            1 => code = field.value.varint()?,
            4 => reset = duration(&field)?,
            _ => {}
        }
    }
    Some(if code == OVER_LIMIT { reset } else { Duration::ZERO })
}

/// A duration; a negative one is none.
fn duration(field: &Field<'_>) -> Option<Duration> {
    let mut duration = Duration::ZERO;
    for field in field.fields()? {
        let field = field.ok()?;
        let value = i64::from_ne_bytes(field.value.varint()?.to_ne_bytes());
        let value = u64::try_from(value).unwrap_or_default();
        duration = duration.saturating_add(match field.number {
            1 => Duration::from_secs(value),
            2 => Duration::from_nanos(value),
            _ => Duration::ZERO,
        });
    }
    Some(duration)
}

/// What services said to be over a limit, for as long as they said. Each place is for whatever has its hash.
#[derive(Debug, Default)]
pub(super) struct Refusals(Vec<Option<Refusal>>);

#[derive(Debug, Clone)]
struct Refusal {
    cluster: Rc<str>,
    message: Box<[u8]>,
    until: Instant,
}

/// Places: the most that are known at a time.
const PLACES: usize = 1024;

/// The bits of a hash that say which.
const PLACE: u64 = PLACES as u64 - 1;

/// Longer questions are asked each time.
const LONGEST_KNOWN: usize = 2048;

/// An answer is known no longer: a limit that is lifted, or a service that was wrong about the time, shuts nobody out.
const LONGEST_TIME: Duration = Duration::from_secs(60);

impl Refusals {
    /// Whether the answer is known.
    pub(super) fn has(&self, question: &Question, now: Instant) -> bool {
        let known = self.0.get(place(question)).and_then(Option::as_ref);
        known.is_some_and(|known| {
            known.until > now
                && known.cluster == question.limit.0.cluster
                && *known.message == *question.message
        })
    }

    /// Notes an answer.
    pub(super) fn put(&mut self, question: Question, until: Instant, now: Instant) {
        if until <= now || question.message.len() > LONGEST_KNOWN {
            return;
        }
        let until = until.min(now.after(LONGEST_TIME));
        let at = place(&question);
        self.0.resize(PLACES, None);
        if let Some(place) = self.0.get_mut(at) {
            let cluster = question.limit.0.cluster.clone();
            *place = Some(Refusal { cluster, message: question.message.into(), until });
        }
    }
}

fn place(question: &Question) -> usize {
    let mut hasher = FxHasher::default();
    hasher.write(&question.message);
    usize::try_from(hasher.finish() & PLACE).unwrap_or_default()
}
