//! What Istio's operator says of the whole mesh.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::collector;
use super::exports::Unsaid;
use super::mesh_logs;
use super::report::Reports;
use super::revisions::DEFAULT;
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
    /// Reads the ConfigMaps `istio` and `istio-<revision>` of istiod's namespace. Of several revisions the strictest holds.
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
            stat_tags: Vec::new(),
        };
        let mut maps: Vec<&ConfigMap> =
            world.config_maps.iter().filter(|map| is_of_mesh(map, istio_namespace)).collect();
        maps.sort_by_key(|map| &map.metadata.name);
        for map in maps {
            let Some(text) = map.data.as_ref().and_then(|data| data.get(KEY)) else { continue };
            let origin = ResourceRef::of(map);
            match read(text) {
                Ok((config, unread)) => {
                    mesh.add(config, &origin);
                    for message in unread {
                        reports.error(&origin, format!("data.{KEY}"), message);
                    }
                }
                Err(why) => {
                    let message = format!("not YAML of a mesh configuration: {why}; Istio's defaults hold");
                    reports.error(&origin, format!("data.{KEY}"), message);
                }
            }
        }
        mesh
    }

    fn add(&mut self, config: MeshConfig, map: &ResourceRef) {
        self.told.add(&config, map);
        let revision = map.name.strip_prefix(NAME).and_then(|rest| rest.strip_prefix('-')).unwrap_or(DEFAULT);
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

const NAME: &str = "istio";
/// The field with the logs and tracers.
const PROVIDERS: &str = "extensionProviders";
/// The key of the ConfigMap that holds the configuration.
pub const KEY: &str = "mesh";

/// Whether a ConfigMap may hold the configuration of a mesh, by its names.
fn is_of_mesh(map: &ConfigMap, istio_namespace: &str) -> bool {
    let name = map.name_any();
    let is_named = name.strip_prefix(NAME).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    is_named && map.namespace().as_deref() == Some(istio_namespace)
}
