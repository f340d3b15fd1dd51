//! What holds for the clusters of a service: circuit breakers, outlier detection, hashing and weights.
use core::time::Duration;
use std::rc::Rc;

use super::{
    check::within,
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
    /// Over which time the share is taken.
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

impl Clusters {
    /// What holds for that cluster.
    pub fn of(&self, cluster: &str) -> &Rc<ClusterPolicy> {
        self.own.get(cluster).unwrap_or(&self.default)
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
    let default = ClusterPolicy {
        hash: hash(path, &raw.hash_by)?,
        keeps_weights: raw.keep_weights,
        ..policy(path, raw.circuit_breaker.as_ref(), raw.outlier_detection.as_ref())?
    };
    let has_default = raw.circuit_breaker.is_some()
        || raw.outlier_detection.is_some()
        || default.hash.is_some()
        || default.keeps_weights;
    let mut own = Vec::new();
    let all = path.key("clusters");
    for (name, raw) in raw.clusters.iter() {
        let path = &all.key(name);
        let is_protected = raw.circuit_breaker.is_some() || raw.outlier_detection.is_some();
        if !is_protected && raw.hash_by.is_none() && raw.keep_weights.is_none() {
            let message = "says nothing; write \"circuitBreaker\", \"outlierDetection\", \"hashBy\" or \"keepWeights\", or leave it out";
            return fail(path, message);
        }
        let ClusterPolicy { mut circuit_breaker, mut outlier_detection, .. } = default;
        let hash = hash(path, &raw.hash_by)?.or_else(|| default.hash.clone());
        let policy = policy(path, raw.circuit_breaker.as_ref(), raw.outlier_detection.as_ref())?;
        if raw.circuit_breaker.is_some() {
            circuit_breaker = policy.circuit_breaker;
        }
        if raw.outlier_detection.is_some() {
            outlier_detection = policy.outlier_detection;
        }
        let keeps_weights = raw.keep_weights.unwrap_or(default.keeps_weights);
        let policy = ClusterPolicy { circuit_breaker, outlier_detection, hash, keeps_weights };
        own.push((name.into(), Rc::new(policy)));
    }
    let is_protected = has_default || !own.is_empty();
    Ok(is_protected.then(|| Box::new(Clusters { default: Rc::new(default), own: Map::new(own) })))
}

fn policy(
    path: &Path<'_>,
    breaker: Option<&raw::CircuitBreaker>,
    outlier: Option<&raw::OutlierDetection>,
) -> Result<ClusterPolicy> {
    Ok(ClusterPolicy {
        circuit_breaker: circuit_breaker(&path.key("circuitBreaker"), breaker.copied().unwrap_or_default())?,
        outlier_detection: match outlier {
            Some(raw) => Some(outlier_detection(&path.key("outlierDetection"), raw)?),
            None => None,
        },
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
    if consecutive_failures.is_none() && failure_percent.is_none() {
        return fail(
            path,
            "leaves out no endpoint; give \"consecutiveFailures\" or \"failurePercent\" more than 0, or leave it out",
        );
    }
    within(&path.key("failurePercent"), raw.failure_percent, 0, 100)?;
    within(&path.key("minCalls"), raw.min_calls, 1, u32::MAX)?;
    let time = |name, span: crate::Span| match span.limit() {
        Some(time) => Ok(time),
        None => fail(&path.key(name), "is no time; write at least \"1ms\""),
    };
    let base_ejection_time = time("baseEjectionTime", raw.base_ejection_time)?;
    let longest = raw.max_ejection_time.limit().unwrap_or_default();
    Ok(OutlierDetection {
        consecutive_failures,
        failure_percent,
        min_calls: raw.min_calls,
        interval: time("interval", raw.interval)?,
        base_ejection_time,
        max_ejection_time: longest.max(base_ejection_time),
        max_ejection_percent: within(&path.key("maxEjectionPercent"), raw.max_ejection_percent, 0, 100)?,
        min_health_percent: within(&path.key("minHealthPercent"), raw.min_health_percent, 0, 100)?,
    })
}
