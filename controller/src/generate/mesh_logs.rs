//! The access logs that the mesh configuration has: of one of its revisions, or of all. Proxies of several share plans: where
//! those differ, such proxies have what the first says.

use std::collections::{BTreeMap, BTreeSet};

use super::log_format::LogFormat;
use super::loggers::Provider;
use super::mesh_maps::KEY;
use super::report::Reports;
use crate::findings::ResourceRef;
use crate::istio::MeshConfig;

/// What the mesh configuration says of access logs.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Configured {
    revisions: Vec<Revision>,
    /// Those of each name, in lower case, as Istio compares them: that of the first revision first. The logs of meshes that have
    /// a file are among them.
    providers: BTreeMap<String, Vec<Provider>>,
    /// The logs of meshes that have no file, which count where no revision says more of them: with a format, and without.
    fileless: [Vec<Provider>; 2],
}

/// What a revision says.
#[derive(Debug, Clone, PartialEq)]
struct Revision {
    map: ResourceRef,
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
        self.revisions.push(Revision { map: map.clone(), inherited });
        let mut is_said = false;
        for provider in config.extension_providers.iter().flatten() {
            let name = provider.name.to_ascii_lowercase();
            is_said |= name == ENVOY;
            self.providers.entry(name).or_default().push(Provider::new(provider, map));
        }
        if is_said {
            return;
        }
        let of_mesh = match &file {
            Some(_) => self.providers.entry(ENVOY.to_owned()).or_default(),
            None => &mut self.fileless[usize::from(format.is_none())],
        };
        of_mesh.push(Provider::file(ENVOY, file.unwrap_or_default(), format, Some(map.clone())));
    }

    /// What revisions mean by a name, in lower case: what counts first.
    fn of_name(&self, name: &str) -> impl Iterator<Item = &Provider> {
        let fileless = (name == ENVOY).then_some(&self.fileless).into_iter().flatten();
        self.providers.get(name).into_iter().chain(fileless).flatten()
    }

    /// The provider of a name, in lower case.
    pub(super) fn provider(&self, name: &str) -> Option<Provider> {
        let of_mesh = || Provider::file(ENVOY, String::new(), None, None);
        self.of_name(name).next().cloned().or_else(|| (name == ENVOY).then(of_mesh))
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

    /// Says which revisions mean something else by the name of a provider than what counts, where lines may be in one file whatever
    /// is said. `silent` ones are told already.
    pub(super) fn report_others(
        &self,
        name: &str,
        is_one_file: bool,
        silent: &[&ResourceRef],
        reports: &mut Reports,
    ) {
        let mut all = self.of_name(name);
        let Some((first, map)) = all.next().and_then(|first| Some((first, first.map()?))) else { return };
        let others = all.filter(|other| !other.is_like(first, is_one_file)).filter_map(Provider::map);
        for other in others.filter(|other| !silent.contains(other)) {
            report_other(&format!("access log {name:?}"), map, other, reports);
        }
    }

    /// Says which revisions do not have a provider hold by default, where another does. Returns those.
    pub(super) fn report_silent(&self, name: &str, reports: &mut Reports) -> Vec<&ResourceRef> {
        let Some(map) = self.by_default(name) else { return Vec::new() };
        let silent = self.revisions.iter().filter(|revision| !revision.inherited.contains(name));
        let silent: Vec<&ResourceRef> = silent.map(|revision| &revision.map).collect();
        for other in &silent {
            let message = format!(
                "calls of managed protocols: the access log {name:?} holds where proxies of both share a plan, as {map} names \
                 it; write the same here"
            );
            reports.not_honoured(other, format!("data.{KEY}"), message);
        }
        silent
    }
}

/// Says that a revision's configuration has something for proxies of both, and not that of another, which may be
/// the same one.
pub(super) fn report_other(what: &str, first: &ResourceRef, other: &ResourceRef, reports: &mut Reports) {
    let why = match first == other {
        true => "is there twice, as capitals make no difference, and the first counts; rename one".to_owned(),
        false => format!("is as {first} has it, where proxies of both share a plan; write the same here"),
    };
    let message = format!("calls of managed protocols: the {what} {why}");
    reports.not_honoured(other, format!("data.{KEY}"), message);
}
