//! The endpoints of a cluster, as far as Envoy has named them.

mod choices;
mod weights;

use core::time::Duration;
use std::rc::Rc;

use crate::arena::{Arena, Id};
use crate::clock::Instant;
use crate::plan::OutlierDetection;
use crate::policy::{Health, least_rate};
use crate::reports::PartyId;

use self::weights::Weight;
pub(crate) use self::weights::Weights;

/// Endpoints that Envoy has chosen, or that refused, at least once.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    known: Arena<Endpoint>,
    /// How often Envoy chose among all of them.
    choices: u32,
    /// Until when calls are counted that are compared.
    compares_at: Option<Instant>,
}

/// Names an endpoint of one pool, for as long as that remembers it.
pub(crate) type EndpointId = Id<Endpoint>;

/// What is known of one endpoint.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: Rc<str>,
    /// Open connections that take calls.
    connections: usize,
    /// A refusal before then is no news.
    ejected_until: Option<Instant>,
    /// Signs since the last connection that it takes no more of them; with any, it is not named.
    refusals: u32,
    /// After it ended a connection, or asked for that.
    absence: Option<Absence>,
    /// How many choices there had been when Envoy chose it last, or it was met first.
    chosen_at: u32,
    /// How its calls end, where that is judged.
    health: Health,
    /// How often Envoy chooses it, where that is counted.
    weight: Weight,
    /// Who it is in reports.
    party: Option<PartyId>,
}

/// What follows from how the calls of endpoints end.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// Those that are to be left out by now, and until when.
    pub(crate) out: Vec<(EndpointId, Instant)>,
    /// The address to connect to first where no other has connections: one that has not refused, if Envoy passes over it or not.
    pub(crate) instead: Option<Rc<str>>,
}

/// How long an endpoint is not looked for.
#[derive(Debug, Clone, Copy)]
struct Absence {
    until: Instant,
    /// How long that is.
    time: Duration,
    /// It has been connected to since.
    is_back: bool,
    /// And has gone once more, or had a short time before: it may end each of its connections.
    again: bool,
}

/// Ejections grow with the refusals up to this many.
const MOST_REFUSALS: u32 = 8;

/// Endpoints remembered for a pool.
const MOST_ENDPOINTS: usize = 1024;

impl Endpoints {
    /// How many are known.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// The endpoint of that address, remembered from now on.
    pub(crate) fn find(&mut self, address: &str) -> Option<EndpointId> {
        if let Some((known, _)) = self.known.iter().find(|(_, endpoint)| &*endpoint.address == address) {
            return Some(known);
        }
        if self.known.len() >= MOST_ENDPOINTS {
            let (unused, _) = self.known.iter().find(|(_, endpoint)| endpoint.connections == 0)?;
            self.known.remove(unused);
        }
        let endpoint = Endpoint {
            address: address.into(),
            connections: 0,
            ejected_until: None,
            refusals: 0,
            absence: None,
            chosen_at: self.choices,
            health: Health::default(),
            weight: Weight::default(),
            party: None,
        };
        Some(self.known.insert(endpoint))
    }

    /// The address of an endpoint.
    pub(crate) fn address(&self, id: Option<EndpointId>) -> Option<&Rc<str>> {
        Some(&self.known.get(id?)?.address)
    }

    /// Notes who an endpoint is.
    pub(crate) fn know(&mut self, id: Option<EndpointId>, party: PartyId) {
        if let Some(endpoint) = self.get_mut(id) {
            endpoint.party = Some(party);
        }
    }

    /// Who an endpoint is, once it has been connected to.
    #[inline]
    pub(crate) fn party(&self, id: Option<EndpointId>) -> Option<PartyId> {
        self.known.get(id?)?.party
    }

    /// Open connections to an endpoint that take calls; `None` if it is not remembered.
    pub(crate) fn connections(&self, id: Option<EndpointId>) -> Option<usize> {
        Some(self.known.get(id?)?.connections)
    }

    /// Notes a connection: the endpoint takes calls, unless it is left out for how they end.
    pub(crate) fn connected(&mut self, id: Option<EndpointId>) {
        if let Some(endpoint) = self.get_mut(id) {
            if !endpoint.health.is_ejected() {
                endpoint.refusals = 0;
                endpoint.ejected_until = None;
            }
            if let Some(absence) = &mut endpoint.absence {
                absence.is_back = true;
            }
            endpoint.connections = endpoint.connections.saturating_add(1);
        }
    }

