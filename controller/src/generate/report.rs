use std::fmt;

/// What was found in one resource that a person wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The resource.
    pub resource: ResourceRef,
    /// What was found, in the order of the resource. None means that all of it is honoured.
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
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl fmt::Display for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}
