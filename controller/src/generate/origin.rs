use std::sync::Arc;

use crate::findings::ResourceRef;

/// The resource that a route was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The name of the route in the plan.
    pub route: String,
    /// The resource.
    pub resource: Arc<ResourceRef>,
    /// The field of the resource.
    pub path: String,
}
