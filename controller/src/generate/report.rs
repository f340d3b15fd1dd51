use std::collections::{BTreeMap, HashSet};
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

/// The findings as they are made.
#[derive(Debug, Default)]
pub(super) struct Reports(BTreeMap<ResourceRef, Findings>);

/// The findings in one resource, each once.
#[derive(Debug, Default)]
struct Findings {
    in_order: Vec<Finding>,
    known: HashSet<Finding>,
}

impl Reports {
    /// A resource was looked at: it has a report even if nothing is found.
    pub(super) fn seen(&mut self, resource: &ResourceRef) {
        self.0.entry(resource.clone()).or_default();
    }

    /// Takes what a check of the resource found. Returns whether it can be in force.
    pub(super) fn accepts(&mut self, resource: &ResourceRef, findings: Vec<Finding>) -> bool {
        let accepts = findings.iter().all(|finding| finding.severity != Severity::Error);
        self.seen(resource);
        for Finding { severity, path, message } in findings {
            self.add(resource, severity, path, message);
        }
        accepts
    }

    pub(super) fn error(&mut self, on: &ResourceRef, path: impl Into<String>, message: impl Into<String>) {
        self.add(on, Severity::Error, path.into(), message.into());
    }

    pub(super) fn not_honoured(
        &mut self,
        on: &ResourceRef,
        path: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.add(on, Severity::NotHonoured, path.into(), message.into());
    }

    pub(super) fn warn(&mut self, on: &ResourceRef, path: impl Into<String>, message: impl Into<String>) {
        self.add(on, Severity::Warning, path.into(), message.into());
    }

    fn add(&mut self, on: &ResourceRef, severity: Severity, path: String, message: String) {
        let finding = Finding { severity, path, message };
        let findings = self.0.entry(on.clone()).or_default();
        if findings.known.insert(finding.clone()) {
            findings.in_order.push(finding);
        }
    }

    /// Adds what was found apart.
    pub(super) fn append(&mut self, other: Self) {
        for (resource, findings) in other.0 {
            self.accepts(&resource, findings.in_order);
        }
    }

    /// The reports, in the order of their resources.
    pub(super) fn into_vec(self) -> Vec<Report> {
        let report = |(resource, findings): (_, Findings)| Report { resource, findings: findings.in_order };
        self.0.into_iter().map(report).collect()
    }
}

/// Findings in a part of one resource.
pub(super) struct Remarks<'a> {
    pub(super) origin: &'a ResourceRef,
    /// The part.
    pub(super) path: String,
    pub(super) reports: &'a mut Reports,
}

impl Remarks<'_> {
    pub(super) fn not_honoured(&mut self, field: &str, message: impl Into<String>) {
        self.reports.not_honoured(self.origin, format!("{}.{field}", self.path), message);
    }

    pub(super) fn warn(&mut self, field: &str, message: impl Into<String>) {
        self.reports.warn(self.origin, format!("{}.{field}", self.path), message);
    }
}
