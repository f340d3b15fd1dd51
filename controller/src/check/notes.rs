use std::fmt::Display;

use crate::findings::{Finding, Severity};
use crate::place::push_key;

/// The findings of one resource as they are made, and where in it the rules are.
#[derive(Debug, Default)]
pub(super) struct Notes {
    path: String,
    /// What the tables of the regular expressions so far take, in bytes.
    pub(super) tables: usize,
    findings: Vec<Finding>,
}

impl Notes {
    /// Looks at a member of an object.
    pub(super) fn field(&mut self, name: &str, look: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        push_key(&mut self.path, name);
        look(self);
        self.path.truncate(length);
    }

    /// Looks at an element of a list.
    pub(super) fn item(&mut self, index: usize, look: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        look(self);
        self.path.truncate(length);
    }

    /// Looks at each element of a list.
    pub(super) fn each<T>(&mut self, name: &str, list: &[T], mut look: impl FnMut(&mut Self, &T)) {
        self.field(name, |notes| {
            for (index, item) in list.iter().enumerate() {
                notes.item(index, |notes| look(notes, item));
            }
        });
    }

    /// Looks at a member that may be missing.
    pub(super) fn some<T>(&mut self, name: &str, value: Option<&T>, look: impl FnOnce(&mut Self, &T)) {
        if let Some(value) = value {
            self.field(name, |notes| look(notes, value));
        }
    }

    /// The resource is not in force.
    pub(super) fn error(&mut self, message: impl Display) {
        self.add(Severity::Error, message);
    }

    /// The resource is not in force because of a member.
    pub(super) fn error_at(&mut self, field: &str, message: impl Display) {
        self.field(field, |notes| notes.error(message));
    }

    /// The resource is not in force because of what is at a path below this place.
    pub(super) fn error_below(&mut self, path: &str, message: impl Display) {
        let length = self.path.len();
        if !path.is_empty() {
            self.path.push('.');
            self.path.push_str(path);
        }
        self.error(message);
        self.path.truncate(length);
    }

    /// This is hardly meant.
    pub(super) fn warn(&mut self, message: impl Display) {
        self.add(Severity::Warning, message);
    }

    fn add(&mut self, severity: Severity, message: impl Display) {
        self.findings.push(Finding { severity, path: self.path.clone(), message: message.to_string() });
    }

    /// What was found, in the order of the rules.
    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}
