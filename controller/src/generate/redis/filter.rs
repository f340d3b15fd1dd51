//! RedisServices: the configuration of Envoy's redis_proxy.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::auth::{Secrets, source};
use super::destination::{Destinations, Target, Unfit, duration};
use super::hosts::Hosts;
use crate::api::aeraki::{
    Percent, ReadPolicy, RedisFault, RedisFaultKind, RedisMirror, RedisRoute, RedisService, RedisSettings,
};
use crate::findings::ResourceRef;
use crate::generate::host;
use crate::generate::report::Reports;
use crate::generate::service::{Service, cluster};

/// What holds for one port of a service.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    /// What somebody wrote.
    pub(super) resource: Option<&'a RedisService>,
    pub(super) service: &'a Service,
    pub(super) port: u16,
    pub(super) domain: &'a str,
}

/// The patch that puts a filter in place of a listener's tcp_proxy.
pub(super) fn on_listener(listener: &str, filter: &Value) -> Value {
    let tcp_proxy = "envoy.filters.network.tcp_proxy";
    json!({
        "applyTo": "NETWORK_FILTER",
        "match": {
            "context": "SIDECAR_OUTBOUND",
            "listener": {"name": listener, "filterChain": {"filter": {"name": tcp_proxy}}},
        },
        "patch": {"operation": "REPLACE", "value": filter},
    })
}

/// The most bytes of a prefix that Envoy takes.
const LONGEST_PREFIX: usize = 1000;

impl Rules<'_> {
    /// The filter and the clusters that it leads to. `None` if the service has to stay plain TCP, which is reported.
    pub(super) fn filter(
        &self,
        destinations: &mut Destinations<'_>,
        hosts: &Hosts<'_>,
        secrets: &Secrets<'_>,
        reports: &mut Reports,
    ) -> Option<(Value, Vec<Target>)> {
        let origin = self.resource.map(ResourceRef::of);
        let origin = origin.as_ref().unwrap_or(&self.service.origin);
        let mut writer = Writer { rules: self, origin, destinations, hosts, reports, targets: Vec::new() };
        let none = RedisSettings::default();
        let written = self.resource.and_then(|resource| resource.spec.settings.as_ref()).unwrap_or(&none);
        let mut proxy = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy",
            "stat_prefix": cluster(&self.service.host, self.port, None),
            "settings": settings(written),
            "prefix_routes": writer.routes(written.case_insensitive)?,
        });
        let faults = self.resource.map_or(&[][..], |resource| &resource.spec.faults);
        if !faults.is_empty() {
            proxy["faults"] = faults.iter().map(fault).collect();
        }
        let targets = writer.targets;
        let reads = written.read_policy.unwrap_or_default();
        if reads != ReadPolicy::Master && !targets.iter().any(|target| target.is_redis_cluster) {
            let message = "only of a Redis cluster Envoy knows which server is a replica: name one by a RedisDestination with the \
                           mode CLUSTER";
            reports.not_honoured(origin, "spec.settings.readPolicy", message);
        }
        if let Some(auth) = &written.auth {
            match secrets.credentials(auth, &self.service.namespace) {
                Ok(credentials) => {
                    if let Some(remark) = credentials.remark() {
                        reports.warn(origin, "spec.settings.auth", remark);
                    }
                    proxy["downstream_auth_passwords"] = json!([source(&credentials.password)]);
                    if let Some(username) = &credentials.username {
                        proxy["downstream_auth_username"] = source(username);
                    }
                }
                Err(message) => {
                    let message = format!("{message}: the service stays plain TCP");
                    reports.error(origin, "spec.settings.auth.secret", message);
                    return None;
                }
            }
        }
        let filter = json!({"name": "envoy.filters.network.redis_proxy", "typed_config": proxy});
        Some((filter, targets))
    }
}

/// Writes the parts of a filter.
struct Writer<'r, 'd> {
    rules: &'r Rules<'r>,
    origin: &'r ResourceRef,
    destinations: &'r mut Destinations<'d>,
    hosts: &'r Hosts<'r>,
    reports: &'r mut Reports,
    targets: Vec<Target>,
}

impl Writer<'_, '_> {
    /// The routes; `None` if one of them has nowhere to go.
    fn routes(&mut self, case_insensitive: bool) -> Option<Value> {
        let written = self.rules.resource.map_or(&[][..], |resource| &resource.spec.redis);
        let mut prefixes = BTreeSet::new();
        let mut routes = Vec::new();
        let mut catch_all = None;
        for (at, route) in written.iter().enumerate() {
            let key = route.matches.as_ref().and_then(|matches| matches.key.as_ref());
            let mut value = self.route(at, route)?;
            let Some(key) = key.filter(|key| !key.prefix.is_empty()) else {
                catch_all = Some(value);
                continue;
            };
            let path = format!("spec.redis[{at}].match.key.prefix");
            if key.prefix.len() > LONGEST_PREFIX {
                let message = format!("has more than {LONGEST_PREFIX} bytes: the route is left out");
                self.reports.not_honoured(self.origin, path, message);
                continue;
            }
            let compared =
                if case_insensitive { key.prefix.to_ascii_lowercase() } else { key.prefix.clone() };
            if !prefixes.insert(compared) {
                let message = "never matches: an earlier route has the same prefix, but for its case";
                self.reports.warn(self.origin, path, message);
                continue;
            }
            value["prefix"] = json!(key.prefix);
            if key.remove_prefix {
                value["remove_prefix"] = true.into();
            }
            routes.push(value);
        }
        if written.is_empty() {
            catch_all = Some(self.route(0, &RedisRoute::default())?);
        } else if catch_all.is_none() {
            let message =
                "keys that match no prefix are answered with an error: add a route without a match for them";
            self.reports.warn(self.origin, "spec.redis", message);
        }
        let mut value = Map::new();
        if !routes.is_empty() {
            value.insert("routes".into(), routes.into());
        }
        value.extend(catch_all.map(|route| ("catch_all_route".to_owned(), route)));
        if case_insensitive {
            value.insert("case_insensitive".into(), true.into());
        }
        Some(value.into())
    }

