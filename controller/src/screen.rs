//! What the command writes for people: coloured on a terminal, plain in a pipe, never escape codes in a file. Texts that
//! others wrote reach it too, so control characters in them are shown as escapes; only [`line()`] takes what it gets.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};

use crate::plain::Plain;

const TITLE: Style = Style::new().bold();
const DETAIL: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const ADDED: Style = AnsiColor::Green.on_default();
const REMOVED: Style = AnsiColor::Red.on_default();
const CAUTION: Style = AnsiColor::Yellow.on_default().bold();

/// Writes a line of results to the standard output. A closed pipe is no error: nobody reads on.
pub fn line(text: impl Display) {
    let _ = writeln!(anstream::stdout(), "{text}");
}

/// The title of a part.
pub fn title(text: impl Display) {
    line("");
    line(format_args!("{TITLE}{}{TITLE:#}", Plain(text)));
}

/// Something reported along the way, indented.
pub fn say(text: impl Display) {
    for part in text.to_string().lines() {
        line(format_args!("  {}", Plain(part)));
    }
}

/// Something to look at more closely, such as a piece of configuration: indented and dim.
pub fn detail(text: impl Display) {
    for part in text.to_string().lines() {
        line(format_args!("    {DETAIL}{}{DETAIL:#}", Plain(part)));
    }
}

/// A statement and whether it holds.
pub fn verdict(holds: bool, statement: impl Display) {
    let (style, mark) = if holds { (GOOD, "✓") } else { (BAD, "✗") };
    line(format_args!("  {style}{mark}{style:#} {}", Plain(statement)));
}

/// The head of a piece of results.
pub fn heading(text: impl Display) {
    line(format_args!("{TITLE}{}{TITLE:#}", Plain(text)));
}

/// A line that is no more.
pub fn removed(text: impl Display) {
    line(format_args!("{REMOVED}{}{REMOVED:#}", Plain(text)));
}

/// A line that is new.
pub fn added(text: impl Display) {
    line(format_args!("{ADDED}{}{ADDED:#}", Plain(text)));
}

/// What the following lines are about, on the standard error.
pub fn about(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "{TITLE}{}{TITLE:#}", Plain(text));
}

/// Lines that people may want to read beside the results, on the standard error.
pub fn remark(text: impl Display) {
    let _ = write!(anstream::stderr(), "{text}");
}

/// Something that is asked for and not done, on the standard error.
pub fn lack(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "{CAUTION}not honoured{CAUTION:#}: {}", Plain(text));
}

/// A warning, on the standard error.
pub fn warn(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "{CAUTION}warning{CAUTION:#}: {}", Plain(text));
}

/// The one line that says why the command failed, on the standard error.
pub fn fail(text: impl Display) {
    let _ = writeln!(anstream::stderr(), "{BAD}error{BAD:#}: {}", Plain(text));
}

/// A spinner on the standard error. In a pipe it is one line with `task`.
pub fn progress(task: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        let _ = writeln!(io::stderr(), "{task}");
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})") {
        spinner.set_style(style);
    }
    spinner.set_message(task.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// A bar on the standard error that counts `bytes`. In a pipe it is one line with `task`.
pub fn transfer(task: &str, bytes: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        let _ = writeln!(io::stderr(), "{task}");
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes);
    if let Ok(style) = ProgressStyle::with_template("  {msg} {bar:24} {bytes} of {total_bytes}") {
        bar.set_style(style);
    }
    bar.set_message(task.to_owned());
    bar
}
