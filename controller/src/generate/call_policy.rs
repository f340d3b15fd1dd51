//! What DestinationRules say of calls, in the terms of plans. Envoy has it for the connections that calls share.

use meltemi_proxy::plan::raw;
use serde_json::Value;

use super::duration::duration;
use super::report::{Remarks, Reports};
use super::service::Service;
use super::trial;
use super::wishes::PINNED;
use crate::check::KEY_BYTES;
use crate::findings::ResourceRef;
use crate::istio::{
    ConnectionPool, ConsistentHash, HttpPool, LoadBalancer, OutlierDetection, Settings, TrafficPolicy,
};

/// What holds for the calls to one port of a service, or of its endpoints of a subset.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CallPolicy<'a> {
    load_balancer: Option<&'a LoadBalancer>,
    connection_pool: Option<&'a ConnectionPool>,
    outlier_detection: Option<&'a OutlierDetection>,
}

impl<'a> CallPolicy<'a> {
    /// What a rule and its subset say. As Istio has it: a part of the subset is in the place of the rule's, and the settings
    /// of a port in the place of all.
    pub(super) fn new(rule: Option<&'a TrafficPolicy>, subset: Option<&'a TrafficPolicy>, port: u16) -> Self {
        let policies = rule.into_iter().chain(subset);
        policies.fold(Self::default(), |before, policy| before.overridden(policy, port))
    }

    fn overridden(self, policy: &'a TrafficPolicy, port: u16) -> Self {
        let mut of_ports = policy.port_level_settings.iter();
        if let Some(own) = of_ports.find(|own| own.port.number == i64::from(port)) {
            return Self::of(&own.settings);
        }
        let all = Self::of(&policy.all);
        Self {
            load_balancer: all.load_balancer.or(self.load_balancer),
            connection_pool: all.connection_pool.or(self.connection_pool),
            outlier_detection: all.outlier_detection.or(self.outlier_detection),
        }
    }

    fn of(settings: &'a Settings) -> Self {
        Self {
            load_balancer: settings.load_balancer.as_ref(),
            connection_pool: settings.connection_pool.as_ref(),
            outlier_detection: settings.outlier_detection.as_ref(),
        }
    }

    /// Whether calls are hashed.
    pub(super) fn has_ring(self) -> bool {
        self.load_balancer.is_some_and(|balancer| balancer.consistent_hash.is_some())
    }

    /// Whether endpoints have weights by where they are; `None` where that is not said.
    fn distributes(self) -> Option<bool> {
        let setting = self.load_balancer?.locality_lb_setting.as_ref()?;
        Some(setting.distributes())
    }

    /// Whether connections of HTTP are of HTTP/2, whatever the protocol of the port is; `None` where that is not said.
    pub(super) fn upgrades(self) -> Option<bool> {
        let http = self.connection_pool?.http.as_ref()?;
        let keeps_clients = http.use_client_protocol.as_ref().is_some_and(|keeps| *keeps == true);
        match http.h2_upgrade_policy.as_ref().and_then(Value::as_str) {
            // What is no client's is of HTTP/1.1.
            _ if keeps_clients => Some(false),
            Some("UPGRADE") => Some(true),
            Some("DO_NOT_UPGRADE") => Some(false),
            _ => None,
        }
    }

    /// What the plan says of the cluster, if it says something. Its endpoints may have weights, or have some by where they are
    /// if the rules do not say that. What cannot be honoured is left out, and reported with the rule.
    pub(super) fn cluster(self, has_weights: bool, distributes: bool) -> Option<raw::Cluster> {
        let mut unheard = Reports::default();
        let origin = ResourceRef::new("", "", None, "");
        let mut say = Remarks { origin: &origin, path: String::new(), reports: &mut unheard };
        let hash = self.load_balancer.and_then(|balancer| balancer.consistent_hash.as_ref());
        let cluster = raw::Cluster {
            hash_by: hash.and_then(|hash| attribute(hash, &mut say)).map(|name| vec![name]),
            circuit_breaker: self.connection_pool.and_then(|pool| breaker(pool.http.as_ref()?)),
            outlier_detection: self.outlier_detection.and_then(|rule| detection(rule, &mut say)),
            // No DestinationRule says it.
            adaptive_concurrency: None,
            keep_weights: (has_weights || self.distributes().unwrap_or(distributes)).then_some(true),
        };
        (cluster != raw::Cluster::default()).then_some(cluster)
    }
}

/// Whether a policy says something of calls.
pub(super) fn speaks(policy: &TrafficPolicy) -> bool {
    let of_ports = policy.port_level_settings.iter().map(|own| &own.settings);
    std::iter::once(&policy.all).chain(of_ports).any(|settings| {
        let policy = CallPolicy::of(settings);
        policy.has_ring()
            || policy.distributes().is_some()
            || policy.connection_pool.is_some_and(|pool| pool.http.is_some())
            || policy.outlier_detection.is_some()
    })
}

