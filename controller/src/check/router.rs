//! The rules of routers, Meltemi's and Aeraki's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use meltemi_codecs::Change;
use meltemi_proxy::plan::raw::MOST_ATTEMPTS;
use meltemi_proxy::plan::{check_message, check_value};

use super::matchers::attributes;
use super::notes::Notes;
use super::{limits, text};
use crate::api::aeraki::{Destination, Mutation, Percent, WeightedDestination};
use crate::api::{Abort, Delay, Fault, Hedge, MetaRouterSpec, OnNoMatch, Retries, RetryOn, Route};

/// What a router of either kind must be. `namespace` is its own; `is_aeraki` says whose fields it has.
pub(super) fn router(notes: &mut Notes, spec: &MetaRouterSpec, namespace: &str, is_aeraki: bool) {
    notes.field("exportTo", |notes| text::exports(notes, &spec.export_to, namespace));
    notes.each("gateways", &spec.gateways, |notes, gateway| text::gateway(notes, gateway));
    notes.field("hosts", |notes| match &*spec.hosts {
        [host] => notes.item(0, |notes| text::host(notes, host)),
        [] => notes.error("no host; name the service that the router is for"),
        several => notes.error(format_args!(
            "{} hosts; a router is for exactly one: write a router for each",
            several.len()
        )),
    });
    if spec.routes.is_empty()
        && spec.on_no_match.is_none()
        && spec.local_rate_limit.is_none()
        && spec.global_rate_limit.is_none()
        && spec.adaptive_concurrency.is_none()
    {
        let fields = match is_aeraki {
            true => "routes, localRateLimit or globalRateLimit",
            false => "routes, onNoMatch, localRateLimit, globalRateLimit or adaptiveConcurrency",
        };
        notes.error(format_args!("says nothing; write {fields}"));
    }
    routes(notes, &spec.routes, is_aeraki);
    if spec.on_no_match == Some(OnNoMatch::Reject) && spec.routes.is_empty() {
        notes.field("onNoMatch", |notes| {
            notes.warn("rejects every call of the service: there are no routes");
        });
    }
    notes.some("localRateLimit", spec.local_rate_limit.as_ref(), |notes, limit| {
        limits::local_rate_limit(notes, limit, is_aeraki);
    });
    notes.some("globalRateLimit", spec.global_rate_limit.as_ref(), |notes, limit| {
        limits::global_rate_limit(notes, limit, is_aeraki);
    });
    notes.some("adaptiveConcurrency", spec.adaptive_concurrency.as_ref(), limits::adaptive_concurrency);
}

fn routes(notes: &mut Notes, routes: &[Route], is_aeraki: bool) {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut takes_all = None;
    notes.field("routes", |notes| {
        for (index, one) in routes.iter().enumerate() {
            notes.item(index, |notes| {
                if let Some(before) = takes_all {
                    notes.warn(format_args!(
                        "gets no call: routes[{before}] matches every call; put this one before it"
                    ));
                }
                if let Some(before) = names.get(&*one.name) {
                    notes.field("name", |notes| {
                        let message =
                            "is that of routes[{before}] too: metrics and logs cannot tell them apart";
                        notes.warn(message.replace("{before}", &before.to_string()));
                    });
                }
                route(notes, one, is_aeraki);
            });
            if !one.name.is_empty() {
                names.entry(&one.name).or_insert(index);
            }
            if takes_all.is_none() && matches_all(one) {
                takes_all = Some(index);
            }
        }
    });
}

fn matches_all(route: &Route) -> bool {
    route.matches.as_ref().is_none_or(|matches| matches.attributes.is_empty())
}

