use meltemi_sockets::SocketId;

use crate::arena::Id;
use crate::calls::Calls;
use crate::client::ClientId;
use crate::clock::Instant;
use crate::download::Download;
use crate::endpoints::EndpointId;
use crate::intake::Intake;
use crate::net::{HIGH_WATERMARK, Net};
use crate::peers::PeerId;
use crate::policy::Bucket;
use crate::pool::PoolId;
use crate::slots::Slots;

/// Names an upstream connection.
pub(crate) type ConnectionId = Id<Connection>;

/// An upstream connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: SocketId,
    pool: PoolId,
    /// The endpoint; while connecting, the one that was named, if any.
    endpoint: Option<EndpointId>,
    /// Number of the server's workload and identity in the metrics, where Envoy reported one.
    destination: Option<PeerId>,
    stage: Stage,
    opened: Instant,
    slots: Slots,
    intake: Intake,
    /// The client that is sending a request which is written here while it comes.
    upload: Option<ClientId>,
    /// A request that was written in part will never be complete: nothing more is written.
    is_torn: bool,
    /// The answer that is passed on while it comes.
    download: Option<Download>,
    /// How far its bytes had come, both ways, when that was last looked at.
    progress: (Instant, u64),
    /// A client that this connection feeds does not read: no window is given back.
    is_blocked: bool,
    /// Too many calls on it were given up.
    is_unresponsive: bool,
}

/// The state of an upstream connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Envoy connects, to where a bucket leads if one is named; given up at that time.
    Connecting { until: Instant, bucket: Option<Bucket> },
    /// Takes calls; is to be renewed at that time, if ever. Once it is overdue, a connection to its own endpoint was asked
    /// for, and has not replaced it.
    Open { renew_at: Option<Instant>, is_overdue: bool },
    /// Takes no new calls; closed with its last answer.
    Retiring,
}

/// How a retired connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// In order.
    Close,
    /// By a reset: its server may never end its half, nor read what is queued.
    Reset,
}

impl Connection {
    /// One that Envoy is to open, as `stage` says.
    pub(crate) fn new(
        socket: SocketId,
        pool: PoolId,
        endpoint: Option<EndpointId>,
        slots: Slots,
        stage: Stage,
        now: Instant,
    ) -> Self {
        Self {
            socket,
            pool,
            endpoint,
            destination: None,
            stage,
            opened: now,
            slots,
            intake: Intake::default(),
            upload: None,
            is_torn: false,
            download: None,
            progress: (now, 0),
            is_blocked: false,
            is_unresponsive: false,
        }
    }

    #[inline]
    pub(crate) fn socket(&self) -> SocketId {
        self.socket
    }

    #[inline]
    pub(crate) fn pool(&self) -> PoolId {
        self.pool
    }

    #[inline]
    pub(crate) fn endpoint(&self) -> Option<EndpointId> {
        self.endpoint
    }

    /// Number of the server in the metrics.
    #[inline]
    pub(crate) fn destination(&self) -> Option<PeerId> {
        self.destination
    }

