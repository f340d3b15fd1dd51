//! Loggers of connection managers that are told of calls: files, access log services and collectors of logs.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use meltemi_proxy::plan::{check_log_format, mend_log_format, raw};
use serde_json::{Map, Value, json};

use super::collector;
use super::log_format::{LogFormat, mended, report_unknown};
use super::mesh::KEY;
use super::mesh_logs::Configured;
use super::report::Reports;
use super::service::Service;
use super::sockets::Proxies;
use super::subsets::Subsets;
use super::telemetries::Whose;
use super::telemetry::add_loggers;
use super::visibility::Visibility;
use crate::findings::ResourceRef;
use crate::istio::ExtensionProvider;

/// What the connection manager has for them, as for an Envoy of one's own.
const CONFIG: &str = include_str!("../../../envoy-configs/access-loggers.yaml");

/// Something that calls are logged to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Provider {
    name: String,
    /// The ConfigMap that has it, if one has.
    map: Option<ResourceRef>,
    kind: Kind,
    /// What the mesh configuration says of it.
    said: Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// A file of the proxy's, with the format of its lines.
    File { path: String, format: Option<LogFormat> },
    /// A service, by Envoy's own protocol.
    Http,
    /// A service, by OpenTelemetry's.
    OpenTelemetry,
    /// Nothing that calls are logged to.
    Other(String),
}

/// The services of all providers that are services, or why there is none, by the names of the providers.
#[derive(Debug)]
pub(super) struct Receivers<'a> {
    found: BTreeMap<&'a str, Result<Found, String>>,
    rules: Subsets<'a>,
}

/// A port of a service that calls are logged to.
#[derive(Debug)]
struct Found {
    service: Service,
    port: u16,
}

/// A service that calls are logged to, as proxies reach it.
#[derive(Debug)]
pub(super) struct Receiver {
    host: String,
    cluster: String,
    /// Which calls it is not told of all the same, as the rest of a sentence about the provider.
    pub(super) lost: Vec<String>,
}

/// What plans say of calls that are logged, and the loggers that are told of them.
#[derive(Debug, Clone)]
pub(super) struct Logging {
    pub(super) plan: Value,
    pub(super) loggers: Vec<Value>,
}

/// Where the calls of some proxies are logged, as it gathers.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// In the logs of the proxies.
    is_own: bool,
    /// The formats of lines, by the logs that have lines.
    formats: Vec<(String, Option<LogFormat>)>,
    /// What loggers are told, by the names of headers.
    fields: Map<String, Value>,
    loggers: Vec<Value>,
}

/// Where lines are in the log of the proxy, with those of its own.
pub(super) const OWN: [&str; 3] = ["", "/dev/stdout", "/dev/stderr"];

const FILE: &str = "envoyFileAccessLog";
/// What is in force of one.
const OF_FILES: [&str; 2] = ["path", "logFormat"];
const HTTP: &str = "envoyHttpAls";
const OPEN_TELEMETRY: &str = "envoyOtelAls";

/// The line of a call, and the header that it is in.
const LINE: (&str, &str) = ("x-call-line", "%LINE%");

