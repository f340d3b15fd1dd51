//! Telemetry as Envoy's metrics and log lines.
//!
//! Labels travel in the metric's name, in the form `<label>=.=<value>;.;` that Istio's `extraStatTags` and Envoy's
//! `stats_tags` turn into tags. Latencies are counters in the form of Prometheus's histograms, with the label `le`.

use std::cell::{Cell, RefCell};

use meltemi_proxy::plan::{IstioMetrics, raw};
use meltemi_proxy::{Counters, Label, Labels, LocalReply, Metric, Names, Reports, Sink, Way, Workload};
use rustc_hash::FxHashMap;

use crate::host::{self, Level, MetricKind};
use crate::istio::Tags;

/// The host's numbers of metrics.
#[derive(Default)]
struct MetricIds {
    plain: Ids,
    /// Few metrics have the same labels: they are looked through, which takes no hash of a metric.
    labelled: FxHashMap<Labels, Ids>,
}

/// `None` where the host refused one.
type Ids = Vec<(Metric, Option<u32>)>;

thread_local! {
    static METRICS: RefCell<MetricIds> = RefCell::default();
    static NAMES: Names = Names::default();
    static REPORTS: Reports = new_reports();
    static HAS_CHECKED: Cell<bool> = Cell::default();
}

/// The names that the metrics of all workers of this VM share.
pub(crate) fn names() -> Names {
    NAMES.with(Names::clone)
}

/// What the workers of this VM count for reports.
pub(crate) fn reports() -> Reports {
    REPORTS.with(Reports::clone)
}

/// No counts yet. They go the way that this proxy's version knows.
fn new_reports() -> Reports {
    let reports = Reports::new(own_workload(), own_service(), host::wall_time);
    let counters = Counters { define: |name| host::define_metric(MetricKind::Counter, name), add };
    let tags = Tags::own();
    reports.with_way(tags.way(), counters, &tags.shadows())
}

/// Says once why calls are not reported, where Istio's metrics are wanted of a proxy that cannot have them.
pub(crate) fn check(wanted: Option<&IstioMetrics>) {
    if wanted.is_none_or(|wanted| wanted.by_names) || HAS_CHECKED.replace(true) {
        return;
    }
    let tags = Tags::own();
    if let (Way::Nowhere, Some(label)) = (tags.way(), tags.missing()) {
        log::warn!(
            "meltemi: Istio's metrics are not reported: before Istio 1.30 extraStatTags have to name all of their labels, and {label} is missing"
        );
    }
}

/// The workload of this proxy, as Istio's bootstrap describes it.
fn own_workload() -> Workload {
    let known = OWN.map(|names| {
        let values =
            names.iter().filter_map(|name| host::property(&["xds\0node\0metadata\0", name].concat()));
        values.map(|value| String::from_utf8_lossy(&value).into_owned()).find(|value| !value.is_empty())
    });
    Workload::parse(&known.map(Option::unwrap_or_default).join(";"))
}

/// Whether this proxy has a tap, by the pod that Istio's bootstrap describes.
pub(crate) fn has_tap(tap: &raw::Tap) -> bool {
    let label = |name: &str| own(&["LABELS\0", name].concat());
    tap.selects(own("NAME").as_deref().unwrap_or_default(), &label)
}

/// What the metadata of the node has under a path.
#[inline(never)]
pub(crate) fn own(path: &str) -> Option<String> {
    let value = host::property(&["xds\0node\0metadata\0", path].concat())?;
    Some(String::from_utf8_lossy(&value).into_owned())
}

/// What Envoy's own tracers, and Istio's, call the service that this proxy is part of.
fn own_service() -> String {
    let cluster = host::property("xds\0node\0cluster").unwrap_or_default();
    String::from_utf8(cluster).unwrap_or_default()
}

/// Where each part of a workload is in the metadata of the node: the first that is there counts.
const OWN: [&[&str]; 7] = [
    &["WORKLOAD_NAME"],
    &["NAMESPACE"],
    &[
        "LABELS\0service.istio.io/canonical-name",
        "LABELS\0app.kubernetes.io/name",
        "LABELS\0app",
        "WORKLOAD_NAME",
    ],
    &["LABELS\0service.istio.io/canonical-revision", "LABELS\0app.kubernetes.io/version", "LABELS\0version"],
    &["LABELS\0app"],
    &["LABELS\0version"],
    &["CLUSTER_ID"],
];

/// The metrics and the log of the Envoy that runs this module.
pub(crate) struct Report;

impl Sink for Report {
    fn count(&mut self, metric: Metric, labels: Option<&Labels>, n: u64) {
        if let Some(id) = metric_id(metric, labels, MetricKind::Counter) {
            add(id, n);
        }
    }

    fn change(&mut self, metric: Metric, labels: Option<&Labels>, change: i64) {
        if let Some(id) = metric_id(metric, labels, MetricKind::Gauge) {
            host::increment_metric(id, change);
        }
    }

    fn log(&mut self, reply: &LocalReply) {
        host::log(Level::Warn, &["meltemi: ", &reply.line()].concat());
    }
}

/// Adds to a counter.
fn add(id: u32, n: u64) {
    match n {
        0 => host::count_nothing(id),
        n => host::increment_metric(id, i64::try_from(n).unwrap_or(i64::MAX)),
    }
}

/// What shows which plan of a plugin is in force, by gauges that every VM sets.
#[derive(Debug)]
pub(crate) struct PlanGauges {
    digest: Option<u32>,
    refused: Option<u32>,
}

