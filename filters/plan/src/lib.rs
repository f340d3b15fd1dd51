//! The plan: what the filter does with the calls of each service.
//!
//! A plan is one JSON document. [`raw`] is its shape; [`Plan::parse`] checks it and compiles it into what a call needs.
//! A plan with anything wrong in it is refused whole, with the path of the fault and what mends it.
#![forbid(unsafe_code)]
#![deny(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod actions;
mod address;
mod check;
mod cluster;
mod compile;
mod concurrency;
mod dry_run;
mod error;
mod explain;
mod fault;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod global_rate_limit;
mod guard;
mod hash;
mod hedge;
mod index;
mod json;
mod layout;
mod listed;
mod log_format;
mod map;
mod matcher;
mod matches;
mod mirror;
mod packed;
mod parsing;
mod pattern;
mod prefixes;
mod rate_limit;
pub mod raw;
mod reader;
mod route;
#[cfg(feature = "schema")]
mod schema;
mod service;
mod share;
pub mod source;
mod span;
mod steps;
mod table;
mod tap;
mod tracing;
mod values;
mod warning;

use core::time::Duration;
use std::rc::Rc;

use meltemi_codecs::Codecs;
use serde::Deserialize;

use error::Path;
use json::Json;
use map::Map;
use parsing::{at_once, pause};
use reader::Reader;

pub use cluster::{CircuitBreaker, ClusterPolicy, Clusters, OutlierDetection, SuccessRate};
pub use concurrency::AdaptiveConcurrency;
pub use dry_run::DryRun;
pub use error::{PlanError, Position};
pub use explain::{Explanation, PassedOver};
pub use fault::Fault;
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzz::{fuzz_calls, fuzz_layout, fuzz_plan};
pub use global_rate_limit::{Entry, EntryValue, GlobalRateLimit, GlobalRateLimits, MOST_DESCRIPTORS};
pub use hash::HashKey;
pub use hedge::{Hedge, Latencies};
pub use log_format::{LogField, LogForm, LogFormat, LogOperator, LogPart, escape, mend_log_format};
pub use mirror::Mirror;
pub use packed::MOST as MOST_PACKED;
pub use parsing::Parsing;
pub use pattern::MOST_TABLES;
pub use rate_limit::{LocalRateLimit, SHORTEST_INTERVAL, TokenBucket};
pub use raw::{SpanFormat, UnknownAuthority};
pub use route::{AttachmentEdit, Backoff, Destination, Retry, RetryOn, Route, USUAL_TIMEOUT, Weighted};
#[cfg(feature = "schema")]
pub use schema::schema;
pub use service::{Limits, OnNoMatch, RetryBudget, Service, UpstreamOptions};
pub use share::Share;
pub use span::Span;
pub use table::Table;
pub use tap::Tap;
pub use tracing::{
    B3, B3_FIELDS, Collector, LONGEST_TAG, TRACE_FIELDS, TRACEPARENT, TRACEPARENT_LEN, Tag, Tracing,
    tells_trace,
};
pub use values::{MOST_WRITTEN, Operator, Part, Value};
pub use warning::Warning;

/// How many bytes the table of a regular expression takes in a plan.
///
/// # Errors
///
/// It is none, has classes that name more than ASCII, or is too long or too large.
pub fn check_regex(source: &str) -> Result<usize, String> {
    pattern::Pattern::new(source).map(|pattern| pattern.bytes())
}

/// Checks a block of addresses.
///
/// # Errors
///
/// It is none: what mends it.
pub fn check_block(text: &str) -> Result<(), String> {
    address::Block::new(text).map(|_| ()).ok_or_else(|| matches::no_block(text))
}

/// Checks a value that is made for each call.
///
/// # Errors
///
/// It has an operator that is none, or too many of them: what is wrong, and what mends it.
pub fn check_value(text: &str) -> Result<(), String> {
    values::value(&Path::Root, text, "").map(|_| ()).map_err(|error| error.message)
}

/// Checks the format of lines of the log.
///
/// # Errors
///
/// It is too long, or has an operator that is none: what is wrong, and what mends it.
pub fn check_log_format(raw: &raw::AccessLog) -> Result<(), String> {
    log_format::log_format(&Path::Root, raw).map(|_| ()).map_err(|error| error.message)
}

/// Checks the name of an attribute of calls.
///
/// # Errors
///
/// It is none: what is wrong, and what mends it.
pub fn check_attribute(name: &str) -> Result<(), String> {
    matches::attribute_name(&Path::Root, name).map_err(|error| error.message)
}

/// Checks an attribute of spans in a format.
///
/// # Errors
///
/// Its name or its value is none: what is wrong, and what mends it.
pub fn check_tag(name: &str, raw: &raw::Tag, format: SpanFormat) -> Result<(), String> {
    tracing::tag(&Path::Root, name, raw, format).map(|_| ()).map_err(|error| error.message)
}

/// Checks a header for a collector of spans.
///
/// # Errors
///
/// It is none, or is the proxy's own: what is wrong, and what mends it.
pub fn check_header(name: &str, value: &str) -> Result<(), String> {
    check::header(&Path::Root, &name.to_ascii_lowercase(), value).map_err(|error| error.message)
}

/// Checks the name of a cluster.
///
/// # Errors
///
/// It is none that Envoy could have: what is wrong, and what mends it.
pub fn check_cluster(name: &str) -> Result<(), String> {
    check::name(&Path::Root, "the name of a cluster", name).map_err(|error| error.message)
}

