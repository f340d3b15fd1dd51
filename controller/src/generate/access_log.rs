//! Which calls have lines in the logs of their proxies: what Telemetries, the flags and the mesh configuration say.

use std::collections::{BTreeMap, BTreeSet};

use meltemi_proxy::plan::Span;
use serde_json::{Value, json};

use super::log_format::LogFormat;
use super::mesh::Mesh;
use super::options::AccessLog;
use super::report::Reports;
use super::telemetries::{Side, Telemetries, Whose};
use super::terms::duration;
use crate::findings::ResourceRef;
use crate::istio::{AccessLogging, MeshConfig, ModeSelector, Telemetry};

/// The calls that have lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Lines {
    errors: bool,
    slower_than: Option<Span>,
}

/// What the mesh configuration says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Configured {
    has_file: bool,
    /// The format of that file.
    format: Option<LogFormat>,
    defaults: BTreeSet<String>,
    /// By their names in lower case, as Istio compares them.
    providers: BTreeMap<String, Provider>,
}

/// Something that lines may go to.
#[derive(Debug, Clone, PartialEq)]
struct Provider {
    is_file: bool,
    format: Option<LogFormat>,
}

/// Which calls of which proxies have lines.
#[derive(Debug)]
pub(super) struct AccessLogs<'a> {
    telemetries: &'a Telemetries<'a>,
    mesh: &'a Mesh,
    /// What holds where no Telemetry says it.
    unsaid: Option<Lines>,
}

/// The provider that each mesh has.
const ENVOY: &str = "envoy";

impl Lines {
    /// The plan's `accessLog`, without a format.
    fn plan(self) -> Value {
        let mut plan = json!({"errors": self.errors});
        if let Some(slower_than) = self.slower_than {
            plan["slowerThan"] = slower_than.to_string().into();
        }
        plan
    }

    /// The calls that have lines in either of two logs.
    fn or(self, other: Self) -> Self {
        if [self, other].contains(&Self::default()) {
            return Self::default();
        }
        let slower_than = match (self.slower_than, other.slower_than) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self { errors: self.errors || other.errors, slower_than }
    }

    /// The calls of an expression of CEL: alternatives about how they ended and how long they took.
    fn of_expression(text: &str) -> Option<Self> {
        let alternatives = text.split("||").map(|alternative| {
            let text: String = alternative.chars().filter(|char| !char.is_whitespace()).collect();
            let text = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(&text);
            if let Some(rest) = text.strip_prefix("response.code") {
                let is_error = match rest.split_at_checked(2)? {
                    // Calls that did not succeed have one of Envoy's flags or a status of gRPC: no code is between.
                    (">=", code) => (300..=500).contains(&code.parse::<u16>().ok()?),
                    ("!=", code) => code == "200",
                    _ => (299..500).contains(&rest.strip_prefix('>')?.parse::<u16>().ok()?),
                };
                return is_error.then_some(Self { errors: true, slower_than: None });
            }
            if text == "response.grpc_status!=0" {
                return Some(Self { errors: true, slower_than: None });
            }
            let rest = text.strip_prefix("request.duration>").or(text.strip_prefix("response.duration>"))?;
            let rest = rest.strip_prefix('=').unwrap_or(rest).strip_prefix("duration(")?.strip_suffix(')')?;
            let slower_than = Some(duration(rest.trim_matches(['"', '\'']))?);
            Some(Self { errors: false, slower_than })
        });
        alternatives.reduce(|one, other| Some(one?.or(other?))).flatten()
    }
}

impl Configured {
    /// Adds what a revision's configuration says.
    pub(super) fn add(&mut self, config: &MeshConfig, map: &ResourceRef) {
        self.has_file |= config.access_log_file.as_ref().is_some_and(|file| !file.is_empty());
        let defaults =
            config.default_providers.iter().flat_map(|defaults| &defaults.access_logging).flatten();
        self.defaults.extend(defaults.map(|name| name.to_ascii_lowercase()));
        self.format = self.format.take().or_else(|| LogFormat::of_mesh(config, map, ENVOY));
        for provider in config.extension_providers.iter().flatten() {
            let file = provider.envoy_file_access_log.as_ref();
            let format = file.and_then(|file| LogFormat::of_provider(file, map, &provider.name));
            let provider_of = Provider { is_file: file.is_some(), format };
            self.providers.insert(provider.name.to_ascii_lowercase(), provider_of);
        }
    }

    /// Whether a provider is a file, if there is one of the name.
    fn is_file(&self, name: &str) -> Option<bool> {
        self.providers.get(name).map(|provider| provider.is_file).or((name == ENVOY).then_some(true))
    }

    /// The format of a provider.
    fn format(&self, name: &str) -> Option<&LogFormat> {
        match self.providers.get(name) {
            Some(provider) => provider.format.as_ref(),
            None => self.format.as_ref().filter(|_| name == ENVOY),
        }
    }
}

impl<'a> AccessLogs<'a> {
    /// Those of a mesh whose flags say this.
    pub(super) fn new(telemetries: &'a Telemetries<'a>, mesh: &'a Mesh, flag: Option<AccessLog>) -> Self {
        let by_flag = flag.map(|calls| Lines { errors: calls == AccessLog::Errors, slower_than: None });
        let logs = &mesh.logs;
        let is_on = match logs.defaults.is_empty() {
            true => logs.has_file,
            false => logs.defaults.iter().any(|name| logs.is_file(name) == Some(true)),
        };
        let unsaid = by_flag.or(is_on.then(Lines::default));
        Self { telemetries, mesh, unsaid }
    }

