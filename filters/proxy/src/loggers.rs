//! Calls that loggers of the connection manager are told of.
//!
//! Each has a short request there, which is answered at once, and whose head is what they log: its path is that of the call, its
//! headers are what the plan says. No call waits for one, and what there is no room for is left out.

use std::rc::Rc;

use meltemi_sockets::Request;

use crate::lines::cut;
use crate::plan::LogFormat;
use crate::reports::Verdict;
use crate::spans::Told;
use crate::telemetry::{LocalReply, Metric};
use crate::worker::Worker;

/// What is logged of a call that has ended.
#[derive(Debug)]
pub(crate) struct Logged {
    /// Its line in the log.
    pub(crate) line: Option<LocalReply>,
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
const NONE: &str = "-";

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
                // A format may have several lines, and spaces at its ends; a header has neither.
                let text = cut(&text, room);
                room = room.saturating_sub(text.len());
                *value = match text.bytes().any(|byte| byte.is_ascii_control()) {
                    true => text.replace(|char: char| char.is_ascii_control(), " ").trim().to_owned(),
                    false => text.trim().to_owned(),
                };
            }
        }
        let authority = told.record.service.name.clone();
        let path = path(&[&told.label.service, &told.label.method]);
        Self { authority, path, format: format.clone(), values }
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
        let Some(Logged { line, entry }) = logged else { return };
        if let Some(line) = line {
            self.telemetry.log(line);
        }
        let Some(Entry { authority, path, format, values }) = entry else { return };
        let fields = format.fields.iter().zip(&values);
        let known = fields.filter(|(_, value)| !value.is_empty() && *value != NONE);
        let known = known.map(|(field, value)| (&*field.name, &**value));
        let headers: Vec<_> = [MARK].into_iter().chain(known).collect();
        let is_sent = self.net.log(&Request {
            method: "POST",
            scheme: "http",
            authority: &authority,
            path: &path,
            cluster: None,
            headers: &headers,
            body: &[],
        });
        if !is_sent {
            self.entry_dropped("full");
        }
    }

    /// An entry has its answer, or none.
    #[inline(never)]
    pub(crate) fn entry_answered(&mut self, status: u16) {
        match status {
            200 => self.telemetry.add_global(Metric::LogEntries("logged"), 1),
            _ => self.entry_dropped("refused"),
        }
    }

    /// Counts a call that loggers are not told of, and says so in the log.
    #[cold]
    fn entry_dropped(&mut self, why: &'static str) {
        self.telemetry.add_global(Metric::LogEntries(why), 1);
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
