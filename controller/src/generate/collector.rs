//! Collectors of spans: those that the mesh configuration names, and their services.

use std::collections::BTreeMap;

use serde_json::Value;

use meltemi_proxy::plan::SpanFormat;

use super::headers::{Headers, headers};
use super::mesh_logs::report_other;
use super::mesh_maps::KEY;
use super::report::Reports;
use super::service::{Service, Standing};
use crate::findings::ResourceRef;
use crate::istio::{MeshConfig, OpenTelemetry, Zipkin};

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
    /// The name of the provider that stands for Zipkin, where proxies start with that, and who says so.
    pub(super) zipkin: Option<(Place, String)>,
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
    /// The ConfigMaps of other revisions, which mean something else by its name.
    others: Vec<ResourceRef>,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    OpenTelemetry(OpenTelemetry),
    Zipkin(Zipkin),
    /// Zipkin at an address.
    Address(String),
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
    /// What it takes them as.
    pub(super) format: SpanFormat,
    /// Where it takes them by HTTP. Otherwise it does by gRPC.
    pub(super) path: Option<String>,
    /// What it is told with them.
    pub(super) headers: Headers,
}

/// The tracers that proxies may start with.
const OF_PROXIES: [&str; 5] = [ZIPKIN, "lightstep", "datadog", "stackdriver", "openCensusAgent"];
const ZIPKIN: &str = "zipkin";

