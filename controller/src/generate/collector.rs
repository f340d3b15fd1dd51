//! Collectors of spans: those that the mesh configuration names, and their services.

use std::collections::BTreeMap;

use serde_json::Value;

use super::headers::{Headers, headers};
use super::mesh::KEY;
use super::report::Reports;
use super::service::Service;
use crate::findings::ResourceRef;
use crate::istio::{MeshConfig, OpenTelemetry};

/// A field of a resource.
pub(super) type Place = (ResourceRef, String);

/// What the mesh configuration says of traces.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Configured {
    /// The name of the provider that gets spans where no Telemetry says it, and who says so.
    pub(super) default: Option<(Place, String)>,
    /// The share of the calls that are sampled where no Telemetry says it.
    pub(super) sampling: Option<f64>,
    /// What spans say beside what all do where no Telemetry says it, and who says so.
    pub(super) tags: Option<(Place, BTreeMap<String, Value>)>,
    /// The kind of the tracer that proxies start with, and who says so.
    pub(super) of_proxies: Option<(Place, &'static str)>,
    /// By their names in lower case, as Istio compares them.
    providers: BTreeMap<String, Provider>,
}

/// Something that may get spans.
#[derive(Debug, Clone, PartialEq)]
struct Provider {
    /// The ConfigMap that has it.
    map: ResourceRef,
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    OpenTelemetry(OpenTelemetry),
    Other(String),
}

/// The providers of a mesh, with their services.
#[derive(Debug)]
pub(super) struct Collectors<'a> {
    pub(super) configured: &'a Configured,
    /// By the names of their providers, or why there is none.
    found: BTreeMap<&'a str, Result<Collector, String>>,
}

/// A service that takes spans.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) service: Service,
    pub(super) port: u16,
    /// Where it takes them by HTTP. Otherwise it does by gRPC.
    pub(super) path: Option<String>,
    /// What it is told with them.
    pub(super) headers: Headers,
}

/// The tracers that proxies may start with.
const OF_PROXIES: [&str; 5] = ["zipkin", "lightstep", "datadog", "stackdriver", "openCensusAgent"];

impl Configured {
    /// Adds what a revision's configuration says, which is in a ConfigMap. What was said before counts.
    pub(super) fn add(&mut self, config: &MeshConfig, map: &ResourceRef) {
        let place = || (map.clone(), format!("data.{KEY}"));
        let mut defaults = config.default_providers.iter().flat_map(|defaults| &defaults.tracing).flatten();
        if let (None, Some(name)) = (&self.default, defaults.next()) {
            self.default = Some((place(), name.clone()));
        }
        for provider in config.extension_providers.iter().flatten() {
            let other = || provider.others.keys().next().cloned().unwrap_or_else(|| "nothing".to_owned());
            let kind = match (&provider.opentelemetry, &provider.envoy_file_access_log) {
                (Some(collector), _) => Kind::OpenTelemetry(collector.clone()),
                (None, Some(_)) => Kind::Other("envoyFileAccessLog".to_owned()),
                (None, None) => Kind::Other(other()),
            };
            let name = provider.name.clone();
            let key = name.to_ascii_lowercase();
            self.providers.entry(key).or_insert_with(|| Provider { map: map.clone(), name, kind });
        }
        let Some(tracing) = config.default_config.as_ref().and_then(|config| config.tracing.as_ref()) else {
            return;
        };
        // Istio takes more than all for its own default.
        let sampling = if tracing.sampling > 100.0 { DEFAULT_SAMPLING } else { tracing.sampling };
        self.sampling = self.sampling.or(Some(sampling).filter(|&sampling| sampling != 0.0));
        if self.tags.is_none() && !tracing.custom_tags.is_empty() {
            self.tags = Some((place(), tracing.custom_tags.clone()));
        }
        let mut own = OF_PROXIES.into_iter().filter(|kind| tracing.others.contains_key(*kind));
        if let (None, true, Some(kind)) = (&self.of_proxies, config.enable_tracing != Some(false), own.next())
        {
            self.of_proxies = Some((place(), kind));
        }
    }
}

/// The fields with the path of a collector, and with what it is told by HTTP and by gRPC.
const PATH: &str = "path";
const HEADERS: &str = "headers";
const METADATA: &str = "initialMetadata";

