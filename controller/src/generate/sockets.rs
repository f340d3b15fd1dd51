//! The sockets: the internal listener with the module in it, and the cluster that leads there.

use serde_json::{Value, json};

use super::loggers;
use super::service::Labels;
use super::telemetry;
use super::tree::{Part, Tree};

/// Which proxies get a set of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proxies {
    /// Sidecars. Each gets outbound patches once, whether it has clients or servers in its pod.
    Sidecars,
    /// Gateways.
    Gateways,
}

impl Proxies {
    /// The context of the patches that each proxy gets once.
    pub(super) const fn context(self) -> &'static str {
        match self {
            Proxies::Sidecars => "SIDECAR_OUTBOUND",
            Proxies::Gateways => "GATEWAY",
        }
    }
}

/// The sockets of a shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sockets<'a> {
    /// The name of the cluster and of the listener.
    pub(super) shard: &'a str,
    /// The ECDS name of module and plan.
    pub(super) module: &'a str,
    /// Where the module never comes, connections do not pass as plain TCP.
    pub(super) fails_closed: bool,
    /// Calls are reported as Istio's standard metrics.
    pub(super) reports: bool,
    /// The loggers that are told of calls.
    pub(super) loggers: &'a [Value],
}

/// The first version whose Envoy has loggers that make metrics of reports.
const HAS_LOGGERS: &str = r"^(1\.([3-9][0-9]|[0-9]{3})|[02-9]|1[0-9]|[^0-9])";

/// The versions of proxies before that: they may lag behind istiod's.
const WITHOUT_LOGGERS: &str = r"^1\.[12]?[0-9]([^0-9]|$)";

impl Sockets<'_> {
    /// The patches that add them: the cluster, and the listener with the module in it.
    pub(super) fn patches(self, proxies: Proxies) -> Vec<Part> {
        let add = |apply_to: &str, versions: Option<&str>, value: Value| {
            let mut matches = json!({"context": proxies.context()});
            if let Some(versions) = versions {
                matches["proxy"] = json!({"proxyVersion": versions});
            }
            json!({"applyTo": apply_to, "match": matches, "patch": {"operation": "ADD", "value": value}})
        };
        let Self { shard, module, fails_closed, reports, loggers } = self;
        let plain = loggers::logging(connection_manager(shard, reports), loggers);
        let listener = |manager| listener(shard, module, fails_closed, manager);
        let mut patches = vec![add("CLUSTER", None, cluster(shard))];
        if reports {
            let logging = telemetry::logging(plain.clone());
            patches.push(add("LISTENER", Some(HAS_LOGGERS), listener(logging)));
            patches.push(add("LISTENER", Some(WITHOUT_LOGGERS), listener(plain)));
        } else {
            patches.push(add("LISTENER", None, listener(plain)));
        }
        patches.into_iter().map(Part::from).collect()
    }
}

/// The spec of an EnvoyFilter.
pub(super) fn envoy_filter(selector: Option<&Labels>, patches: impl IntoIterator<Item = Part>) -> Tree {
    let own = match selector {
        Some(labels) => json!({"workloadSelector": {"labels": labels}}),
        None => json!({}),
    };
    Tree::with(own, "configPatches", Tree::List(patches.into_iter().map(Tree::Part).collect()))
}

/// The way to the internal listener. Every client connection of an Envoy worker is a stream of one HTTP/2 connection.
fn cluster(shard: &str) -> Value {
    json!({
        "name": shard,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [
            {"max_connections": u32::MAX, "max_pending_requests": u32::MAX, "max_requests": u32::MAX}
        ]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                // Tunnels that were opened while the module was missing stay plain TCP until their connection ends; each new
                // connection costs a worker of its own, with upstream connections of its own.
                "common_http_protocol_options": {"max_connection_duration": "14400s"},
                "explicit_http_config": {"http2_protocol_options": http2(256 << 10)},
            }
        },
        "load_assignment": {
            "cluster_name": shard,
            "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": shard}}}}
            ]}],
        },
    })
}