/// What entries of an access log service tell beside the line.
const OF_CALLS: [(&str, &str); 17] = [
    ("x-call-protocol", "%PROTOCOL%"),
    ("x-call-start", "%START_TIME%"),
    ("x-call-duration", "%DURATION%"),
    ("x-call-outcome", "%RESPONSE_CODE_DETAILS%"),
    ("x-call-code", "%RESPONSE_CODE%"),
    ("x-call-grpc-status", "%GRPC_STATUS_NUMBER%"),
    ("x-call-flags", "%RESPONSE_FLAGS%"),
    ("x-call-request-bytes", "%BYTES_RECEIVED%"),
    ("x-call-response-bytes", "%BYTES_SENT%"),
    ("x-call-route", "%ROUTE_NAME%"),
    ("x-call-cluster", "%UPSTREAM_CLUSTER%"),
    ("x-call-endpoint", "%UPSTREAM_HOST%"),
    ("x-call-tries", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ("x-call-peer", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("x-call-principal", "%REQ(source.principal)%"),
    ("x-call-trace", "%TRACE_ID%"),
    ("x-call-id", "%STREAM_ID%"),
];

/// The headers that plans have at most.
const MOST_FIELDS: usize = 64;

static LOADED: LazyLock<Value> = LazyLock::new(|| serde_saphyr::from_str(CONFIG).unwrap_or_default());

impl Provider {
    /// That of a ConfigMap.
    pub(super) fn new(provider: &ExtensionProvider, map: &ResourceRef) -> Self {
        let name = &provider.name;
        let said = provider.envoy_file_access_log.as_ref();
        if let Some(said) = said {
            let path = said["path"].as_str().unwrap_or_default().to_owned();
            let format = LogFormat::of_provider(said, map, name);
            return Self { said: said.clone(), ..Self::file(name, path, format, Some(map.clone())) };
        }
        let kind = match &provider.opentelemetry {
            _ if provider.zipkin.is_some() => Kind::Other("zipkin".to_owned()),
            Some(_) => Kind::Other("opentelemetry".to_owned()),
            None if provider.others.contains_key(HTTP) => Kind::Http,
            None if provider.others.contains_key(OPEN_TELEMETRY) => Kind::OpenTelemetry,
            None => {
                Kind::Other(provider.others.keys().next().cloned().unwrap_or_else(|| "nothing".to_owned()))
            }
        };
        let said = match kind {
            Kind::Http => provider.others[HTTP].clone(),
            Kind::OpenTelemetry => provider.others[OPEN_TELEMETRY].clone(),
            _ => Value::Null,
        };
        Self { name: name.clone(), map: Some(map.clone()), kind, said }
    }

    /// A file.
    pub(super) fn file(
        name: &str,
        path: String,
        format: Option<LogFormat>,
        map: Option<ResourceRef>,
    ) -> Self {
        Self { name: name.to_owned(), map, kind: Kind::File { path, format }, said: Value::Null }
    }

    /// What it is of, if calls are not logged to it.
    pub(super) fn other(&self) -> Option<&str> {
        match &self.kind {
            Kind::Other(kind) => Some(kind),
            _ => None,
        }
    }

    /// The ConfigMap that has it, if one has.
    pub(super) fn map(&self) -> Option<&ResourceRef> {
        self.map.as_ref()
    }

    /// Whether another is the same for proxies, whose own logs may have the lines of either.
    pub(super) fn is_like(&self, other: &Self, is_own: bool) -> bool {
        let formats = LogFormat::are_alike((self.format(), other.format()));
        if is_own {
            return formats;
        }
        match (&self.kind, &other.kind) {
            (Kind::File { path, .. }, Kind::File { path: other_path, .. }) => {
                let is_in_own = |path: &String| OWN.contains(&&**path);
                let are_own = is_in_own(path) && is_in_own(other_path);
                formats && (are_own || path == other_path) && self.unknown().eq(other.unknown())
            }
            (kind, other_kind) => kind == other_kind && self.said == other.said,
        }
    }

    /// The format of its lines, if it has one.
    fn format(&self) -> Option<&LogFormat> {
        match &self.kind {
            Kind::File { format, .. } => format.as_ref(),
            _ => None,
        }
    }

    /// What is said of a file beside what is in force.
    fn unknown(&self) -> impl Iterator<Item = (&String, &Value)> {
        let fields = self.said.as_object().into_iter().flatten();
        fields.filter(|(field, _)| !OF_FILES.contains(&field.as_str()))
    }

    fn report(&self, what: &str, reports: &mut Reports) {
        if let Some(map) = &self.map {
            let message = format!(
                "{what} of the extensionProvider {:?} is not in force for managed protocols",
                self.name
            );
            reports.not_honoured(map, format!("data.{KEY}"), message);
        }
    }

    /// Says which fields are not in force.
    fn report_others(&self, kind: &str, known: &[&str], reports: &mut Reports) {
        for field in self.said.as_object().into_iter().flat_map(Map::keys) {
            if !known.contains(&field.as_str()) {
                self.report(&format!("{kind}.{field}"), reports);
            }
        }
    }
}

impl<'a> Receivers<'a> {
    /// Those of a mesh with these services and DestinationRules.
    pub(super) fn new(configured: &'a Configured, services: &[Service], rules: Subsets<'a>) -> Self {
        let of_service = |(name, provider): (&'a str, &Provider)| {
            if !matches!(provider.kind, Kind::Http | Kind::OpenTelemetry) {
                return None;
            }
            let service = provider.said["service"].as_str().unwrap_or_default();
            // Istio takes numbers in quotes as well.
            let port = &provider.said["port"];
            let number = port.as_u64().and_then(|port| u16::try_from(port).ok());
            let port = number.or_else(|| port.as_str()?.parse().ok()).unwrap_or(0);
            let found = collector::find(service, port, services).map(|service| Found { service, port });
            Some((name, found))
        };
        Self { found: configured.providers().filter_map(of_service).collect(), rules }
    }

    /// That of a provider for some proxies, if it is a service.
    ///
    /// # Errors
    ///
    /// They do not reach it: why, as the rest of a sentence about the provider.
    pub(super) fn of(
        &self,
        provider: &str,
        of @ (whose, proxies): (Whose<'_>, Proxies),
        (visibility, services): (&Visibility<'_>, &[Service]),
    ) -> Result<Option<Receiver>, String> {
        let Some(found) = self.found.get(provider) else { return Ok(None) };
        let Found { service, port } = found.as_ref().map_err(Clone::clone)?;
        let cluster = visibility.cluster(service, *port, of)?;
        let host = &service.host;
        let mut lost = Vec::new();
        // Without HTTP/2 there is no gRPC.
        if !service.http2.has(*port, self.rules.upgrades(whose.namespace, service, *port)) {
            let (by, mend) = match &*service.origin.kind {
                "ServiceEntry" => ("protocol", "Write protocol: GRPC"),
                _ => ("name or appProtocol", "Name the port grpc or grpc-…, or write appProtocol: grpc"),
            };
            lost.push(format!(
                "names port {port} of {host}, which is not of gRPC or HTTP/2 by its {by}: Envoy sends to it by HTTP/1.1, and \
                 all is lost. {mend}"
            ));
        }
        if proxies == Proxies::Sidecars {
            let unseen = visibility.unseen(service, *port, whose, services).into_iter();
            lost.extend(
                unseen.map(|who| format!("names {host}, which {who} do not see: their calls are lost")),
            );
        }
        Ok(Some(Receiver { host: host.clone(), cluster, lost }))
    }
}

impl Draft {
    /// Nowhere, or in the logs of the proxies.
    pub(super) fn new(is_own: bool) -> Self {
        Self { is_own, ..Self::default() }
    }

    /// Has calls logged in the logs of the proxies, in the format of a provider if that has lines.
    pub(super) fn add_own(&mut self, provider: Provider) {
        self.is_own = true;
        if let Kind::File { format, .. } = provider.kind {
            self.formats.push((provider.name, format));
        }
    }

    /// Has calls logged to a provider, which is a service if there is a receiver.
    pub(super) fn add(&mut self, provider: Provider, receiver: Option<Receiver>, reports: &mut Reports) {
        match (&provider.kind, receiver) {
            (Kind::File { path, .. }, _) => {
                provider.report_others(FILE, &OF_FILES, reports);
                match OWN.contains(&&**path) {
                    true => return self.add_own(provider),
                    false => {
                        let mut logger = template("file");
                        logger["typed_config"]["path"] = path.as_str().into();
                        self.loggers.push(logger);
                        self.field(&provider, LINE.0, LINE.1, reports);
                    }
                }
                if let Kind::File { format, .. } = provider.kind {
                    self.formats.push((provider.name, format));
                }
            }
            (Kind::Http, Some(receiver)) => self.add_http(&provider, &receiver, reports),
            (Kind::OpenTelemetry, Some(receiver)) => self.add_open_telemetry(&provider, &receiver, reports),
            _ => {}
        }
    }

    fn add_http(&mut self, provider: &Provider, receiver: &Receiver, reports: &mut Reports) {
        let headers = "additionalRequestHeadersToLog";
        provider.report_others(HTTP, &["service", "port", "logName", headers], reports);
        for (name, text) in OF_CALLS {
            self.field(provider, name, text, reports);
        }
        let mut logger = template("http_grpc");
        let config = &mut logger["typed_config"];
        receiver.put(config, &provider.said, "http_envoy_accesslog");
        let more = provider.said[headers].as_array().into_iter().flatten().filter_map(Value::as_str);
        for name in more {
            let (text, _) = mend_log_format(&format!("%REQ({name})%"));
            let name = name.to_ascii_lowercase();
            if let (true, Some(list)) = (
                self.field(provider, &name, &text, reports),
                config["additional_request_headers_to_log"].as_array_mut(),
            ) {
                list.push(name.into());
            }
        }
        self.loggers.push(logger);
    }

    fn add_open_telemetry(&mut self, provider: &Provider, receiver: &Receiver, reports: &mut Reports) {
        provider.report_others(OPEN_TELEMETRY, &["service", "port", "logName", "logFormat"], reports);
        let mut logger = template("open_telemetry");
        let config = &mut logger["typed_config"];
        receiver.put(config, &provider.said, "otel_envoy_accesslog");
        let format = &provider.said["logFormat"];
        let (prefix, Some(map)) = (prefix(&provider.name), &provider.map) else { return };
        let text = format["text"].as_str().filter(|text| !text.trim().is_empty());
        let text = text.and_then(|text| LogFormat::text(text, map, &provider.name).field(reports));
        config["body"]["string_value"] = match text {
            Some((_, text)) => self.told(provider, &format!("{prefix}text"), &text, reports),
            None => self.told(provider, LINE.0, &LINE.1.into(), reports),
        };
        let labels = format["labels"].as_object().filter(|labels| !labels.is_empty());
        if let Some(labels) = labels {
            let (labels, unknown) = mended(labels);
            report_unknown(&unknown, map, &provider.name, reports);
            let attributes = labels.iter().enumerate().map(|(number, (name, text))| {
                let value = self.told(provider, &format!("{prefix}{number}"), text, reports);
                json!({"key": name, "value": {"string_value": value}})
            });
            config["attributes"] = json!({"values": attributes.collect::<Vec<_>>()});
        }
        self.loggers.push(logger);
    }

    /// The text that a logger has for one that calls are told in.
    fn told(&mut self, provider: &Provider, name: &str, text: &Value, reports: &mut Reports) -> Value {
        let text = text.as_str().unwrap_or_default();
        if !text.contains('%') {
            return text.into();
        }
        // Headers have one line.
        let text = text.replace(|char: char| char.is_ascii_control(), " ");
        match self.field(provider, name, &text, reports) {
            true => format!("%REQ({name})%").into(),
            false => "-".into(),
        }
    }

    /// Has loggers told something in a header; whether they are. Says so if not.
    fn field(&mut self, provider: &Provider, name: &str, text: &str, reports: &mut Reports) -> bool {
        if self.fields.get(name).is_some_and(|known| *known == *text) {
            return true;
        }
        let fields = [(name.to_owned(), text.to_owned())].into_iter().collect();
        let checked = check_log_format(&raw::AccessLog { fields, ..raw::AccessLog::default() });
        let is_new = !self.fields.contains_key(name) && self.fields.len() < MOST_FIELDS;
        if is_new && checked.is_ok() {
            self.fields.insert(name.to_owned(), text.into());
            return true;
        }
        let why = checked
            .err()
            .unwrap_or_else(|| format!("is one of more than {MOST_FIELDS} headers, or there already"));
        provider.report(&format!("{text:?}, which {why},"), reports);
        false
    }

    /// The whole, with a plan that says which calls are logged.
    pub(super) fn finish(mut self, mut plan: Value, reports: &mut Reports) -> Logging {
        let mut first: Option<&LogFormat> = None;
        for format in self.formats.iter().filter_map(|(_, format)| format.as_ref()) {
            // Those that are none are said to be so, and no others are theirs.
            let is_first = first.is_none() || !format.is_one();
            if let (true, Some((field, value))) = (is_first, format.field(reports)) {
                plan[field] = value;
                first = Some(format);
            }
        }
        if let Some(first) = first {
            let are_one = |format: &Option<LogFormat>| format.as_ref().is_none_or(LogFormat::is_one);
            for (log, other) in self.formats.iter().filter(|(_, format)| are_one(format)) {
                first.report_other(log, other.as_ref(), reports);
            }
        }
        if !self.loggers.is_empty() {
            if self.fields.is_empty() {
                // What loggers say is the same for all calls.
                self.fields.insert(LINE.0.to_owned(), LINE.1.into());
            }
            plan["fields"] = self.fields.into();
            if !self.is_own {
                plan["log"] = false.into();
            }
        }
        Logging { plan, loggers: self.loggers }
    }
}

impl Receiver {
    /// Has a logger tell it, as a log of the name that a provider says.
    fn put(&self, config: &mut Value, said: &Value, default: &str) {
        let name = said["logName"].as_str().filter(|name| !name.is_empty()).unwrap_or(default);
        config["common_config"]["log_name"] = name.into();
        config["common_config"]["grpc_service"]["envoy_grpc"] =
            json!({"cluster_name": self.cluster, "authority": self.host});
    }
}

/// A connection manager with loggers for calls.
pub(super) fn logging(mut manager: Value, loggers: &[Value]) -> Value {
    if loggers.is_empty() {
        return manager;
    }
    let config = &mut manager["typed_config"];
    add_loggers(config, loggers.iter().cloned());
    if let Some(routes) = config["route_config"]["virtual_hosts"][0]["routes"].as_array_mut() {
        routes.insert(0, LOADED["route"].clone());
    }
    manager
}

/// The logger of a kind.
fn template(kind: &str) -> Value {
    let name = format!("envoy.access_loggers.{kind}");
    let loggers = LOADED["access_log"].as_array();
    let found = loggers.and_then(|loggers| loggers.iter().find(|logger| logger["name"] == *name));
    found.cloned().unwrap_or_default()
}

/// What the names of a provider's own headers start with: no other's do, whatever it is called.
fn prefix(provider: &str) -> String {
    let mut prefix = "x-log-".to_owned();
    for byte in provider.to_ascii_lowercase().bytes() {
        match byte.is_ascii_alphanumeric() {
            true => prefix.push(byte.into()),
            false => prefix.push_str(&format!("_{byte:02x}")),
        }
    }
    prefix + "-"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_for_others_has_the_same_headers() {
        let logged = template("http_grpc")["typed_config"]["additional_request_headers_to_log"].clone();
        assert_eq!(logged, json!(OF_CALLS.map(|(name, _)| name)));
        let line = format!("%REQ({})%", LINE.0);
        assert_eq!(template("open_telemetry")["typed_config"]["body"]["string_value"], line);
        let format = &template("file")["typed_config"]["log_format"]["text_format_source"]["inline_string"];
        assert_eq!(*format, format!("{line}\n"));
    }

    #[test]
    fn no_two_providers_have_the_same_headers() {
        assert_eq!(prefix("Otel-1"), "x-log-otel_2d1-");
        assert_ne!(prefix("a_b"), prefix("a-b"));
        assert!(prefix("é:\n").bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }
}