    /// The plan's `accessLog` for some proxies.
    pub(super) fn of(&self, whose: Whose<'_>, reports: &mut Reports) -> Option<Value> {
        let levels = self.telemetries.levels(whose, ("access logs", parts), reports);
        let providers = match levels.is_empty() {
            true => self.inherited().into_iter().map(|name| (name, self.unsaid)).collect(),
            false => self.merged(&levels, whose.side, reports),
        };
        let on = || providers.iter().filter_map(|(name, lines)| Some((name, (*lines)?)));
        let mut plan = on().map(|(_, lines)| lines).reduce(Lines::or)?.plan();
        let mut formats = on().filter_map(|(name, _)| self.mesh.logs.format(name));
        if let Some(format) = formats.next() {
            if let Some((field, format)) = format.field(reports) {
                plan[field] = format;
            }
            formats.for_each(|other| other.report_other(format, reports));
        }
        Some(plan)
    }

    /// The providers that hold where no Telemetry names any.
    fn inherited(&self) -> BTreeSet<String> {
        match self.mesh.logs.defaults.is_empty() && self.unsaid.is_some() {
            true => BTreeSet::from([ENVOY.to_owned()]),
            false => self.mesh.logs.defaults.clone(),
        }
    }

    /// What each provider that is a file has, by all levels that hold: later ones count.
    fn merged(
        &self,
        levels: &[&Telemetry],
        side: Side,
        reports: &mut Reports,
    ) -> BTreeMap<String, Option<Lines>> {
        let mut providers: BTreeMap<String, Option<Lines>> = BTreeMap::new();
        let mut inherited = self.inherited();
        for telemetry in levels {
            let all = telemetry.spec.access_logging.iter().enumerate();
            let of_mode = all.filter(|(_, logging)| side.is_meant(logging.of.as_ref()));
            let mut named = BTreeSet::new();
            let mut said = Vec::new();
            for (at, logging) in of_mode {
                let own: BTreeSet<String> =
                    logging.providers.iter().map(|provider| provider.name.to_ascii_lowercase()).collect();
                named.extend(own.iter().cloned());
                let names = if own.is_empty() { inherited.clone() } else { own };
                said.push((names, self.lines(telemetry, at, logging, reports)));
            }
            if !named.is_empty() {
                providers.retain(|name, _| named.contains(name));
                inherited = named;
            }
            for (names, lines) in said {
                let files = names.into_iter().filter(|name| self.mesh.logs.is_file(name) == Some(true));
                providers.extend(files.map(|name| (name, lines)));
            }
        }
        providers
    }

    /// The calls that one entry of a Telemetry means.
    fn lines(
        &self,
        telemetry: &Telemetry,
        at: usize,
        logging: &AccessLogging,
        reports: &mut Reports,
    ) -> Option<Lines> {
        let origin = ResourceRef::of(telemetry);
        if logging.disabled == Some(true) {
            return None;
        }
        for (number, provider) in logging.providers.iter().enumerate() {
            let message = match self.mesh.logs.is_file(&provider.name.to_ascii_lowercase()) {
                Some(true) => continue,
                Some(false) => {
                    "is not of envoyFileAccessLog: calls have lines in the log of their proxy alone"
                }
                None => "is not among the extensionProviders of the mesh configuration",
            };
            let path = format!("spec.accessLogging[{at}].providers[{number}].name");
            let message = format!("{:?} {message}; name the provider {ENVOY}", provider.name);
            reports.not_honoured(&origin, path, message);
        }
        let Some(filter) = logging.filter.as_ref().filter(|filter| !filter.expression.is_empty()) else {
            return Some(Lines::default());
        };
        Some(Lines::of_expression(&filter.expression).unwrap_or_else(|| {
            let path = format!("spec.accessLogging[{at}].filter.expression");
            let message = "for managed protocols only alternatives (||) of response.code >= 400 or 500 and of \
                           request.duration > duration(\"1s\") are known: calls that did not succeed have lines";
            reports.not_honoured(&origin, path, message);
            Lines { errors: true, slower_than: None }
        }))
    }
}

/// The sides that a Telemetry has lines for.
fn parts(telemetry: &Telemetry) -> Vec<Option<&ModeSelector>> {
    telemetry.spec.access_logging.iter().map(|logging| logging.of.as_ref()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_those_that_people_write() {
        let plan = |text| Lines::of_expression(text).map(Lines::plan);
        for errors in [
            "response.code >= 400",
            "response.code>=500",
            "response.code > 399",
            "response.code != 200",
            "response.grpc_status != 0",
            "response.code >= 400 || (response.code >= 500)",
        ] {
            assert_eq!(plan(errors), Some(json!({"errors": true})), "{errors}");
        }
        let slow = json!({"errors": false, "slowerThan": "500ms"});
        assert_eq!(plan("request.duration > duration('0.5s')"), Some(slow));
        let either = json!({"errors": true, "slowerThan": "2s"});
        assert_eq!(plan("response.code >= 500 || request.duration >= duration(\"2s\")"), Some(either));
        for unknown in [
            "",
            "response.code >= 503",
            "response.code == 404",
            "response.code >= 400 && response.code < 500",
            "response.code >= 400 || request.path == '/'",
            "request.duration > duration('soon')",
            "true",
        ] {
            assert_eq!(plan(unknown), None, "{unknown}");
        }
    }
}