/// The share of the calls that are sampled where nobody says it, in percent.
pub(super) const DEFAULT_SAMPLING: f64 = 1.0;

impl<'a> Collectors<'a> {
    /// Those of a mesh with these services.
    pub(super) fn new(configured: &'a Configured, services: &[Service]) -> Self {
        let found = configured.providers.iter().map(|(name, provider)| {
            let found = match &provider.kind {
                Kind::OpenTelemetry(collector) => find(collector, services),
                Kind::Other(kind) => Err(format!("is of {kind}; name one of opentelemetry")),
            };
            (&**name, found)
        });
        Self { configured, found: found.collect() }
    }

    /// That of a provider.
    ///
    /// # Errors
    ///
    /// It takes no spans: why not, as the rest of a sentence about it.
    pub(super) fn of(&self, provider: &str) -> Result<&Collector, &str> {
        let found = self.found.get(&*provider.to_ascii_lowercase());
        let found = found.ok_or("is not among the extensionProviders of the mesh configuration")?;
        found.as_ref().map_err(String::as_str)
    }

    /// Says what of a provider is not in force.
    pub(super) fn report(&self, provider: &str, reports: &mut Reports) {
        let provider = self.configured.providers.get(&*provider.to_ascii_lowercase());
        let Some(Provider { map, name, kind: Kind::OpenTelemetry(collector) }) = provider else { return };
        let of_http = collector.http.iter().flat_map(|http| http.keys());
        let of_http = of_http.filter(|field| ![PATH, HEADERS].contains(&field.as_str()));
        let of_grpc = collector.grpc.keys().filter(|field| *field != METADATA);
        let fields = collector.others.keys().cloned().chain(of_grpc.map(|field| format!("grpc.{field}")));
        let fields = fields.chain(of_http.map(|field| format!("http.{field}")));
        let (list, field) = told(collector);
        let told =
            headers(list).1.into_iter().map(|(at, why)| (format!("{field}[{at}]"), format!(": {why}")));
        for (field, why) in fields.map(|field| (field, String::new())).chain(told) {
            let message = format!(
                "opentelemetry.{field} of the extensionProvider {name:?} is not in force for managed protocols{why}"
            );
            reports.not_honoured(map, format!("data.{KEY}"), message);
        }
    }
}

/// The list of what a collector is told, and where it is.
fn told(collector: &OpenTelemetry) -> (Option<&Value>, &'static str) {
    match &collector.http {
        Some(http) => (http.get(HEADERS), "http.headers"),
        None => (collector.grpc.get(METADATA), "grpc.initialMetadata"),
    }
}

/// The service of a collector. Istio looks for whole names, in all namespaces.
fn find(collector: &OpenTelemetry, services: &[Service]) -> Result<Collector, String> {
    let OpenTelemetry { service: name, port, http, .. } = collector;
    let (namespace, host) = match name.split_once('/') {
        Some((namespace, host)) => (Some(namespace), host),
        None => (None, &**name),
    };
    let is_meant = |service: &&Service| {
        service.host == host && namespace.is_none_or(|namespace| namespace == service.namespace)
    };
    let mut found = services.iter().filter(is_meant);
    let Some(service) = found.next() else {
        return Err(format!(
            "names the service {name:?}, which is none; write its host in full, as in otel.observability.svc.cluster.local"
        ));
    };
    if let Some(other) = found.find(|other| other.namespace != service.namespace) {
        let (one, other) = (&service.namespace, &other.namespace);
        return Err(format!("names {host}, which {one} and {other} have; write {one}/{host}, or the other"));
    }
    if !service.numbers.contains(port) {
        return Err(format!("names port {port} of {host}, which has none of that number"));
    }
    if service.is_original_destination {
        return Err(format!(
            "names {host}, to which no cluster leads, as it is headless or without resolution"
        ));
    }
    let path = http.as_ref().map(|http| match http.get(PATH).and_then(Value::as_str) {
        None | Some("") => "/v1/traces".to_owned(),
        Some(path) => format!("/{}", path.trim_start_matches('/')),
    });
    if let Some(path) = path.as_ref().filter(|path| !path.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err(format!("has the path {path:?}, which is none"));
    }
    let (headers, _) = headers(told(collector).0);
    Ok(Collector { service: service.clone(), port: *port, path, headers })
}