/// The name of the provider that stands for it: none of Istio's can have it.
const OF_ADDRESS: &str = "defaultConfig.tracing.zipkin";

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
            let kind = match (&provider.opentelemetry, &provider.zipkin, &provider.envoy_file_access_log) {
                (Some(collector), ..) => Kind::OpenTelemetry(collector.clone()),
                (None, Some(collector), _) => Kind::Zipkin(collector.clone()),
                (None, None, Some(_)) => Kind::Other("envoyFileAccessLog".to_owned()),
                (None, None, None) => Kind::Other(other()),
            };
            let name = provider.name.clone();
            let key = name.to_ascii_lowercase();
            let new = || Provider { map: map.clone(), name, kind: kind.clone(), others: Vec::new() };
            let first = self.providers.entry(key).or_insert_with(new);
            if first.kind != kind {
                first.others.push(map.clone());
            }
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
            let address = tracing.others.get(kind).and_then(|tracer| tracer["address"].as_str());
            if let (ZIPKIN, Some(address)) = (kind, address) {
                let (name, kind) = (OF_ADDRESS.to_owned(), Kind::Address(address.to_owned()));
                let provider = Provider { map: map.clone(), name: name.clone(), kind, others: Vec::new() };
                self.providers.insert(name.to_ascii_lowercase(), provider);
                self.zipkin = Some((place(), name));
            }
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
    /// Those of a mesh with these services, in a cluster of that domain.
    pub(super) fn new(configured: &'a Configured, services: &[Service], domain: &str) -> Self {
        let found = configured.providers.iter().map(|(name, provider)| {
            let found = match &provider.kind {
                Kind::OpenTelemetry(collector) => by_otlp(collector, services),
                Kind::Zipkin(collector) => by_zipkin(collector, services),
                Kind::Address(address) => at(address, services, domain),
                Kind::Other(kind) => Err(format!("is of {kind}; name one of opentelemetry or zipkin")),
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
        let Some(Provider { map, name, kind, others: of_others }) = provider else { return };
        for other in of_others {
            report_other(&format!("extensionProvider {name:?}"), map, other, reports);
        }
        let (of, fields, (list, field)) = match kind {
            Kind::OpenTelemetry(collector) => ("opentelemetry", others(collector), told(collector)),
            Kind::Zipkin(collector) => {
                (ZIPKIN, collector.others.keys().cloned().collect(), (collector.headers.as_ref(), HEADERS))
            }
            Kind::Address(_) | Kind::Other(_) => return,
        };
        let told =
            headers(list).1.into_iter().map(|(at, why)| (format!("{field}[{at}]"), format!(": {why}")));
        for (field, why) in fields.into_iter().map(|field| (field, String::new())).chain(told) {
            let message = format!(
                "{of}.{field} of the extensionProvider {name:?} is not in force for managed protocols{why}"
            );
            reports.not_honoured(map, format!("data.{KEY}"), message);
        }
    }
}

/// What is said of a collector that is not in force.
fn others(collector: &OpenTelemetry) -> Vec<String> {
    let of_http = collector.http.iter().flat_map(|http| http.keys());
    let of_http = of_http.filter(|field| ![PATH, HEADERS].contains(&field.as_str()));
    let of_grpc = collector.grpc.keys().filter(|field| *field != METADATA);
    let fields = collector.others.keys().cloned().chain(of_grpc.map(|field| format!("grpc.{field}")));
    fields.chain(of_http.map(|field| format!("http.{field}"))).collect()
}

/// The list of what a collector is told, and where it is.
fn told(collector: &OpenTelemetry) -> (Option<&Value>, &'static str) {
    match &collector.http {
        Some(http) => (http.get(HEADERS), "http.headers"),
        None => (collector.grpc.get(METADATA), "grpc.initialMetadata"),
    }
}

/// A collector that takes spans by OTLP.
fn by_otlp(collector: &OpenTelemetry, services: &[Service]) -> Result<Collector, String> {
    let OpenTelemetry { service, port, http, .. } = collector;
    let service = find(service, *port, services)?;
    let path = http.as_ref().map(|http| path(http.get(PATH).and_then(Value::as_str), "/v1/traces"));
    let (headers, _) = headers(told(collector).0);
    Ok(Collector { service, port: *port, format: SpanFormat::Otlp, path: path.transpose()?, headers })
}

/// A collector that takes spans as Zipkin does.
fn by_zipkin(collector: &Zipkin, services: &[Service]) -> Result<Collector, String> {
    let Zipkin { service, port, path: own, headers: list, .. } = collector;
    let service = find(service, *port, services)?;
    let path = Some(path(own.as_deref(), "/api/v2/spans")?);
    let (headers, _) = headers(list.as_ref());
    Ok(Collector { service, port: *port, format: SpanFormat::Zipkin, path, headers })
}

/// Zipkin at an address of a host, which may be written without the domain of the cluster, and a port.
fn at(address: &str, services: &[Service], domain: &str) -> Result<Collector, String> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let Some((host, port)) = parts else { return Err(format!("has no port in its address {address:?}")) };
    // As DNS has it, Services go before other hosts. Only they have short names: whoever may write a ServiceEntry chooses its host.
    let rest = if host.ends_with(".svc") { "." } else { ".svc." };
    let full = format!("{host}{rest}{domain}");
    let is_short = services.iter().any(|service| service.standing != Standing::Entry && service.host == full);
    let service = if is_short { full } else { host.to_owned() };
    by_zipkin(&Zipkin { service, port, ..Zipkin::default() }, services)
}

/// The path at which a collector takes spans.
fn path(said: Option<&str>, default: &str) -> Result<String, String> {
    let path = match said {
        None | Some("") => default.to_owned(),
        Some(path) => format!("/{}", path.trim_start_matches('/')),
    };
    match path.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(path),
        false => Err(format!("has the path {path:?}, which is none")),
    }
}

/// The service that a provider names. Istio looks for whole names, in all namespaces.
pub(super) fn find(name: &str, port: u16, services: &[Service]) -> Result<Service, String> {
    let (namespace, host) = match name.split_once('/') {
        Some((namespace, host)) => (Some(namespace), host),
        None => (None, name),
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
    if !service.numbers.contains(&port) {
        return Err(format!("names port {port} of {host}, which has none of that number"));
    }
    if service.is_original_destination {
        return Err(format!(
            "names {host}, to which no cluster leads, as it is headless or without resolution"
        ));
    }
    Ok(service.clone())
}
