//! How many calls a cluster takes at a time, by how long its answers take.
use core::time::Duration;

use super::{
    check::{time, within},
    error::{Path, Result, fail},
    raw,
};

/// How the limit of a cluster's calls in flight follows the times of its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveConcurrency {
    /// The percentile of the times that is compared, from 1 to 100.
    pub percentile: usize,
    /// How often the limit changes; never `0`.
    pub update_interval: Duration,
    /// How long after the least time was measured it is measured again; never `0`.
    pub measure_interval: Duration,
    /// Over how many answers it is measured; never none.
    pub measured_calls: usize,
    /// By how much later it may be measured, in percent of the interval.
    pub jitter: usize,
    /// The least limit, and the one while the least time is measured; never none.
    pub least: usize,
    /// By how much longer than the least time answers may take, in percent of it.
    pub buffer: usize,
    /// The greatest limit; not less than the least.
    pub most: usize,
}

pub(super) fn adaptive_concurrency(
    path: &Path<'_>,
    raw: &raw::AdaptiveConcurrency,
) -> Result<AdaptiveConcurrency> {
    let number = |name, value, low, high| within(&path.key(name), value, low, high);
    let span = |name, span| time(&path.key(name), span);
    let rule = AdaptiveConcurrency {
        percentile: number("sampleAggregatePercentile", raw.sample_aggregate_percentile, 1, 100)?,
        update_interval: span("concurrencyUpdateInterval", raw.concurrency_update_interval)?,
        measure_interval: span("minRttCalcInterval", raw.min_rtt_calc_interval)?,
        measured_calls: number("minRttCalcRequestCount", raw.min_rtt_calc_request_count, 1, 100_000)?,
        jitter: number("jitter", raw.jitter, 0, 100)?,
        least: number("minConcurrency", raw.min_concurrency, 1, 1_000_000)?,
        buffer: number("buffer", raw.buffer, 0, 1000)?,
        most: number("maxConcurrencyLimit", raw.max_concurrency_limit, 1, 1_000_000)?,
    };
    if rule.most < rule.least {
        return fail(&path.key("maxConcurrencyLimit"), "is less than \"minConcurrency\"; write more");
    }
    Ok(rule)
}
