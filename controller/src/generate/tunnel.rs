//! The tunnels: what makes Istio's own listeners carry client connections to the sockets.

use serde_json::{Value, json};

use super::options::{IstioVersion, Options};
use super::sockets::Proxies;
use super::telemetry;

/// The first version whose Envoy can open a tunnel after the handshake, which reports who calls.
pub(super) const TELLS_IDENTITY: IstioVersion = IstioVersion(29);

/// The versions of proxies before that: they may lag behind istiod's.
const WITHOUT_IDENTITY: &str = r"^1\.(1[0-9]|2[0-8])([^0-9]|$)";

/// When a tunnel is opened, and so what is known of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// With the connection, when nothing is known yet.
    Connection,
    /// After the handshake, which tells the client's identity.
    Handshake,
    /// With the client's first bytes, before which the exchange of metadata tells its workload.
    Data,
}

impl Opening {
    /// That of clients that speak first or not, to the servers of a mesh of that version.
    pub(super) fn of_servers(speak_first: bool, options: &Options) -> Self {
        match options.istio_version >= TELLS_IDENTITY {
            true if speak_first && options.istio_metrics => Self::Data,
            true => Self::Handshake,
            false => Self::Connection,
        }
    }

    /// What the tunnel waits for.
    fn mode(self) -> Option<&'static str> {
        match self {
            Self::Connection => None,
            Self::Handshake => Some("ON_DOWNSTREAM_TLS_HANDSHAKE"),
            Self::Data => Some("ON_DOWNSTREAM_DATA"),
        }
    }
}

/// One tunnel: the connections of one filter chain, as streams to a shard's sockets.
#[derive(Debug)]
pub(super) struct Tunnel<'a> {
    /// The authority of the streams: the service's key in the plan.
    pub(super) authority: &'a str,
    /// The cluster of the shard.
    pub(super) shard: &'a str,
    /// The cluster that Istio would have used: where calls go by default, and all bytes when there is no module.
    pub(super) cluster: &'a str,
    /// Whether that cluster connects to where the client meant to.
    pub(super) is_original_destination: bool,
    /// When it is opened.
    pub(super) opening: Opening,
    /// Whether calls are reported as Istio's standard metrics.
    pub(super) reports: bool,
}

impl Tunnel<'_> {
    /// The patches that put the tunnel on a listener of sidecars of clients, or of gateways.
    pub(super) fn on_listener(&self, proxies: Proxies, listener: &str) -> Vec<Value> {
        self.patches(&|filter| {
            json!({
                "context": proxies.context(),
                "listener": {"name": listener, "filterChain": {"filter": {"name": filter}}},
            })
        })
    }

    /// The patches that put the tunnel on the chains of a port that servers are called by.
    pub(super) fn on_inbound(&self, port: u16) -> Vec<Value> {
        self.patches(&|filter| inbound(port, filter))
    }

    fn patches(&self, on_filter: &dyn Fn(&str) -> Value) -> Vec<Value> {
        let mut patches = vec![self.patch(on_filter(TCP_PROXY))];
        if self.reports {
            patches.push(json!({
                "applyTo": "NETWORK_FILTER",
                "match": on_filter(telemetry::OF_TCP),
                "patch": {"operation": "REMOVE"},
            }));
        }
        patches
    }

    fn patch(&self, matches: Value) -> Value {
        let header = |name: &str, value: &str| json!({"header": {"key": name, "value": value}});
        let mut headers = vec![
            header("x-meltemi-cluster", self.cluster),
            header("x-meltemi-peer", "%DOWNSTREAM_REMOTE_ADDRESS%"),
        ];
        let mode = self.opening.mode();
        if mode.is_some() {
            headers.push(header("x-meltemi-peer-identity", "%DOWNSTREAM_PEER_URI_SAN%"));
        }
        if mode.is_some() && self.reports {
            headers.extend(telemetry::OF_CLIENT.map(|(name, value)| header(name, value)));
        }
        if self.is_original_destination {
            headers.push(header("x-envoy-original-dst-host", "%DOWNSTREAM_LOCAL_ADDRESS%"));
        }
        let mut tcp_proxy = json!({
            "@type": TYPE,
            "cluster": self.shard,
            "tunneling_config": {"hostname": self.authority, "headers_to_add": headers},
        });
        if let Some(mode) = mode {
            tcp_proxy["upstream_connect_mode"] = json!(mode);
            tcp_proxy["max_early_data_bytes"] = json!(64 << 10);
        }
        json!({
            "applyTo": "NETWORK_FILTER",
            "match": matches,
            "patch": {
                "operation": "MERGE",
                "value": {"typed_config": tcp_proxy},
            },
        })
    }
}

fn inbound(port: u16, filter: &str) -> Value {
    json!({
        "context": "SIDECAR_INBOUND",
        "listener": {
            "name": "virtualInbound",
            "filterChain": {"destinationPort": port, "filter": {"name": filter}},
        },
    })
}

/// The patch that gives the tunnel of [`Tunnel::on_inbound`] another authority where proxies are too old to report who
/// calls.
pub(super) fn without_identity(port: u16, authority: &str, shard: &str) -> Value {
    let mut matches = inbound(port, TCP_PROXY);
    matches["proxy"] = json!({"proxyVersion": WITHOUT_IDENTITY});
    let tcp_proxy = json!({
        "@type": TYPE,
        "cluster": shard,
        "tunneling_config": {"hostname": authority},
    });
    json!({
        "applyTo": "NETWORK_FILTER",
        "match": matches,
        "patch": {"operation": "MERGE", "value": {"typed_config": tcp_proxy}},
    })
}

const TYPE: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

/// The patch that makes clusters which connect to where the client meant to take that from the tunnel's header. `matches`
/// says which clusters.
pub(super) fn original_destination(context: &str, matches: Value) -> Value {
    json!({
        "applyTo": "CLUSTER",
        "match": {"context": context, "cluster": matches},
        "patch": {"operation": "MERGE", "value": {"original_dst_lb_config": {"use_http_header": true}}},
    })
}
