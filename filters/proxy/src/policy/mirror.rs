//! Mirrors: copies of calls go to other clusters, as calls of the proxy's own.
//!
//! Nothing that becomes of a copy reaches the call. Copies have pools of their own, and so take no connection, slot or turn
//! from calls; their answers go nowhere; and what they keep is bounded by a part of the memory budget.

use std::rc::Rc;

use meltemi_codecs::{Frame, Kind};

use crate::budget::CALL;
use crate::calls::{CallId, Origin, Record};
use crate::plan::{Destination, Mirror, Route, Service};
use crate::source::Source;
use crate::start::{Routed, Start};
use crate::telemetry::OperationId;
use crate::upstream::ConnectionId;
use crate::worker::Worker;

/// What copies keep beside calls and what is queued for servers.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    /// Memory of answers that are not complete.
    unread: usize,
}

/// The part of the memory budget that copies may take.
const SHARE: usize = 8;

impl Mirrors {
    /// Notes how the memory of what was not read has changed by a connection for copies.
    pub(crate) fn read(&mut self, before: usize, after: usize) {
        self.unread = self.unread.saturating_add(after).saturating_sub(before);
    }
}

impl Worker {
    /// Sends copies of the request that was read last, and that no policy answers, to the mirrors of its route. Streams are
    /// not copied.
    #[inline(never)]
    pub(crate) fn mirror(
        &mut self,
        service: &Rc<Service>,
        route: &Route,
        source: Option<&Rc<Source>>,
        operation: OperationId,
        bytes: &[u8],
        frame: Frame,
    ) {
        if !matches!(frame.kind, Kind::Request | Kind::OneWay) {
            return;
        }
        for Mirror { share, route } in &route.mirrors {
            if !share.has(self.random.u32(..)) {
                continue;
            }
            let Destination::Cluster(cluster) = &route.destination else { continue };
            if !self.has_room_for_copy(bytes.len()) {
                self.telemetry.drop_copy(operation);
                continue;
            }
            self.telemetry.begin_copy(operation);
            let pool = self.pools.find_mirror(service, cluster, self.now);
            let record = Record::new(service.clone(), source.cloned(), operation, frame, self.now);
            let trace = self.trace.as_ref().map(|trace| trace.copy(&mut self.random));
            let record = Record { trace, ..record };
            let routed = Routed { route: route.clone(), pool, bytes, head: 0, bucket: None };
            self.begin(Origin::Proxy, record, routed, Start::Now);
        }
    }

    /// The same for a call that was held back and goes on.
    #[inline(never)]
    pub(crate) fn mirror_held(&mut self, id: CallId) {
        let Some(call) = self.calls.get(id).filter(|call| !call.record().is_stream) else { return };
        let (route, bytes, record) = (call.route().clone(), call.frame().clone(), call.record());
        let kind = if record.is_one_way { Kind::OneWay } else { Kind::Request };
        let frame = Frame { len: record.request_bytes as usize, head: 0, kind, id: record.request_id };
        let (service, source, operation) = (record.service.clone(), record.source.clone(), record.operation);
        self.trace = record.trace.as_ref().map(|trace| trace.copy(&mut self.random));
        // Other requests have been read since.
        let _ = service.codec.head(&bytes, service.depth, &mut self.head);
        self.mirror(&service, &route, source.as_ref(), operation, &bytes, frame);
        self.trace = None;
    }

    /// Whether a copy of so many bytes may be made: not while calls are short of memory, nor when time cannot end it.
    fn has_room_for_copy(&mut self, bytes: usize) -> bool {
        let wanted = self.kept_by_mirrors().saturating_add(CALL).saturating_add(bytes);
        self.net.is_open() && self.most_for_calls.is_none() && wanted <= self.most_for_mirrors()
    }

    /// Gives up a connection for copies whose answers take more than all copies may.
    pub(crate) fn limit_mirror(&mut self, key: ConnectionId) {
        if self.kept_by_mirrors() > self.most_for_mirrors() {
            self.give_up_connection(key, "the copies of calls take too much memory");
        }
    }

    fn kept_by_mirrors(&mut self) -> usize {
        let calls = self.calls.own().saturating_mul(CALL).saturating_add(self.calls.own_held());
        calls.saturating_add(self.policies.mirrors.unread).saturating_add(self.net.counted_apart())
    }

    fn most_for_mirrors(&self) -> usize {
        self.share.part(self.plan.memory_budget).checked_div(SHARE).unwrap_or_default()
    }
}
