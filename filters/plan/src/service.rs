use core::time::Duration;
use std::rc::Rc;

use meltemi_codecs::{Codec, Depth, Head, Sharing};

use super::{
    cluster::Clusters, dry_run::DryRun, explain::Explanation, global_rate_limit::GlobalRateLimits,
    guard::Guard, index::Index, log_format::LogFormat, matcher::Rule, rate_limit::LocalRateLimit,
    route::Route, tap::Tap, tracing::Tracing,
};

/// A service: its protocol, its routes and what protects it.
pub struct Service {
    /// The authority of the tunnels that carry its connections.
    pub name: String,
    /// The protocol of its clients.
    pub codec: Rc<dyn Codec>,
    /// Where the first bytes of a connection tell its protocol: the same service in every other one that it may be.
    pub others: Option<Box<[Rc<Service>]>>,
    /// How its calls share connections.
    pub sharing: Sharing,
    /// Whether they do with those of their own client alone.
    pub is_pinned: bool,
    /// How far a request must be read for [`route`](Service::route) to determine its route.
    pub depth: Depth,
    /// Whether the attachments that say a call's trace are read beside.
    pub finds_trace: bool,
    /// Whether routes match on what the tunnel reports of a connection: the attributes that begin with `source.`.
    pub asks_source: bool,
    /// Whether routes reject calls: none passes unread.
    pub is_guarded: bool,
    /// Authorization that is tried out.
    pub dry_run: Option<Box<DryRun>>,
    /// The calls that may have a line in the log, where that is not all of them.
    pub(super) logged: Option<Box<Index>>,
    /// How their lines are written, where those have attributes of calls.
    pub log_format: Option<Rc<LogFormat>>,
    /// The calls that are told of one by one, if any are.
    pub taps: Option<Box<[Tap]>>,
    /// What happens to calls that no route matches.
    pub on_no_match: OnNoMatch,
    /// The route of those calls when it is [`OnNoMatch::Default`].
    pub default_route: Rc<Route>,
    /// How many calls this proxy lets pass.
    pub local_rate_limit: Option<Box<LocalRateLimit>>,
    /// The calls about which rate limit services are asked.
    pub global_rate_limits: Option<Box<GlobalRateLimits>>,
    /// Whether there is a rate limit of either kind.
    pub is_limited: bool,
    /// How many retries may be under way.
    pub retry_budget: RetryBudget,
    /// How long a client connection without a call in flight may stay when nothing comes or goes on it.
    pub idle_timeout: Option<Duration>,
    /// How long an open stream may be without a frame either way.
    pub stream_idle_timeout: Option<Duration>,
    /// How long a request may go on arriving, or a client reading none of its answers, without progress.
    pub frame_timeout: Option<Duration>,
    /// What one client connection may ask for.
    pub limits: Limits,
    /// How connections to the endpoints are made and kept.
    pub upstream: UpstreamOptions,
    /// What protects its clusters.
    pub clusters: Option<Box<Clusters>>,
    /// How its calls are traced, if they are.
    pub tracing: Option<Rc<Tracing>>,
    /// Whether something limits how many calls it may have in flight, or has them hashed.
    pub asks_cluster: bool,
    /// What the tables of the regular expressions in its routes take, in bytes.
    pub pattern_bytes: usize,
    pub(super) routes: Vec<Rc<Route>>,
    pub(super) index: Index,
    pub(super) guard: Guard,
}

