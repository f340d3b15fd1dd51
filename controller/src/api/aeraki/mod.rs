//! Aeraki's custom resources, field by field as its CRDs have them.

mod application_protocol;
mod dubbo_authorization_policy;
mod meta_router;
mod redis_destination;
mod redis_service;

pub use application_protocol::*;
pub use dubbo_authorization_policy::*;
pub use meta_router::*;
pub use redis_destination::*;
pub use redis_service::*;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the controller says of a resource.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The generation that the conditions are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: whether the resource is taken, where it is in force, and if not, why. `Honoured`: whether all of its fields
    /// are. `Programmed`: whether the mesh is configured for it, and since when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