fn route(notes: &mut Notes, route: &Route, is_aeraki: bool) {
    if let Some(why) = text::is_no_route_name(&route.name) {
        notes.error_at("name", why);
    }
    notes.some("match", route.matches.as_ref(), |notes, matches| {
        attributes(notes, &matches.attributes, is_aeraki)
    });
    notes.field("route", |notes| destinations(notes, &route.route));
    notes.some("mirror", route.mirror.as_ref(), destination);
    notes.some("mirrorPercentage", route.mirror_percentage.as_ref(), |notes, share| {
        if route.mirror.is_none() {
            notes.error("needs mirror, the service that gets the copies");
        }
        match share.value > 0.0 {
            true => text::percent(notes, share),
            false => notes.error_at("value", "must be more than 0; leave out mirror to mirror nothing"),
        }
    });
    edits(
        notes,
        [
            ("requestMutation", &route.request_mutation),
            ("requestAddIfAbsent", &route.request_add_if_absent),
            ("requestAppend", &route.request_append),
        ],
        ("requestRemove", &route.request_remove),
    );
    edits(
        notes,
        [
            ("responseMutation", &route.response_mutation),
            ("responseAddIfAbsent", &route.response_add_if_absent),
            ("responseAppend", &route.response_append),
        ],
        ("responseRemove", &route.response_remove),
    );
    notes.some("fault", route.fault.as_ref(), fault);
    notes.field("hashBy", |notes| text::hash_key(notes, &route.hash_by));
    let mut timeout = None;
    notes.some("timeout", route.timeout.as_ref(), |notes, text| timeout = text::duration(notes, text));
    notes.some("retries", route.retries.as_ref(), |notes, all| {
        retries(notes, all);
        let mut per_try = None;
        notes.some("perTryTimeout", all.per_try_timeout.as_ref(), |notes, text| {
            per_try = text::positive_duration(notes, text);
            if let (Some(per_try), Some(timeout)) = (per_try, timeout.filter(|timeout| !timeout.is_zero()))
                && per_try > timeout
            {
                notes.error("is longer than timeout, which covers all tries together; write a shorter one");
            }
        });
        let ends = [("timeout", timeout), ("perTryTimeout", per_try)];
        notes.some("hedge", all.hedge.as_ref(), |notes, all| hedge(notes, all, ends));
    });
}

fn destinations(notes: &mut Notes, destinations: &[WeightedDestination]) {
    if destinations.is_empty() {
        notes.error("no destination; write where the calls go");
    }
    for (index, one) in destinations.iter().enumerate() {
        notes.item(index, |notes| {
            notes.field("destination", |notes| destination(notes, &one.destination));
            if let Some(weight) = one.weight.filter(|weight| *weight > 100) {
                notes.error_at("weight", format_args!("{weight} is more than 100 percent"));
            }
        });
    }
    let sum = destinations.iter().map(|one| u64::from(one.weight.unwrap_or_default())).sum::<u64>();
    if destinations.len() > 1 && sum != 100 {
        notes.error(format_args!("the weights sum to {sum}; those of several destinations must sum to 100"));
    }
}

fn destination(notes: &mut Notes, destination: &Destination) {
    notes.field("host", |notes| text::host(notes, &destination.host));
    notes.some("subset", destination.subset.as_ref(), |notes, subset| text::name(notes, "subset", subset));
    notes.some("port", destination.port.as_ref(), |notes, port| {
        notes.field("number", |notes| text::port(notes, port.number));
    });
}

/// What becomes of the attachments of requests, or of responses: one thing of each.
fn edits(notes: &mut Notes, written: [(&str, &Vec<Mutation>); 3], (remove, removed): (&str, &[String])) {
    let mut all: BTreeMap<&str, &str> = BTreeMap::new();
    for (field, list) in written {
        mutations(notes, field, list);
        for (index, mutation) in list.iter().enumerate() {
            if let Some(other) = all.get(&*mutation.key) {
                notes.field(field, |notes| {
                    notes.item(index, |notes| {
                        let key = &mutation.key;
                        notes.error_at(
                            "key",
                            format_args!("{key:?} is in {other} as well; keep one of the two"),
                        );
                    });
                });
            }
        }
        all.extend(list.iter().map(|mutation| (&*mutation.key, field)));
    }
    notes.each(remove, removed, |notes, name| {
        if name.is_empty() {
            notes.error("is empty; name the attachment to remove");
        } else if all.contains_key(&**name) {
            notes.error(format_args!("the attachment {name:?} is set as well; remove it or set it"));
        }
    });
    let count = all.len() + removed.iter().collect::<BTreeSet<_>>().len();
    if let Some((field, _)) = written.iter().skip(1).rfind(|(_, list)| !list.is_empty())
        && count > Change::MOST
    {
        let most = Change::MOST;
        let message = format_args!(
            "one of {count} changes of attachments, of which {most} are allowed where some are added or appended: make fewer"
        );
        notes.error_at(field, message);
    }
}

