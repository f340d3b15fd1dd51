//! How many calls the servers of a service take: the rate limits of the routers of its namespace, in the plan's entry of the
//! servers' sidecars.

use meltemi_proxy::plan::raw;

use super::draft::Places;
use super::entry::Made;
use super::report::Reports;
use super::room;
use super::size::{self, kib};
use super::terms::{alternatives, duration};
use super::tree::Part;
use super::trial::{self, Refusal};
use crate::api::aeraki::TokenBucket;
use crate::api::{GlobalRateLimit, LocalRateLimit};
use crate::check::MOST_OF_NAMESPACE;
use crate::findings::ResourceRef;

/// The fields of a router that have it.
const FIELD: &str = "spec.localRateLimit";
const GLOBAL: &str = "spec.globalRateLimit";

/// What one router says.
#[derive(Debug)]
pub(super) struct Limit {
    conditions: Vec<raw::Condition>,
    bucket: Option<raw::TokenBucket>,
    /// What a rate limit service is asked.
    global: Option<raw::GlobalRateLimit>,
    /// What the tables of its regular expressions take, in bytes.
    tables: usize,
}

impl Limit {
    /// What a router says that was checked, if it limits anything.
    ///
    /// # Errors
    ///
    /// The filter would refuse it: the field, and why.
    pub(super) fn new(
        local: Option<&LocalRateLimit>,
        global: Option<&GlobalRateLimit>,
    ) -> Result<Option<Self>, Refusal> {
        if local.is_none() && global.is_none() {
            return Ok(None);
        }
        let mut places = Places::new(FIELD.to_owned());
        let mut conditions = Vec::new();
        for (at, condition) in local.into_iter().flat_map(|local| &local.conditions).enumerate() {
            let (Some(matches), Some(limit)) = (&condition.matches, &condition.token_bucket) else {
                continue;
            };
            let of_plan = format!("conditions[{}]", conditions.len());
            places.note_alike(format!("{of_plan}.match[0]"), format!("conditions[{at}].match"));
            places.note_alike(of_plan, format!("conditions[{at}]"));
            conditions.push(raw::Condition {
                matches: alternatives(&matches.attributes),
                token_bucket: bucket(limit),
            });
        }
        let mut of_global = Places::new(GLOBAL.to_owned());
        let mut limit = Self {
            conditions,
            bucket: local.and_then(|local| local.token_bucket.as_ref()).map(bucket),
            global: global.map(|global| asked(global, &mut of_global)),
            tables: 0,
        };
        let mut service = raw::Service::new(trial::stand_in());
        put(&mut service, [&limit].into_iter());
        limit.tables = trial::compiled(service).map_err(|error| {
            let field = match trial::below(&error, "globalRateLimits[0]") {
                Some(below) => of_global.of(below),
                None => places.of(trial::below(&error, "localRateLimit").unwrap_or_default()),
            };
            Refusal { field, message: error.message }
        })?;
        Ok(Some(limit))
    }

    /// The field that is to be named where none of it is in force.
    pub(super) fn field(&self) -> &'static str {
        let is_local = self.bucket.is_some() || !self.conditions.is_empty();
        if is_local { FIELD } else { GLOBAL }
    }
}

/// What is asked by a router: each descriptor of its own, as Aeraki's filter does, unless it says otherwise.
fn asked(written: &GlobalRateLimit, places: &mut Places) -> raw::GlobalRateLimit {
    for (plan, field) in
        [("cluster", "rateLimitService"), ("timeout", "requestTimeout"), ("denyOnFailure", "denyOnFail")]
    {
        places.note(plan, field);
    }
    places.note_alike("match[0]", "match");
    let mut descriptors: Vec<Vec<_>> = Vec::new();
    for (at, descriptor) in written.descriptors.iter().enumerate() {
        match descriptors.last_mut() {
            Some(_) if written.combined => {}
            _ => descriptors.push(Vec::new()),
        }
        let last = descriptors.len().saturating_sub(1);
        let Some(entries) = descriptors.last_mut() else { continue };
        let of_plan = format!("descriptors[{last}][{}]", entries.len());
        places.note(format!("{of_plan}.key"), format!("descriptors[{at}].descriptorKey"));
        places.note(format!("{of_plan}.attribute"), format!("descriptors[{at}].property"));
        let (key, attribute) = (descriptor.descriptor_key.clone(), Some(descriptor.property.clone()));
        entries.push(raw::DescriptorEntry { key, attribute, value: None });
    }
    let of_plan = raw::GlobalRateLimit {
        matches: written.matches.as_ref().and_then(|matches| alternatives(&matches.attributes)),
        cluster: written.rate_limit_service.clone(),
        domain: written.domain.clone(),
        descriptors,
        deny_on_failure: written.deny_on_fail,
        ..raw::GlobalRateLimit::default()
    };
    let of_plan = match written.hits {
        Some(hits) => raw::GlobalRateLimit { hits, ..of_plan },
        None => of_plan,
    };
    match written.request_timeout.as_deref().and_then(duration) {
        Some(timeout) => raw::GlobalRateLimit { timeout, ..of_plan },
        None => of_plan,
    }
}

