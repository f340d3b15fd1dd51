//! What Istio's operator says of the whole mesh.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::collector;
use super::exports::Unsaid;
use super::mesh_logs;
use super::mesh_maps::{self, KEY, Maps};
use super::report::Reports;
use crate::findings::ResourceRef;
use crate::istio::{ExtensionProvider, MeshConfig};
use crate::world::World;

/// What holds for the whole mesh.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mesh {
    /// What is there without a selector applies to every proxy.
    pub(super) root_namespace: String,
    /// Who sees services that do not say it.
    pub(super) services: Unsaid,
    /// Who follows routes that do not say it.
    pub(super) routes: Unsaid,
    /// Who follows DestinationRules that do not say it.
    pub(super) destination_rules: Unsaid,
    /// Endpoints have weights by where they are.
    pub(super) distributes: bool,
    /// Whether Istio's clusters speak HTTP/2 to ports of HTTP by all revisions, if there is one.
    pub(super) upgrades: Option<bool>,
    /// What all revisions say of logs and traces.
    pub(super) told: Told,
    /// What each of them says, by its name.
    pub(super) own: BTreeMap<String, Told>,
    /// Some of them say something else than others.
    pub(super) differ: bool,
    /// The labels that proxies look for in the names of metrics, by who says it.
    pub(super) stat_tags: Vec<(ResourceRef, Vec<String>)>,
}

/// What proxies tell of calls.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Told {
    /// The logs that lines for calls may go to.
    pub(super) logs: mesh_logs::Configured,
    /// Who gets spans of calls.
    pub(super) traces: collector::Configured,
}

impl Told {
    fn add(&mut self, config: &MeshConfig, map: &ResourceRef) {
        self.logs.add(config, map);
        self.traces.add(config, map);
    }
}

impl Mesh {
    /// Reads the ConfigMaps of istiod's namespace. Of several revisions the strictest holds.
    pub(super) fn new(world: &World, istio_namespace: &str, reports: &mut Reports) -> Self {
        let mut mesh = Self {
            root_namespace: istio_namespace.to_owned(),
            services: Unsaid::All,
            routes: Unsaid::All,
            destination_rules: Unsaid::All,
            distributes: false,
            upgrades: None,
            told: Told::default(),
            own: BTreeMap::new(),
            differ: false,
            stat_tags: Vec::new(),
        };
        let mut first = None;
        for Maps { revision, own, shared } in mesh_maps::by_revision(world, istio_namespace) {
            let Some(origin) = own.or(shared).map(ResourceRef::of) else { continue };
            // As istiod does, the one is passed over where it cannot be read, and not the other.
            let [own, shared] = [own, shared].map(|map| read_map(map?, reports));
            if own.is_none() && shared.is_none() {
                continue;
            }
            let config = own.unwrap_or_default().over(shared.unwrap_or_default());
            mesh.differ |= *first.get_or_insert_with(|| config.clone()) != config;
            mesh.add(config, &origin, revision);
        }
        mesh
    }

    fn add(&mut self, config: MeshConfig, map: &ResourceRef, revision: &str) {
        self.told.add(&config, map);
        self.own.entry(revision.to_owned()).or_default().add(&config, map);
        let tags =
            config.default_config.as_ref().and_then(|config| config.extra_stat_tags.as_ref()?.as_array());
        let tags = tags.into_iter().flatten().filter_map(|tag| tag.as_str().map(str::to_owned));
        self.stat_tags.push((map.clone(), tags.collect()));
        self.distributes |= config.locality_lb_setting.is_some_and(|setting| setting.distributes());
        let upgrades = config.h2_upgrade_policy.is_some_and(|policy| policy == "UPGRADE" || policy == 1);
        self.upgrades = Some(upgrades && self.upgrades != Some(false));
        if let Some(root) = config.root_namespace.filter(|root| !root.is_empty()) {
            self.root_namespace = root;
        }
        for (default, list) in [
            (&mut self.services, config.default_service_export_to),
            (&mut self.routes, config.default_virtual_service_export_to),
            (&mut self.destination_rules, config.default_destination_rule_export_to),
        ] {
            if let Some(list) = list {
                *default = (*default).max(Unsaid::of_mesh(&list));
            }
        }
    }
}