    /// Notes that a connection takes no more calls.
    pub(crate) fn left(&mut self, id: Option<EndpointId>) {
        if let Some(endpoint) = self.get_mut(id) {
            endpoint.connections = endpoint.connections.saturating_sub(1);
        }
    }

    /// Notes that an endpoint refused a connection, or is leaving: it is not named until Envoy has chosen it again.
    /// Whether that was news: it had not refused the last time, or it is more than `time` ago, and more the more often
    /// it has.
    pub(crate) fn eject(&mut self, id: Option<EndpointId>, time: Option<Duration>, now: Instant) -> bool {
        let Some(endpoint) = self.get_mut(id) else { return false };
        let is_news = endpoint.refusals == 0 || endpoint.ejected_until.is_some_and(|until| until <= now);
        endpoint.refusals = endpoint.refusals.saturating_add(1);
        endpoint.ejected_until =
            time.map(|time| now.after(time.saturating_mul(endpoint.refusals.min(MOST_REFUSALS))));
        is_news
    }

    /// Notes that an endpoint has ended a connection, or asked for that. When to look for it, and whether that is news: after
    /// `time`, and longer the more often it has, soon after it was looked for.
    pub(crate) fn went(&mut self, id: Option<EndpointId>, time: Duration, now: Instant) -> (Instant, bool) {
        let Some(endpoint) = self.get_mut(id) else { return (now.after(time), true) };
        if let Some(last) = endpoint.absence.as_mut().filter(|last| now < last.until) {
            last.again |= last.is_back;
            return (last.until, false);
        }
        let before = endpoint.absence.filter(|last| now < last.until.after(last.time));
        let longer = before.map_or(Duration::ZERO, |last| last.time).saturating_add(time);
        let time = longer.min(time.saturating_mul(MOST_REFUSALS));
        let until = now.after(time);
        endpoint.absence = Some(Absence { until, time, is_back: false, again: before.is_some() });
        (until, true)
    }

    /// Whether an endpoint goes again and again, and it is not time yet to look for it.
    pub(crate) fn goes_on_and_on(&self, id: Option<EndpointId>, now: Instant) -> bool {
        let absence = id.and_then(|id| self.known.get(id)).and_then(|endpoint| endpoint.absence);
        absence.is_some_and(|absence| absence.again && now < absence.until)
    }

    /// When to look for the next of those that are away, and have no connections.
    pub(crate) fn next_back(&self, now: Instant) -> Option<Instant> {
        let away = self.known.iter().filter(|(_, endpoint)| endpoint.connections == 0);
        away.filter_map(|(_, endpoint)| Some(endpoint.absence?.until)).filter(|until| now < *until).min()
    }

    /// Notes how a call of an endpoint ended.
    pub(crate) fn judge(
        &mut self,
        id: Option<EndpointId>,
        failed: bool,
        rule: &OutlierDetection,
        now: Instant,
    ) -> Judged {
        let mut judged = Judged { out: self.compare(rule, now), instead: None };
        if let Some(id) = id
            && let Some(endpoint) = self.known.get_mut(id)
            && endpoint.health.note(failed, rule, now)
        {
            match self.has_other(id) {
                true => judged.out.extend(self.leave_out(id, rule, now)),
                false => judged.instead = self.last_chosen(Some(id)).map(|(_, other)| other.address.clone()),
            }
        }
        judged
    }

    /// Whether another takes calls.
    fn has_other(&self, id: EndpointId) -> bool {
        self.known
            .iter()
            .any(|(other, endpoint)| other != id && endpoint.connections > 0 && !endpoint.health.is_ejected())
    }

    /// At the end of an interval, leaves out those of whose calls far fewer succeed than of others'.
    fn compare(&mut self, rule: &OutlierDetection, now: Instant) -> Vec<(EndpointId, Instant)> {
        let Some(rate) = &rule.success_rate else { return Vec::new() };
        let due = *self.compares_at.get_or_insert(now.after(rule.interval));
        if now < due {
            return Vec::new();
        }
        self.compares_at = Some(now.after(rule.interval));
        let rates = self.known.iter_mut();
        let rates = rates.filter_map(|(id, endpoint)| Some((id, endpoint.health.take_rate(rate)?)));
        let rates: Vec<_> = rates.collect();
        let of_all: Vec<_> = rates.iter().map(|(_, rate)| *rate).collect();
        let Some(least) = least_rate(&of_all, rate) else { return Vec::new() };
        let under = rates.into_iter().filter(|(_, rate)| *rate < least);
        under.filter_map(|(id, _)| self.leave_out(id, rule, now)).collect()
    }

