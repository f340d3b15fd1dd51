//! What holds for the clusters of a service: circuit breakers, outlier detection, concurrency, hashing and weights.
use core::time::Duration;
use std::rc::Rc;

use super::{
    check::{time, within},
    concurrency::{AdaptiveConcurrency, adaptive_concurrency},
    error::{Path, Result, fail},
    hash::{HashKey, hash_key},
    map::Map,
    raw,
};

/// What holds for the clusters of a service.
#[derive(Debug)]
pub struct Clusters {
    /// What holds for those that have nothing of their own.
    default: Rc<ClusterPolicy>,
    own: Map<Rc<ClusterPolicy>>,
}

/// What holds for one cluster.
#[derive(Debug, Clone)]
pub struct ClusterPolicy {
    /// How many calls it takes at a time.
    pub circuit_breaker: CircuitBreaker,
    /// When an endpoint is left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// How many calls it takes at a time by how long its answers take.
    pub adaptive_concurrency: Option<AdaptiveConcurrency>,
    /// Whether it matters how its calls end, or when: for either of these two.
    pub is_watched: bool,
    /// By what calls are hashed.
    pub hash: Option<HashKey>,
    /// Whether endpoints get calls as often as Envoy chooses them.
    pub keeps_weights: bool,
}

/// How many calls one worker makes to a cluster at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Calls in flight, those that wait included.
    pub max_calls: usize,
    /// Calls that wait for a connection; never none.
    pub max_waiting_calls: usize,
    /// Calls that are on a retry.
    pub max_retries: usize,
}

/// When an endpoint is left out for the failures of its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Failures in a row; `None` for any number.
    pub consecutive_failures: Option<u32>,
    /// Percent of the calls of an interval that fail; `None` for any share.
    pub failure_percent: Option<u32>,
    /// Calls of an interval without which the share says nothing; never none.
    pub min_calls: u32,
    /// When fewer of its calls succeed than those of others.
    pub success_rate: Option<SuccessRate>,
    /// Over which time shares are taken.
    pub interval: Duration,
    /// How long the first time.
    pub base_ejection_time: Duration,
    /// How long at most; not less than the first time.
    pub max_ejection_time: Duration,
    /// Percent of the endpoints that may be left out at a time.
    pub max_ejection_percent: usize,
    /// Percent of the endpoints that are left in at least.
    pub min_health_percent: usize,
}

/// When an endpoint is left out as fewer of its calls succeed than of others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuccessRate {
    /// By how many thousandths of the deviation it is under the mean; never none.
    pub stdev_factor: u32,
    /// Endpoints without which the mean says nothing; never none.
    pub minimum_hosts: usize,
    /// Calls of an interval without which an endpoint is not one of them; never none.
    pub request_volume: u32,
}

impl Clusters {
    /// What holds for that cluster.
    pub fn of(&self, cluster: &str) -> &Rc<ClusterPolicy> {
        self.own.get(cluster).unwrap_or(&self.default)
    }

    /// What holds for those that have nothing of their own.
    pub(super) fn default(&self) -> &ClusterPolicy {
        &self.default
    }

    /// Those that have something of their own, and all that holds for each.
    pub(super) fn own(&self) -> impl Iterator<Item = (&str, &ClusterPolicy)> {
        self.own.iter().map(|(name, policy)| (name, &**policy))
    }

    /// By what the calls of any cluster are hashed.
    pub(super) fn keys(&self) -> impl Iterator<Item = &HashKey> {
        self.own.values().chain([&self.default]).filter_map(|policy| policy.hash.as_ref())
    }
}

/// `None` if there is nothing.
pub(super) fn clusters(path: &Path<'_>, raw: &raw::Upstream) -> Result<Option<Box<Clusters>>> {
    let hash = |path: &Path<'_>, names: &Option<Vec<String>>| {
        names.as_deref().map(|names| hash_key(&path.key("hashBy"), names)).transpose()
    };
    let says = Says::of_service(raw);
    let default = ClusterPolicy {
        hash: hash(path, &raw.hash_by)?,
        keeps_weights: raw.keep_weights,
        ..policy(path, &says)?
    };
    let has_default = says.anything() || default.hash.is_some() || default.keeps_weights;
    let mut own = Vec::new();
    let all = path.key("clusters");
    for (name, raw) in raw.clusters.iter() {
        let path = &all.key(name);
        let says = Says::of_cluster(raw);
        if !says.anything() && raw.hash_by.is_none() && raw.keep_weights.is_none() {
            let message = "says nothing; write \"circuitBreaker\", \"outlierDetection\", \"adaptiveConcurrency\", \"hashBy\" or \"keepWeights\", or leave it out";
            return fail(path, message);
        }
        let mut policy = policy(path, &says)?;
        policy.hash = hash(path, &raw.hash_by)?.or_else(|| default.hash.clone());
        policy.keeps_weights = raw.keep_weights.unwrap_or(default.keeps_weights);
        if says.circuit_breaker.is_none() {
            policy.circuit_breaker = default.circuit_breaker;
        }
        policy.outlier_detection = policy.outlier_detection.or(default.outlier_detection);
        policy.adaptive_concurrency = policy.adaptive_concurrency.or(default.adaptive_concurrency);
        policy.is_watched |= default.is_watched;
        own.push((name.into(), Rc::new(policy)));
    }
    let is_protected = has_default || !own.is_empty();
    Ok(is_protected.then(|| Box::new(Clusters { default: Rc::new(default), own: Map::new(own) })))
}

