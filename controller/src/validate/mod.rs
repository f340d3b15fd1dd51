//! Plans, checked with the function by which the filter reads them.

mod locate;
mod source;

use meltemi_codecs::Codecs;
use meltemi_proxy::plan::{Plan, PlanError};

use crate::findings::{Finding, Severity};
use crate::input::{Found, Origin};
use crate::place::Place;
use crate::words;
pub use source::Source;

/// What is wrong with a plan: that for which the filter refuses it, or else what works but is hardly meant.
pub fn plan(file: &str, text: &str) -> Vec<Found> {
    let source = match Source::read(file, text) {
        Ok(source) => source,
        Err(error) => {
            let (place, message) = words::yaml(&error);
            return vec![found(file, place, Severity::Error, "", &message)];
        }
    };
    if let Some(why) = source.is_no_plan() {
        return vec![found(file, None, Severity::Error, "", &why)];
    }
    match Plan::parse(source.plan.as_bytes(), &Codecs::all()) {
        Err(error) => vec![refusal(file, &source, &error)],
        Ok(plan) => {
            let caution = |path: &str, message: &str| {
                found(file, place(&source, path), Severity::Warning, path, message)
            };
            plan.warnings().iter().map(|warning| caution(&warning.path, &warning.message)).collect()
        }
    }
}

/// Whether a text is of a plan, as far as can be seen without reading it.
pub fn is_plan(text: &str) -> bool {
    text.lines().any(|line| line.trim_start_matches([' ', '{']).trim_matches('"').starts_with("services"))
}

fn refusal(file: &str, source: &Source<'_>, error: &PlanError) -> Found {
    let position = error.position.and_then(|position| source.in_file((position.line, position.column)));
    let position = position.map(|(line, column)| Place { line, column });
    let place = position.or_else(|| place(source, &error.path));
    found(file, place, Severity::Error, &error.path, &words::shape(&error.message))
}

/// Where in the file the value is that `path` names.
fn place(source: &Source<'_>, path: &str) -> Option<Place> {
    let offset = locate::offset(&source.plan, path)?;
    let before = source.plan.get(..offset)?;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let (line, column) = source.in_file((before.matches('\n').count() + 1, offset - start + 1))?;
    Some(Place { line, column })
}

fn found(file: &str, place: Option<Place>, severity: Severity, path: &str, message: &str) -> Found {
    let finding = Finding { severity, path: path.to_owned(), message: message.to_owned() };
    Found { finding, resource: None, origin: Some(Origin { file: file.to_owned(), place }) }
}
