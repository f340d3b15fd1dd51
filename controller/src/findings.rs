//! What is found in the resources that people write, by the rules and by the generator.

use std::fmt;

use kube::{Resource, ResourceExt};

/// What was found in one resource that a person wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The resource.
    pub resource: ResourceRef,
    /// What was found. None means that all of it is honoured.
    pub findings: Vec<Finding>,
}

/// A resource by its names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceRef {
    /// The kind.
    pub kind: String,
    /// The API group; empty for Kubernetes' core.
    pub group: String,
    /// The namespace, if it has one.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

/// Something that the writer of a resource should know.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The path of the field, such as `spec.routes[0].mirror`.
    pub path: String,
    /// What is the matter and what mends it, on one line.
    pub message: String,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The resource is not in force.
    Error,
    /// This field is not honoured; the others are.
    NotHonoured,
    /// It works, but is hardly meant.
    Warning,
}

impl ResourceRef {
    /// A resource by its names.
    pub fn new(kind: &str, group: &str, namespace: Option<&str>, name: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            group: group.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }
    }

    /// The names of a resource of a known type.
    pub fn of<T: Resource<DynamicType = ()>>(resource: &T) -> Self {
        Self {
            kind: T::kind(&()).into_owned(),
            group: T::group(&()).into_owned(),
            namespace: resource.namespace(),
            name: resource.name_any(),
        }
    }
}

impl fmt::Display for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}