    /// Leaves an endpoint out, if it may be: until when.
    ///
    /// So many may be at a time as the rule has it, one at least, never more than leave as many in as the rule asks, and never
    /// the last that has connections.
    fn leave_out(
        &mut self,
        id: EndpointId,
        rule: &OutlierDetection,
        now: Instant,
    ) -> Option<(EndpointId, Instant)> {
        if self.is_ejected(Some(id)) {
            return None;
        }
        let all = self.known.len();
        let out = self.known.iter().filter(|(_, endpoint)| endpoint.health.is_ejected()).count();
        let most = all.saturating_mul(rule.max_ejection_percent).checked_div(100).unwrap_or(0);
        let left = all.saturating_sub(out).saturating_sub(1);
        let is_enough = left.saturating_mul(100) >= all.saturating_mul(rule.min_health_percent);
        if out >= most.max(1) || !is_enough || !self.has_other(id) {
            return None;
        }
        let endpoint = self.known.get_mut(id)?;
        let until = endpoint.health.eject(rule, now);
        // Until Envoy has chosen it again, or its time is over.
        endpoint.refusals = endpoint.refusals.saturating_add(1);
        Some((id, until))
    }

    /// Notes that a call was given up which was sent then: whether its endpoint has had no success for `time`.
    pub(crate) fn gave_up(
        &mut self,
        id: Option<EndpointId>,
        sent: Instant,
        time: Duration,
        now: Instant,
    ) -> bool {
        self.get_mut(id).is_some_and(|endpoint| endpoint.health.gave_up(sent, time, now))
    }

    /// Whether an endpoint is left out for how its calls end.
    pub(crate) fn is_ejected(&self, id: Option<EndpointId>) -> bool {
        id.and_then(|id| self.known.get(id)).is_some_and(|endpoint| endpoint.health.is_ejected())
    }

    /// Whether an endpoint has refused, or is left out, and no connection to it has opened since.
    pub(crate) fn refuses(&self, id: Option<EndpointId>) -> bool {
        id.and_then(|id| self.known.get(id)).is_some_and(|endpoint| endpoint.refusals > 0)
    }

    /// An endpoint that is left out takes part again.
    pub(crate) fn readmit(&mut self, id: Option<EndpointId>) {
        if let Some(endpoint) = self.get_mut(id) {
            endpoint.health.readmit();
            endpoint.refusals = 0;
            endpoint.ejected_until = None;
        }
    }

    /// Has those take part again whose time is over: which those are, and when the time of the next is.
    pub(crate) fn readmit_due(&mut self, now: Instant) -> (Vec<EndpointId>, Option<Instant>) {
        let out = self.known.iter().filter_map(|(id, endpoint)| Some((id, endpoint.health.ejected_until()?)));
        let (due, later): (Vec<_>, Vec<_>) = out.partition(|(_, until)| *until <= now);
        for (id, _) in &due {
            self.readmit(Some(*id));
        }
        (due.into_iter().map(|(id, _)| id).collect(), later.into_iter().map(|(_, until)| until).min())
    }

    /// An endpoint to name for a new connection: one that did not refuse the last time, with connections if there is such a one,
    /// and of those the last that Envoy chose. Without connections, none that it passes over.
    pub(crate) fn living(&self, avoid: Option<EndpointId>) -> Option<&Rc<str>> {
        let last = self.last_chosen(avoid);
        let (_, endpoint) =
            last.filter(|(id, endpoint)| endpoint.connections > 0 || !self.is_passed_over(Some(*id)))?;
        Some(&endpoint.address)
    }

    /// Of those that did not refuse the last time the last that Envoy chose, with connections if there is such a one.
    fn last_chosen(&self, avoid: Option<EndpointId>) -> Option<(EndpointId, &Endpoint)> {
        let endpoints = self.known.iter().filter(|(id, endpoint)| {
            endpoint.refusals == 0 && !endpoint.address.is_empty() && avoid != Some(*id)
        });
        endpoints.min_by_key(|(_, endpoint)| (endpoint.connections == 0, self.since(endpoint)))
    }