impl PlanGauges {
    pub(crate) fn of(plugin: &[u8]) -> Self {
        let mut name = String::from("meltemi.");
        push_label(&mut name, "plugin", str::from_utf8(plugin).unwrap_or_default());
        push_label(&mut name, "build", env!("CARGO_PKG_VERSION"));
        let labels = name.len();
        let mut define = |what: &str| {
            name.truncate(labels);
            name.push_str(what);
            host::define_metric(MetricKind::Gauge, &name)
        };
        Self { digest: define("plan_digest"), refused: define("plan_refused_digest") }
    }

    /// The plan of this text is in force from now on.
    pub(crate) fn take(&self, text: &[u8]) {
        set(self.digest, digest(text));
        set(self.refused, 0);
    }

    /// The plan of this text is refused: the one before stays in force.
    pub(crate) fn refuse(&self, text: &[u8]) {
        set(self.refused, digest(text));
    }
}

fn set(gauge: Option<u32>, value: u64) {
    if let Some(id) = gauge {
        host::set_gauge(id, value);
    }
}

/// FNV-1a of 32 bits. Whoever has the text can tell whether it is the one.
#[inline(never)]
fn digest(text: &[u8]) -> u64 {
    let step = |digest: u32, &byte: &u8| (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.iter().fold(0x811c_9dc5, step).into()
}

/// The host's number of a metric, defined when it is first needed.
fn metric_id(metric: Metric, labels: Option<&Labels>, kind: MetricKind) -> Option<u32> {
    METRICS.with_borrow_mut(|MetricIds { plain, labelled }| {
        let ids = match labels {
            None => plain,
            Some(labels) => match labelled.get_mut(labels) {
                Some(ids) => ids,
                None => labelled.entry(labels.clone()).or_default(),
            },
        };
        if let Some((_, id)) = ids.iter().find(|(known, _)| *known == metric) {
            return *id;
        }
        let id = host::define_metric(kind, &metric_name(metric, labels));
        ids.push((metric, id));
        id
    })
}

/// The metric's name with its labels.
pub(crate) fn metric_name(metric: Metric, labels: Option<&Labels>) -> String {
    let mut name = String::from("meltemi.");
    match labels {
        None => {}
        Some(Labels::Operation(Label { service, method })) => {
            push_label(&mut name, "service", service);
            push_label(&mut name, "method", method);
        }
        Some(Labels::Source { service, principal }) => {
            push_label(&mut name, "service", service);
            push_label(&mut name, "source_principal", principal);
        }
        Some(Labels::Destination { service, workload, principal }) => {
            push_label(&mut name, "service", service);
            push_label(&mut name, "destination_workload", workload);
            push_label(&mut name, "destination_principal", principal);
        }
        Some(Labels::Route { authority, route }) => {
            push_label(&mut name, "authority", authority);
            push_label(&mut name, "route", route);
        }
    }
    match metric {
        Metric::Responses(class) => push_label(&mut name, "class", class.name()),
        Metric::LocalReplies(reason)
        | Metric::ClientConnectionsGivenUp(reason)
        | Metric::Undetected(reason) => push_label(&mut name, "reason", reason),
        Metric::Mirrored(outcome)
        | Metric::RateLimitAnswers(outcome)
        | Metric::Spans(outcome)
        | Metric::LogEntries(outcome) => push_label(&mut name, "outcome", outcome),
        Metric::LatencyBucket(Some(bound)) => push_label(&mut name, "le", &bound.to_string()),
        Metric::LatencyBucket(None) => push_label(&mut name, "le", "+Inf"),
        _ => {}
    }
    name.push_str(match metric {
        Metric::Requests => "requests_total",
        Metric::Responses(_) => "responses_total",
        Metric::Retries => "retries_total",
        Metric::Hedges => "hedges_total",
        Metric::Delays => "delays_total",
        Metric::Timeouts => "timeouts_total",
        Metric::Resets => "resets_total",
        Metric::LocalReplies(_) => "local_replies_total",
        Metric::DryRunDenied => "dry_run_denied_total",
        Metric::Cancelled => "cancelled_total",
        Metric::Mirrored(_) => "mirrored_total",
        Metric::RateLimitAnswers(_) => "rate_limit_answers_total",
        Metric::Spans(_) => "spans_total",
        Metric::LogEntries(_) => "log_entries_total",
        Metric::InFlight => "in_flight",
        Metric::LatencyBucket(_) => "latency_microseconds_bucket",
        Metric::LatencySum => "latency_microseconds_sum",
        Metric::LatencyCount => "latency_microseconds_count",
        Metric::SourceRequests => "source_requests_total",
        Metric::DestinationRequests => "destination_requests_total",
        Metric::RouteRequests => "route_requests_total",
        Metric::ClientConnections => "client_connections_total",
        Metric::ClientConnectionsActive => "client_connections_active",
        Metric::ClientConnectionsGivenUp(_) => "client_connections_given_up_total",
        Metric::Undetected(_) => "client_connections_undetected_total",
        Metric::UpstreamConnections => "upstream_connections_total",
        Metric::UpstreamConnectFailures => "upstream_connect_failures_total",
        Metric::UpstreamConnectionsActive => "upstream_connections_active",
        Metric::DecodeErrors => "decode_errors_total",
        Metric::UnmatchedResponses => "unmatched_responses_total",
        Metric::EditsSkipped => "edits_skipped_total",
        Metric::OutlierEjections => "outlier_ejections_total",
        Metric::ConcurrencyBlocked => "concurrency_blocked_total",
        Metric::ConcurrencyLimit => "concurrency_limit",
        Metric::Heartbeats => "heartbeats_total",
    });
    name
}

/// Adds a label. Its value may come from the wire: what could end it early, or is no part of a name, becomes `_`.
fn push_label(name: &mut String, label: &str, value: &str) {
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '$' | '/' | ':' | '+');
    meltemi_proxy::push_label(name, label, value, is_plain);
}
