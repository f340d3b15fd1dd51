use super::object::object;
use crate::Span;

/// How many calls one worker of a proxy makes to a cluster at a time, by how much longer its answers take than they can: as
/// Envoy's filter of that name has it for HTTP. What is over the limit is answered at once.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields, default))]
pub struct AdaptiveConcurrency {
    /// The percentile of the times of answers that is compared.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100)))]
    pub sample_aggregate_percentile: u32,
    /// How often the limit changes; at least `1ms`.
    pub concurrency_update_interval: Span,
    /// How long after the least time was measured it is measured again; at least `1ms`.
    pub min_rtt_calc_interval: Span,
    /// Over how many answers it is measured.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 100000)))]
    pub min_rtt_calc_request_count: u32,
    /// By how much later it may be measured, by chance, in percent of the interval: workers do not measure together.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    pub jitter: u32,
    /// The least limit, and the one while the least time is measured.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000000)))]
    pub min_concurrency: u32,
    /// By how much longer than the least time answers may take, in percent of it.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 1000)))]
    pub buffer: u32,
    /// The greatest limit; not less than the least.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000000)))]
    pub max_concurrency_limit: u32,
}

object! {
    AdaptiveConcurrency from Self::default();
    optional sample_aggregate_percentile as "sampleAggregatePercentile",
        concurrency_update_interval as "concurrencyUpdateInterval", min_rtt_calc_interval as "minRttCalcInterval",
        min_rtt_calc_request_count as "minRttCalcRequestCount", jitter, min_concurrency as "minConcurrency", buffer,
        max_concurrency_limit as "maxConcurrencyLimit";
}

impl Default for AdaptiveConcurrency {
    fn default() -> Self {
        Self {
            sample_aggregate_percentile: 50,
            concurrency_update_interval: Span::from_millis(100),
            min_rtt_calc_interval: Span::from_millis(60_000),
            min_rtt_calc_request_count: 50,
            jitter: 15,
            min_concurrency: 3,
            buffer: 25,
            max_concurrency_limit: 1000,
        }
    }
}