fn bucket(written: &TokenBucket) -> raw::TokenBucket {
    raw::TokenBucket {
        fill_interval: written.fill_interval.as_deref().and_then(duration).unwrap_or_default(),
        max_tokens: written.max_tokens,
        tokens_per_fill: written.tokens_per_fill.unwrap_or_default(),
    }
}

/// Puts the limits of some routers into a service: the conditions of all in their order, the first bucket for the calls that
/// none of them matches, and what each asks.
fn put<'l>(service: &mut raw::Service, limits: impl Iterator<Item = &'l Limit> + Clone) {
    let local = raw::LocalRateLimit {
        conditions: limits.clone().flat_map(|limit| limit.conditions.iter().cloned()).collect(),
        token_bucket: limits.clone().filter_map(|limit| limit.bucket.clone()).next(),
    };
    service.local_rate_limit = Some(local).filter(|local| *local != raw::LocalRateLimit::default());
    service.global_rate_limits = limits.filter_map(|limit| limit.global.clone()).collect();
}

/// The entry of servers with the limits of some routers, in their order. What is left out is reported. What guards the
/// servers comes first: the limits share the room that `entry` leaves.
pub(super) fn limited(
    entry: &Made,
    mut limits: Vec<(&ResourceRef, &Limit)>,
    about: &str,
    reports: &mut Reports,
) -> Part {
    let mut room = MOST_OF_NAMESPACE;
    limits.retain(|(origin, limit)| {
        let rest = room.checked_sub(limit.tables);
        room = rest.unwrap_or(room);
        if rest.is_none() {
            let namespace = origin.namespace.as_deref().unwrap_or_default();
            reports.not_honoured(origin, limit.field(), room::full(namespace));
        }
        rest.is_some()
    });
    let with = |limits: &[(&ResourceRef, &Limit)]| {
        let mut service = entry.service.clone();
        put(&mut service, limits.iter().map(|(_, limit)| *limit));
        Made::new(service, entry.part.origins().to_vec()).part
    };
    let mut whole = with(&limits);
    if whole.weight > size::MOST {
        let weight = |limit| (1, with(&[limit]).weight.saturating_sub(entry.part.weight));
        let mut weights = vec![(0, entry.part.weight)];
        weights.extend(limits.iter().copied().map(weight));
        let fitting = size::fitting(&weights);
        let mut weights = weights.into_iter().enumerate().skip(1);
        limits.retain(|(origin, limit)| {
            let Some((at, (_, weight))) = weights.next() else { return false };
            if !fitting.contains(&at) {
                let message = format!(
                    "not enforced: it takes {} of the {} that the plan has for the servers of {about}: write fewer or shorter \
                     conditions",
                    kib(weight),
                    kib(size::MOST)
                );
                reports.not_honoured(origin, limit.field(), message);
            }
            fitting.contains(&at)
        });
        whole = with(&limits);
    }
    let mut others = limits.iter().filter(|(_, limit)| limit.bucket.is_some());
    if let Some((first, _)) = others.next() {
        for (origin, _) in others {
            let message =
                format!("calls that no condition matches are limited by {first}: leave out one of the two");
            reports.not_honoured(origin, format!("{FIELD}.tokenBucket"), message);
        }
    }
    if limits.is_empty() { entry.part.clone() } else { whole }
}
