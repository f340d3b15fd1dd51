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
use crate::api::LocalRateLimit;
use crate::api::aeraki::TokenBucket;
use crate::check::MOST_OF_NAMESPACE;
use crate::findings::ResourceRef;

/// The field of a router that has it.
pub(super) const FIELD: &str = "spec.localRateLimit";

/// What one router says.
#[derive(Debug)]
pub(super) struct Limit {
    conditions: Vec<raw::Condition>,
    bucket: Option<raw::TokenBucket>,
    /// What the tables of its regular expressions take, in bytes.
    tables: usize,
}

impl Limit {
    /// What a router says that was checked.
    ///
    /// # Errors
    ///
    /// The filter would refuse it: the field, and why.
    pub(super) fn new(written: &LocalRateLimit) -> Result<Self, Refusal> {
        let mut places = Places::new(FIELD.to_owned());
        let mut conditions = Vec::new();
        for (at, condition) in written.conditions.iter().enumerate() {
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
        let mut limit = Self { conditions, bucket: written.token_bucket.as_ref().map(bucket), tables: 0 };
        let mut service = raw::Service::new(trial::stand_in());
        service.local_rate_limit = Some(merged([&limit].into_iter()));
        limit.tables = trial::compiled(service).map_err(|error| {
            let field = places.of(trial::below(&error, "localRateLimit").unwrap_or_default());
            Refusal { field, message: error.message }
        })?;
        Ok(limit)
    }
}

fn bucket(written: &TokenBucket) -> raw::TokenBucket {
    raw::TokenBucket {
        fill_interval: written.fill_interval.as_deref().and_then(duration).unwrap_or_default(),
        max_tokens: written.max_tokens,
        tokens_per_fill: written.tokens_per_fill.unwrap_or_default(),
    }
}

/// The plan's limit: the conditions of all in their order, and the first bucket for the calls that none of them matches.
fn merged<'l>(limits: impl Iterator<Item = &'l Limit> + Clone) -> raw::LocalRateLimit {
    raw::LocalRateLimit {
        conditions: limits.clone().flat_map(|limit| limit.conditions.iter().cloned()).collect(),
        token_bucket: limits.filter_map(|limit| limit.bucket.clone()).next(),
    }
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
            reports.not_honoured(origin, FIELD, room::full(namespace));
        }
        rest.is_some()
    });
    let put = |limits: &[(&ResourceRef, &Limit)]| {
        let mut service = entry.service.clone();
        service.local_rate_limit = Some(merged(limits.iter().map(|(_, limit)| *limit)));
        Made::new(service, entry.part.origins().to_vec()).part
    };
    let mut whole = put(&limits);
    if whole.weight > size::MOST {
        let weight = |limit| (1, put(&[limit]).weight.saturating_sub(entry.part.weight));
        let mut weights = vec![(0, entry.part.weight)];
        weights.extend(limits.iter().copied().map(weight));
        let fitting = size::fitting(&weights);
        let mut weights = weights.into_iter().enumerate().skip(1);
        limits.retain(|(origin, _)| {
            let Some((at, (_, weight))) = weights.next() else { return false };
            if !fitting.contains(&at) {
                let message = format!(
                    "not enforced: it takes {} of the {} that the plan has for the servers of {about}: write fewer or shorter \
                     conditions",
                    kib(weight),
                    kib(size::MOST)
                );
                reports.not_honoured(origin, FIELD, message);
            }
            fitting.contains(&at)
        });
        whole = put(&limits);
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
