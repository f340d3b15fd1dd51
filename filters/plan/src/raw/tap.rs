use super::{Match, all, object::object};
use crate::Table;

/// Calls that are told of one by one in Envoy's log, for a time.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[cfg_attr(feature = "schema", serde(rename_all = "camelCase", deny_unknown_fields))]
pub struct Tap {
    /// The name that its lines have.
    pub name: String,
    /// The second since the Unix epoch from which on no call is told of.
    pub until: u32,
    /// The proxies by the names of their pods. Default: those of any pod.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub pods: Vec<String>,
    /// The proxies by labels of their pods, all of which they must have.
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub labels: Table<String>,
    /// Alternatives: the calls that one of them matches. Default: every call.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    #[cfg_attr(feature = "schema", serde(default, rename = "match", skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub matches: Option<Vec<Match>>,
    /// The share of them, in percent.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 100)))]
    #[cfg_attr(feature = "schema", serde(default = "super::all"))]
    pub percent: f64,
    /// The attributes whose values are told, of which the first 256 bytes are. Default: none, since they may be secret.
    #[cfg_attr(feature = "schema", schemars(length(max = 16)))]
    #[cfg_attr(feature = "schema", serde(default, skip_serializing_if = "super::is_default"), schemars(!skip_serializing_if))]
    pub attributes: Vec<String>,
}

object! {
    Tap from Self::new();
    required name, until;
    optional pods, labels, matches as "match", percent, attributes;
}

impl Tap {
    fn new() -> Self {
        Self {
            name: String::new(),
            until: 0,
            pods: Vec::new(),
            labels: Table::default(),
            matches: None,
            percent: all(),
            attributes: Vec::new(),
        }
    }

    /// Whether it is for the proxy of a pod of that name, with these labels.
    pub fn selects(&self, pod: &str, label: &dyn Fn(&str) -> Option<String>) -> bool {
        let is_named = self.pods.is_empty() || self.pods.iter().any(|name| name == pod);
        is_named && self.labels.iter().all(|(name, value)| label(name).as_ref() == Some(value))
    }
}