/// Windows and limits are those of `envoy-configs/dubbo.yaml`, which says why.
fn http2(stream_window: u32) -> Value {
    json!({
        "allow_connect": true,
        "max_concurrent_streams": i32::MAX,
        "max_outbound_frames": i32::MAX,
        "max_outbound_control_frames": i32::MAX,
        "initial_stream_window_size": stream_window,
        "initial_connection_window_size": i32::MAX,
    })
}

fn listener(shard: &str, module: &str, fails_closed: bool, manager: Value) -> Value {
    let mut wasm = json!({
        "name": module,
        "config_discovery": {
            // Where the module cannot be had, istio-agent puts an RBAC filter in its place: all pass, or none.
            "type_urls": [
                "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm",
                "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
            ],
            // A module that never comes must not hold up the start of a pod.
            "config_source": {"ads": {}, "initial_fetch_timeout": "10s", "resource_api_version": "V3"},
        },
    });
    if !fails_closed {
        // An RBAC filter without rules lets everything pass: the substitute for a module that is not heard of.
        wasm["config_discovery"]["default_config"] = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
            "stat_prefix": format!("{shard}_without_module"),
        });
    }
    json!({
        "name": shard,
        "internal_listener": {},
        "filter_chains": [{"filters": [wasm, manager]}],
    })
}

fn connection_manager(shard: &str, reports: bool) -> Value {
    let header = |name: &str, value: &str| json!({"header": {"key": name, "value": value}});
    let mut answer = vec![
        header("x-meltemi-host", "%UPSTREAM_REMOTE_ADDRESS%"),
        header("x-meltemi-workload", "%UPSTREAM_METADATA(istio:workload)%"),
        header("x-meltemi-identity", "%UPSTREAM_PEER_URI_SAN%"),
    ];
    if reports {
        answer.extend(telemetry::OF_SERVER.map(|(name, value)| header(name, value)));
    }
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": shard,
            "codec_type": "HTTP2",
            "generate_request_id": false,
            // Paths are those of calls: Istio's proxies would make others of them.
            "normalize_path": false,
            // A stream is a connection to a server: it lives as long as that, busy or idle.
            "common_http_protocol_options": {"idle_timeout": "0s"},
            "stream_idle_timeout": "0s",
            "http2_protocol_options": http2(1 << 20),
            "upgrade_configs": [{"upgrade_type": "CONNECT"}],
            "http_filters": http_filters(),
            "route_config": {
                "name": shard,
                "virtual_hosts": [{
                    "name": "sockets",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"path": "/alarm"}, "direct_response": {"status": 200}},
                        {
                            "match": {"connect_matcher": {}},
                            "route": {
                                "cluster_header": "x-meltemi-cluster",
                                "hash_policy": [{"header": {"header_name": "x-meltemi-hash"}}],
                                "timeout": "0s",
                                "idle_timeout": "0s",
                                "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
                            },
                            "response_headers_to_add": answer,
                        },
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster_header": "x-meltemi-cluster", "timeout": "0s", "idle_timeout": "0s"},
                        },
                    ],
                }],
            },
        },
    })
}

fn http_filters() -> Value {
    json!([
        // An alarm: the answer comes x-envoy-fault-delay-request milliseconds late.
        {
            "name": "envoy.filters.http.fault",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
                "delay": {"header_delay": {}, "percentage": {"numerator": 100}},
            },
        },
        // x-meltemi-session names the endpoint that Meltemi wants; in an answer, the one that was tried.
        {
            "name": "envoy.filters.http.stateful_session",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSession",
                "strict": true,
                "session_state": {
                    "name": "envoy.http.stateful_session.header",
                    "typed_config": {
                        "@type":
                            "type.googleapis.com/envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState",
                        "name": "x-meltemi-session",
                    },
                },
            },
        },
        {
            "name": "envoy.filters.http.router",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                "suppress_envoy_headers": true,
            },
        },
    ])
}
