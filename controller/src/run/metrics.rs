//! What the controller counts, for `/metrics`.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::findings::Severity;
use crate::generate::Output;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    step: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Level {
    severity: &'static str,
}

/// What is written to the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A generated object is applied.
    Apply,
    /// A generated object is deleted.
    Delete,
    /// The status of a resource is written.
    Status,
    /// An event is written.
    Event,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Delete => "delete",
            Self::Status => "status",
            Self::Event => "event",
        }
    }
}

/// The counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    passes: Family<Outcome, Counter>,
    seconds: Family<Step, Histogram, fn() -> Histogram>,
    objects: Family<Kind, Gauge>,
    findings: Family<Level, Gauge>,
    writes: Family<Write, Counter>,
    write_errors: Family<Write, Counter>,
    leader: Gauge,
    lists: Family<Kind, Counter>,
    watch_errors: Family<Kind, Counter>,
    reviews: Family<Outcome, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 4.0, 8));
        let mut metrics = Self {
            registry: Registry::with_prefix("meltemi_controller"),
            passes: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            objects: Family::default(),
            findings: Family::default(),
            writes: Family::default(),
            write_errors: Family::default(),
            leader: Gauge::default(),
            lists: Family::default(),
            watch_errors: Family::default(),
            reviews: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("passes", "Passes over the world, by outcome", metrics.passes.clone());
        registry.register("pass_seconds", "How long the steps of a pass take", metrics.seconds.clone());
        registry.register(
            "objects",
            "Objects that are wanted in the cluster, by kind",
            metrics.objects.clone(),
        );
        registry.register(
            "findings",
            "Findings in the resources that people wrote",
            metrics.findings.clone(),
        );
        registry.register("writes", "Successful writes to the API server", metrics.writes.clone());
        registry.register(
            "write_errors",
            "Writes to the API server that failed",
            metrics.write_errors.clone(),
        );
        registry.register("leader", "1 while this replica is the one that writes", metrics.leader.clone());
        registry.register("lists", "Full lists, with which each watch starts anew", metrics.lists.clone());
        registry.register("watch_errors", "Errors of watches, by kind", metrics.watch_errors.clone());
        registry.register("reviews", "Resources reviewed by the webhook", metrics.reviews.clone());
        metrics
    }
}

impl Metrics {
    /// All of it in the text format of Prometheus.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// A pass ended.
    pub fn passed(&self, is_complete: bool) {
        let outcome = if is_complete { "complete" } else { "failed" };
        self.passes.get_or_create(&Outcome { outcome }).inc();
    }

    /// A step of a pass took so long.
    pub fn took(&self, step: &'static str, time: Duration) {
        self.seconds.get_or_create(&Step { step }).observe(time.as_secs_f64());
    }

    /// What was generated.
    pub fn generated(&self, output: &Output) {
        for kind in ["EnvoyFilter", "VirtualService", "WasmPlugin"] {
            let count = output.objects.iter().filter(|object| object.kind == kind).count();
            self.objects.get_or_create(&Kind { kind: kind.to_owned() }).set(count as i64);
        }
        let findings = || output.reports.iter().flat_map(|report| &report.findings);
        for (level, severity) in [
            (Severity::Error, "error"),
            (Severity::NotHonoured, "not_honoured"),
            (Severity::Warning, "warning"),
        ] {
            let count = findings().filter(|finding| finding.severity == level).count();
            self.findings.get_or_create(&Level { severity }).set(count as i64);
        }
    }

    /// Something was written, or could not be.
    pub fn wrote(&self, operation: Operation, is_written: bool) {
        let family = if is_written { &self.writes } else { &self.write_errors };
        family.get_or_create(&Write { operation: operation.name() }).inc();
    }

    /// Whether this replica leads now.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All objects of a kind are listed.
    pub fn listed(&self, kind: &str) {
        self.lists.get_or_create(&Kind { kind: kind.to_owned() }).inc();
    }

    /// A watch failed.
    pub fn watch_failed(&self, kind: &str) {
        self.watch_errors.get_or_create(&Kind { kind: kind.to_owned() }).inc();
    }

    /// The webhook judged a resource.
    pub fn reviewed(&self, is_allowed: bool) {
        let outcome = if is_allowed { "allowed" } else { "refused" };
        self.reviews.get_or_create(&Outcome { outcome }).inc();
    }
}