impl Service {
    /// Whether connections of the one speak the protocol of the other.
    #[inline]
    pub fn has_protocol_of(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.codec, &other.codec)
    }

    /// Whether calls of the one may go on connections of the other.
    #[inline]
    pub fn shares_with(&self, other: &Self) -> bool {
        self.has_protocol_of(other) && (self.sharing, self.is_pinned) == (other.sharing, other.is_pinned)
    }

    /// The first route that matches the call; `head` must be read to [`depth`](Service::depth). The default route is
    /// not among them.
    #[inline]
    pub fn route(&self, head: &Head) -> Option<&Rc<Route>> {
        self.routes.get(self.index.find(head)?)
    }

    /// Whether a service in that cluster is asked about calls, or sent their spans.
    #[inline(never)]
    pub(super) fn asks(&self, cluster: &str) -> bool {
        let collector = self.tracing.as_ref().and_then(|tracing| tracing.collector.as_ref());
        let mut limits = self.global_rate_limits.iter().flat_map(|limits| limits.iter());
        collector.is_some_and(|collector| *collector.cluster == *cluster)
            || limits.any(|limit| *limit.cluster == *cluster)
    }

    /// Whether a call may have a line in the log; `head` must be read to [`depth`](Service::depth). None is of a request
    /// that is not read.
    #[inline]
    pub fn may_log(&self, head: Option<&Head>) -> bool {
        self.logged.as_ref().is_none_or(|logged| head.is_some_and(|head| logged.find(head).is_some()))
    }

    /// Why it is in doubt whether the call is to be rejected, if it is.
    #[inline]
    pub fn doubt(&self, head: &Head) -> Option<String> {
        self.guard.doubt(head)
    }

    /// Whether the front of a request is all that must be read of it before it goes on.
    pub fn is_told_by_front(&self) -> bool {
        self.depth <= Depth::Head && !self.finds_trace && !self.is_pinned && self.dry_run.is_none()
    }

    /// The routes, in the order in which they are tried.
    pub fn routes(&self) -> impl Iterator<Item = &Rc<Route>> {
        self.routes.iter()
    }

    /// The same, and the default route after them.
    pub(super) fn all_routes(&self) -> impl Iterator<Item = &Rc<Route>> {
        self.routes.iter().chain([&self.default_route])
    }

    /// Why a call takes a route: where in the service the plan says it. `head` must be read to [`depth`](Service::depth).
    #[inline(never)]
    pub fn reason(&self, route: &Rc<Route>, head: &Head) -> String {
        let Some(number) = self.routes.iter().position(|known| Rc::ptr_eq(known, route)) else {
            return "defaultRoute".to_owned();
        };
        let mut alternatives = self.index.rules().iter().filter(|rule| rule.route == number);
        let is_met = |rule: &Rule| !rule.predicates.is_empty() && rule.obstacle(head).is_none();
        match alternatives.position(is_met) {
            Some(alternative) => format!("routes[{number}].match[{alternative}]"),
            None => format!("routes[{number}]"),
        }
    }

    /// Which route matches the call, and why those before it do not.
    pub fn explain(&self, head: &Head) -> Explanation<'_> {
        Explanation::new(self, head)
    }
}

impl core::fmt::Debug for Service {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("codec", &self.codec.name())
            .field("routes", &self.routes.len())
            .finish_non_exhaustive()
    }
}

pub use super::raw::OnNoMatch;

/// How many retries may be under way: `percent` of the calls in flight, and never less than `min_retries`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryBudget {
    /// Percent of the calls in flight, at most 100.
    pub percent: u32,
    /// Allowed however few calls are in flight.
    pub min_retries: u32,
}

/// What one client connection may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest request or response, in bytes.
    pub max_frame_bytes: usize,
    /// The largest request, in bytes; at most `max_frame_bytes`.
    pub max_request_bytes: usize,
    /// What is larger is passed on while it comes, where codec and route allow that.
    pub cut_through_bytes: usize,
    /// Calls in flight.
    pub max_calls_per_connection: usize,
}

/// How connections to the endpoints are made and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamOptions {
    /// The age from which a connection takes no new call.
    pub max_connection_age: Option<Duration>,
    /// Connections that a worker keeps to one endpoint, at least one.
    pub connections_per_endpoint: usize,
    /// How long opening a connection may take; never zero.
    pub connect_timeout: Duration,
    /// Calls in flight on one connection, at least one.
    pub max_calls_per_connection: usize,
    /// How long an endpoint that refused a connection is avoided.
    pub ejection_time: Option<Duration>,
}
