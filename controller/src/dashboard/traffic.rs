//! What the page is told of calls.

use std::collections::BTreeMap;

use serde::Serialize;

use super::history::{History, Tick};
use crate::top::{By, Column, Row, View};
use crate::traffic::{Figures, Look, Seen, State};

/// How many looks the small pictures have.
const LATELY: usize = 100;

/// The first sight: all services, and who calls whom.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Overview {
    interval_seconds: f64,
    times: Vec<u64>,
    proxies: Vec<State>,
    /// Why there may be others than these.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    services: Vec<Service>,
    clients: Vec<Row>,
    servers: Vec<Row>,
    retries_per_second: f64,
    ejections_per_second: f64,
    /// How many series had no room.
    left_out: usize,
}

/// A service, and its requests a second as time went by.
#[derive(Debug, Serialize)]
struct Service {
    #[serde(flatten)]
    row: Row,
    requests: Vec<f64>,
}

/// One service as time went by.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detail {
    times: Vec<u64>,
    requests: Vec<f64>,
    failures: Vec<f64>,
    retries: Vec<f64>,
    p50_micros: Vec<Option<f64>>,
    p95_micros: Vec<Option<f64>>,
    p99_micros: Vec<Option<f64>>,
    /// Upper bounds of the rows of the heat map in microseconds; the last row has none.
    bounds: Vec<u64>,
    /// Answers a second, by time and then by bound.
    heat: Vec<Vec<f64>>,
    /// Answers a second of each server.
    servers: BTreeMap<String, Vec<f64>>,
    methods: Vec<Row>,
    clients: Vec<Row>,
}

/// Calls a second of a managed service's routes, by name.
pub(super) type RouteRates = BTreeMap<String, f64>;

impl History {
    pub(super) fn overview(&self) -> Overview {
        let last = self.last();
        let mut services = Vec::new();
        for row in rows(&last, By::Services, None) {
            let name = row.service.clone().unwrap_or_default();
            services.push(Service { requests: self.lately(&name), row });
        }
        let state = |seen: &Seen| State { proxy: seen.proxy.clone(), down: seen.down.clone() };
        Overview {
            interval_seconds: self.interval.as_secs_f64(),
            times: self.times(),
            proxies: self.seen.iter().map(state).collect(),
            trouble: self.trouble.clone(),
            services,
            clients: rows(&last, By::Clients, None),
            servers: rows(&last, By::Versions, None),
            retries_per_second: self
                .ticks
                .back()
                .map_or(0.0, |tick| tick.look.methods.values().map(|figures| figures.retries).sum()),
            ejections_per_second: self.ticks.back().map_or(0.0, |tick| tick.look.ejections),
            left_out: self.ticks.back().map_or(0, |tick| tick.look.left_out),
        }
    }

    /// What is known of a service; `None` if no call named it.
    pub(super) fn detail(&self, service: &str) -> Option<Detail> {
        let last = self.last();
        let methods = rows(&last, By::Methods, Some(service));
        if methods.is_empty() {
            return None;
        }
        let mut servers: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (at, tick) in self.ticks.iter().enumerate() {
            for (server, rate) in tick.look.servers_of(service) {
                let rates = servers.entry(server.clone()).or_insert_with(|| vec![0.0; self.ticks.len()]);
                rates.get_mut(at).into_iter().for_each(|known| *known += rate);
            }
        }
        let quantile = |share| self.series(|look| of(look, service).quantile(share));
        let all: Vec<Figures> = self.series(|look| of(look, service));
        let bounds = all.iter().map(Figures::bounds).max_by_key(Vec::len).unwrap_or_default();
        Some(Detail {
            times: self.times(),
            requests: all.iter().map(|figures| figures.requests).collect(),
            failures: all.iter().map(|figures| (figures.answers - figures.successes).max(0.0)).collect(),
            retries: all.iter().map(|figures| figures.retries).collect(),
            p50_micros: quantile(0.5),
            p95_micros: quantile(0.95),
            p99_micros: quantile(0.99),
            heat: all.iter().map(|figures| figures.heat(&bounds)).collect(),
            bounds,
            servers,
            methods,
            clients: rows(&last, By::Clients, Some(service)),
        })
    }

