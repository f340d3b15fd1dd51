//! What a proxy has counted between two looks at it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::figures::Figures;
use crate::proxies::stats::{self, Sample};
use crate::proxies::{Proxy, ask_all};

/// What happened between two looks, by the second.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Look {
    /// By service and method.
    pub(super) methods: BTreeMap<(String, String), Figures>,
    /// Requests by service and the client's identity.
    pub(super) clients: BTreeMap<(String, String), f64>,
    /// Answers by service and the server's workload, or its identity where that is not known.
    pub(super) servers: BTreeMap<(String, String), f64>,
    /// Endpoints left out.
    pub(super) ejections: f64,
}

/// Reads the counters of one proxy.
#[derive(Debug, Default)]
pub(super) struct Meter {
    last: Option<(Instant, HashMap<Box<str>, u64>)>,
}

impl Meter {
    /// What happened since the last look, given what the proxy says now; nothing at the first.
    pub(super) fn look(&mut self, text: &str, now: Instant) -> Option<Look> {
        let mut counts = HashMap::new();
        let mut look = Look::default();
        let before = self.last.take();
        let seconds = before.as_ref().map_or(1.0, |(then, _)| now.duration_since(*then).as_secs_f64());
        for sample in stats::samples(text) {
            let then = before.as_ref().and_then(|(_, counts)| counts.get(sample.name)).copied();
            // A counter that is less than it was began anew, with its Envoy.
            let more = then.and_then(|then| sample.value.checked_sub(then)).unwrap_or(sample.value);
            look.add(&sample, more as f64 / seconds.max(0.001));
            counts.insert(sample.name.into(), sample.value);
        }
        self.last = Some((now, counts));
        before.is_some().then_some(look)
    }

    /// The proxy does not answer: what it counts until it does is not of one interval.
    pub(super) fn lost(&mut self) {
        self.last = None;
    }
}

impl Look {
    fn add(&mut self, sample: &Sample<'_>, rate: f64) {
        let label = |name| sample.label(name).to_owned();
        match sample.metric {
            "outlier_ejections_total" => self.ejections += rate,
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

/// What is known of all proxies.
#[derive(Debug)]
pub(super) struct Meters {
    proxies: Vec<Proxy>,
    meters: Vec<Meter>,
    seen: Vec<Seen>,
}

/// What is known of one.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Its name.
    pub(super) proxy: String,
    /// What it did of late.
    pub(super) look: Option<Arc<Look>>,
    /// Why it does not answer.
    pub(super) down: Option<String>,
}

/// Whether a proxy answers.
#[derive(Debug, Clone, Serialize)]
pub(super) struct State {
    pub(super) proxy: String,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) down: Option<String>,
}

/// What a look at a proxy gave.
pub(super) type Outcome = Result<Option<Look>, String>;

impl Meters {
    /// Nothing is known of them yet.
    pub(super) fn of(proxies: Vec<Proxy>) -> Self {
        let seen =
            proxies.iter().map(|proxy| Seen { proxy: proxy.name.clone(), ..Seen::default() }).collect();
        let meters = proxies.iter().map(|_| Meter::default()).collect();
        Self { proxies, meters, seen }
    }

    /// Looks at all of them.
    pub(super) async fn read(&mut self) {
        let answers =
            ask_all(&self.proxies, async |proxy| (proxy.get(stats::PATH).await, Instant::now())).await;
        for (at, (answer, now)) in answers.into_iter().enumerate() {
            let outcome = self.meters.get_mut(at).map(|meter| looked(meter, answer, now));
            if let Some(outcome) = outcome {
                self.saw(at, outcome);
            }
        }
    }

    /// The proxies, for those who look at them by themselves.
    pub(super) fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// A look at the proxy of that number gave this.
    pub(super) fn saw(&mut self, at: usize, outcome: Outcome) {
        let Some(seen) = self.seen.get_mut(at) else { return };
        match outcome {
            Ok(look) => {
                seen.down = None;
                seen.look = look.map(Arc::new);
            }
            Err(why) => {
                seen.look = None;
                seen.down = Some(why);
            }
        }
    }

    /// What is known of each.
    pub(super) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Which of them answer.
    pub(super) fn states(&self) -> Vec<State> {
        let state = |seen: &Seen| State { proxy: seen.proxy.clone(), down: seen.down.clone() };
        self.seen.iter().map(state).collect()
    }
}

/// What an answer says, in the hands of the proxy's meter.
pub(super) fn looked(meter: &mut Meter, answer: Result<String, String>, now: Instant) -> Outcome {
    match answer {
        Ok(text) => Ok(meter.look(&text, now)),
        Err(why) => {
            meter.lost();
            Err(why)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stats(requests: u64, errors: u64) -> String {
        let of = "wasmcustom.meltemi.service=.=Greeter;.;method=.=say;.;";
        format!(
            "{of}requests_total: {requests}\n\
             {of}class=.=success;.;responses_total: {}\n\
             {of}class=.=error;.;responses_total: {errors}\n\
             {of}le=.=1000;.;latency_microseconds_bucket: {requests}\n\
             {of}le=.=+Inf;.;latency_microseconds_bucket: {requests}\n\
             {of}in_flight: 4\n\
             wasmcustom.meltemi.service=.=Greeter;.;source_principal=.=td/ns/a/sa/b;.;source_requests_total: {requests}\n\
             wasmcustom.meltemi.outlier_ejections_total: {errors}\n",
            requests - errors
        )
    }

    fn figures(look: &Look) -> &Figures {
        &look.methods[&("Greeter".to_owned(), "say".to_owned())]
    }

    #[test]
    fn counts_become_rates() {
        let start = Instant::now();
        let mut meter = Meter::default();
        assert_eq!(meter.look(&stats(100, 0), start), None, "what was before is nobody's interval");
        let look = meter.look(&stats(140, 10), start + Duration::from_secs(2)).unwrap();
        assert_eq!(figures(&look).requests, 20.0);
        assert_eq!(figures(&look).success(), Some(0.75));
        assert_eq!(figures(&look).quantile(0.5), Some(500.0));
        assert_eq!(figures(&look).in_flight, 4);
        assert_eq!(look.ejections, 5.0);
        assert_eq!(look.clients.values().sum::<f64>(), 20.0);
    }

    #[test]
    fn an_envoy_that_began_anew_counts_from_nothing() {
        let start = Instant::now();
        let mut meter = Meter::default();
        meter.look(&stats(1000, 0), start);
        let look = meter.look(&stats(30, 0), start + Duration::from_secs(1)).unwrap();
        assert_eq!(figures(&look).requests, 30.0);
        // What it counts while nobody looks is not of the next interval.
        assert!(looked(&mut meter, Err("down".to_owned()), start).is_err());
        assert_eq!(meter.look(&stats(90, 0), start + Duration::from_secs(2)), None);
    }

    #[test]
    fn a_series_that_is_new_began_within_the_interval() {
        let start = Instant::now();
        let mut meter = Meter::default();
        meter.look("", start);
        let look = meter.look(&stats(8, 0), start + Duration::from_secs(4)).unwrap();
        assert_eq!(figures(&look).requests, 2.0);
    }
}
