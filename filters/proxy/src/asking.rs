//! Calls that wait for the answer of a service before they go anywhere: asked, and gone on with, refused or cancelled.

use meltemi_codecs::Failure;

use crate::calls::{CallId, Stage};
use crate::inquiries::{AGE, Ask, Asker, ChannelId, InquiryId, Outcome};
use crate::plan::{Route, Service};
use crate::policy::{Answer, NoAnswer, Question, Verdict, admit_asked};
use crate::worker::Worker;

/// The method of rate limit services.
const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

impl Worker {
    /// Asks about a call that was read.
    #[inline(never)]
    pub(crate) fn ask(&mut self, id: CallId, question: Question) {
        let limit = &question.limit.0;
        let (cluster, timeout) = (&limit.cluster, limit.timeout);
        let message = &question.message;
        let ask = Ask { cluster, path: SHOULD_RATE_LIMIT, timeout, headers: &[], message };
        let Some(asked) = self.inquiries.ask(&ask, self.now, &mut self.net) else {
            self.judged(id, question, Err(NoAnswer::NoConnection));
            return;
        };
        let asker = Asker::Call(id, question);
        let inquiry = self.inquiries.note(asked, asker, self.now, &mut self.net);
        if let Some(call) = self.calls.get_mut(id) {
            call.ask(inquiry, self.now.after(timeout));
        }
        self.time_call(id);
        self.alarms.wake_at(Some(self.now.after(AGE)));
    }

    /// Bytes of a service came.
    #[inline(never)]
    pub(crate) fn service_data(&mut self, id: ChannelId, bytes: &[u8]) {
        let outcomes = self.inquiries.data(id, bytes, &mut self.net);
        outcomes.into_iter().for_each(|outcome| self.answered(outcome));
    }

    /// A request by HTTP was answered.
    #[inline(never)]
    pub(crate) fn responded(&mut self, id: InquiryId, status: u16, body: Vec<u8>) {
        if let Some(outcome) = self.inquiries.responded(id, status, body) {
            self.answered(outcome);
        }
    }

    /// The connection to a service is gone.
    #[inline(never)]
    pub(crate) fn service_lost(&mut self, id: ChannelId) {
        let outcomes = self.inquiries.lost(id, NoAnswer::Reset);
        outcomes.into_iter().for_each(|outcome| self.answered(outcome));
    }

    /// There is no connection to a service.
    #[inline(never)]
    pub(crate) fn service_refused(&mut self, id: ChannelId) {
        let outcomes = self.inquiries.refused(id, self.now);
        outcomes.into_iter().for_each(|outcome| self.answered(outcome));
    }

    /// The answer about a call did not come in time.
    #[inline(never)]
    pub(crate) fn answer_is_late(&mut self, id: CallId) {
        let Some(Stage::Asking { inquiry, .. }) = self.calls.get(id).map(|call| call.stage()) else { return };
        if let Some(asker) = self.inquiries.forget(inquiry, true, &mut self.net) {
            self.answered(Outcome::none(asker, NoAnswer::Deadline));
        }
    }

    /// Does what is to be done after a question.
    pub(crate) fn answered(&mut self, outcome: Outcome) {
        match outcome.asker {
            Asker::Call(id, question) => self.judged(id, question, outcome.answer),
            Asker::Spans(sent) => self.spans_answered(&sent, outcome.answer, &outcome.said),
        }
    }

    /// Does with a call what the answer about it says.
    fn judged(&mut self, id: CallId, question: Question, answer: Result<Vec<u8>, NoAnswer>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let operation = call.record().operation;
        call.settle();
        let limit = question.limit.0.clone();
        let answer = answer.and_then(|message| Answer::read(&message).ok_or(NoAnswer::Error));
        let (outcome, refusal) = match answer {
            Ok(Answer::Ok) => ("ok", None),
            Ok(Answer::OverLimit(reset)) => {
                self.policies.note_refusal(question, self.now.after(reset), self.now);
                ("over_limit", Some(&*limit.refusal))
            }
            Err(why) => (why.name(), limit.denies_on_failure.then(|| why.refusal())),
        };
        self.telemetry.limited(operation, outcome);
        match refusal {
            Some(refusal) => self.answer(id, Failure::RateLimited, refusal),
            None => self.admit_asked(id),
        }
    }

    /// Counts the request that was read last, about which the answer was known.
    #[cold]
    pub(crate) fn count_known(&mut self, service: &Service, route: &Route) {
        let names = service.codec.operation();
        let [service, method] =
            [names.service, names.method].map(|name| self.head.get(name).unwrap_or_default());
        let most = self.plan.max_operations;
        let operation = self.telemetry.operation(service, method, route.names_operation, most);
        self.telemetry.limited(operation, "cached");
    }

    /// Lets a call go on that a service let pass, as far as other policies do.
    fn admit_asked(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(id) else { return };
        match admit_asked(call.route(), &mut self.random) {
            Verdict::Wait(delay) => {
                let until = self.now.after(delay);
                call.set_deadline(call.deadline_from(until));
                self.hold(id, until);
            }
            verdict => self.let_go(id, verdict),
        }
    }
}
