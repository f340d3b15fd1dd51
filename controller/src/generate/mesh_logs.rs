//! The access logs that the mesh configuration has. Proxies of all its revisions share plans: where revisions differ, all proxies
//! have what the first says.

use std::collections::{BTreeMap, BTreeSet};

use super::log_format::LogFormat;
use super::loggers::{OWN, Provider};
use super::mesh::KEY;
use super::report::Reports;
use crate::findings::ResourceRef;
use crate::istio::MeshConfig;

/// What the mesh configuration says of access logs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Configured {
    revisions: Vec<Revision>,
    /// Those of each name, in lower case, as Istio compares them: that of the first revision first.
    providers: BTreeMap<String, Vec<Provider>>,
}

/// What a revision says.
#[derive(Debug, Clone, PartialEq)]
struct Revision {
    map: ResourceRef,
    /// The file that lines go to where nobody says it.
    file: Option<String>,
    /// The format of that file.
    format: Option<LogFormat>,
    /// The logs that hold where no Telemetry says it.
    inherited: BTreeSet<String>,
}

/// The provider that each mesh has.
pub(super) const ENVOY: &str = "envoy";

impl Configured {
    /// Adds what a revision's configuration says.
    pub(super) fn add(&mut self, config: &MeshConfig, map: &ResourceRef) {
        let file = config.access_log_file.clone().filter(|file| !file.is_empty());
        let defaults =
            config.default_providers.iter().flat_map(|defaults| &defaults.access_logging).flatten();
        let mut inherited: BTreeSet<String> = defaults.map(|name| name.to_ascii_lowercase()).collect();
        if inherited.is_empty() && file.is_some() {
            inherited.insert(ENVOY.to_owned());
        }
        let format = LogFormat::of_mesh(config, map, ENVOY);
        self.revisions.push(Revision { map: map.clone(), file, format, inherited });
        for provider in config.extension_providers.iter().flatten() {
            let of_name = self.providers.entry(provider.name.to_ascii_lowercase()).or_default();
            of_name.push(Provider::new(provider, map));
        }
    }

    /// The provider of a name, in lower case.
    pub(super) fn provider(&self, name: &str) -> Option<Provider> {
        let of_mesh = || {
            let own = self.own();
            let file = own.and_then(|own| own.file.clone()).unwrap_or_default();
            Provider::file(ENVOY, file, own.and_then(|own| own.format.clone()), None)
        };
        let first = self.providers.get(name).and_then(|of_name| of_name.first());
        first.cloned().or_else(|| (name == ENVOY).then(of_mesh))
    }

    /// The providers that count, by their names in lower case.
    pub(super) fn providers(&self) -> impl Iterator<Item = (&str, &Provider)> {
        self.providers.iter().filter_map(|(name, of_name)| Some((&**name, of_name.first()?)))
    }

    /// The providers that hold where no Telemetry names any: those of all revisions.
    pub(super) fn inherited(&self) -> BTreeSet<String> {
        self.revisions.iter().flat_map(|revision| revision.inherited.iter().cloned()).collect()
    }

    /// The first revision that has a provider hold where no Telemetry names any.
    pub(super) fn by_default(&self, provider: &str) -> Option<&ResourceRef> {
        let mut revisions = self.revisions.iter();
        revisions.find(|revision| revision.inherited.contains(provider)).map(|revision| &revision.map)
    }

    /// Says which revisions mean something else by the name of a provider than what counts, where lines may be in the logs of the
    /// proxies, whatever the file is.
    pub(super) fn report_others(&self, name: &str, is_own: bool, reports: &mut Reports) {
        let (map, others): (_, Vec<&ResourceRef>) = match self.providers.get(name).map(Vec::as_slice) {
            Some([first, rest @ ..]) => {
                let others = rest.iter().filter(|other| !other.is_like(first));
                (first.map(), others.filter_map(Provider::map).collect())
            }
            _ => {
                let Some(own) = self.own() else { return };
                let others = self.revisions.iter().filter(|other| !other.is_like(own, is_own));
                (Some(&own.map), others.map(|other| &other.map).collect())
            }
        };
        let Some(map) = map else { return };
        for other in others {
            report_other(&format!("access log {name:?}"), map, other, reports);
        }
    }

    /// Says which revisions do not have a provider hold by default, where another does.
    pub(super) fn report_silent(&self, name: &str, reports: &mut Reports) {
        let Some(map) = self.by_default(name) else { return };
        for silent in self.revisions.iter().filter(|revision| !revision.inherited.contains(name)) {
            let message = format!(
                "calls of managed protocols: the access log {name:?} is that of the proxies of all revisions, as {map} names \
                 it; write the same here"
            );
            reports.not_honoured(&silent.map, format!("data.{KEY}"), message);
        }
    }

    /// The revision whose log is that of the mesh itself.
    fn own(&self) -> Option<&Revision> {
        let first = |has: fn(&&Revision) -> bool| self.revisions.iter().find(has);
        first(|revision| revision.file.is_some()).or_else(|| first(|revision| revision.format.is_some()))
    }
}

impl Revision {
    /// Whether it has the same log of the mesh itself, which may be that of the proxy whatever the file is.
    fn is_like(&self, other: &Self, is_own: bool) -> bool {
        let file = |revision: &Self| revision.file.clone().filter(|file| !OWN.contains(&&**file));
        let formats = (self.format.as_ref(), other.format.as_ref());
        (is_own || file(self) == file(other)) && LogFormat::are_alike(formats)
    }
}

/// Says that a revision's configuration has something for the proxies of all revisions, and not that of another.
pub(super) fn report_other(what: &str, first: &ResourceRef, other: &ResourceRef, reports: &mut Reports) {
    let message = format!(
        "calls of managed protocols: the {what} is as {first} has it, for the proxies of all revisions; write the same here"
    );
    reports.not_honoured(other, format!("data.{KEY}"), message);
}
