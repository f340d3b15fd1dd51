//! Telemetry as Envoy's metrics and log lines.
//!
//! Labels travel in the metric's name, in the form `<label>=.=<value>;.;` that Istio's `extraStatTags` and Envoy's
//! `stats_tags` turn into tags. Latencies are counters in the form of Prometheus's histograms, with the label `le`.

use std::cell::RefCell;

use meltemi_proxy::{Label, LocalReply, Metric, Sink};
use rustc_hash::FxHashMap;

use crate::host::{self, MetricKind};

/// The host's numbers of metrics; `None` where it refused one.
type MetricIds = FxHashMap<(Metric, Option<Label>), Option<u32>>;

thread_local! {
    static METRICS: RefCell<MetricIds> = RefCell::default();
}

/// The metrics and the log of the Envoy that runs this module.
pub(crate) struct Report;

impl Sink for Report {
    fn count(&mut self, metric: Metric, label: Option<&Label>, n: u64) {
        if let Some(id) = metric_id(metric, label, MetricKind::Counter) {
            host::increment_metric(id, i64::try_from(n).unwrap_or(i64::MAX));
        }
    }

    fn change(&mut self, metric: Metric, label: Option<&Label>, change: i64) {
        if let Some(id) = metric_id(metric, label, MetricKind::Gauge) {
            host::increment_metric(id, change);
        }
    }

    fn log(&mut self, reply: &LocalReply) {
        let line = serde_json::json!({
            "event": "local_reply",
            "reason": reply.reason,
            "detail": reply.detail,
            "authority": &*reply.authority,
            "service": &*reply.operation.service,
            "method": &*reply.operation.method,
            "route": reply.route,
            "cluster": reply.cluster,
            "requestId": reply.request_id,
            "peer": reply.peer.as_deref(),
            "tries": reply.tries,
            "elapsedMicros": u64::try_from(reply.elapsed.as_micros()).unwrap_or(u64::MAX),
        });
        log::warn!("meltemi: {line}");
    }
}

/// The host's number of a metric, defined when it is first needed.
fn metric_id(metric: Metric, label: Option<&Label>, kind: MetricKind) -> Option<u32> {
    METRICS.with_borrow_mut(|metrics| {
        *metrics
            .entry((metric, label.cloned()))
            .or_insert_with(|| host::define_metric(kind, &metric_name(metric, label)))
    })
}

/// The metric's name with its labels.
pub(crate) fn metric_name(metric: Metric, label: Option<&Label>) -> String {
    let mut name = String::from("meltemi.");
    if let Some(label) = label {
        push_label(&mut name, "service", &label.service);
        push_label(&mut name, "method", &label.method);
    }
    match metric {
        Metric::Responses(class) => push_label(&mut name, "class", class.name()),
        Metric::LocalReplies(reason) => push_label(&mut name, "reason", reason),
        Metric::LatencyBucket(Some(bound)) => push_label(&mut name, "le", &bound.to_string()),
        Metric::LatencyBucket(None) => push_label(&mut name, "le", "+Inf"),
        _ => {}
    }
    name.push_str(match metric {
        Metric::Requests => "requests_total",
        Metric::Responses(_) => "responses_total",
        Metric::Retries => "retries_total",
        Metric::Timeouts => "timeouts_total",
        Metric::Resets => "resets_total",
        Metric::LocalReplies(_) => "local_replies_total",
        Metric::Cancelled => "cancelled_total",
        Metric::InFlight => "in_flight",
        Metric::LatencyBucket(_) => "latency_microseconds_bucket",
        Metric::LatencySum => "latency_microseconds_sum",
        Metric::LatencyCount => "latency_microseconds_count",
        Metric::ClientConnections => "client_connections_total",
        Metric::ClientConnectionsActive => "client_connections_active",
        Metric::UpstreamConnections => "upstream_connections_total",
        Metric::UpstreamConnectFailures => "upstream_connect_failures_total",
        Metric::UpstreamConnectionsActive => "upstream_connections_active",
        Metric::DecodeErrors => "decode_errors_total",
        Metric::UnmatchedResponses => "unmatched_responses_total",
        Metric::EditsSkipped => "edits_skipped_total",
        Metric::Heartbeats => "heartbeats_total",
    });
    name
}

/// Adds a label. Its value may come from the wire: what could end it early, or is no part of a name, becomes `_`.
fn push_label(name: &mut String, label: &str, value: &str) {
    name.push_str(label);
    name.push_str("=.=");
    name.extend(
        value.chars().map(|c| if c.is_ascii_alphanumeric() || "._-$/:+".contains(c) { c } else { '_' }),
    );
    name.push_str(";.;");
}
