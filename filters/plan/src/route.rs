use core::cell::Cell;
use core::time::Duration;
use std::rc::Rc;

use meltemi_codecs::{Change, Deadlines, Depth};

use super::{
    fault::Fault,
    hash::HashKey,
    hedge::{Hedge, Latencies},
    mirror::Mirror,
    values::Value,
};

/// How long an answer may take where nobody says that: as long as Envoy waits.
pub const USUAL_TIMEOUT: Duration = Duration::from_secs(15);

/// What happens to the calls that a route takes.
#[derive(Debug)]
pub struct Route {
    /// The name in metrics and logs, unique in the service; `default` for the default route.
    pub name: String,
    /// Where the calls go.
    pub destination: Destination,
    /// How long a call may take, retries included.
    pub timeout: Option<Duration>,
    /// Whether a call may not take longer than its client says it waits, and servers are told what is left of that.
    pub propagates_deadline: bool,
    /// When and how a failed call is tried again.
    pub retry: Option<Retry>,
    /// Failures that are made on purpose.
    pub fault: Option<Box<Fault>>,
    /// By what its calls are hashed; `None` if their cluster says that.
    pub hash: Option<HashKey>,
    /// Clusters that get copies of the calls.
    pub mirrors: Box<[Mirror]>,
    /// Changes to the attachments of requests.
    pub request_edit: AttachmentEdit,
    /// Changes to the attachments of responses.
    pub response_edit: AttachmentEdit,
    /// Whether requests are kept until they are answered: for another try, or for what of them goes into the answer.
    pub keeps_requests: bool,
    /// Whether all its calls are of operations that the plan names, service and method.
    pub names_operation: bool,
    /// How long its calls took, where second tries ask for that.
    pub latencies: Latencies,
    /// How many calls it took that are not reported yet.
    pub(super) taken: Cell<u64>,
}

impl Route {
    /// Notes a call that it took, to be reported. Returns whether none was noted before.
    #[inline]
    pub fn note_call(&self) -> bool {
        let before = self.taken.get();
        self.taken.set(before.saturating_add(1));
        before == 0
    }

    /// How many calls were noted since this was last asked.
    pub fn take_calls(&self) -> u64 {
        self.taken.take()
    }

    /// Whether a request can be passed on while it comes: it is not changed, copied, nor sent again once it was,
    /// and nothing of it goes into its answer.
    /// Time that is always told can be changed at the front of a request.
    pub fn passes_requests_through(&self, deadlines: Deadlines) -> bool {
        let is_sent_once = self.retry.as_ref().is_none_or(|retry| {
            let on = &retry.on;
            !(on.reset || on.per_try_timeout || on.status)
        });
        let keeps_time = !self.propagates_deadline || deadlines == Deadlines::Always;
        let is_unchanged = self.request_edit.is_empty() && keeps_time;
        let is_used_later = !self.mirrors.is_empty() || self.response_edit.depth.is_some();
        is_sent_once && is_unchanged && !is_used_later
    }
}

/// The cluster of a call.
#[derive(Debug)]
pub enum Destination {
    /// The one that Envoy would have used: the tunnel's `x-meltemi-cluster`.
    Tunnel,
    /// This one.
    Cluster(Rc<str>),
    /// One of several, by chance.
    Weighted(Weighted),
    /// None: calls are denied, and clients get this message.
    Reject(Rc<str>),
}

impl Destination {
    /// The cluster for one call. `random` is uniform over all its values; `tunnel` is the tunnel's own cluster, and
    /// there is none to go to when the destination is that and the tunnel names none, or when calls are denied.
    #[inline]
    pub fn pick<'a>(&'a self, random: u32, tunnel: Option<&'a str>) -> Option<&'a str> {
        match self {
            Destination::Tunnel => tunnel,
            Destination::Cluster(cluster) => Some(cluster),
            Destination::Weighted(weighted) => weighted.pick(random),
            Destination::Reject(_) => None,
        }
    }
}

/// Clusters with shares.
#[derive(Debug)]
pub struct Weighted {
    /// Each cluster with the sum of the weights up to and including its own.
    clusters: Box<[(Rc<str>, u32)]>,
    total: u32,
}

impl Weighted {
    /// Clusters with their weights. `None` when the weights sum to nothing, or to more than 32 bits hold.
    pub(super) fn new<'a>(weights: impl Iterator<Item = (&'a str, u32)>) -> Option<Self> {
        let mut total = 0_u32;
        let mut clusters = Vec::new();
        for (cluster, weight) in weights {
            total = total.checked_add(weight)?;
            clusters.push((Rc::from(cluster), total));
        }
        (total > 0).then(|| Self { clusters: clusters.into(), total })
    }

    #[inline]
    fn pick(&self, random: u32) -> Option<&str> {
        // The high half of the product is uniform over 0..total.
        let point = (u64::from(random).wrapping_mul(u64::from(self.total)) >> 32) as u32;
        self.clusters.iter().find(|(_, end)| point < *end).map(|(cluster, _)| &**cluster)
    }

    /// Every cluster and its weight, in the order of the plan.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.clusters.iter().scan(0, |start: &mut u32, (cluster, end)| {
            let weight = end.saturating_sub(*start);
            *start = *end;
            Some((&**cluster, weight))
        })
    }
}

/// Changes to the attachments of a message.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AttachmentEdit {
    /// Those that are alike for all calls, in the form that [`meltemi_codecs::Edit`] borrows.
    pub changes: Vec<Change>,
    /// Those whose values are made for each call, which they have not yet.
    pub values: Vec<(Change, Value)>,
    /// How far a request must be read to make those values; `None` where nothing of it is asked for.
    pub depth: Option<Depth>,
    /// Whether the trace of the call is written too.
    pub writes_trace: bool,
}

impl AttachmentEdit {
    /// Whether nothing changes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.is_asked_for() && !self.writes_trace
    }

    /// Whether something is made for each call.
    #[inline]
    pub fn has_values(&self) -> bool {
        !self.values.is_empty() || self.writes_trace
    }

    /// Whether the plan names a change, beside that of the trace.
    #[inline]
    pub fn is_asked_for(&self) -> bool {
        !self.changes.is_empty() || !self.values.is_empty()
    }
}

/// When and how a failed call is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// How often after the first try, at least once.
    pub attempts: u32,
    /// The failures that are tried again.
    pub on: RetryOn,
    /// The response statuses that are tried again; none unless [`RetryOn::status`].
    pub statuses: Vec<u32>,
    /// How long one try may take.
    pub per_try_timeout: Option<Duration>,
    /// How long to wait before each retry.
    pub backoff: Backoff,
    /// When a second try is made beside the first.
    pub hedge: Option<Hedge>,
}

/// The failures that are tried again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection could be had: the call was not sent.
    pub connect_failure: bool,
    /// The connection was lost after the call was sent.
    pub reset: bool,
    /// The try took longer than [`Retry::per_try_timeout`].
    pub per_try_timeout: bool,
    /// The answer's status is one of [`Retry::statuses`].
    pub status: bool,
}

/// The waits between tries: random up to `base` before the first retry, up to twice that before the next, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait before the first retry.
    pub base: Duration,
    /// The longest wait before any retry.
    pub max: Duration,
}
