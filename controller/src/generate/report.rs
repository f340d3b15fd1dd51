use std::collections::{BTreeMap, HashSet};

use crate::findings::{Finding, Report, ResourceRef, Severity};

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
