use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::{Map, Value};

use super::LocalitySetting;

/// What the operator of Istio says of the whole mesh, as the key `mesh` of the ConfigMap `istio` has it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfig {
    /// The root namespace, where it is not istiod's own.
    pub root_namespace: Option<String>,
    /// The namespaces that see services which do not say it.
    pub default_service_export_to: Option<Vec<String>>,
    /// The namespaces that follow VirtualServices which do not say it.
    pub default_virtual_service_export_to: Option<Vec<String>>,
    /// The namespaces that follow DestinationRules which do not say it.
    pub default_destination_rule_export_to: Option<Vec<String>>,
    /// How connections are distributed over localities, where no DestinationRule says it.
    pub locality_lb_setting: Option<LocalitySetting>,
    /// Whether HTTP/1.1 becomes HTTP/2, where no DestinationRule says it.
    pub h2_upgrade_policy: Option<Value>,
    /// The file that proxies write a line for each call to. Default: none.
    pub access_log_file: Option<String>,
    /// How the lines in it are written: in the form of [`access_log_encoding`](Self::access_log_encoding).
    pub access_log_format: Option<String>,
    /// `TEXT`, which is the default, or `JSON`.
    pub access_log_encoding: Option<Value>,
    /// Calls are traced by what [`default_config`](Self::default_config) says, where nobody says it otherwise. Default: yes.
    pub enable_tracing: Option<bool>,
    /// What proxies start with.
    pub default_config: Option<ProxyConfig>,
    /// The logs and tracers, among other things that proxies tell others.
    pub extension_providers: Option<Vec<ExtensionProvider>>,
    /// Those that hold where nobody says it.
    pub default_providers: Option<DefaultProviders>,
}

impl MeshConfig {
    /// What the two say together, as Istio merges them: this one where both say something. What proxies start with and
    /// the default providers are merged by field, and providers by name: of several in one list the last counts.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        let default_config = both(self.default_config, other.default_config, |own, other| ProxyConfig {
            tracing: own.tracing.or(other.tracing),
            extra_stat_tags: own.extra_stat_tags.or(other.extra_stat_tags),
        });
        let default_providers =
            both(self.default_providers, other.default_providers, |own, other| DefaultProviders {
                access_logging: own.access_logging.or(other.access_logging),
                tracing: own.tracing.or(other.tracing),
            });
        let mut providers: Vec<ExtensionProvider> = Vec::new();
        let said = [other.extension_providers, self.extension_providers];
        for provider in said.into_iter().flatten().flatten() {
            match providers.iter_mut().find(|known| known.name == provider.name) {
                Some(known) => *known = provider,
                None => providers.push(provider),
            }
        }
        Self {
            root_namespace: self.root_namespace.or(other.root_namespace),
            default_service_export_to: self.default_service_export_to.or(other.default_service_export_to),
            default_virtual_service_export_to: self
                .default_virtual_service_export_to
                .or(other.default_virtual_service_export_to),
            default_destination_rule_export_to: self
                .default_destination_rule_export_to
                .or(other.default_destination_rule_export_to),
            locality_lb_setting: self.locality_lb_setting.or(other.locality_lb_setting),
            h2_upgrade_policy: self.h2_upgrade_policy.or(other.h2_upgrade_policy),
            access_log_file: self.access_log_file.or(other.access_log_file),
            access_log_format: self.access_log_format.or(other.access_log_format),
            access_log_encoding: self.access_log_encoding.or(other.access_log_encoding),
            enable_tracing: self.enable_tracing.or(other.enable_tracing),
            default_config,
            extension_providers: Some(providers),
            default_providers,
        }
    }
}

/// What two say, if any says something.
fn both<T>(one: Option<T>, other: Option<T>, merge: impl FnOnce(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(merge(one, other)),
        (one, other) => one.or(other),
    }
}

/// Something that proxies tell of calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtensionProvider {
    /// The name.
    pub name: String,
    /// It is a file of the proxy's.
    pub envoy_file_access_log: Option<Value>,
    /// It is a collector of OpenTelemetry.
    pub opentelemetry: Option<OpenTelemetry>,
    /// It is a collector that takes spans as Zipkin does.
    pub zipkin: Option<Zipkin>,
    /// What else it is, by the name of that.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What a provider says of an access log, by Istio's types of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct AccessLogShape {
    path: String,
    service: String,
    log_name: String,
    log_format: LogFormatShape,
    additional_request_headers_to_log: Vec<String>,
}

/// What is said of the lines of an access log.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, expecting = "an object")]
struct LogFormatShape {
    text: String,
    labels: Map<String, Value>,
}

impl ExtensionProvider {
    /// Checks what it says of access logs, if it says anything.
    ///
    /// # Errors
    ///
    /// Istio cannot read it: which field, and why.
    pub fn check_access_log(&self) -> Result<(), (String, String)> {
        let file = self.envoy_file_access_log.iter().map(|said| ("envoyFileAccessLog", said));
        let services = self.others.iter().map(|(kind, said)| (&**kind, said));
        let of_services = services.filter(|(kind, _)| ["envoyHttpAls", "envoyOtelAls"].contains(kind));
        for (kind, said) in file.chain(of_services) {
            let shape: Result<AccessLogShape, _> = serde_path_to_error::deserialize(said);
            shape.map_err(|error| {
                let field = error.path().to_string();
                let field = if field == "." { kind.to_owned() } else { format!("{kind}.{field}") };
                (field, error.inner().to_string())
            })?;
        }
        Ok(())
    }
}

/// The number of a port, which Istio takes in quotes as well.
fn port<'de, D: Deserializer<'de>>(port: D) -> Result<u16, D::Error> {
    let said = Value::deserialize(port)?;
    let number = said.as_u64().and_then(|number| u16::try_from(number).ok());
    let number = number.or_else(|| said.as_str()?.parse().ok());
    number.ok_or_else(|| D::Error::custom(format!("{said}, expected the number of a port")))
}

/// A collector of spans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OpenTelemetry {
    /// The host, perhaps behind its namespace and a slash.
    pub service: String,
    /// The port.
    #[serde(deserialize_with = "port")]
    pub port: u16,
    /// How it is called by gRPC, which it is unless `http` says otherwise.
    pub grpc: BTreeMap<String, Value>,
    /// It is called by HTTP without gRPC.
    pub http: Option<BTreeMap<String, Value>>,
    /// What else is said of it.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// A collector of spans as Zipkin takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Zipkin {
    /// The host, perhaps behind its namespace and a slash.
    pub service: String,
    /// The port.
    #[serde(deserialize_with = "port")]
    pub port: u16,
    /// Where it takes them.
    pub path: Option<String>,
    /// What it is told with them.
    pub headers: Option<Value>,
    /// In which formats servers are told of traces.
    pub trace_context_option: Option<Value>,
    /// What else is said of it.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What proxies start with.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// How calls are traced.
    pub tracing: Option<ProxyTracing>,
    /// The labels that proxies look for in the names of metrics, as a list.
    pub extra_stat_tags: Option<Value>,
}

/// How proxies trace calls.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyTracing {
    /// The share of the calls that are sampled, in percent. Default: 0, which is 1.
    pub sampling: f64,
    /// What spans say beside what they do anyway.
    pub custom_tags: BTreeMap<String, Value>,
    /// Where spans go, among other things.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What proxies tell where nobody says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultProviders {
    /// The names of the logs.
    pub access_logging: Option<Vec<String>>,
    /// The names of the tracers, of which the first counts.
    pub tracing: Option<Vec<String>>,
}