fn mutations(notes: &mut Notes, field: &str, mutations: &[Mutation]) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    notes.field(field, |notes| {
        for (index, mutation) in mutations.iter().enumerate() {
            notes.item(index, |notes| {
                text::not_empty(notes, "key", &mutation.key, "name the attachment");
                text::not_empty(notes, "value", &mutation.value, "write what it is set to");
                if let Err(why) = check_value(&mutation.value) {
                    notes.error_at("value", why);
                }
                if let Some(before) = seen.get(&*mutation.key) {
                    notes.field("key", |notes| {
                        notes.warn(format_args!(
                            "{:?} is also set by [{before}]: the last one applies",
                            mutation.key
                        ));
                    });
                }
            });
            seen.insert(&mutation.key, index);
        }
    });
}

fn retries(notes: &mut Notes, retries: &Retries) {
    if let Some(attempts) = retries.attempts.filter(|attempts| !(1..=MOST_ATTEMPTS).contains(attempts)) {
        let mend = match attempts {
            0 => "leave out retries to try once".to_owned(),
            _ => format!("write one of 1 to {MOST_ATTEMPTS}"),
        };
        notes.error_at("attempts", format_args!("{attempts} is out of range; {mend}"));
    }
    let retries_status = retries.on.contains(&RetryOn::Status);
    if !retries.statuses.is_empty() && !retries_status {
        notes.error_at("statuses", "are not retried: write status in retryOn");
    }
    if retries.statuses.is_empty() && retries_status {
        notes.error_at("retryOn", "has status, but there are no statuses; write which are tried again");
    }
    if retries.on.contains(&RetryOn::PerTryTimeout) && retries.per_try_timeout.is_none() {
        notes.error_at(
            "retryOn",
            "has per-try-timeout, but there is no perTryTimeout; write how long a try may take",
        );
    }
    notes.each("statuses", &retries.statuses, |notes, status| {
        if status.is_empty() {
            notes.error("is empty; write a status of the protocol, by name or number");
        }
    });
}

/// A second try, and what ends the first.
fn hedge(notes: &mut Notes, hedge: &Hedge, ends: [(&str, Option<Duration>); 2]) {
    if hedge.after.is_none() && hedge.percentile.is_none() {
        notes.error("says no time; write after or percentile");
    }
    notes.some("after", hedge.after.as_ref(), |notes, text| {
        let Some(after) = text::positive_duration(notes, text) else { return };
        let over = |end: Duration| !end.is_zero() && end <= after;
        if let Some((what, _)) = ends.into_iter().find(|(_, end)| end.is_some_and(over)) {
            notes.error(format_args!("is not shorter than {what}, which ends the first try; write less"));
        }
    });
    if let Some(percent) = hedge.percentile.filter(|percent| !(1..=99).contains(percent)) {
        notes.error_at("percentile", format_args!("{percent} is out of range; write one of 1 to 99"));
    }
}

/// Faults of a route.
fn fault(notes: &mut Notes, fault: &Fault) {
    if fault.delay.is_none() && fault.abort.is_none() {
        notes.error("does nothing; write delay or abort");
    }
    notes.some("delay", fault.delay.as_ref(), |notes, Delay { percentage, fixed_delay }| {
        share(notes, percentage.as_ref());
        match fixed_delay {
            Some(delay) => notes.field("fixedDelay", |notes| _ = text::positive_duration(notes, delay)),
            None => {
                notes.error_at("fixedDelay", "is missing; write how long calls are held back, such as 2s")
            }
        }
    });
    notes.some("abort", fault.abort.as_ref(), |notes, Abort { percentage, message }| {
        share(notes, percentage.as_ref());
        notes.some("message", message.as_ref(), |notes, message| {
            if let Err(why) = check_message(message) {
                notes.error(why);
            }
        });
    });
}

/// The share of the calls that a fault is for.
fn share(notes: &mut Notes, share: Option<&Percent>) {
    match share {
        Some(share) => notes.field("percentage", |notes| text::percent(notes, share)),
        None => {
            notes.error_at("percentage", "is missing; write the share of the calls, such as {value: 10}");
        }
    }
}
