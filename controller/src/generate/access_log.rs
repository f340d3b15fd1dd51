//! Which calls have lines in the logs of their proxies: what Telemetries, the flags and the mesh configuration say.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use meltemi_proxy::plan::Span;
use serde_json::{Value, json};

use super::age::Age;
use super::mesh::Mesh;
use super::options::AccessLog;
use super::report::Reports;
use super::service::{Labels, selects};
use super::terms::duration;
use crate::findings::ResourceRef;
use crate::istio::{AccessLogging, MeshConfig, Telemetry};
use crate::world::World;

/// The calls that have lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Lines {
    errors: bool,
    slower_than: Option<Span>,
}

/// What the mesh configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Configured {
    has_file: bool,
    defaults: BTreeSet<String>,
    /// The names of all providers in lower case, as Istio compares them, and whether they are files.
    providers: BTreeMap<String, bool>,
}

/// Which calls of which proxies have lines.
#[derive(Debug)]
pub(super) struct AccessLogs<'a> {
    /// By namespace, the oldest first.
    telemetries: BTreeMap<&'a str, Vec<&'a Telemetry>>,
    pods: &'a [Pod],
    mesh: &'a Mesh,
    /// What holds where no Telemetry says it.
    unsaid: Option<Lines>,
}

/// The provider that each mesh has.
const ENVOY: &str = "envoy";

impl Lines {
    /// The plan's `accessLog`.
    pub(super) fn plan(self) -> Value {
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
    pub(super) fn add(&mut self, config: &MeshConfig) {
        self.has_file |= config.access_log_file.as_ref().is_some_and(|file| !file.is_empty());
        let defaults =
            config.default_providers.iter().flat_map(|defaults| &defaults.access_logging).flatten();
        self.defaults.extend(defaults.map(|name| name.to_ascii_lowercase()));
        for provider in config.extension_providers.iter().flatten() {
            let is_file = provider.envoy_file_access_log.is_some();
            self.providers.insert(provider.name.to_ascii_lowercase(), is_file);
        }
    }

    /// Whether a provider is a file, if there is one of the name.
    fn is_file(&self, name: &str) -> Option<bool> {
        self.providers.get(name).copied().or((name == ENVOY).then_some(true))
    }
}

impl<'a> AccessLogs<'a> {
    /// Those of a mesh whose flags say this.
    pub(super) fn new(world: &'a World, mesh: &'a Mesh, flag: Option<AccessLog>) -> Self {
        let mut telemetries: BTreeMap<&str, Vec<&Telemetry>> = BTreeMap::new();
        for telemetry in &world.telemetries {
            // Those with targets are for gateways of the Gateway API and waypoints, which have no module.
            if telemetry.spec.target_ref.is_none() && telemetry.spec.target_refs.is_empty() {
                let namespace = telemetry.metadata.namespace.as_deref().unwrap_or_default();
                telemetries.entry(namespace).or_default().push(telemetry);
            }
        }
        for all in telemetries.values_mut() {
            all.sort_by_cached_key(|telemetry| Age::of(*telemetry));
        }
        let by_flag = flag.map(|calls| Lines { errors: calls == AccessLog::Errors, slower_than: None });
        let logs = &mesh.logs;
        let is_on = match logs.defaults.is_empty() {
            true => logs.has_file,
            false => logs.defaults.iter().any(|name| logs.is_file(name) == Some(true)),
        };
        let unsaid = by_flag.or(is_on.then(Lines::default));
        Self { telemetries, pods: &world.pods, mesh, unsaid }
    }

    /// The calls by those proxies of a namespace that a selector selects.
    pub(super) fn of_clients(
        &self,
        namespace: &str,
        selector: Option<&Labels>,
        reports: &mut Reports,
    ) -> Option<Lines> {
        let why = "the proxies of the namespace's clients share one plan: leave out the selector, or write mode: SERVER";
        self.of(namespace, selector, ("CLIENT", why), reports)
    }

    /// The calls to those proxies of a namespace that a selector selects.
    pub(super) fn of_servers(
        &self,
        namespace: &str,
        selector: Option<&Labels>,
        reports: &mut Reports,
    ) -> Option<Lines> {
        let why =
            "the proxies of a service's pods share one plan: select them by labels that its own selector has";
        self.of(namespace, selector, ("SERVER", why), reports)
    }