/// What a service, or one cluster of it, says of protection.
struct Says<'a> {
    circuit_breaker: Option<&'a raw::CircuitBreaker>,
    outlier_detection: Option<&'a raw::OutlierDetection>,
    adaptive_concurrency: Option<&'a raw::AdaptiveConcurrency>,
}

impl<'a> Says<'a> {
    fn of_service(raw: &'a raw::Upstream) -> Self {
        Self {
            circuit_breaker: raw.circuit_breaker.as_ref(),
            outlier_detection: raw.outlier_detection.as_ref(),
            adaptive_concurrency: raw.adaptive_concurrency.as_ref(),
        }
    }

    fn of_cluster(raw: &'a raw::Cluster) -> Self {
        Self {
            circuit_breaker: raw.circuit_breaker.as_ref(),
            outlier_detection: raw.outlier_detection.as_ref(),
            adaptive_concurrency: raw.adaptive_concurrency.as_ref(),
        }
    }

    fn anything(&self) -> bool {
        self.circuit_breaker.is_some()
            || self.outlier_detection.is_some()
            || self.adaptive_concurrency.is_some()
    }
}

fn policy(path: &Path<'_>, says: &Says<'_>) -> Result<ClusterPolicy> {
    let breaker = says.circuit_breaker.copied().unwrap_or_default();
    let outlier = says.outlier_detection;
    let outlier = outlier.map(|raw| outlier_detection(&path.key("outlierDetection"), raw)).transpose()?;
    let adaptive = says.adaptive_concurrency;
    let adaptive =
        adaptive.map(|raw| adaptive_concurrency(&path.key("adaptiveConcurrency"), raw)).transpose()?;
    Ok(ClusterPolicy {
        circuit_breaker: circuit_breaker(&path.key("circuitBreaker"), breaker)?,
        outlier_detection: outlier,
        adaptive_concurrency: adaptive,
        is_watched: outlier.is_some() || adaptive.is_some(),
        hash: None,
        keeps_weights: false,
    })
}

fn circuit_breaker(path: &Path<'_>, raw: raw::CircuitBreaker) -> Result<CircuitBreaker> {
    let most = |name, value: Option<u32>, least| {
        value.map_or(Ok(usize::MAX), |value| within(&path.key(name), value, least, u32::MAX))
    };
    Ok(CircuitBreaker {
        max_calls: most("maxCalls", raw.max_calls, 1)?,
        max_waiting_calls: most("maxWaitingCalls", raw.max_waiting_calls, 1)?,
        max_retries: most("maxRetries", raw.max_retries, 0)?,
    })
}

fn outlier_detection(path: &Path<'_>, raw: &raw::OutlierDetection) -> Result<OutlierDetection> {
    let none_if_zero = |value: u32| (value > 0).then_some(value);
    let [consecutive_failures, failure_percent] =
        [raw.consecutive_failures, raw.failure_percent].map(none_if_zero);
    let stdev_factor = none_if_zero(raw.success_rate_stdev_factor);
    if consecutive_failures.or(failure_percent).or(stdev_factor).is_none() {
        return fail(
            path,
            "leaves out no endpoint; give \"consecutiveFailures\", \"failurePercent\" or \"successRateStdevFactor\" more than 0, or leave it out",
        );
    }
    within(&path.key("successRateRequestVolume"), raw.success_rate_request_volume, 1, u32::MAX)?;
    let least = raw.success_rate_minimum_hosts;
    let minimum_hosts = within(&path.key("successRateMinimumHosts"), least, 1, u32::MAX)?;
    let request_volume = raw.success_rate_request_volume;
    within(&path.key("failurePercent"), raw.failure_percent, 0, 100)?;
    within(&path.key("minCalls"), raw.min_calls, 1, u32::MAX)?;
    let time = |name, span| time(&path.key(name), span);
    let base_ejection_time = time("baseEjectionTime", raw.base_ejection_time)?;
    let longest = raw.max_ejection_time.limit().unwrap_or_default();
    Ok(OutlierDetection {
        consecutive_failures,
        failure_percent,
        min_calls: raw.min_calls,
        success_rate: stdev_factor.map(|stdev_factor| SuccessRate {
            stdev_factor,
            minimum_hosts,
            request_volume,
        }),
        interval: time("interval", raw.interval)?,
        base_ejection_time,
        max_ejection_time: longest.max(base_ejection_time),
        max_ejection_percent: within(&path.key("maxEjectionPercent"), raw.max_ejection_percent, 0, 100)?,
        min_health_percent: within(&path.key("minHealthPercent"), raw.min_health_percent, 0, 100)?,
    })
}
