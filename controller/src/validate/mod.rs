//! `meltemi validate`: checks a plan with the function by which the filter reads it.

mod locate;
mod source;

use std::fmt::Write;

use meltemi_proxy::plan::{Plan, PlanError};

use crate::protocol;
pub use source::Source;

/// What is wrong with a plan, on one line: `file:line:column: path: message`, as far as each is known.
///
/// # Errors
///
/// The same, for a plan that the filter refuses. Otherwise the warnings, in the same form.
pub fn check(file: &str, text: &str) -> Result<Vec<String>, String> {
    let source = Source::read(file, text).map_err(|error| error.to_string())?;
    let plan = Plan::parse(source.plan.as_bytes(), &protocol::CODECS)
        .map_err(|error| refusal(file, &source, &error))?;
    let caution = |path: &str, message: &str| line(file, &source, place(&source, path), path, message);
    Ok(plan.warnings().iter().map(|warning| caution(&warning.path, &warning.message)).collect())
}

fn refusal(file: &str, source: &Source<'_>, error: &PlanError) -> String {
    let position = error.position.map(|position| (position.line, position.column));
    line(file, source, position.or_else(|| place(source, &error.path)), &error.path, &error.message)
}

/// Line and column, in the plan's own text, of what `path` names.
fn place(source: &Source<'_>, path: &str) -> Option<(usize, usize)> {
    let offset = locate::offset(&source.plan, path)?;
    let before = source.plan.get(..offset)?;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Some((before.matches('\n').count() + 1, offset - start + 1))
}

fn line(file: &str, source: &Source<'_>, place: Option<(usize, usize)>, path: &str, message: &str) -> String {
    let mut text = file.to_owned();
    if let Some((line, column)) = place.and_then(|place| source.in_file(place)) {
        let _ = write!(text, ":{line}:{column}");
    }
    if !path.is_empty() {
        let _ = write!(text, ": {path}");
    }
    let _ = write!(text, ": {message}");
    text
}
