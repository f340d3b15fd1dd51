use meltemi_codecs::{Head, Search};

use super::Trace;
use crate::plan::{TRACE_FIELDS, Tracing};

/// What one worker keeps from one traced call to the next.
#[derive(Debug)]
pub(crate) struct Traces {
    /// For what requests say of theirs, in the protocol that has it found.
    search: Search<'static>,
    /// Memory of calls that have ended.
    #[expect(clippy::vec_box, reason = "calls have boxes")]
    spare: Vec<Box<Trace>>,
}

/// More than these are given back to the allocator.
const MOST_SPARE: usize = 256;

impl Default for Traces {
    fn default() -> Self {
        Self { search: Search::new(&TRACE_FIELDS), spare: Vec::new() }
    }
}

impl Traces {
    /// What requests are searched for.
    pub(crate) fn search(&mut self) -> &mut Search<'static> {
        &mut self.search
    }

    /// The trace of the request that `head` is of. One that nobody has decided on is sampled if it is of the share.
    #[inline(never)]
    pub(crate) fn read(&mut self, head: &Head, tracing: &Tracing, random: &mut fastrand::Rng) -> Box<Trace> {
        let may_say = self.search.may_be_in(head);
        let mut trace = self.spare.pop().unwrap_or_default();
        trace.begin(head, may_say, tracing, random);
        // What says nothing that is valid, some servers may read.
        let says_nothing = may_say && trace.parent().is_empty();
        if says_nothing || self.search.may_several_be_in(head) {
            trace.find_others(head);
        }
        trace
    }

    /// Takes the trace of a call that has ended. One with spans has memory of its own beside, which is not kept.
    pub(crate) fn take(&mut self, trace: Box<Trace>) {
        if self.spare.len() < MOST_SPARE && !trace.is_reported() {
            self.spare.push(trace);
        }
    }
}
