//! Findings as they are reported: grouped by resource for people, or as data.

use std::collections::BTreeMap;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::findings::{Finding, ResourceRef, Severity};
use crate::input::Found;
use crate::place::{Step, steps};
use crate::plain::Plain;
use crate::screen;

/// How many findings that say the same of different places are shown.
const ALIKE: usize = 10;

/// Tells of the findings on the standard error, those of a resource together. Of many that are alike, the first few are
/// told, and how many there are.
pub(super) fn tell(found: &[Found]) {
    let mut resource: Option<&ResourceRef> = None;
    let mut alike: BTreeMap<Alike<'_>, usize> = BTreeMap::new();
    for one in found {
        let count = alike.entry(Alike::of(one)).or_default();
        *count += 1;
        if *count > ALIKE {
            continue;
        }
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
    for (Alike { path, message, .. }, count) in alike.iter().filter(|(_, count)| **count > ALIKE) {
        let (more, ellipsis) = (count - ALIKE, if message.ends_with([' ', ':']) { "…" } else { "" });
        screen::about(format_args!("{more} more of the same: {path}: {message}{ellipsis}"));
    }
}

/// What findings have in common that differ by places and names alone.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Alike<'a> {
    severity: Severity,
    /// The field, without the numbers of elements.
    path: String,
    /// The message as far as it names nothing.
    message: &'a str,
}

impl<'a> Alike<'a> {
    fn of(found: &'a Found) -> Self {
        let Finding { severity, path, message } = &found.finding;
        let mut general = String::new();
        for step in steps(path) {
            match step {
                Step::Key(key) if general.is_empty() => general.push_str(&key),
                Step::Key(key) => general.extend([".", &key]),
                Step::Index(_) => general.push_str("[]"),
            }
        }
        let named = message.find(|c: char| c == '"' || c.is_ascii_digit()).unwrap_or(message.len());
        Self { severity: *severity, path: general, message: message.get(..named).unwrap_or(message) }
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
        let texts = [&origin, &resource, &finding.path, &finding.message].map(|text| Plain(text).to_string());
        let [origin, resource, path, message] = &texts;
        table.add_row([severity(finding.severity), origin, resource, path, message]);
    }
    rows(&table)
}

/// A table without lines, as `kubectl` writes them.
pub(crate) fn columns(names: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(names);
    table
}

/// The rows, without blanks at their ends.
pub(crate) fn rows(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim())).collect()
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::NotHonoured => "not honoured",
        Severity::Warning => "warning",
    }
}
