//! What calls are logged to, as the mesh configuration says it.

use serde_json::{Map, Value};

use super::super::log_format::LogFormat;
use super::super::mesh_maps::KEY;
use super::super::report::Reports;
use crate::findings::ResourceRef;
use crate::istio::ExtensionProvider;

/// Something that calls are logged to.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Provider {
    pub(super) name: String,
    /// The ConfigMap that has it, if one has.
    pub(super) map: Option<ResourceRef>,
    pub(super) kind: Kind,
    /// What the mesh configuration says of it.
    pub(super) said: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A file of the proxy's, with the format of its lines.
    File { path: String, format: Option<LogFormat> },
    /// A service, by Envoy's own protocol.
    Http,
    /// A service, by OpenTelemetry's.
    OpenTelemetry,
    /// Nothing that calls are logged to.
    Other(String),
}

/// Lines in a file.
pub(super) const FILE: &str = "envoyFileAccessLog";
/// What is in force of one.
pub(super) const OF_FILES: [&str; 2] = ["path", "logFormat"];
/// Entries of an access log service.
pub(super) const HTTP: &str = "envoyHttpAls";
/// Records of OpenTelemetry.
pub(super) const OPEN_TELEMETRY: &str = "envoyOtelAls";

/// Where lines are that are in no file by name, as of Istio's own proxies.
pub(super) const STDOUT: &str = "/dev/stdout";

impl Provider {
    /// That of a ConfigMap.
    pub(in super::super) fn new(provider: &ExtensionProvider, map: &ResourceRef) -> Self {
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

    /// A file; standard output, if it has no path.
    pub(in super::super) fn file(
        name: &str,
        path: String,
        format: Option<LogFormat>,
        map: Option<ResourceRef>,
    ) -> Self {
        let path = if path.is_empty() { STDOUT.to_owned() } else { path };
        Self { name: name.to_owned(), map, kind: Kind::File { path, format }, said: Value::Null }
    }

    /// What it is of, if calls are not logged to it.
    pub(in super::super) fn other(&self) -> Option<&str> {
        match &self.kind {
            Kind::Other(kind) => Some(kind),
            _ => None,
        }
    }

    /// The ConfigMap that has it, if one has.
    pub(in super::super) fn map(&self) -> Option<&ResourceRef> {
        self.map.as_ref()
    }

    /// Whether another is the same for proxies, whose lines may be in one file whatever is said.
    pub(in super::super) fn is_like(&self, other: &Self, is_one_file: bool) -> bool {
        let formats = LogFormat::are_alike((self.format(), other.format()));
        if is_one_file {
            return formats;
        }
        match (&self.kind, &other.kind) {
            (Kind::File { path, .. }, Kind::File { path: other_path, .. }) => {
                formats && path == other_path && self.unknown().eq(other.unknown())
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

    pub(super) fn report(&self, what: &str, reports: &mut Reports) {
        if let Some(map) = &self.map {
            let message = format!(
                "{what} of the extensionProvider {:?} is not in force for managed protocols",
                self.name
            );
            reports.not_honoured(map, format!("data.{KEY}"), message);
        }
    }

    /// Says which fields are not in force.
    pub(super) fn report_others(&self, kind: &str, known: &[&str], reports: &mut Reports) {
        let fields = |of: &Value| of.as_object().into_iter().flat_map(Map::keys).cloned().collect::<Vec<_>>();
        for field in fields(&self.said) {
            if !known.contains(&field.as_str()) {
                self.report(&format!("{kind}.{field}"), reports);
            } else if field == "logFormat" {
                let others = fields(&self.said[&field]).into_iter();
                for other in others.filter(|other| !["text", "labels"].contains(&other.as_str())) {
                    self.report(&format!("{kind}.{field}.{other}"), reports);
                }
            }
        }
    }
}