/// Reads what a ConfigMap says of the mesh, and tells what of it cannot be read.
fn read_map(map: &ConfigMap, reports: &mut Reports) -> Option<MeshConfig> {
    let origin = ResourceRef::of(map);
    match read(mesh_maps::text(map)?) {
        Ok((config, unread)) => {
            for message in unread {
                reports.error(&origin, format!("data.{KEY}"), message);
            }
            Some(config)
        }
        Err(why) => {
            let message = format!("not YAML of a mesh configuration: {why}; Istio's defaults hold");
            reports.error(&origin, format!("data.{KEY}"), message);
            None
        }
    }
}

/// Reads a configuration as far as it can be read, and says which of its fields and providers cannot: others hold all the same,
/// such as that which namespace is the root.
fn read(text: &str) -> Result<(MeshConfig, Vec<String>), String> {
    let read = |text: &str| {
        serde_saphyr::from_str::<MeshConfig>(text).map_err(|error| {
            let message = error.without_snippet().to_string();
            message.lines().next().unwrap_or_default().to_owned()
        })
    };
    let mut unread = Vec::new();
    let mut all: Value = serde_saphyr::from_str(text).unwrap_or_default();
    forget_nulls(&mut all);
    let providers = all.as_object_mut().and_then(|fields| fields.remove(PROVIDERS));
    let mut config = match (read(text), all) {
        (Ok(config), _) => config,
        (Err(_), Value::Object(mut fields)) => {
            fields.retain(|name, value| match read(&json!({name: value}).to_string()) {
                Ok(_) => true,
                Err(why) => {
                    let (why, _) = why.split_once(" at line ").unwrap_or((&why, ""));
                    unread.push(format!("{name} cannot be read: {why}; Istio's default holds for it"));
                    false
                }
            });
            read(&Value::Object(fields).to_string())?
        }
        (Err(why), _) => return Err(why),
    };
    config.extension_providers = providers.map(|providers| read_providers(&providers, &mut unread));
    Ok((config, unread))
}

/// Reads each provider for itself, as strictly as Istio, and says which cannot be read.
fn read_providers(providers: &Value, unread: &mut Vec<String>) -> Vec<ExtensionProvider> {
    let Some(all) = providers.as_array() else {
        unread.push(format!("{PROVIDERS} cannot be read: it is no list; write one"));
        return Vec::new();
    };
    let read = |(at, provider): (usize, &Value)| {
        let read: Result<ExtensionProvider, _> = serde_path_to_error::deserialize(provider);
        let of_field = |(field, why)| (format!(".{field}"), why);
        let checked = match read {
            Ok(read) => read.check_access_log().map(|()| read).map_err(of_field),
            Err(error) => match error.path().to_string() {
                whole if whole == "." => Err((String::new(), error.inner().to_string())),
                field => Err(of_field((field, error.inner().to_string()))),
            },
        };
        let mut told = |(field, why): (String, String)| {
            let named = provider["name"].as_str().map(|name| format!(" of {name:?}")).unwrap_or_default();
            unread.push(format!(
                "{PROVIDERS}[{at}]{field}{named} cannot be read: {why}; mend it: until then there is no such provider"
            ));
        };
        checked.map_err(&mut told).ok()
    };
    all.iter().enumerate().filter_map(read).collect()
}

/// Leaves out what is null, as Istio does. Labels of lines may be null.
fn forget_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            let typed = fields.iter_mut().filter(|(name, _)| *name != "labels");
            typed.for_each(|(_, value)| forget_nulls(value));
        }
        Value::Array(values) => values.iter_mut().for_each(forget_nulls),
        _ => {}
    }
}

/// The field with the logs and tracers.
const PROVIDERS: &str = "extensionProviders";
