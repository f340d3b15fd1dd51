//! `Tap` of `meltemi.io`: calls that are told of one by one, for a time.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aeraki::Status;
use super::duration::parse_duration;
use super::{Match, schema};

/// Calls that proxies of a namespace tell of in their logs, for a time. `meltemi tap` makes one, and shows what they tell.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "meltemi.io",
    version = "v1alpha1",
    kind = "Tap",
    plural = "taps",
    category = "meltemi",
    namespaced,
    status = "Status",
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tap::whole)]
pub struct TapSpec {
    /// How long calls are told of, from when the resource is made: at most an hour. After that it is deleted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(transform = schema::tap::duration)]
    pub duration: String,
    /// The pods by labels, all of which they must have. Default: all of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<TapSelector>,
    /// The pods by name. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::tap::pods)]
    pub pods: Vec<String>,
    /// What the calls must be. Default: every call is told of.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Match>,
    /// The share of them, in percent. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::tap::percent)]
    pub percent: Option<f64>,
    /// The names of the attributes whose values are told. Default: none, since they may be secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = schema::tap::attributes)]
    pub attributes: Vec<String>,
}

/// Labels of pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TapSelector {
    /// The labels, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(transform = schema::tap::labels)]
    pub match_labels: BTreeMap<String, String>,
}

/// How long calls are told of at most.
pub(crate) const LONGEST_TAP: Duration = Duration::from_secs(3600);

impl Tap {
    /// When it ends; none while it is in a file, or as long as nobody can tell.
    pub fn end(&self) -> Option<Timestamp> {
        let made = self.metadata.creation_timestamp.as_ref()?.0;
        let duration = parse_duration(&self.spec.duration).ok()?.min(LONGEST_TAP);
        made.checked_add(SignedDuration::try_from(duration).ok()?).ok()
    }
}
