use std::collections::BTreeMap;

use super::figures::Figures;
use crate::proxies::stats::Sample;

/// How many of each kind a look has, of one proxy or of all: what counts may be anything that a tenant runs, and looks are
/// kept.
const MOST: usize = 2000;

/// The longest name of a series with its labels.
const LONGEST: usize = 512;

/// What happened between two looks, by the second.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Look {
    /// By service and method.
    pub(crate) methods: BTreeMap<Key, Figures>,
    /// Requests by service and the client's identity.
    pub(crate) clients: BTreeMap<Key, f64>,
    /// Answers by service and the server's workload, or its identity where that is not known.
    pub(crate) servers: BTreeMap<Key, f64>,
    /// Calls by the managed service and the route that took them.
    pub(crate) routes: BTreeMap<Key, f64>,
    /// Endpoints left out.
    pub(crate) ejections: f64,
    /// How many series had no room.
    pub(crate) left_out: usize,
}

type Key = (String, String);

/// What is counted by a key; if there is no room for it, this is counted.
fn room<'a, T: Default>(all: &'a mut BTreeMap<Key, T>, key: Key, left_out: &mut usize) -> Option<&'a mut T> {
    if all.len() >= MOST && !all.contains_key(&key) {
        *left_out += 1;
        return None;
    }
    Some(all.entry(key).or_default())
}

/// What is counted of a service, without a look at what is of others: there may be thousands.
fn of<'a, T>(all: &'a BTreeMap<Key, T>, service: &'a str) -> impl Iterator<Item = (&'a String, &'a T)> {
    let own = all.range((service.to_owned(), String::new())..);
    own.take_while(move |((known, _), _)| known == service).map(|((_, name), counted)| (name, counted))
}

impl Look {
    /// What happened elsewhere too, but for the calls of services that are to be left out; who calls those is told all the
    /// same.
    pub(crate) fn add(&mut self, other: &Self, is_left_out: impl Fn(&String) -> bool) {
        for (key, figures) in other.methods.iter().filter(|((service, _), _)| !is_left_out(service)) {
            if let Some(sum) = room(&mut self.methods, key.clone(), &mut self.left_out) {
                sum.add(figures);
            }
        }
        for (sums, others) in [
            (&mut self.clients, &other.clients),
            (&mut self.servers, &other.servers),
            (&mut self.routes, &other.routes),
        ] {
            for (key, rate) in others {
                room(sums, key.clone(), &mut self.left_out).into_iter().for_each(|sum| *sum += rate);
            }
        }
        self.ejections += other.ejections;
        self.left_out += other.left_out;
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        let names = |(service, name): &Key| size_of::<Key>() + service.len() + name.len();
        let methods = self.methods.iter().map(|(key, figures)| names(key) + figures.bytes());
        let others = [&self.clients, &self.servers, &self.routes].into_iter().flatten();
        methods.chain(others.map(|(key, _)| names(key) + size_of::<f64>())).sum()
    }

    /// The calls of a service's methods.
    pub(crate) fn methods_of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Figures> {
        of(&self.methods, service).map(|(_, figures)| figures)
    }

    /// Answers of a service by its servers.
    pub(crate) fn servers_of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = (&'a String, &'a f64)> {
        of(&self.servers, service)
    }

    /// Whether it is known who calls a service, and not who answers: so the proxies of its servers have it.
    pub(crate) fn serves(&self, service: &str) -> bool {
        of(&self.clients, service).next().is_some() && of(&self.servers, service).next().is_none()
    }

    /// Counts what a sample has more by the second.
    pub(super) fn count(&mut self, sample: &Sample<'_>, rate: f64) {
        if sample.name.len() > LONGEST {
            self.left_out += 1;
            return;
        }
        let label = |name| sample.label(name).to_owned();
        let (sums, key) = match sample.metric {
            "outlier_ejections_total" => return self.ejections += rate,
            "route_requests_total" => (&mut self.routes, (label("authority"), label("route"))),
            "source_requests_total" => (&mut self.clients, (label("service"), label("source_principal"))),
            "destination_requests_total" => {
                let workload = Some(sample.label("destination_workload")).filter(|name| *name != "-");
                let server = workload.unwrap_or_else(|| sample.label("destination_principal"));
                (&mut self.servers, (label("service"), server.to_owned()))
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
                    "in_flight" => |figures, sample, _| {
                        figures.in_flight = figures.in_flight.saturating_add(sample.value);
                    },
                    "latency_microseconds_bucket" => |figures, sample, rate| {
                        figures.took(sample.label("le").parse().ok(), rate);
                    },
                    _ => return,
                };
                let key = (label("service"), label("method"));
                if let Some(figures) = room(&mut self.methods, key, &mut self.left_out) {
                    add(figures, sample, rate);
                }
                return;
            }
        };
        room(sums, key, &mut self.left_out).into_iter().for_each(|sum| *sum += rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxies::stats::samples;

    #[test]
    fn a_look_has_room_for_so_many_series() {
        let start = "wasmcustom.meltemi.service=.=";
        let lines = |metric: &str| -> String {
            (0..MOST + 3).map(|at| format!("{start}s{at};.;{metric}: 1\n")).collect()
        };
        let long = format!("{start}{};.;requests_total: 1\n", "s".repeat(LONGEST));
        let text =
            lines("requests_total") + &lines("requests_total") + &lines("source_requests_total") + &long;
        let mut look = Look::default();
        samples(&text).for_each(|sample| look.count(&sample, 1.0));
        assert_eq!((look.methods.len(), look.clients.len(), look.left_out), (MOST, MOST, 3 + 3 + 3 + 1));
        assert_eq!(look.methods.values().next().map(|figures| figures.requests), Some(2.0));

        // What is counted may be anything as well.
        let one = format!("{start}a;.;n=.=1;.;in_flight: {}\n", u64::MAX);
        let mut most = Look::default();
        samples(&(one.replace("n=.=1", "n=.=2") + &one)).for_each(|sample| most.count(&sample, 1.0));
        assert_eq!(most.methods.values().map(|figures| figures.in_flight).collect::<Vec<_>>(), [u64::MAX]);

        let mut sum = look.clone();
        let other = Look { methods: [(<_>::default(), Figures::default())].into(), ..Look::default() };
        sum.add(&other, |_| false);
        assert_eq!((sum.methods.len(), sum.left_out), (MOST, look.left_out + 1));
    }
}
