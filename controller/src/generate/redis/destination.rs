//! RedisDestinations: the clusters that Redis connections go to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::auth::{Credentials, Secrets, source};
use super::hosts::Hosts;
use crate::api::aeraki::{RedisDestination, RedisMode, RedisTcp, RedisUpstream};
use crate::api::parse_duration;
use crate::check;
use crate::findings::ResourceRef;
use crate::generate::exports::Exports;
use crate::generate::host;
use crate::generate::report::Reports;
use crate::generate::service::cluster;
use crate::world::World;

/// What is said of the connections to each host.
#[derive(Debug)]
pub(super) struct Destinations<'a> {
    /// By host, and the namespace of the resource: that of one who has the host.
    by_host: BTreeMap<(String, String), Destination<'a>>,
    domain: &'a str,
}

/// What is said of the connections to a host.
#[derive(Debug)]
struct Destination<'a> {
    origin: ResourceRef,
    tcp: Option<&'a RedisTcp>,
    upstream: Option<&'a RedisUpstream>,
    /// `None` if they are nowhere to be had, or the resource is not in force.
    credentials: Option<Option<Credentials>>,
    used: bool,
}

/// A cluster of a Redis proxy.
#[derive(Debug)]
pub(super) struct Target {
    /// Its host, in full.
    pub(super) host: String,
    /// The name of the cluster.
    pub(super) name: String,
    /// What makes it one for Redis.
    pub(super) patch: Value,
    /// The namespaces that may see its host. The patch holds its password, which is nobody else's concern.
    pub(super) exports: Exports,
    /// It is a Redis cluster, whose servers Envoy knows one by one.
    pub(super) is_redis_cluster: bool,
}

/// Why a host can be no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Its password is missing, which is reported already.
    WithoutPassword,
    /// Its clusters connect to where the client meant to, which a proxy that reads commands does not know.
    OriginalDestination,
}

impl<'a> Destinations<'a> {
    pub(super) fn new(
        world: &'a World,
        domain: &'a str,
        hosts: &Hosts<'_>,
        secrets: &Secrets<'_>,
        reports: &mut Reports,
    ) -> Self {
        let mut all: Vec<&RedisDestination> = world.redis_destinations.iter().collect();
        all.sort_by_key(|destination| (&destination.metadata.namespace, &destination.metadata.name));
        let mut by_host: BTreeMap<(String, String), Destination<'_>> = BTreeMap::new();
        for resource in all {
            let origin = ResourceRef::of(resource);
            let is_in_force = reports.accepts(&origin, check::redis_destination(resource));
            let namespace = resource.metadata.namespace.as_deref().unwrap_or_default();
            let host = host::in_full(&resource.spec.host, namespace, domain);
            if let Some(own) = hosts.stranger(&host, namespace) {
                let message = format!("{host} belongs to namespace {own}; configure it there");
                reports.error(&origin, "spec.host", message);
                continue;
            }
            let key = (host.clone(), namespace.to_owned());
            if let Some(first) = by_host.get(&key) {
                let message = format!("{} says how connections to {host} are made", first.origin);
                reports.warn(&origin, "spec.host", message);
                continue;
            }
            let pool =
                resource.spec.traffic_policy.as_ref().and_then(|policy| policy.connection_pool.as_ref());
            let upstream = pool.and_then(|pool| pool.redis.as_ref());
            let auth = upstream.and_then(|upstream| upstream.auth.as_ref());
            let credentials = match auth.map(|auth| secrets.credentials(auth, namespace)).transpose() {
                _ if !is_in_force => None,
                Ok(credentials) => {
                    if let Some(remark) = credentials.as_ref().and_then(Credentials::remark) {
                        reports.warn(&origin, format!("{POOL}.redis.auth"), remark);
                    }
                    Some(credentials)
                }
                Err(message) => {
                    let message = format!("{message}: the services that lead to {host} stay plain TCP");
                    reports.error(&origin, format!("{POOL}.redis.auth.secret"), message);
                    None
                }
            };
            let tcp = pool.and_then(|pool| pool.tcp.as_ref());
            by_host.insert(key, Destination { origin, tcp, upstream, credentials, used: false });
        }
        Self { by_host, domain }
    }

    /// The cluster of a host's port, as those of a namespace mean the host.
    pub(super) fn target(
        &mut self,
        (host, namespace): (&str, &str),
        port: u16,
        hosts: &Hosts<'_>,
        reports: &mut Reports,
    ) -> Result<Target, Unfit> {
        let meant = hosts.meant(host, namespace);
        let owner = meant.map_or(namespace, |meant| meant.namespace);
        let exports = meant.map_or(Exports::All, |meant| meant.exports.clone());
        let destination = self.by_host.get_mut(&(host.to_owned(), owner.to_owned()));
        if let Some(destination) = &destination
            && destination.credentials.is_none()
        {
            return Err(Unfit::WithoutPassword);
        }
        let is_redis_cluster = destination.as_deref().is_some_and(Destination::is_redis_cluster);
        if !is_redis_cluster && meant.is_some_and(|meant| meant.is_original_destination) {
            return Err(Unfit::OriginalDestination);
        }
        let mut value = Map::new();
        if let Some(destination) = destination {
            destination.used = true;
            destination.connections(&mut value, reports);
            if is_redis_cluster {
                let target = destination.redis_cluster(host, port, value, self.domain, reports);
                return Ok(Target { exports, ..target });
            }
        }
        // Keys are divided among the servers, and stay where they are when a server comes or goes.
        value.insert("lb_policy".into(), "MAGLEV".into());
        let name = cluster(host, port, None);
        let patch = json!({
            "applyTo": "CLUSTER",
            "match": {"context": "SIDECAR_OUTBOUND", "cluster": {"name": name}},
            "patch": {"operation": "MERGE", "value": value},
        });
        Ok(Target { host: host.to_owned(), name, patch, exports, is_redis_cluster })
    }

