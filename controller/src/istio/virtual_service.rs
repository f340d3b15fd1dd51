use std::collections::BTreeMap;

use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where traffic to some hosts goes.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "VirtualService",
    plural = "virtualservices",
    namespaced,
    schema = "disabled",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualServiceSpec {
    /// The hosts.
    pub hosts: Vec<String>,
    /// The gateways that it is for; `mesh`, which it is for without any, means the sidecars.
    pub gateways: Vec<String>,
    /// Routes of requests.
    pub http: Vec<HttpRoute>,
    /// Routes of connections.
    pub tcp: Vec<TcpRoute>,
    /// The namespaces that see it. Default: all.
    pub export_to: Vec<String>,
}

/// A route of requests.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRoute {
    /// The name.
    pub name: String,
    /// The alternatives of which one must match.
    #[serde(rename = "match")]
    pub matches: Vec<HttpMatch>,
    /// The destinations.
    pub route: Vec<RouteDestination>,
    /// How long a request may take.
    pub timeout: Option<String>,
    /// When and how a failed request is tried again.
    pub retries: Option<HttpRetry>,
    /// Who gets a copy.
    pub mirror: Option<Destination>,
    /// Several who get copies.
    pub mirrors: Vec<HttpMirror>,
    /// The share of `mirror`.
    pub mirror_percentage: Option<Percentage>,
    /// The same in an older form.
    pub mirror_percent: Option<u32>,
    /// Faults to inject.
    pub fault: Option<HttpFault>,
    /// Changes of headers.
    pub headers: Option<Headers>,
    /// What else it says, none of which calls of RPC protocols have: rewrites, redirects and so on.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// Who gets copies of some requests.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct HttpMirror {
    /// Who.
    pub destination: Destination,
    /// The share of the requests.
    pub percentage: Option<Percentage>,
}

/// Faults of a route: each for a share of the requests, none if that is not written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpFault {
    /// Requests that are delayed.
    pub delay: Option<Fault>,
    /// Requests that are answered with an error.
    pub abort: Option<Fault>,
}

/// A delay or an abort.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Fault {
    /// The share of the requests.
    pub percentage: Option<Percentage>,
    /// The same in an older form.
    pub percent: Option<u32>,
    /// How long a delay is.
    pub fixed_delay: Option<String>,
    /// What else it says: the status of the error.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// A share in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Percentage {
    /// The number.
    pub value: f64,
}

/// Which requests are meant: each part that is there must match.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatch {
    /// The name.
    pub name: String,
    /// The method.
    pub method: Option<StringMatch>,
    /// The headers, which of a call are attributes.
    pub headers: BTreeMap<String, StringMatch>,
    /// The headers that must not match.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// The port that the client meant.
    pub port: Option<u16>,
    /// The labels of the client.
    pub source_labels: BTreeMap<String, String>,
    /// The namespace of the client.
    pub source_namespace: Option<String>,
    /// The gateways.
    pub gateways: Vec<String>,
    /// What else it says, such as `uri`.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What a text must be; nothing at all means that it must be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StringMatch {
    /// It is this.
    pub exact: Option<String>,
    /// It starts with this.
    pub prefix: Option<String>,
    /// All of it matches this.
    pub regex: Option<String>,
    /// What is no field of it, in a file that no API server has seen.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// A destination and its share.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteDestination {
    /// The destination.
    pub destination: Destination,
    /// The share.
    pub weight: Option<u32>,
    /// Changes of headers.
    pub headers: Option<Headers>,
}

/// A service, or a subset of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Destination {
    /// The host.
    pub host: String,
    /// The subset.
    pub subset: Option<String>,
    /// The port.
    pub port: Option<PortSelector>,
}

/// A port by its number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct PortSelector {
    /// The port.
    pub number: u16,
}

/// When and how a failed request is tried again.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRetry {
    /// How often after the first try.
    pub attempts: u32,
    /// How long one try may take.
    pub per_try_timeout: Option<String>,
    /// The failures, divided by commas.
    pub retry_on: Option<String>,
    /// What else it says.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// Changes of headers, which of a call are attachments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Headers {
    /// In requests.
    pub request: Option<HeaderOperations>,
    /// In responses.
    pub response: Option<HeaderOperations>,
}

/// Changes of headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct HeaderOperations {
    /// To set.
    pub set: BTreeMap<String, String>,
    /// To add.
    pub add: BTreeMap<String, String>,
    /// To remove.
    pub remove: Vec<String>,
}

/// A route of connections.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRoute {
    /// The alternatives of which one must match.
    #[serde(rename = "match")]
    pub matches: Vec<L4Match>,
    /// The destinations.
    pub route: Vec<RouteDestination>,
}

/// Which connections are meant.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct L4Match {
    /// The addresses that the client meant.
    pub destination_subnets: Vec<String>,
    /// The port that the client meant.
    pub port: Option<u16>,
    /// The labels of the client.
    pub source_labels: BTreeMap<String, String>,
    /// The gateways.
    pub gateways: Vec<String>,
    /// The namespace of the client.
    pub source_namespace: Option<String>,
}