    fn of(
        &self,
        namespace: &str,
        labels: Option<&Labels>,
        (mode, why): (&str, &str),
        reports: &mut Reports,
    ) -> Option<Lines> {
        let root = &*self.mesh.root_namespace;
        let of_root = self.of_namespace(root).filter(|_| namespace != root);
        let own = self.of_selected(namespace, labels, (mode, why), reports);
        let levels = of_root.into_iter().chain(self.of_namespace(namespace)).chain(own);
        let levels: Vec<&Telemetry> =
            levels.filter(|telemetry| !telemetry.spec.access_logging.is_empty()).collect();
        if levels.is_empty() {
            return self.unsaid;
        }
        let lines = self.merged(&levels, mode, reports).into_values().flatten();
        lines.reduce(Lines::or)
    }

    /// What each provider that is a file has, by all levels that hold: later ones count.
    fn merged(
        &self,
        levels: &[&Telemetry],
        mode: &str,
        reports: &mut Reports,
    ) -> BTreeMap<String, Option<Lines>> {
        let mut providers: BTreeMap<String, Option<Lines>> = BTreeMap::new();
        let mut inherited: BTreeSet<String> = self.mesh.logs.defaults.clone();
        if inherited.is_empty() && self.unsaid.is_some() {
            inherited.insert(ENVOY.to_owned());
        }
        for telemetry in levels {
            let of_mode = telemetry.spec.access_logging.iter().enumerate().filter(|(_, logging)| {
                let selected = logging.of.as_ref().map_or("", |of| &*of.mode);
                selected == mode || matches!(selected, "" | "CLIENT_AND_SERVER")
            });
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

    /// The Telemetry for all of a namespace: of several the oldest.
    fn of_namespace(&self, namespace: &str) -> Option<&'a Telemetry> {
        self.in_namespace(namespace).find(|telemetry| selector(telemetry).is_none())
    }

    /// The Telemetry that selects all of the proxies with these labels. Says which others select some of them.
    fn of_selected(
        &self,
        namespace: &str,
        labels: Option<&Labels>,
        (mode, why): (&str, &str),
        reports: &mut Reports,
    ) -> Option<&'a Telemetry> {
        for telemetry in self.in_namespace(namespace) {
            let Some(wanted) = selector(telemetry) else { continue };
            let has = |(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value));
            if wanted.iter().all(has) {
                return Some(telemetry);
            }
            let logging = &telemetry.spec.access_logging;
            let other = if mode == "CLIENT" { "SERVER" } else { "CLIENT" };
            let is_of_other =
                |logging: &AccessLogging| logging.of.as_ref().is_some_and(|of| of.mode == other);
            if logging.iter().all(is_of_other) || !self.may_select(namespace, wanted, labels) {
                continue;
            }
            let message = format!("not for access logs of managed protocols as mode {mode}: {why}");
            reports.not_honoured(&ResourceRef::of(telemetry), "spec.selector", message);
        }
        None
    }

    /// Whether some of the pods with labels have others too, as far as the pods are known.
    fn may_select(&self, namespace: &str, wanted: &Labels, labels: Option<&Labels>) -> bool {
        let is_known = |pod: &&Pod| {
            let of = pod.metadata.labels.as_ref();
            pod.metadata.namespace.as_deref() == Some(namespace)
                && labels.is_none_or(|labels| selects(labels, of))
        };
        let differs =
            |(key, value)| labels.and_then(|labels| labels.get(key)).is_some_and(|own| own != value);
        if wanted.iter().any(differs) {
            return false;
        }
        let mut known = self.pods.iter().filter(is_known).peekable();
        known.peek().is_none() || known.any(|pod| selects(wanted, pod.metadata.labels.as_ref()))
    }

    fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &'a Telemetry> {
        self.telemetries.get(namespace).into_iter().flatten().copied()
    }
}

/// The labels that a Telemetry selects workloads by.
fn selector(telemetry: &Telemetry) -> Option<&Labels> {
    telemetry
        .spec
        .selector
        .as_ref()
        .map(|selector| &selector.match_labels)
        .filter(|labels| !labels.is_empty())
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