    /// Calls a second by route, of a managed service.
    pub(super) fn routes(&self, authority: &str) -> RouteRates {
        let routes = self.ticks.back().into_iter().flat_map(|tick| &tick.look.routes);
        let own = routes.filter(|((known, _), _)| known == authority);
        own.map(|((_, route), rate)| (route.clone(), *rate)).collect()
    }

    /// Requests a second of a service, as few digits as a small picture needs: there may be many.
    fn lately(&self, service: &str) -> Vec<f64> {
        let ticks = self.ticks.iter().skip(self.ticks.len().saturating_sub(LATELY));
        let requests = |look: &Look| look.methods_of(service).map(|figures| figures.requests).sum::<f64>();
        ticks.map(|tick| (requests(&tick.look) * 10.0).round() / 10.0).collect()
    }

    fn last(&self) -> Vec<Seen> {
        let look = self.ticks.back().map(|tick| tick.look.clone().into());
        vec![Seen { look, ..Seen::default() }]
    }

    fn times(&self) -> Vec<u64> {
        self.ticks.iter().map(|tick| tick.at).collect()
    }

    fn series<T>(&self, of: impl Fn(&Look) -> T) -> Vec<T> {
        self.ticks.iter().map(|Tick { look, .. }| of(look)).collect()
    }
}

/// The lines of `meltemi top`.
fn rows(seen: &[Seen], by: By, service: Option<&str>) -> Vec<Row> {
    View::of(by, Column::Requests, service).table(seen).rows
}

/// All calls of a service.
fn of(look: &Look, service: &str) -> Figures {
    let mut sum = Figures::default();
    look.methods_of(service).for_each(|figures| sum.add(figures));
    sum
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn seen(requests: f64) -> Seen {
        let mut look = Look::default();
        let mut figures = Figures::default();
        (figures.requests, figures.answers, figures.successes) = (requests, requests, requests / 2.0);
        for (bound, answers) in [(Some(100), 0.0), (Some(1000), requests / 4.0), (None, requests)] {
            figures.took(bound, answers);
        }
        look.methods.insert(("Greeter".to_owned(), "say".to_owned()), figures);
        look.servers.insert(("Greeter".to_owned(), format!("v{requests}")), requests);
        look.routes.insert(("demo:1".to_owned(), "canary".to_owned()), requests);
        Seen { proxy: "a".to_owned(), look: Some(look.into()), down: None }
    }

    #[test]
    fn thousands_of_services_are_told_at_once() {
        let mut look = Look::default();
        for service in 0..2000 {
            let key = (format!("org.example.Service{service}"), "say".to_owned());
            look.methods.entry(key).or_default().requests = 1.0;
        }
        let seen = Seen { proxy: "a".to_owned(), look: Some(look.into()), down: None };
        let mut history = History::new(Duration::from_secs(5));
        (0..LATELY).for_each(|_| history.tick(std::slice::from_ref(&seen)));
        let start = Instant::now();
        let overview = history.overview();
        assert_eq!(overview.services.len(), 2000);
        // A second on a busy machine; looks at all methods for each service would take a minute.
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    }

    #[test]
    fn a_service_is_told_as_time_went_by() {
        let mut history = History::new(Duration::from_secs(2));
        history.tick(&[seen(4.0)]);
        history.tick(&[seen(8.0)]);
        let overview = history.overview();
        assert_eq!((overview.services.len(), &overview.services[0].requests), (1, &vec![4.0, 8.0]));
        let detail = history.detail("Greeter").unwrap();
        assert_eq!((detail.requests, detail.failures), (vec![4.0, 8.0], vec![2.0, 4.0]));
        assert_eq!(detail.bounds, [100, 1000]);
        assert_eq!(detail.heat, [vec![0.0, 1.0, 3.0], vec![0.0, 2.0, 6.0]]);
        assert_eq!(detail.servers["v4"], [4.0, 0.0]);
        assert_eq!(detail.servers["v8"], [0.0, 8.0]);
        assert!(history.detail("Other").is_none());
        assert_eq!(history.routes("demo:1"), [("canary".to_owned(), 8.0)].into());
        assert!(history.routes("other").is_empty());
    }
}