/// Says what of a policy cannot be honoured for the calls to a service.
pub(super) fn report(
    origin: &ResourceRef,
    path: &str,
    policy: &TrafficPolicy,
    service: &Service,
    reports: &mut Reports,
) {
    let is_pinned = service.wishes.pins();
    if policy.retry_budget.is_some() {
        let message = "retries have the budget that all plans give: write connectionPool.http.maxRetries to limit them further";
        reports.not_honoured(origin, format!("{path}.retryBudget"), message);
    }
    let of_ports = policy.port_level_settings.iter().enumerate();
    let of_ports = of_ports.map(|(at, own)| (format!("{path}.portLevelSettings[{at}]"), &own.settings));
    for (path, settings) in std::iter::once((path.to_owned(), &policy.all)).chain(of_ports) {
        if let Some(hash) = settings.load_balancer.as_ref().and_then(|one| one.consistent_hash.as_ref()) {
            let path = format!("{path}.loadBalancer.consistentHash");
            if service.is_original_destination {
                let message = "the service is headless: its calls go to the address that the client asks for. Give it a cluster IP";
                reports.not_honoured(origin, path, message);
            } else {
                attribute(hash, &mut Remarks { origin, path, reports });
            }
        }
        if let Some(pool) = settings.connection_pool.as_ref().and_then(|pool| pool.http.as_ref()) {
            let path = format!("{path}.connectionPool.http");
            if is_pinned && breaker(pool).is_some() {
                reports.warn(origin, &*path, format!("counts the calls of each client by itself: {PINNED}"));
            }
            report_pool(pool, &mut Remarks { origin, path, reports });
        }
        if let Some(rule) = &settings.outlier_detection {
            let path = format!("{path}.outlierDetection");
            if is_pinned {
                reports.not_honoured(origin, &*path, format!("is not in force for calls: {PINNED}"));
            }
            detection(rule, &mut Remarks { origin, path, reports });
        }
    }
}

/// The attribute by which calls are hashed.
fn attribute(hash: &ConsistentHash, say: &mut Remarks<'_>) -> Option<String> {
    let mend = "name an attribute of theirs by httpHeaderName, or write useSourceIp";
    if hash.http_cookie.is_some() {
        say.not_honoured("httpCookie", format!("calls have no cookies: {mend}"));
    }
    if hash.http_query_parameter_name.is_some() {
        say.not_honoured("httpQueryParameterName", format!("calls have no query: {mend}"));
    }
    if hash.use_source_ip == Some(true) {
        return Some(SOURCE.to_owned());
    }
    let name = hash.http_header_name.as_ref()?;
    if name.len() > KEY_BYTES {
        say.not_honoured(
            "httpHeaderName",
            format!("has {} bytes, of which {KEY_BYTES} are allowed", name.len()),
        );
        return None;
    }
    if let Some(why) = trial::refused_key(name) {
        say.not_honoured("httpHeaderName", why);
        return None;
    }
    Some(name.clone())
}

/// The address of the client, as an attribute.
const SOURCE: &str = "source.ip";

/// How many calls there may be; `None` for any number.
fn breaker(pool: &HttpPool) -> Option<raw::CircuitBreaker> {
    let most = |value: i64| u32::try_from(value).ok().filter(|&most| most > 0);
    let breaker = raw::CircuitBreaker {
        max_calls: most(pool.max_requests),
        max_waiting_calls: most(pool.max_pending_requests),
        max_retries: most(pool.max_retries),
    };
    (breaker != raw::CircuitBreaker::default()).then_some(breaker)
}

fn report_pool(pool: &HttpPool, say: &mut Remarks<'_>) {
    for (field, is_there) in [
        ("maxRequestsPerConnection", pool.max_requests_per_connection.is_some()),
        ("maxConcurrentStreams", pool.max_concurrent_streams.is_some()),
        ("idleTimeout", pool.idle_timeout.is_some()),
        ("h2UpgradePolicy", pool.h2_upgrade_policy.is_some()),
        ("useClientProtocol", pool.use_client_protocol.is_some()),
    ] {
        if is_there {
            say.not_honoured(field, "is of connections of HTTP, and calls have none: leave it out");
        }
    }
}

/// When an endpoint is left out; `None` for never.
fn detection(rule: &OutlierDetection, say: &mut Remarks<'_>) -> Option<raw::OutlierDetection> {
    let default = raw::OutlierDetection::default();
    if rule.split_external_local_origin_errors {
        let message = "calls have one count, of errors, time-outs and lost connections: the least of the numbers applies";
        say.not_honoured("splitExternalLocalOriginErrors", message);
    }
    // Where the first is not said, Envoy has a number of its own.
    let all = [
        Some(rule.consecutive_errors.unwrap_or(default.consecutive_failures.into())),
        rule.consecutive_gateway_errors,
        rule.consecutive_local_origin_failures.filter(|_| rule.split_external_local_origin_errors),
    ];
    let least = all.into_iter().flatten().filter(|&number| number > 0).min()?;
    let percent = |value: i64| u32::try_from(value.clamp(0, 100)).unwrap_or_default();
    let mut time = |field: &str, written: &Option<String>, default| {
        let written = written.as_deref().and_then(|text| duration(text, field, say));
        written.filter(|time| time.limit().is_some()).unwrap_or(default)
    };
    Some(raw::OutlierDetection {
        consecutive_failures: u32::try_from(least).unwrap_or(u32::MAX),
        interval: time("interval", &rule.interval, default.interval),
        base_ejection_time: time("baseEjectionTime", &rule.base_ejection_time, default.base_ejection_time),
        max_ejection_percent: rule
            .max_ejection_percent
            .filter(|&most| most > 0)
            .map_or(default.max_ejection_percent, percent),
        min_health_percent: rule.min_health_percent.map_or(default.min_health_percent, percent),
        ..default
    })
}
