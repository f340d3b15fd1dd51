//! Policies: what is done with calls beside sending them where their route says.
//!
//! A closed set. What the plan says of one stands behind one option of a service or a route, so that calls without any pay for
//! a look. What one keeps from call to call outlives a plan: it has a name, and is dropped when no plan names it any more.
//!
//! Each moment of a call's life has one place, where a policy that has to do with it is asked or notified:
//!
//! | moment | place |
//! |---|---|
//! | it has a route, and no cluster yet | `start_call` (`start.rs`), which asks [`States::admit`] |
//! | a service has answered that was asked about it | `Worker::asked` (`asking.rs`) |
//! | its cluster is known, and may have as many as it takes | `Worker::overflow` (`start.rs`) |
//! | an endpoint is chosen: that of a connection that is open | `Worker::choose`, `Worker::choose_by_weight` (`dispatch.rs`), `Worker::choose_hashed` (`hashing.rs`) |
//! | or that of a new one, which may be named | `Worker::open_connection` (`upstream.rs`) |
//! | a try is written, with the edits of the call | `Worker::send` (`dispatch.rs`) |
//! | a try has ended, and how | `Call::end_try` (`calls/call.rs`) |
//! | its endpoint has answered, or failed to | `Worker::note_end` and `Worker::judge` (`outliers.rs`) |
//! | a try has no answer for so long | `Worker::hedge` (`hedging.rs`) |
//! | another try is wanted | `Worker::try_failed` (`dispatch.rs`) |
//! | the call has ended: its record is complete | `Worker::finish` (`reply.rs`) |

mod bucket;
mod buckets;
mod concurrency;
mod global_rate_limit;
mod mirror;
mod outlier;
mod rate_limit;
mod values;

use core::time::Duration;
use std::rc::Rc;

use meltemi_codecs::{Failure, Head};

pub use self::bucket::{Grant, Ledger, Level, OwnLedger};
pub(crate) use self::buckets::{Bucket, Buckets};
pub(crate) use self::concurrency::Concurrency;
use self::global_rate_limit::Refusals;
pub(crate) use self::global_rate_limit::{Answer, NoAnswer, Question};
use self::mirror::Mirrors;
pub(crate) use self::outlier::{Health, least_rate};
use self::rate_limit::Leases;
pub(crate) use self::values::{Origins, Sent, Values, write_text};
use crate::clock::Instant;
use crate::plan::{Plan, Route, Service};

/// What policies keep from call to call.
pub(crate) struct States {
    pub(crate) ledger: Rc<dyn Ledger>,
    leases: Leases,
    refusals: Refusals,
    pub(crate) mirrors: Mirrors,
    pub(crate) values: Values,
}

/// What becomes of a call before it goes anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes on.
    Go,
    /// It is held back for so long, and [`admit_later`] asked then.
    Wait(Duration),
    /// A service is asked, and [`admit_asked`] when that lets it pass.
    Ask(Question),
    /// A service would refuse it, as it said before.
    Known(Rc<str>),
    /// It is answered in the upstream's stead, by an error with this text.
    Answer(Failure, Rc<str>),
}

impl Default for States {
    fn default() -> Self {
        Self {
            ledger: Rc::new(OwnLedger::default()),
            leases: Leases::default(),
            refusals: Refusals::default(),
            mirrors: Mirrors::default(),
            values: Values::default(),
        }
    }
}

impl States {
    /// Asked once for each call that has a route, before a cluster is chosen. `head` is read to the service's depth.
    #[inline(never)]
    pub(crate) fn admit(
        &mut self,
        service: &Service,
        route: &Route,
        head: &Head,
        now: Instant,
        random: &mut fastrand::Rng,
    ) -> Verdict {
        if let Some(limit) = &service.local_rate_limit
            && let Some(bucket) = limit.bucket(head)
            && !self.leases.spend(bucket, &*self.ledger, now)
        {
            return Verdict::Answer(Failure::RateLimited, bucket.refusal.clone());
        }
        if let Some(limits) = &service.global_rate_limits
            && let Some(limit) = limits.find(head)
            && let Some(question) = Question::new(limit, head)
        {
            return match self.refusals.has(&question, now) {
                true => Verdict::Known(limit.refusal.clone()),
                false => Verdict::Ask(question),
            };
        }
        admit_asked(route, random)
    }

    /// Notes that a service refuses whatever asks this, until then.
    pub(crate) fn note_refusal(&mut self, question: Question, until: Instant, now: Instant) {
        self.refusals.put(question, until, now);
    }

    /// Forgets what `plan` does not name.
    pub(crate) fn set_plan(&mut self, plan: &Plan) {
        self.leases.set_plan(plan);
    }
}

/// Asked when a service let a call pass, or was not to be asked.
pub(crate) fn admit_asked(route: &Route, random: &mut fastrand::Rng) -> Verdict {
    match route.fault.as_ref().and_then(|fault| fault.delay.as_ref()) {
        Some((share, delay)) if share.has(random.u32(..)) => Verdict::Wait(*delay),
        _ => admit_later(route, random),
    }
}

/// Asked when a call was held back for the time that [`Verdict::Wait`] told.
pub(crate) fn admit_later(route: &Route, random: &mut fastrand::Rng) -> Verdict {
    match route.fault.as_ref().and_then(|fault| fault.abort.as_ref()) {
        Some((share, text)) if share.has(random.u32(..)) => Verdict::Answer(Failure::Fault, text.clone()),
        _ => Verdict::Go,
    }
}
