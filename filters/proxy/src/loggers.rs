//! Calls that loggers of the connection manager are told of.
//!
//! Each has a short request there, which is answered at once, and whose head is what they log: its path is that of the call, its
//! headers are what the plan says. No call waits for one, and what there is no room for is left out.

use std::rc::Rc;

use meltemi_sockets::Request;

use crate::plan::LogFormat;
use crate::reports::Verdict;
use crate::spans::Told;
use crate::telemetry::{LocalReply, Metric};
use crate::worker::Worker;

/// What is logged of a call that has ended.
#[derive(Debug)]
pub(crate) struct Logged {
    /// Its line, if anybody has it.
    pub(crate) line: Option<LocalReply>,
    /// The line is in Envoy's log.
    pub(crate) to_log: bool,
    /// The line is in files.
    pub(crate) to_files: bool,
    /// It may have control characters.
    pub(crate) has_controls: bool,
    /// What loggers are told.
    pub(crate) entry: Option<Entry>,
}

/// What loggers are told of a call.
#[derive(Debug)]
pub(crate) struct Entry {
    authority: String,
    path: String,
    format: Rc<LogFormat>,
    /// The values of the fields of the format.
    values: Vec<String>,
}

/// So many bytes of headers an entry has, without their names: Envoy takes 60 KiB with those.
const MOST_BYTES: usize = 16 << 10;

/// The header by which the connection manager knows an entry.
const MARK: (&str, &str) = ("x-meltemi-log", "call");

/// What stands in a line for what is not known.
pub(crate) const NONE: &str = "-";

impl Entry {
    /// What the format has loggers told of a call that ended so, whose line is that, if they are told of it.
    #[inline(never)]
    pub(crate) fn of(told: &Told<'_>, format: &Rc<LogFormat>, verdict: &Verdict, line: &str) -> Self {
        let mut room = MOST_BYTES;
        let mut values = vec![String::new(); format.fields.len()];
        // What clients say takes no room from what the proxy says of them.
        for is_said in [false, true] {
            let fields = format.fields.iter().zip(&mut values);
            for (field, value) in fields.filter(|(field, _)| field.is_said() == is_said) {
                let text = told.text(&field.parts, verdict, line);
                *value = in_header(text, room, true);
                room = room.saturating_sub(value.len());
            }
        }
        let authority = told.record.service.name.clone();
        let path = path(&[&told.label.service, &told.label.method]);
        Self { authority, path, format: format.clone(), values }
    }
}

/// So many bytes of a text, as a header has them: a format may have several lines, and spaces at its ends; a header has neither.
#[inline(never)]
fn in_header(mut text: String, most: usize, has_controls: bool) -> String {
    text.truncate(text.floor_char_boundary(most));
    if has_controls && text.bytes().any(|byte| byte.is_ascii_control()) {
        text = text.replace(|char: char| char.is_ascii_control(), " ");
    }
    match text.trim() {
        trimmed if trimmed.len() < text.len() => trimmed.to_owned(),
        _ => text,
    }
}

/// The path of an operation, as of gRPC.
fn path(names: &[&str]) -> String {
    let mut path = String::new();
    for name in names {
        path.push('/');
        for byte in name.bytes() {
            match byte.is_ascii_alphanumeric() || b"-._~$:".contains(&byte) {
                true => path.push(byte.into()),
                false => {
                    path.push('%');
                    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
                    path.extend([byte >> 4, byte & 15].map(digit));
                }
            }
        }
    }
    path
}

impl Worker {
    /// Logs a call that has ended, if anything of it is.
    #[inline(never)]
    pub(crate) fn log(&mut self, logged: Option<Logged>) {
        let Some(Logged { line, to_log, to_files, has_controls, entry }) = logged else { return };
        if let Some(mut line) = line {
            if to_files {
                let text = if to_log { line.text.clone() } else { line.text.take() };
                self.file(in_header(text.unwrap_or_default(), MOST_BYTES, has_controls));
            }
            if to_log {
                self.telemetry.log(line);
            }
        }
        let Some(Entry { authority, path, format, values }) = entry else { return };
        let fields = format.fields.iter().zip(&values);
        let known = fields.filter(|(_, value)| !value.is_empty() && *value != NONE);
        let known = known.map(|(field, value)| (&*field.name, &**value));
        let headers: Vec<_> = [MARK].into_iter().chain(known).collect();
        let request = Request {
            method: "POST",
            scheme: "http",
            authority: &authority,
            path: &path,
            cluster: None,
            headers: &headers,
            body: &[],
        };
        if !self.net.log(&request, 1) {
            self.entries_dropped("full", 1);
        }
    }

    /// What loggers were told of so many calls has an answer, or none.
    #[inline(never)]
    pub(crate) fn entries_answered(&mut self, status: u16, count: usize) {
        match status {
            200 => self.telemetry.add_global(Metric::LogEntries("logged"), count as i64),
            _ => self.entries_dropped("refused", count),
        }
    }

    /// Counts calls that loggers are not told of, and says so in the log.
    #[cold]
    pub(crate) fn entries_dropped(&mut self, why: &'static str, count: usize) {
        if count > 0 {
            self.telemetry.add_global(Metric::LogEntries(why), count as i64);
        }
        for _ in 0..count {
            if let Some(suppressed) = self.loggers.admit(self.now) {
                self.telemetry.log(LocalReply {
                    event: "log_entries_dropped",
                    reason: why,
                    suppressed,
                    ..LocalReply::default()
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_no_byte_that_ends_them() {
        assert_eq!(path(&["org.x.Greeter$1", "say-hello_2"]), "/org.x.Greeter$1/say-hello_2");
        assert_eq!(path(&["a b?#%\n", "\u{e9}\"<"]), "/a%20b%3f%23%25%0a/%c3%a9%22%3c");
        assert_eq!(path(&["a/b", "../c"]), "/a%2fb/..%2fc", "nor any that is of another name");
        assert_eq!(path(&["", ""]), "//");
    }
}
