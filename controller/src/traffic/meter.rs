//! What a proxy has counted between two looks at it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::look::Look;
use crate::proxies::stats;
use crate::proxies::{Proxy, ask_all};

/// Reads the counters of one proxy.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    last: Option<(Instant, HashMap<Box<str>, u64>)>,
}

impl Meter {
    /// What happened since the last look, given what the proxy says now; nothing at the first.
    pub(crate) fn look(&mut self, text: &str, now: Instant) -> Option<Look> {
        let mut counts = HashMap::new();
        let mut look = Look::default();
        let before = self.last.take();
        let seconds = before.as_ref().map_or(1.0, |(then, _)| now.duration_since(*then).as_secs_f64());
        for sample in stats::samples(text) {
            let then = before.as_ref().and_then(|(_, counts)| counts.get(sample.name)).copied();
            // A counter that is less than it was began anew, with its Envoy.
            let more = then.and_then(|then| sample.value.checked_sub(then)).unwrap_or(sample.value);
            look.count(&sample, more as f64 / seconds.max(0.001));
            counts.insert(sample.name.into(), sample.value);
        }
        self.last = Some((now, counts));
        before.is_some().then_some(look)
    }

    /// The proxy does not answer: what it counts until it does is not of one interval.
    pub(crate) fn lost(&mut self) {
        self.last = None;
    }
}

/// What is known of all proxies.
#[derive(Debug)]
pub(crate) struct Meters {
    proxies: Vec<Proxy>,
    meters: Vec<Meter>,
    seen: Vec<Seen>,
}

/// What is known of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Its name.
    pub(crate) proxy: String,
    /// What it did of late.
    pub(crate) look: Option<Arc<Look>>,
    /// Why it does not answer.
    pub(crate) down: Option<String>,
}

/// Whether a proxy answers.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct State {
    pub(crate) proxy: String,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) down: Option<String>,
}

/// What a look at a proxy gave.
pub(crate) type Outcome = Result<Option<Look>, String>;

impl Meters {
    /// Nothing is known of them yet.
    pub(crate) fn of(proxies: Vec<Proxy>) -> Self {
        let seen =
            proxies.iter().map(|proxy| Seen { proxy: proxy.name.clone(), ..Seen::default() }).collect();
        let meters = proxies.iter().map(|_| Meter::default()).collect();
        Self { proxies, meters, seen }
    }

    /// Others are to be looked at from now on. Returns whether they are others; what is known of those that stay is kept.
    pub(crate) fn change_to(&mut self, proxies: Vec<Proxy>) -> bool {
        let names =
            |proxies: &[Proxy]| -> Vec<String> { proxies.iter().map(|proxy| proxy.name.clone()).collect() };
        if names(&self.proxies) == names(&proxies) {
            return false;
        }
        let before = std::mem::replace(self, Self::of(proxies));
        for seen in &mut self.seen {
            if let Some(known) = before.seen.iter().find(|known| known.proxy == seen.proxy) {
                *seen = known.clone();
            }
        }
        true
    }

    /// Looks at all of them.
    pub(crate) async fn read(&mut self) {
        let answers =
            ask_all(&self.proxies, |proxy| async move { (proxy.get(stats::QUESTION).await, Instant::now()) })
                .await;
        for (at, (answer, now)) in answers.into_iter().enumerate() {
            let outcome = self.meters.get_mut(at).map(|meter| looked(meter, answer, now));
            if let Some(outcome) = outcome {
                self.saw(at, outcome);
            }
        }
    }

    /// The proxies, for those who look at them by themselves.
    pub(crate) fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// A look at the proxy of that number gave this.
    pub(crate) fn saw(&mut self, at: usize, outcome: Outcome) {
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
    pub(crate) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Which of them answer.
    pub(crate) fn states(&self) -> Vec<State> {
        let state = |seen: &Seen| State { proxy: seen.proxy.clone(), down: seen.down.clone() };
        self.seen.iter().map(state).collect()
    }
}

/// What an answer says, in the hands of the proxy's meter.
pub(crate) fn looked(meter: &mut Meter, answer: Result<String, String>, now: Instant) -> Outcome {
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

    fn figures(look: &Look) -> &super::super::Figures {
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
