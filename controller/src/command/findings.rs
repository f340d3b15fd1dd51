//! Findings as they are told: grouped by resource for people, or as data.

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::generate::{ResourceRef, Severity};
use crate::input::Found;
use crate::screen;

/// Tells of the findings on the standard error, those of a resource together.
pub(super) fn tell(found: &[Found]) {
    let mut resource: Option<&ResourceRef> = None;
    for one in found {
        if one.resource.is_some() && one.resource.as_ref() != resource {
            resource = one.resource.as_ref();
            if let Some(resource) = resource {
                screen::about(resource);
            }
        }
        match one.finding.severity {
            Severity::Error => screen::fail(one),
            Severity::NotHonoured => screen::lack(one),
            Severity::Warning => screen::warn(one),
        }
    }
}

/// Whether one of the findings is an error.
pub(super) fn has_errors(found: &[Found]) -> bool {
    found.iter().any(|one| one.finding.severity == Severity::Error)
}

/// The findings for programs.
pub(super) fn json(found: &[Found]) -> Value {
    let one = |one: &Found| {
        let resource = one.resource.as_ref();
        json!({
            "severity": severity(one.finding.severity),
            "file": one.origin.as_ref().map(|origin| &origin.file),
            "line": one.origin.as_ref().and_then(|origin| origin.place).map(|place| place.line),
            "column": one.origin.as_ref().and_then(|origin| origin.place).map(|place| place.column),
            "kind": resource.map(|resource| &resource.kind),
            "group": resource.map(|resource| &resource.group),
            "namespace": resource.and_then(|resource| resource.namespace.as_ref()),
            "name": resource.map(|resource| &resource.name),
            "path": one.finding.path,
            "message": one.finding.message,
        })
    };
    found.iter().map(one).collect()
}

/// The findings, a line for each.
pub(super) fn table(found: &[Found]) -> String {
    let mut table = columns(&["SEVERITY", "WHERE", "RESOURCE", "FIELD", "MESSAGE"]);
    for one in found {
        let resource = one.resource.as_ref().map(ToString::to_string).unwrap_or_default();
        let origin = one.origin.as_ref().map(ToString::to_string).unwrap_or_default();
        let finding = &one.finding;
        table.add_row([severity(finding.severity), &origin, &resource, &finding.path, &finding.message]);
    }
    rows(&table)
}

/// A table without lines, as `kubectl` writes them.
pub(super) fn columns(names: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(names);
    table
}

/// The rows, without blanks at their ends.
pub(super) fn rows(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim())).collect()
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::NotHonoured => "not honoured",
        Severity::Warning => "warning",
    }
}
