mod passing;

use core::time::Duration;
use std::rc::Rc;

use meltemi_sockets::{Accept, SocketId};

use super::turns::Turns;
use crate::arena::Id;
use crate::calls::{CallId, ClientCalls};
use crate::clock::{Instant, earliest};
use crate::download::Arrival;
use crate::intake::Intake;
use crate::leaving::Stay;
use crate::matching::Matching;
use crate::net::HIGH_WATERMARK;
use crate::plan::{Plan, Service, UnknownAuthority};
use crate::pool::PoolId;
use crate::source::Source;
use crate::telemetry::OperationId;
use crate::upload::Upload;
use crate::upstream::ConnectionId;

/// Names a client connection.
pub(crate) type ClientId = Id<Client>;

/// A client connection of a service that the plan knows.
#[derive(Debug)]
pub(crate) struct Client {
    socket: SocketId,
    authority: Rc<str>,
    service: Rc<Service>,
    /// The cluster that Istio would have used: the default route.
    cluster: Option<Rc<str>>,
    /// The original destination, for clusters that go there.
    destination: Option<Rc<str>>,
    source: Rc<Source>,
    intake: Intake,
    /// The request that is passed on while it comes.
    upload: Option<Upload>,
    /// The answer that is passed on while it comes.
    arrival: Option<Box<Arrival>>,
    /// The request that has come in part: since when no [`STEP`] more of it has, and its length then.
    arriving: Option<(Instant, usize)>,
    /// Those of its last call, and mostly of the next.
    likely: (Option<PoolId>, Option<OperationId>),
    /// The calls without an answer.
    calls: ClientCalls,
    /// Their order, where answers are known by that.
    turns: Turns,
    /// Requests are not read until calls end or answers leave.
    is_paused: bool,
    /// It is to be looked at when the event is handled.
    is_listed: bool,
    /// The client sends no more.
    has_ended: bool,
    /// An upstream connection that it had for itself has ended, and so does the client.
    is_over: bool,
    stay: Stay,
    /// Upstream connections whose window waits until this client has read.
    blocked: Vec<ConnectionId>,
    /// While it has much to read: when to see whether it has, if time limits that; so many bytes of answers had been sent the
    /// last time.
    backpressure: Option<(Option<Instant>, u64)>,
    /// Since when no more bytes of answers were sent than these, as far as was seen.
    read: Option<(Instant, u64)>,
    last_active: Instant,
    /// When it is looked at, by then or before it is due.
    looked_at: Option<Instant>,
}

/// Why the time of a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// It is time to see whether it has read: so many bytes of answers had been sent the last time.
    Backpressure { sent: u64 },
    /// No more of a request has come for so long.
    Incomplete(Duration),
    /// No more of an answer has come for so long.
    Torn,
    /// It is its turn to be drained.
    Turn,
    /// It has no calls, and had none for long enough.
    Idle,
}

/// What a new plan means for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Its service has another form at most.
    Form,
    /// Its service left the plan, or changed its protocol.
    Outdated,
    /// Likewise, where calls may be denied now.
    Barred,
}

/// A client that keeps an upstream connection from being read is given up after so long: if it has read nothing in it, or
/// if others wait for their answers on that connection.
const BACKPRESSURE_TIMEOUT: Duration = Duration::from_secs(1);

/// So much more of a request is progress.
const STEP: usize = 16 * 1024;

/// Bytes of frames kept for one client over which its requests are not read.
const MOST_HELD: usize = 4 * 1024 * 1024;

impl Client {
    /// One that has just come.
    pub(crate) fn new(
        socket: SocketId,
        accept: &Accept,
        service: Rc<Service>,
        destination: Option<Rc<str>>,
        source: Source,
        now: Instant,
    ) -> Self {
        Self {
            socket,
            authority: accept.authority.as_str().into(),
            service,
            cluster: accept.cluster.as_deref().map(Rc::from),
            destination,
            source: Rc::new(source),
            intake: Intake::default(),
            upload: None,
            arrival: None,
            arriving: None,
            likely: (None, None),
            calls: ClientCalls::default(),
            turns: Turns::default(),
            is_paused: false,
            is_listed: false,
            has_ended: false,
            is_over: false,
            stay: Stay::Welcome,
            blocked: Vec::new(),
            backpressure: None,
            read: None,
            last_active: now,
            looked_at: None,
        }
    }