    fn get_mut(&mut self, id: Option<EndpointId>) -> Option<&mut Endpoint> {
        self.known.get_mut(id?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Option<Duration> = Some(Duration::from_secs(1));

    fn at(millis: u64) -> Instant {
        Instant::default().after(Duration::from_millis(millis))
    }

    #[test]
    fn an_endpoint_that_refuses_is_not_named_until_it_was_connected_to() {
        let mut endpoints = Endpoints::default();
        let [a, b] = ["10.0.0.1:1", "10.0.0.2:1"].map(|address| endpoints.find(address));
        assert_eq!(endpoints.find("10.0.0.1:1"), a);
        endpoints.connected(b);
        let living =
            |endpoints: &Endpoints, avoid| endpoints.living(avoid).map(|address| address.to_string());
        let [first, second] = ["10.0.0.1:1", "10.0.0.2:1"].map(|address| Some(address.to_owned()));
        assert_eq!(living(&endpoints, None), second, "it is there");
        assert_eq!(living(&endpoints, b), first);
        assert!(endpoints.eject(a, SECOND, at(0)));
        assert_eq!(living(&endpoints, b), None);
        endpoints.connected(a);
        assert_eq!(living(&endpoints, b), first);
    }

    #[test]
    fn a_refusal_is_news_once_in_an_ejection() {
        let mut endpoints = Endpoints::default();
        let a = endpoints.find("10.0.0.1:1");
        // The second ejection is twice as long.
        let news = [0, 999, 1000, 2998, 2999, 3001].map(|millis| endpoints.eject(a, SECOND, at(millis)));
        assert_eq!(news, [true, false, false, false, false, false]);
        assert!(endpoints.eject(a, SECOND, at(100_000)));
        let b = endpoints.find("10.0.0.2:1");
        let news = [0, 1, 100_000].map(|millis| endpoints.eject(b, None, at(millis)));
        assert_eq!(news, [true, false, false]);
        assert!(!endpoints.eject(None, None, at(0)), "nobody knows which it was");
    }

    #[test]
    fn an_endpoint_that_goes_again_and_again_is_looked_for_later_and_later() {
        let second = Duration::from_secs(1);
        let mut endpoints = Endpoints::default();
        let a = endpoints.find("10.0.0.1:1");
        let back = [0, 999, 1000, 3500, 9500].map(|millis| endpoints.went(a, second, at(millis)));
        let expected = [(1000, true), (1000, false), (3000, true), (6500, true), (10_500, true)];
        assert_eq!(back, expected.map(|(millis, is_news)| (at(millis), is_news)), "9.5 s are long after 6.5");
        let next = [10_499, 10_500].map(|millis| endpoints.next_back(at(millis)));
        assert_eq!(next, [Some(at(10_500)), None]);
        endpoints.connected(a);
        assert_eq!(endpoints.next_back(at(10_499)), None, "it is back");
        let last = (0..20).fold(at(10_500), |at, _| endpoints.went(a, second, at).0);
        assert_eq!(endpoints.went(a, second, last), (last.after(8 * second), true));
        assert_eq!(endpoints.went(None, second, at(0)), (at(1000), true), "nobody knows which it was");
    }

    #[test]
    fn an_endpoint_that_goes_once_with_all_its_connections_does_not_go_on_and_on() {
        let second = Duration::from_secs(1);
        let mut endpoints = Endpoints::default();
        let a = endpoints.find("10.0.0.1:1");
        for _ in 0..3 {
            endpoints.went(a, second, at(0));
        }
        endpoints.connected(a);
        assert!(!endpoints.goes_on_and_on(a, at(1)));
        endpoints.went(a, second, at(2));
        assert_eq!([999, 1000].map(|millis| endpoints.goes_on_and_on(a, at(millis))), [true, false]);
        endpoints.went(a, second, at(1500));
        assert!(endpoints.goes_on_and_on(a, at(1501)), "a short time before");
    }

    #[test]
    fn endpoints_that_are_long_gone_are_forgotten() {
        let mut endpoints = Endpoints::default();
        for n in 0..MOST_ENDPOINTS {
            let id = endpoints.find(&format!("10.0.0.1:{n}"));
            endpoints.connected(id);
        }
        let seventh = endpoints.find("10.0.0.1:7");
        endpoints.left(seventh);
        assert_eq!(endpoints.connections(seventh), Some(0));
        let other = endpoints.find("10.0.0.2:1");
        assert_eq!(endpoints.connections(other), Some(0));
        let known = (endpoints.connections(seventh), endpoints.address(seventh));
        assert_eq!(known, (None, None), "what names the one is not the other");
        endpoints.left(seventh);
        endpoints.connected(other);
        assert_eq!(endpoints.find("10.0.0.3:1"), None);
        assert_eq!(endpoints.len(), MOST_ENDPOINTS);
        assert_eq!(endpoints.address(other).map(|address| &**address), Some("10.0.0.2:1"));
    }
}