    fn route(&mut self, at: usize, route: &RedisRoute) -> Option<Value> {
        let target = route.route.as_ref().map(|target| (&*target.host, target.port));
        let mut value = json!({"cluster": self.target(target, &format!("spec.redis[{at}].route"))?});
        let mut mirrors = Vec::new();
        for (number, mirror) in route.mirror.iter().enumerate() {
            let RedisMirror { route, percentage, exclude_read_commands } = mirror;
            let path = format!("spec.redis[{at}].mirror[{number}]");
            let cluster = self.target(Some((&route.host, route.port)), &format!("{path}.route"))?;
            let mut mirror = json!({"cluster": cluster});
            if let Some(percentage) = percentage {
                mirror["runtime_fraction"] = json!({"default_value": fraction(Some(percentage))});
            }
            if *exclude_read_commands {
                mirror["exclude_read_commands"] = true.into();
            }
            mirrors.push(mirror);
        }
        if !mirrors.is_empty() {
            value["request_mirror_policy"] = mirrors.into();
        }
        Some(value)
    }

    /// The name of a target's cluster: the service's own without a host, its port without a port.
    fn target(&mut self, target: Option<(&str, Option<u16>)>, path: &str) -> Option<String> {
        let (host, port) = target.unwrap_or_default();
        let port = port.filter(|&port| port != 0).unwrap_or(self.rules.port);
        let service = self.rules.service;
        let host = match host {
            "" => service.host.clone(),
            host => host::in_full(host, &service.namespace, self.rules.domain),
        };
        if self.hosts.meant(&host, &service.namespace).is_none() {
            let message = format!("no service has the host {host:?}: its commands fail until one does");
            self.reports.warn(self.origin, format!("{path}.host"), message);
        }
        match self.destinations.target((&host, &service.namespace), port, self.hosts, self.reports) {
            Ok(target) => {
                let name = target.name.clone();
                self.targets.push(target);
                Some(name)
            }
            Err(Unfit::WithoutPassword) => None,
            Err(Unfit::OriginalDestination) => {
                let message = format!(
                    "{host} has no address of its own, which Envoy's Redis proxy needs: {} stays plain TCP. A RedisDestination \
                     with the mode CLUSTER does without",
                    service.host
                );
                let path = if target.is_some() { path } else { "spec" };
                self.reports.not_honoured(self.origin, path, message);
                None
            }
        }
    }
}

fn settings(settings: &RedisSettings) -> Value {
    let timeout = settings.op_timeout.as_deref().and_then(duration);
    let mut value =
        Map::from_iter([("op_timeout".to_owned(), json!(timeout.as_deref().unwrap_or(OP_TIMEOUT)))]);
    let mut set = |name: &str, is_set: bool, to: Value| {
        if is_set {
            value.insert(name.to_owned(), to);
        }
    };
    set("enable_hashtagging", settings.enable_hashtagging, true.into());
    set("enable_redirection", settings.enable_redirection, true.into());
    // Servers may be redirected to by name.
    let names = json!({"name": "meltemi-redis", "dns_lookup_family": "V4_PREFERRED"});
    set("dns_cache_config", settings.enable_redirection, names);
    set("enable_command_stats", settings.enable_command_stats, true.into());
    let bytes = settings.max_buffer_size_before_flush;
    set("max_buffer_size_before_flush", bytes.is_some(), json!(bytes));
    let flush = settings.buffer_flush_timeout.as_deref().and_then(duration);
    set("buffer_flush_timeout", flush.is_some(), json!(flush));
    let unknown = settings.max_upstream_unknown_connections;
    set("max_upstream_unknown_connections", unknown.is_some(), json!(unknown));
    set("read_policy", settings.read_policy.is_some(), json!(settings.read_policy));
    value.into()
}

fn fault(fault: &RedisFault) -> Value {
    let mut value = json!({
        "fault_type": match fault.kind {
            RedisFaultKind::Delay => "DELAY",
            RedisFaultKind::Error => "ERROR",
        },
        "fault_enabled": {"default_value": fraction(fault.percentage.as_ref())},
    });
    if let Some(delay) = fault.delay.as_deref().and_then(duration) {
        value["delay"] = delay.into();
    }
    if !fault.commands.is_empty() {
        value["commands"] = json!(fault.commands);
    }
    value
}

/// How long a command may take where nothing else is said.
const OP_TIMEOUT: &str = "60s";

/// A share, which is all without one.
fn fraction(percentage: Option<&Percent>) -> Value {
    let percent = percentage.map_or(100.0, |percentage| percentage.value.clamp(0.0, 100.0));
    json!({"numerator": (percent * 10_000.0).round() as u32, "denominator": "MILLION"})
}