    #[inline]
    pub(crate) fn socket(&self) -> SocketId {
        self.socket
    }

    #[inline]
    pub(crate) fn service(&self) -> &Rc<Service> {
        &self.service
    }

    /// The cluster that Istio would have used.
    #[inline]
    pub(crate) fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// The original destination.
    #[inline]
    pub(crate) fn destination(&self) -> Option<&Rc<str>> {
        self.destination.as_ref()
    }

    #[inline]
    pub(crate) fn source(&self) -> &Rc<Source> {
        &self.source
    }

    /// Takes the form that `plan` gives its service, as long as that has the same protocol.
    pub(crate) fn follow(&mut self, plan: &Plan) -> Change {
        if let Some(service) = plan.service_like(&self.authority, &self.service) {
            self.service = service.clone();
            return Change::Form;
        }
        match plan.service(&self.authority) {
            Some(service) if service.is_guarded => Change::Barred,
            None if plan.unknown_authority == UnknownAuthority::Refuse => Change::Barred,
            _ => Change::Outdated,
        }
    }

    /// What has come of it.
    #[inline]
    pub(crate) fn intake(&self) -> &Intake {
        &self.intake
    }

    #[inline]
    pub(crate) fn intake_mut(&mut self) -> &mut Intake {
        &mut self.intake
    }

    /// Notes that so many bytes have come. Whether they can be read at once: nothing waits before them.
    #[inline]
    pub(crate) fn came(&mut self, bytes: usize, now: Instant) -> bool {
        self.intake.came(bytes);
        self.last_active = now;
        self.intake.inbox().is_empty() && !self.is_paused
    }

    /// Notes that a whole request was read.
    #[inline]
    pub(crate) fn arrived(&mut self) {
        self.arriving = None;
    }

    /// After a read: notes how long a request that has come in part takes.
    #[inline]
    pub(crate) fn note_arrival(&mut self, now: Instant) {
        let unread = self.intake.inbox().len();
        let (len, is_held) = match &self.upload {
            // What came of one that is passed on has mostly left; what has not, waits for others.
            Some(upload) => (upload.passed().saturating_add(unread).max(1), unread > 0),
            None => (unread, false),
        };
        if self.is_paused || is_held || len == 0 {
            self.arriving = None;
        } else if self.arriving.is_none_or(|(_, before)| len >= before.saturating_add(STEP)) {
            self.arriving = Some((now, len));
        }
    }

    /// The window that is to be given back: for as long as requests are read.
    #[inline]
    pub(crate) fn take_credit(&mut self) -> usize {
        let is_held = self.upload.is_some() && !self.intake.inbox().is_empty();
        if self.is_paused || is_held { 0 } else { self.intake.take_credit() }
    }

    /// The pool and the operation of its last call, and mostly of the next.
    #[inline]
    pub(crate) fn likely(&self) -> (Option<PoolId>, Option<OperationId>) {
        self.likely
    }

    /// Notes that a call begins.
    #[inline]
    pub(crate) fn begin_call(&mut self, pool: PoolId, operation: OperationId) -> &mut ClientCalls {
        self.likely = (Some(pool), Some(operation));
        &mut self.calls
    }

    /// The calls without an answer.
    #[inline]
    pub(crate) fn calls(&self) -> &ClientCalls {
        &self.calls
    }

    /// The stream with that id of its own.
    pub(crate) fn stream(&self, id: u64) -> Option<CallId> {
        self.calls.stream(id)
    }

    /// For the table of calls, which keeps it right.
    #[inline]
    pub(crate) fn calls_mut(&mut self) -> &mut ClientCalls {
        &mut self.calls
    }

