use std::collections::BTreeMap;

use super::figures::Figures;
use crate::proxies::stats::Sample;

/// What happened between two looks, by the second.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Look {
    /// By service and method.
    pub(crate) methods: BTreeMap<(String, String), Figures>,
    /// Requests by service and the client's identity.
    pub(crate) clients: BTreeMap<(String, String), f64>,
    /// Answers by service and the server's workload, or its identity where that is not known.
    pub(crate) servers: BTreeMap<(String, String), f64>,
    /// Calls by the managed service and the route that took them.
    pub(crate) routes: BTreeMap<(String, String), f64>,
    /// Endpoints left out.
    pub(crate) ejections: f64,
}

impl Look {
    /// What happened elsewhere too, but for the calls of services that are to be left out; who calls those is told all the
    /// same.
    pub(crate) fn add(&mut self, other: &Self, is_left_out: impl Fn(&String) -> bool) {
        for (key, figures) in other.methods.iter().filter(|((service, _), _)| !is_left_out(service)) {
            self.methods.entry(key.clone()).or_default().add(figures);
        }
        for (sums, others) in [
            (&mut self.clients, &other.clients),
            (&mut self.servers, &other.servers),
            (&mut self.routes, &other.routes),
        ] {
            others.iter().for_each(|(key, rate)| *sums.entry(key.clone()).or_default() += rate);
        }
        self.ejections += other.ejections;
    }

    /// Counts what a sample has more by the second.
    pub(super) fn count(&mut self, sample: &Sample<'_>, rate: f64) {
        let label = |name| sample.label(name).to_owned();
        match sample.metric {
            "outlier_ejections_total" => self.ejections += rate,
            "route_requests_total" => {
                *self.routes.entry((label("authority"), label("route"))).or_default() += rate;
            }
            "source_requests_total" => {
                *self.clients.entry((label("service"), label("source_principal"))).or_default() += rate;
            }
            "destination_requests_total" => {
                let workload = Some(sample.label("destination_workload")).filter(|name| *name != "-");
                let server = workload.unwrap_or_else(|| sample.label("destination_principal"));
                *self.servers.entry((label("service"), server.to_owned())).or_default() += rate;
            }
            metric => {
                let add: fn(&mut Figures, &Sample<'_>, f64) = match metric {
                    "requests_total" => |figures, _, rate| figures.requests += rate,
                    "responses_total" => |figures, sample, rate| {
                        figures.answers += rate;
                        figures.successes += if sample.label("class") == "success" { rate } else { 0.0 };
                    },
                    "local_replies_total" => |figures, _, rate| figures.answers += rate,
                    "retries_total" => |figures, _, rate| figures.retries += rate,
                    "in_flight" => |figures, sample, _| figures.in_flight += sample.value,
                    "latency_microseconds_bucket" => |figures, sample, rate| {
                        figures.took(sample.label("le").parse().ok(), rate);
                    },
                    _ => return,
                };
                add(self.methods.entry((label("service"), label("method"))).or_default(), sample, rate);
            }
        }
    }
}
