//! The rules of rate limits.

use meltemi_proxy::plan::{self, MOST_DESCRIPTORS, SHORTEST_INTERVAL, Span, raw};

use super::matchers::attributes;
use super::notes::Notes;
use super::text;
use crate::api::aeraki::TokenBucket;
use crate::api::{self, AdaptiveConcurrency, GlobalRateLimit, LocalRateLimit};

/// How many calls a server takes. `is_aeraki` says whose matchers it has.
pub(super) fn local_rate_limit(notes: &mut Notes, limit: &LocalRateLimit, is_aeraki: bool) {
    if limit.token_bucket.is_none() && limit.conditions.is_empty() {
        notes.error("limits nothing; write tokenBucket or conditions");
    }
    let mut takes_all = None;
    notes.field("conditions", |notes| {
        let (count, most) = (limit.conditions.len(), api::CONDITIONS);
        if count > most {
            let mend = "write fewer, or divide them over several routers of the host";
            notes.error(format_args!("has {count} conditions, of which {most} are allowed; {mend}"));
            return;
        }
        for (index, condition) in limit.conditions.iter().enumerate() {
            notes.item(index, |notes| {
                if let Some(before) = takes_all {
                    notes.warn(format_args!("limits no call: conditions[{before}] matches every call"));
                }
                match &condition.matches {
                    Some(matches) => {
                        notes.field("match", |notes| attributes(notes, &matches.attributes, is_aeraki));
                    }
                    None => notes.error_at("match", "is missing; write which calls the limit is for"),
                }
                match &condition.token_bucket {
                    Some(limit) => notes.field("tokenBucket", |notes| bucket(notes, limit)),
                    None => notes.error_at("tokenBucket", "is missing; write the limit"),
                }
            });
            if condition.matches.as_ref().is_some_and(|matches| matches.attributes.is_empty()) {
                takes_all.get_or_insert(index);
            }
        }
    });
    notes.some("tokenBucket", limit.token_bucket.as_ref(), |notes, limit| {
        bucket(notes, limit);
        if let Some(before) = takes_all {
            notes.warn(format_args!("limits no call: conditions[{before}] matches every call"));
        }
    });
}

/// How many calls are made at a time, by how long answers take.
pub(super) fn adaptive_concurrency(notes: &mut Notes, written: &AdaptiveConcurrency) {
    for (field, value) in [
        ("concurrencyUpdateInterval", &written.concurrency_update_interval),
        ("minRttCalcInterval", &written.min_rtt_calc_interval),
    ] {
        notes.some(field, value.as_ref(), |notes, text| _ = text::positive_duration(notes, text));
    }
    for (field, value, range) in [
        ("sampleAggregatePercentile", written.sample_aggregate_percentile, 1..=100),
        ("minRttCalcRequestCount", written.min_rtt_calc_request_count, 1..=100_000),
        ("jitter", written.jitter, 0..=100),
        ("minConcurrency", written.min_concurrency, 1..=1_000_000),
        ("buffer", written.buffer, 0..=1000),
        ("maxConcurrencyLimit", written.max_concurrency_limit, 1..=1_000_000),
    ] {
        if let Some(value) = value.filter(|value| !range.contains(value)) {
            let (low, high) = range.into_inner();
            notes.error_at(field, format_args!("{value} is out of range; write one of {low} to {high}"));
        }
    }
    let default = raw::AdaptiveConcurrency::default();
    let least = written.min_concurrency.unwrap_or(default.min_concurrency);
    if written.max_concurrency_limit.unwrap_or(default.max_concurrency_limit) < least {
        notes.error_at(
            "maxConcurrencyLimit",
            format_args!("is less than minConcurrency, {least}; write more"),
        );
    }
}

fn bucket(notes: &mut Notes, bucket: &TokenBucket) {
    if bucket.max_tokens == 0 {
        notes.error_at("maxTokens", "must be at least 1");
    }
    match bucket.tokens_per_fill {
        Some(0) => notes.error_at("tokensPerFill", "must be at least 1"),
        None => notes.error_at("tokensPerFill", "is missing; write how many tokens are added each time"),
        Some(_) => {}
    }
    let Some(interval) = &bucket.fill_interval else {
        notes.error_at("fillInterval", "is missing; write how often tokens are added, such as 60s");
        return;
    };
    notes.field("fillInterval", |notes| {
        let is_short = |interval| interval < SHORTEST_INTERVAL;
        if text::positive_duration(notes, interval).is_some_and(is_short) {
            let least = u64::try_from(SHORTEST_INTERVAL.as_millis()).unwrap_or_default();
            let least = Span::from_millis(least);
            notes.error(format_args!("{interval:?} is too short; write at least {least}"));
        }
    });
}

/// How many calls all servers take. `is_aeraki` says whose matchers it has.
pub(super) fn global_rate_limit(notes: &mut Notes, limit: &GlobalRateLimit, is_aeraki: bool) {
    text::not_empty(notes, "domain", &limit.domain, "write the domain that the service is asked with");
    notes.some("match", limit.matches.as_ref(), |notes, matches| {
        attributes(notes, &matches.attributes, is_aeraki);
    });
    let mend = "write the cluster of the service, such as outbound|8081||ratelimit.shop.svc.cluster.local";
    text::not_empty(notes, "rateLimitService", &limit.rate_limit_service, mend);
    if !limit.rate_limit_service.is_empty()
        && let Err(why) = plan::check_cluster(&limit.rate_limit_service)
    {
        notes.error_at("rateLimitService", why);
    }
    notes.some("requestTimeout", limit.request_timeout.as_ref(), |notes, timeout| {
        text::positive_duration(notes, timeout);
    });
    if limit.descriptors.is_empty() {
        notes.error_at("descriptors", "are missing; write at least one");
    }
    if !limit.combined && limit.descriptors.len() > MOST_DESCRIPTORS {
        let count = limit.descriptors.len();
        let message =
            format_args!("{count} descriptors, of which {MOST_DESCRIPTORS} are allowed; write fewer");
        notes.error_at("descriptors", message);
    }
    notes.each("descriptors", &limit.descriptors, |notes, descriptor| {
        text::not_empty(notes, "property", &descriptor.property, "name the attribute that is sent");
        if !descriptor.property.is_empty() {
            notes.field("property", |notes| text::attribute(notes, &descriptor.property));
        }
        text::not_empty(
            notes,
            "descriptorKey",
            &descriptor.descriptor_key,
            "name the key that it is sent under",
        );
    });
    if limit.hits == Some(0) {
        notes.error_at("hits", "must be at least 1");
    }
}