    /// The calls that nobody waits for when it is gone.
    pub(crate) fn into_calls(self) -> Vec<CallId> {
        self.calls.into_ids()
    }

    /// Notes that one of its calls has ended. Whether that was the last.
    #[inline]
    pub(crate) fn end_call(&mut self, now: Instant) -> bool {
        self.last_active = now;
        self.calls.is_empty()
    }

    /// Whether another request may be read, with so many bytes of answers unsent.
    #[inline]
    pub(crate) fn has_room(&self, queued: usize) -> bool {
        // Frames of streams must be read, or those would never end.
        let has_place = !self.is_full() || self.calls.has_streams();
        has_place && !self.is_over && self.calls.held() < MOST_HELD && queued < HIGH_WATERMARK
    }

    /// Whether it has as many calls as it may have.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        let most = Matching::new(self.service.sharing).client_limit(&self.service.limits);
        self.calls.len().max(self.turns.len()) >= most
    }

    /// Whether requests wait until calls end or answers leave.
    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    #[inline]
    pub(crate) fn pause(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// Whether it is to be listed now: the end of one of its calls lets it go on, or go, and it was not listed yet.
    #[inline]
    pub(crate) fn enlist(&mut self) -> bool {
        let is_leaving = self.has_ended || self.is_over || matches!(self.stay, Stay::Draining(_));
        (self.is_paused || self.upload.is_some() || is_leaving)
            && !core::mem::replace(&mut self.is_listed, true)
    }

    /// It is looked at, and may be listed again.
    pub(crate) fn unlist(&mut self) {
        self.is_listed = false;
    }

    /// The client sends no more.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
    }

    /// An upstream connection that it had for itself has ended: no more of its requests are read.
    pub(crate) fn lose(&mut self) {
        self.is_over = true;
    }

    /// Whether it ends with an upstream connection.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether it has ended, or is to have left by now, and all is said.
    pub(crate) fn is_done(&self, now: Instant) -> bool {
        // What is passed on of a request that nobody answers any more goes first; of one that is cut off there is nothing left.
        let is_sending = self.upload.is_some_and(|upload| !self.has_ended || upload.is_open());
        let has_left = matches!(self.stay, Stay::Draining(leaves_at) if leaves_at <= now);
        let is_silent = self.calls.is_empty() && self.arrival.is_none() && !self.is_paused && !is_sending;
        (self.has_ended || has_left) && is_silent
    }

    /// Has it be drained at that time, unless that is known already.
    pub(crate) fn stay_until(&mut self, turn: Instant) {
        if self.stay == Stay::Welcome {
            self.stay = Stay::Until(turn);
        }
    }

    /// It is asked to leave, and may stay without calls until then. Whether that is news.
    pub(crate) fn drain(&mut self, leaves_at: Instant) -> bool {
        let is_news = !matches!(self.stay, Stay::Draining(_));
        if is_news {
            self.stay = Stay::Draining(leaves_at);
        }
        is_news
    }

    /// When it may be closed without calls, if it was asked to leave.
    pub(crate) fn leaves_at(&self) -> Option<Instant> {
        match self.stay {
            Stay::Draining(leaves_at) => Some(leaves_at),
            Stay::Welcome | Stay::Until(_) => None,
        }
    }

    /// Notes an upstream connection that is not read until this client has.
    pub(crate) fn block(&mut self, connection: ConnectionId) {
        self.blocked.push(connection);
    }

    /// The connections that are not read until it has.
    pub(crate) fn blocked(&self) -> &[ConnectionId] {
        &self.blocked
    }

    /// Notes that it has read: says what is to be read again.
    pub(crate) fn unblock(&mut self) -> Vec<ConnectionId> {
        self.backpressure = None;
        core::mem::take(&mut self.blocked)
    }

    /// Notes how many bytes of answers it has been sent.
    #[inline]
    pub(crate) fn note_sent(&mut self, sent: u64, now: Instant) {
        if self.read.is_none_or(|(_, before)| before != sent) {
            self.read = Some((now, sent));
        }
    }

    /// Whether it will be looked whether it reads.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched_until().is_some()
    }

    fn watched_until(&self) -> Option<Instant> {
        self.backpressure.and_then(|(until, _)| until)
    }

    /// Has it be looked at some time later whether it has read by then more than was `sent`.
    pub(crate) fn watch(&mut self, sent: u64, now: Instant) {
        // What it has for itself keeps nobody waiting.
        let time = match self.blocked.is_empty() || self.service.is_pinned {
            true => self.service.frame_timeout,
            false => Some(BACKPRESSURE_TIMEOUT),
        };
        self.backpressure = Some((time.map(|time| now.after(time)), sent));
    }

    /// Since when it has neither completed what it sends nor read what it is sent, if there `is_unsent` something. `None`
    /// if it has.
    pub(crate) fn stands_since(&self, is_unsent: bool) -> Option<Instant> {
        let read = self.read.filter(|_| is_unsent).map(|(since, _)| since);
        earliest(read, self.arriving.map(|(since, _)| since))
    }

    /// When it next needs attention by time alone.
    fn due(&self) -> Option<Instant> {
        let watched = earliest(self.watched_until(), self.arrival_due());
        earliest(watched, earliest(self.torn_due(), self.end_due()))
    }

    /// When the rest of the answer that is passed on while it comes is no longer waited for.
    fn torn_due(&self) -> Option<Instant> {
        let at = self.arrival.as_ref()?.at();
        self.service.frame_timeout.map(|timeout| at.after(timeout))
    }

    /// When what has come of a request is no longer waited for.
    fn arrival_due(&self) -> Option<Instant> {
        let (since, _) = self.arriving?;
        self.service.frame_timeout.map(|timeout| since.after(timeout))
    }

    /// When it is to leave, or has been idle for too long.
    fn end_due(&self) -> Option<Instant> {
        // While it has much to read, it is watched for that, and leaves later.
        let is_idle = self.calls.is_empty() && self.arrival.is_none() && !self.is_watched();
        let may_leave = is_idle && self.backpressure.is_none() && self.upload.is_none();
        let turn = match self.stay {
            Stay::Welcome => None,
            Stay::Until(turn) => Some(turn),
            Stay::Draining(leaves_at) => may_leave.then_some(leaves_at),
        };
        let idle = self.service.idle_timeout.filter(|_| is_idle);
        earliest(idle.map(|timeout| self.last_active.after(timeout)), turn)
    }

    /// Why its time has come, if it has.
    pub(crate) fn expiry(&self, now: Instant) -> Option<Expiry> {
        let has_come = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if let Some((Some(until), sent)) = self.backpressure
            && until <= now
        {
            return Some(Expiry::Backpressure { sent });
        }
        if has_come(self.arrival_due()) {
            return Some(Expiry::Incomplete(self.service.frame_timeout.unwrap_or_default()));
        }
        if has_come(self.torn_due()) {
            return Some(Expiry::Torn);
        }
        if !has_come(self.end_due()) {
            return None;
        }
        match self.stay {
            Stay::Until(turn) if turn <= now => Some(Expiry::Turn),
            _ => Some(Expiry::Idle),
        }
    }

    /// When it is to be looked at next, unless it is looked at before.
    #[inline]
    pub(crate) fn next_look(&mut self) -> Option<Instant> {
        let due = self.due()?;
        if self.looked_at.is_some_and(|looked_at| looked_at <= due) {
            return None;
        }
        self.looked_at = Some(due);
        self.looked_at
    }

    /// When it is looked at.
    pub(crate) fn looked_at(&self) -> Option<Instant> {
        self.looked_at
    }

    /// It is looked at now, and later only by another [`next_look`](Self::next_look).
    pub(crate) fn look(&mut self) {
        self.looked_at = None;
    }
}

#[cfg(test)]
mod tests;