    /// Says which have no effect.
    pub(super) fn report_unused(&self, reports: &mut Reports) {
        for ((host, _), destination) in self.by_host.iter().filter(|(_, destination)| !destination.used) {
            if destination.credentials.is_some() {
                let message = format!("no managed Redis service leads to {host}: it has no effect");
                reports.warn(&destination.origin, "spec.host", message);
            }
        }
    }
}

const POOL: &str = "spec.trafficPolicy.connectionPool";

impl Destination<'_> {
    fn is_redis_cluster(&self) -> bool {
        self.upstream.is_some_and(|upstream| upstream.mode == RedisMode::Cluster)
    }

    /// What holds for connections, whatever the cluster.
    fn connections(&self, value: &mut Map<String, Value>, reports: &mut Reports) {
        if let Some(Some(credentials)) = &self.credentials {
            let mut options = json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions",
                "auth_password": source(&credentials.password),
            });
            if let Some(username) = &credentials.username {
                options["auth_username"] = source(username);
            }
            value.insert(
                "typed_extension_protocol_options".into(),
                json!({"envoy.filters.network.redis_proxy": options}),
            );
        }
        let Some(tcp) = self.tcp else { return };
        let timeout = tcp.connect_timeout.as_deref().and_then(duration);
        value.extend(timeout.map(|timeout| ("connect_timeout".to_owned(), timeout.into())));
        if tcp.max_connections.is_some() {
            let message = "Envoy's Redis proxy has one connection of each worker thread to each server, and no limit for them";
            reports.not_honoured(&self.origin, format!("{POOL}.tcp.maxConnections"), message);
        }
        if let Some(written) = &tcp.tcp_keepalive {
            let mut keepalive = Map::new();
            keepalive.extend(written.probes.map(|probes| ("keepalive_probes".to_owned(), probes.into())));
            let seconds = |text: &String| Some(parse_duration(text).ok()?.as_secs());
            for (name, text) in [("keepalive_time", &written.time), ("keepalive_interval", &written.interval)]
            {
                let seconds = text.as_ref().and_then(seconds);
                keepalive.extend(seconds.map(|seconds| (name.to_owned(), seconds.into())));
            }
            value.insert("upstream_connection_options".into(), json!({"tcp_keepalive": keepalive}));
        }
    }

    /// A cluster of our own: Istio's has no way to learn which server has which keys.
    fn redis_cluster(
        &self,
        host: &str,
        port: u16,
        mut value: Map<String, Value>,
        domain: &str,
        reports: &mut Reports,
    ) -> Target {
        let message = "Envoy finds the servers of a Redis cluster by itself: connections to them are without Istio's mutual TLS, \
                       and servers with a sidecar must allow that (PeerAuthentication PERMISSIVE)";
        reports.warn(&self.origin, format!("{POOL}.redis.mode"), message);
        let namespace = self.origin.namespace.as_deref().unwrap_or_default();
        let written = self.upstream.map_or(&[][..], |upstream| &upstream.discovery_endpoints);
        let mut endpoints = BTreeSet::new();
        for text in written {
            let Some((host, port)) = text.rsplit_once(':') else { continue };
            let Ok(port) = port.parse::<u16>() else { continue };
            let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
            let host = ip.map_or_else(|_| host::in_full(host, namespace, domain), |ip| ip.to_string());
            endpoints.insert((host, port));
        }
        if endpoints.is_empty() {
            endpoints.insert((host.to_owned(), port));
        }
        let endpoint = |(host, port): &(String, u16)| {
            let address = json!({"address": host, "port_value": port});
            json!({"endpoint": {"address": {"socket_address": address}}})
        };
        let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
        let name = format!("redis|{port}||{host}");
        value.entry("connect_timeout").or_insert("10s".into());
        value.extend(
            json!({
                "name": name,
                "lb_policy": "CLUSTER_PROVIDED",
                "dns_lookup_family": "V4_PREFERRED",
                "cluster_type": {
                    "name": "envoy.clusters.redis",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.clusters.redis.v3.RedisClusterConfig",
                        "cluster_refresh_rate": "5s",
                    },
                },
                "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
            })
            .as_object()
            .cloned()
            .unwrap_or_default(),
        );
        let patch = json!({
            "applyTo": "CLUSTER",
            "match": {"context": "SIDECAR_OUTBOUND"},
            "patch": {"operation": "ADD", "value": value},
        });
        Target { host: host.to_owned(), name, patch, exports: Exports::All, is_redis_cluster: true }
    }
}

/// A duration that a resource writes, such as `5s` or `250ms`, as Envoy's configuration has it.
pub(super) fn duration(text: &str) -> Option<String> {
    let duration = parse_duration(text).ok()?;
    Some(match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        millis => format!("{}.{millis:03}s", duration.as_secs()),
    })
}