    #[inline]
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.stage, Stage::Connecting { .. })
    }

    /// The bucket that is to lead where Envoy connects it to.
    pub(crate) fn bucket(&self) -> Option<Bucket> {
        match self.stage {
            Stage::Connecting { bucket, .. } => bucket,
            Stage::Open { .. } | Stage::Retiring => None,
        }
    }

    /// Whether it takes calls.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open { .. })
    }

    /// When this connection next needs attention by time alone.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.stage {
            Stage::Connecting { until, .. } => Some(until),
            Stage::Open { renew_at, .. } => renew_at,
            Stage::Retiring => None,
        }
    }

    /// When it was asked for.
    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// Envoy has connected it to that endpoint. It is to be renewed at that time.
    pub(crate) fn connected(
        &mut self,
        endpoint: Option<EndpointId>,
        destination: Option<PeerId>,
        renew_at: Option<Instant>,
    ) {
        self.endpoint = endpoint;
        self.destination = destination;
        self.renew_at(renew_at);
    }

    /// An open connection stays until then at least.
    pub(crate) fn renew_at(&mut self, renew_at: Option<Instant>) {
        self.stage = Stage::Open { renew_at, is_overdue: false };
    }

    /// It was to be renewed now; looked at again at that time, if nothing has replaced it.
    pub(crate) fn overdue(&mut self, again: Instant) {
        self.stage = Stage::Open { renew_at: Some(again), is_overdue: true };
    }

    /// Takes no calls any more. Whether it did.
    pub(crate) fn retire(&mut self) -> bool {
        let was_open = self.is_open();
        if was_open {
            self.stage = Stage::Retiring;
        }
        was_open
    }

    /// How a connection ends that takes no calls any more and has none. Otherwise it does not.
    #[inline]
    pub(crate) fn farewell(&self) -> Option<Farewell> {
        // What comes for nobody is not waited for.
        let is_between =
            self.upload.is_none() && self.download.is_none_or(|download| download.is_for_nobody());
        let has_ended = self.stage == Stage::Retiring && self.slots.in_flight() == 0 && is_between;
        has_ended.then_some(if self.is_unresponsive { Farewell::Reset } else { Farewell::Close })
    }

    /// Notes that too many calls on it were given up. Whether that is news.
    pub(crate) fn note_unresponsive(&mut self) -> bool {
        !core::mem::replace(&mut self.is_unresponsive, true)
    }

    /// The calls on it.
    #[inline]
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    #[inline]
    pub(crate) fn slots_mut(&mut self) -> &mut Slots {
        &mut self.slots
    }

    /// How many calls it has in flight, if it takes one more: of `most`.
    #[inline]
    pub(crate) fn load(&self, most: usize) -> Option<usize> {
        let in_flight = self.slots.in_flight();
        let has_part = !self.intake.inbox().is_empty() || self.download.is_some();
        let is_free = self.can_write() && in_flight < most;
        (is_free && self.slots.has_room(has_part)).then_some(in_flight)
    }

    /// The same, if what is written to it leaves; where `streams` are given, if none of them is on it.
    #[inline]
    pub(crate) fn room(&self, most: usize, net: &Net, streams: Option<&Calls>) -> Option<usize> {
        let load = self.load(most).filter(|_| net.queued(self.socket) < HIGH_WATERMARK)?;
        let is_quiet = streams.is_none_or(|calls| {
            let is_stream = |id| calls.get(id).is_some_and(|call| call.stream().is_some());
            !self.slots.calls().any(is_stream)
        });
        is_quiet.then_some(load)
    }

    /// Whether frames may be written to it: no other is there in part.
    #[inline]
    pub(crate) fn can_write(&self) -> bool {
        self.upload.is_none() && !self.is_torn
    }

    /// The client whose request is written here while it comes.
    #[inline]
    pub(crate) fn upload(&self) -> Option<ClientId> {
        self.upload
    }

    pub(crate) fn set_upload(&mut self, upload: Option<ClientId>) {
        self.upload = upload;
    }

    /// The request that is written here in part will never be complete.
    pub(crate) fn tear(&mut self) {
        self.upload = None;
        self.is_torn = true;
    }

    /// The answer that is passed on while it comes.
    #[inline]
    pub(crate) fn download(&self) -> Option<Download> {
        self.download
    }

    pub(crate) fn set_download(&mut self, download: Option<Download>) {
        self.download = download;
    }

    /// Nobody waits for the rest of that answer.
    pub(crate) fn forget_download(&mut self) {
        if let Some(download) = &mut self.download {
            download.forget();
        }
    }

    /// What has come on it.
    #[inline]
    pub(crate) fn intake(&self) -> &Intake {
        &self.intake
    }

    #[inline]
    pub(crate) fn intake_mut(&mut self) -> &mut Intake {
        &mut self.intake
    }

    /// The window that is to be given back.
    #[inline]
    pub(crate) fn take_credit(&mut self) -> usize {
        if self.is_blocked { 0 } else { self.intake.take_credit() }
    }

    /// Gives no window back until [`unblock`](Self::unblock). Whether it did before.
    pub(crate) fn block(&mut self) -> bool {
        !core::mem::replace(&mut self.is_blocked, true)
    }

    /// Gives its window back again.
    pub(crate) fn unblock(&mut self) {
        self.is_blocked = false;
    }

    /// Since when its bytes have not come further, as far as was seen; `sent` is how many have left.
    pub(crate) fn stands_since(&mut self, sent: u64, now: Instant) -> Instant {
        let done = sent.saturating_add(self.intake.inbox().len() as u64);
        if self.progress.1 != done {
            self.progress = (now, done);
        }
        self.progress.0
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use meltemi_codecs::Sharing;

    use super::*;
    use crate::matching::Matching;

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    fn connection(sharing: Sharing) -> Connection {
        let slots = Slots::new(Matching::new(sharing), u64::MAX);
        let mut sockets = meltemi_sockets::Sockets::new(meltemi_sockets::Options::default());
        let target = meltemi_sockets::Target { cluster: "demo", endpoint: None, headers: &[] };
        let socket = sockets.connect(&target).unwrap();
        let stage = Stage::Connecting { until: at(100), bucket: None };
        Connection::new(socket, Id::new(0, 1), None, slots, stage, at(0))
    }

    #[test]
    fn it_is_opened_renewed_and_retired_in_that_order() {
        let mut connection = connection(Sharing::Shared);
        assert_eq!((connection.due(), connection.is_connecting()), (Some(at(100)), true));
        assert!(!connection.retire(), "it is not open");
        connection.connected(None, None, Some(at(500)));
        assert_eq!((connection.due(), connection.is_open()), (Some(at(500)), true));
        connection.overdue(at(600));
        assert_eq!(connection.due(), Some(at(600)));
        assert_eq!(connection.stage(), Stage::Open { renew_at: Some(at(600)), is_overdue: true });
        connection.renew_at(None);
        assert_eq!((connection.due(), connection.is_open()), (None, true));
        assert_eq!([connection.retire(), connection.retire()], [true, false]);
        assert_eq!((connection.due(), connection.is_open()), (None, false));
    }

    #[test]
    fn it_ends_with_its_last_call_once_it_is_retired() {
        let mut connection = connection(Sharing::Shared);
        connection.connected(None, None, None);
        let (slot, _) = connection.slots_mut().take(Id::new(0, 1)).unwrap();
        assert_eq!(connection.farewell(), None);
        connection.retire();
        assert_eq!(connection.farewell(), None, "a call waits for its answer");
        connection.slots_mut().abandon(slot);
        assert_eq!(connection.farewell(), Some(Farewell::Close));
        assert_eq!([connection.note_unresponsive(), connection.note_unresponsive()], [true, false]);
        assert_eq!(connection.farewell(), Some(Farewell::Reset));
    }

    #[test]
    fn its_load_is_what_is_in_flight_while_there_is_room() {
        let mut connection = connection(Sharing::InOrder);
        connection.connected(None, None, None);
        assert_eq!((connection.load(1), connection.load(0)), (Some(0), None));
        connection.intake_mut().inbox_mut().push(b"par");
        assert_eq!(connection.load(1), None, "what comes is no answer to a later call");
        connection.intake_mut().inbox_mut().take().unwrap();
        connection.slots_mut().take(Id::new(0, 1)).unwrap();
        assert_eq!((connection.load(2), connection.load(1)), (Some(1), None));
    }

    #[test]
    fn a_blocked_connection_keeps_its_window() {
        let mut connection = connection(Sharing::Shared);
        connection.intake_mut().came(10);
        assert_eq!([connection.block(), connection.block()], [true, false]);
        assert_eq!(connection.take_credit(), 0);
        connection.unblock();
        assert_eq!([connection.take_credit(), connection.take_credit()], [10, 0]);
    }

    #[test]
    fn it_stands_for_as_long_as_no_byte_comes_or_goes() {
        let mut connection = connection(Sharing::Shared);
        assert_eq!(connection.stands_since(0, at(5)), at(0));
        assert_eq!(connection.stands_since(3, at(6)), at(6));
        connection.intake_mut().inbox_mut().push(b"ab");
        assert_eq!(connection.stands_since(3, at(7)), at(7));
        assert_eq!(connection.stands_since(3, at(9)), at(7));
    }
}
