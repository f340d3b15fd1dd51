//! How many calls the servers of a service take: the rate limits of the routers of its namespace, in the plan's entry of the
//! servers' sidecars.

use meltemi_codecs::Codecs;
use meltemi_proxy::plan::Plan;
use serde_json::{Map, Value, json};

use super::report::Reports;
use super::room;
use super::size::{self, kib};
use super::terms::{duration, matchers};
use super::tree::Part;
use crate::api::LocalRateLimit;
use crate::api::aeraki::TokenBucket;
use crate::check::MOST_OF_NAMESPACE;
use crate::findings::ResourceRef;
use crate::place::{Step, push_key, steps};
use crate::protocol;

/// The field of a router that has it.
pub(super) const FIELD: &str = "spec.localRateLimit";

/// What one router says.
#[derive(Debug)]
pub(super) struct Limit {
    conditions: Vec<Value>,
    bucket: Option<Value>,
    /// What the tables of its regular expressions take, in bytes.
    tables: usize,
}

impl Limit {
    /// What a router says that was checked.
    ///
    /// # Errors
    ///
    /// The filter would refuse it: the field, and why.
    pub(super) fn new(written: &LocalRateLimit) -> Result<Self, (String, String)> {
        let conditions = written.conditions.iter().filter_map(|condition| {
            let attributes = &condition.matches.as_ref()?.attributes;
            let mut limit = json!({"tokenBucket": bucket(condition.token_bucket.as_ref()?)});
            if !attributes.is_empty() {
                limit["match"] = json!([{"attributes": matchers(attributes)}]);
            }
            Some(limit)
        });
        let mut limit = Self {
            conditions: conditions.collect(),
            bucket: written.token_bucket.as_ref().map(bucket),
            tables: 0,
        };
        limit.tables = tables(&json!(merged([&limit].into_iter())))?;
        Ok(limit)
    }
}

/// What the tables of the regular expressions in a plan's limit take, in bytes.
fn tables(limit: &Value) -> Result<usize, (String, String)> {
    let plan = json!({"services": {"s": {"protocol": protocol::stand_in(), "localRateLimit": limit}}});
    let error = match Plan::parse(plan.to_string().as_bytes(), &Codecs::all()) {
        Ok(plan) => return Ok(plan.services().map(|service| service.pattern_bytes).sum()),
        Err(error) => error,
    };
    let mut path = "spec".to_owned();
    let mut is_alternative = false;
    for step in steps(&error.path).iter().skip(2) {
        match step {
            // The plan has a list of alternatives, a router the one.
            Step::Index(_) if is_alternative => {}
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Key(key) => push_key(&mut path, key),
        }
        is_alternative = matches!(step, Step::Key(key) if key == "match");
    }
    Err((path, error.message))
}

fn bucket(written: &TokenBucket) -> Value {
    json!({
        "maxTokens": written.max_tokens,
        "tokensPerFill": written.tokens_per_fill,
        "fillInterval": written.fill_interval.as_deref().and_then(duration),
    })
}

/// The plan's limit: the conditions of all in their order, and the first bucket for the calls that none of them matches.
fn merged<'l>(limits: impl Iterator<Item = &'l Limit> + Clone) -> Map<String, Value> {
    let mut plan = Map::new();
    let conditions: Vec<Value> = limits.clone().flat_map(|limit| limit.conditions.iter().cloned()).collect();
    if !conditions.is_empty() {
        plan.insert("conditions".into(), conditions.into());
    }
    let mut buckets = limits.filter_map(|limit| limit.bucket.clone());
    plan.extend(buckets.next().map(|bucket| ("tokenBucket".to_owned(), bucket)));
    plan
}

/// The entry of servers with the limits of some routers, in their order. What is left out is reported. What guards the
/// servers comes first: the limits share the room that `entry` leaves.
pub(super) fn limited(
    entry: &Part,
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
        let mut value = entry.value().clone();
        value["localRateLimit"] = json!(merged(limits.iter().map(|(_, limit)| *limit)));
        size::entry(value).of_origins(entry.origins().to_vec())
    };
    let mut whole = put(&limits);
    if whole.weight > size::MOST {
        let weight = |limit| (1, put(&[limit]).weight.saturating_sub(entry.weight));
        let mut weights = vec![(0, entry.weight)];
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
    if limits.is_empty() { entry.clone() } else { whole }
}
