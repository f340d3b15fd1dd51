//! Which calls are logged, and where: what Telemetries, the flags and the mesh configuration say.

use std::collections::{BTreeMap, BTreeSet};

use meltemi_proxy::plan::Span;
use serde_json::{Value, json};

use super::loggers::{Draft, Logging, Provider, Receiver, Receivers};
use super::mesh_logs::{Configured, ENVOY};
use super::mesh_maps::KEY;
use super::options::AccessLog;
use super::report::Reports;
use super::service::Service;
use super::sockets::Proxies;
use super::telemetries::{Telemetries, Whose};
use super::terms::duration;
use super::visibility::Visibility;
use crate::findings::ResourceRef;
use crate::istio::{AccessLogging, ModeSelector, Telemetry};

/// The calls that have lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Lines {
    errors: bool,
    slower_than: Option<Span>,
}

/// Which calls of which proxies are logged, and where.
#[derive(Debug)]
pub(super) struct AccessLogs<'a> {
    pub(super) telemetries: &'a Telemetries<'a>,
    pub(super) configured: &'a Configured,
    pub(super) receivers: Receivers<'a>,
    pub(super) visibility: &'a Visibility<'a>,
    /// All services.
    pub(super) services: &'a [Service],
    /// The calls that have lines on the standard output of their proxies where no Telemetry says it.
    pub(super) flag: Option<AccessLog>,
}

/// Some proxies: those of a namespace, of a side, and whether they are gateways.
type Of<'p> = (Whose<'p>, Proxies);

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

impl AccessLogs<'_> {
    /// What is logged by some proxies, and where.
    pub(super) fn of(&self, whose: Whose<'_>, proxies: Proxies, reports: &mut Reports) -> Option<Logging> {
        let of = (whose, proxies);
        let levels = self.telemetries.levels(whose, ("access logs", parts), reports);
        let said = match levels.is_empty() {
            true => self.inherited().into_iter().map(|name| (name, self.unsaid())).collect(),
            false => self.merged(&levels, of, reports),
        };
        // The flag is about the standard output of the proxies.
        let is_by_flag = levels.is_empty() && self.flag.is_some();
        let mut draft = Draft::new(is_by_flag);
        let mut all: Option<Lines> = None;
        for (name, lines) in said {
            let Some(lines) = lines else { continue };
            let silent = match levels.is_empty() && !is_by_flag {
                true => self.configured.report_silent(&name, reports),
                false => Vec::new(),
            };
            self.configured.report_others(&name, is_by_flag, &silent, reports);
            match self.place(&name, of) {
                Ok((provider, _)) if is_by_flag => draft.add_format(provider),
                Ok((provider, receiver)) => {
                    for why in receiver.iter().flat_map(|receiver| &receiver.lost) {
                        self.report_default(&name, why, reports);
                    }
                    draft.add(provider, receiver, reports);
                }
                Err(_) if is_by_flag => {}
                Err(why) => {
                    self.report_default(&name, &why, reports);
                    continue;
                }
            }
            all = Some(all.map_or(lines, |others| others.or(lines)));
        }
        Some(draft.finish(all?.plan(), reports))
    }

    /// Says what of a provider that holds by default is not in force.
    fn report_default(&self, name: &str, why: &str, reports: &mut Reports) {
        if let Some(map) = self.configured.by_default(name) {
            let message = format!("calls of managed protocols: the access log {name:?} {why}");
            reports.not_honoured(map, format!("data.{KEY}"), message);
        }
    }

    /// What holds where no Telemetry says it.
    fn unsaid(&self) -> Option<Lines> {
        let is_on = !self.configured.inherited().is_empty();
        let by_flag = self.flag.map(|calls| Lines { errors: calls == AccessLog::Errors, slower_than: None });
        by_flag.or(is_on.then(Lines::default))
    }

    /// The providers that hold where no Telemetry names any.
    fn inherited(&self) -> BTreeSet<String> {
        let inherited = self.configured.inherited();
        match inherited.is_empty() && self.flag.is_some() {
            true => BTreeSet::from([ENVOY.to_owned()]),
            false => inherited,
        }
    }

    /// A provider, and who is told by it, if that is no file.
    fn place(&self, name: &str, (whose, proxies): Of<'_>) -> Result<(Provider, Option<Receiver>), String> {
        let provider = self.configured.provider(name).ok_or(
            "is not among the extensionProviders of the mesh configuration; name the provider envoy",
        )?;
        if let Some(kind) = provider.other() {
            return Err(format!(
                "is of {kind}; name one of envoyFileAccessLog, envoyHttpAls or envoyOtelAls, or the provider {ENVOY}"
            ));
        }
        let receiver = self.receivers.of(name, (whose, proxies), (self.visibility, self.services))?;
        Ok((provider, receiver))
    }

    /// What each provider has, by all levels that hold: later ones count.
    fn merged(
        &self,
        levels: &[&Telemetry],
        of: Of<'_>,
        reports: &mut Reports,
    ) -> BTreeMap<String, Option<Lines>> {
        let mut providers: BTreeMap<String, Option<Lines>> = BTreeMap::new();
        let mut inherited = self.inherited();
        for telemetry in levels {
            let all = telemetry.spec.access_logging.iter().enumerate();
            let of_mode = all.filter(|(_, logging)| of.0.side.is_meant(logging.of.as_ref()));
            let mut named = BTreeSet::new();
            let mut said = Vec::new();
            // What names no provider is about those that were named last.
            let mut last = inherited.clone();
            for (at, logging) in of_mode {
                let own: BTreeSet<String> =
                    logging.providers.iter().map(|provider| provider.name.to_ascii_lowercase()).collect();
                if !own.is_empty() {
                    named.extend(own.iter().cloned());
                    last = own;
                }
                said.push((last.clone(), self.lines((telemetry, at), logging, of, reports)));
            }
            if !named.is_empty() {
                providers.retain(|name, _| named.contains(name));
                inherited = named;
            }
            for (names, lines) in said {
                providers.extend(names.into_iter().map(|name| (name, lines)));
            }
        }
        providers
    }

    /// The calls that one entry of a Telemetry means.
    fn lines(
        &self,
        (telemetry, at): (&Telemetry, usize),
        logging: &AccessLogging,
        of: Of<'_>,
        reports: &mut Reports,
    ) -> Option<Lines> {
        let origin = ResourceRef::of(telemetry);
        if logging.disabled == Some(true) {
            return None;
        }
        for (number, provider) in logging.providers.iter().enumerate() {
            let lost = match self.place(&provider.name.to_ascii_lowercase(), of) {
                Ok((_, receiver)) => receiver.map(|receiver| receiver.lost).unwrap_or_default(),
                Err(why) => vec![why],
            };
            for why in lost {
                let path = format!("spec.accessLogging[{at}].providers[{number}].name");
                reports.not_honoured(&origin, path, format!("{:?} {why}", provider.name));
            }
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