/// Checks what clients are told.
///
/// # Errors
///
/// It is empty or too long.
pub fn check_message(text: &str) -> Result<(), String> {
    check::message(&Path::Root, Some(text), String::new).map(|_| ()).map_err(|error| error.message)
}

/// Checks a layout and makes it a codec of that name.
///
/// # Errors
///
/// The first fault that was found, with its path in the layout.
pub fn layout(name: &str, raw: &raw::Layout) -> Result<meltemi_codecs::Layout, PlanError> {
    layout::layout(&Path::Root, name, raw).map_err(|error| *error)
}

/// A plan, checked and compiled.
#[derive(Debug)]
pub struct Plan {
    /// Pairs of service and method that have metrics of their own.
    pub max_operations: usize,
    /// How calls are reported as Istio's standard metrics, if they are.
    pub istio: Option<IstioMetrics>,
    /// Which calls have a line in Envoy's log, if any have.
    pub access_log: Option<AccessLog>,
    /// Bytes that requests and answers on their way may take in one VM.
    pub memory_budget: usize,
    /// Calls that one worker has in flight.
    pub max_calls: usize,
    /// What happens to connections that no service of the plan is for.
    pub unknown_authority: UnknownAuthority,
    services: Map<Rc<Service>>,
}

/// Which calls are told of in Envoy's log, or to the loggers of its connection manager, of those that [may](Service::may_log).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Those that did not succeed.
    pub errors: bool,
    /// Those that took at least so long.
    pub slower_than: Option<Duration>,
    /// The share of them.
    pub share: Share,
    /// They have lines in Envoy's log.
    pub has_lines: bool,
    /// They have lines in files, which loggers of its connection manager write.
    pub has_files: bool,
    /// What is told of them, and how. Default: a line that is an object of JSON with all that is known.
    pub format: Option<Rc<LogFormat>>,
}

impl AccessLog {
    /// Whether a call has a line that took so long. `random` is uniform over all its values.
    #[inline]
    pub fn has(&self, failed: bool, time: Duration, random: u32) -> bool {
        let is_slow = self.slower_than.is_some_and(|least| least <= time);
        let is_any = !self.errors && self.slower_than.is_none();
        (is_any || is_slow || self.errors && failed) && self.share.has(random)
    }
}

/// How calls are reported as Istio's standard metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IstioMetrics {
    /// The status of gRPC that a service's own exception counts as.
    pub exception_status: u32,
    /// Combinations of labels that a worker reports.
    pub max_series: usize,
    /// Labels are in the names of metrics, whatever the proxy's version is.
    pub by_names: bool,
}

impl Plan {
    /// Reads a plan. `codecs` are the protocols that it may name; no input at all is a plan without services.
    ///
    /// # Errors
    ///
    /// The first fault that was found.
    pub fn parse(json: &[u8], codecs: &Codecs) -> Result<Self, PlanError> {
        let (_, plan) = Parsing::new(json.to_vec(), codecs.clone()).finish();
        plan
    }

    /// What of the taps a proxy does not have (`has`) is not looked at.
    async fn read(json: &[u8], codecs: &Codecs, has: fn(&raw::Tap) -> bool) -> Result<Self, PlanError> {
        let json = if json.trim_ascii().is_empty() { b"{}" } else { json };
        let mut json: Json<'_> = serde_json::from_slice(json)?;
        pause().await;
        let unpacked = packed::unpack(&mut json)?;
        pause().await;
        packed::put(&mut json, &unpacked)?;
        pause().await;
        let routes = listed::take(&mut json);
        let mut raw = raw::Plan::deserialize(Reader::new(&json, &Path::Root))?;
        drop(json);
        raw.taps.retain(has);
        compile::plan(&raw, &routes, codecs).await.map_err(|error| *error)
    }

    /// Checks a plan that has been read, or was made.
    ///
    /// # Errors
    ///
    /// The first fault that was found.
    pub fn compile(raw: &raw::Plan, codecs: &Codecs) -> Result<Self, PlanError> {
        at_once(compile::plan(raw, &[], codecs)).map_err(|error| *error)
    }

    /// The service of the tunnels with this authority.
    pub fn service(&self, authority: &str) -> Option<&Rc<Service>> {
        self.services.get(authority)
    }

    /// The service of the tunnels with this authority, in each protocol that its clients may speak.
    pub fn candidates(&self, authority: &str) -> impl Iterator<Item = &Rc<Service>> {
        self.service(authority)
            .into_iter()
            .flat_map(|first| [first].into_iter().chain(first.others.iter().flatten()))
    }

    /// The service of the tunnels with this authority, in the protocol of `other`.
    pub fn service_like(&self, authority: &str, other: &Service) -> Option<&Rc<Service>> {
        self.candidates(authority).find(|service| service.has_protocol_of(other))
    }

    /// The services, in the order of the document.
    pub fn services(&self) -> impl Iterator<Item = &Rc<Service>> {
        self.services.values()
    }

    /// Whether a service in that cluster is asked about calls, or sent their spans.
    #[inline(never)]
    pub fn asks(&self, cluster: &str) -> bool {
        let asks = |service: &Rc<Service>| service.asks(cluster);
        self.services().any(|first| asks(first) || first.others.iter().flatten().any(asks))
    }

    /// What works but is hardly meant.
    pub fn warnings(&self) -> Vec<Warning> {
        warning::of(self)
    }
}

#[cfg(test)]
mod tests;
