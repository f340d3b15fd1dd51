//! What proxies tell of calls, in their logs.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// A line that is longer is none of ours: eight taps of a namespace have sixteen values of 256 bytes each, of which escapes
/// take six times as much.
const LONGEST: usize = 256 << 10;

/// The reason of a line that is of no call, but of those that a proxy left out,
pub(super) const LEFT_OUT: &str = "left_out";
/// or of a tap that has ended by the clock of a proxy.
pub(super) const ENDED: &str = "ended";

/// What stands before what the module says.
const START: &str = "meltemi: {";

/// What a proxy tells of a call.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Line {
    event: String,
    taps: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) reason: String,
    pub(super) detail: String,
    pub(super) authority: String,
    pub(super) service: String,
    pub(super) method: String,
    pub(super) route: Option<String>,
    pub(super) cluster: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) request_id: u64,
    pub(super) peer: Option<String>,
    pub(super) source_principal: Option<String>,
    pub(super) trace_id: Option<String>,
    pub(super) tries: u32,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    pub(super) elapsed_micros: u64,
    suppressed_by_tap: BTreeMap<String, u64>,
    /// Calls before it that the tap left out.
    #[serde(skip)]
    pub(super) suppressed: u64,
    /// Those that the tap names.
    #[serde(skip)]
    pub(super) attributes: BTreeMap<String, String>,
}

/// What a line of a log tells of a call, if it is one of the tap of that name; and when it was written, where the API server
/// says that.
pub(super) fn read(text: &str, tap: &str) -> Option<(Option<Timestamp>, Line)> {
    let (time, text) = match text.split_once(' ') {
        Some((time, rest)) if time.parse::<Timestamp>().is_ok() => (time.parse().ok(), rest),
        _ => (None, text),
    };
    // Istio's proxies can log JSON as well.
    let inner = match text.starts_with('{') {
        true => serde_json::from_str::<Value>(text).ok().map(|line| {
            let message = line.get("msg").or(line.get("message")).and_then(Value::as_str);
            message.unwrap_or_default().to_owned()
        }),
        false => None,
    };
    let text = inner.as_deref().unwrap_or(text);
    let (before, _) = text.split_once(START)?;
    // The number of a thread may follow.
    let json = text.get(before.len() + START.len() - 1..)?;
    let mut line = serde_json::Deserializer::from_str(json).into_iter::<Line>().next()?.ok()?;
    line.attributes = line.taps.remove(tap).filter(|_| line.event == "tap")?;
    line.suppressed = line.suppressed_by_tap.remove(tap).unwrap_or(0);
    Some((time, line))
}

/// Bytes as they come, line by line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
    /// The line under way is too long.
    is_lost: bool,
}

impl Lines {
    /// Takes the next bytes; what lines end with them.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.is_lost |= self.rest.len() + part.len() > LONGEST;
            if !self.is_lost {
                self.rest.extend_from_slice(part);
            }
            if part.ends_with(b"\n") {
                if !self.is_lost {
                    lines.push(String::from_utf8_lossy(&self.rest).trim_end().to_owned());
                }
                self.rest.clear();
                self.is_lost = false;
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"event":"tap","reason":"success","service":"a.B","method":"get","route":null,"tries":2,"detail":"routes[0]","taps":{"t":{"tenant":"x\u001b"}}}"#;

    #[test]
    fn lines_are_found_in_whatever_form_a_proxy_logs() {
        let head = "2026-11-30T04:00:00.000001Z\twarning\tenvoy wasm external/envoy/context.cc:1198\twasm log meltemi.";
        let plain = format!("{head}: meltemi: {JSON}\tthread=23");
        let (time, line) = read(&format!("2026-11-30T04:00:00.5Z {plain}"), "t").unwrap();
        assert_eq!(time.unwrap().subsec_millisecond(), 500);
        assert_eq!((&*line.method, line.tries, &*line.attributes["tenant"]), ("get", 2, "x\u{1b}"));
        let escaped =
            serde_json::json!({"level": "warn", "msg": format!("wasm log: meltemi: {JSON}")}).to_string();
        assert_eq!(read(&escaped, "t").unwrap().1, line);
        assert_eq!(read(&plain, "t").unwrap(), (None, line));
        for other in [
            "",
            "2026-11-30T04:00:00.5Z",
            &plain.replace("\"t\":", "\"u\":"),
            &plain.replace("\"event\":\"tap\"", "\"event\":\"call\""),
            &plain[..plain.len() - 20],
            "meltemi: {",
            "{\"msg\": 5}",
            "{",
        ] {
            assert_eq!(read(other, "t"), None, "{other}");
        }
    }

    #[test]
    fn bytes_are_lines_however_they_come() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(b"one\ntw"), ["one"]);
        assert_eq!(lines.take(b"o\r\n\n\xff"), ["two", ""]);
        assert_eq!(lines.take(b"\n"), ["\u{fffd}"]);
        for _ in 0..100 {
            assert!(lines.take(&[b'a'; 4096]).is_empty());
            assert!(lines.rest.len() <= LONGEST);
        }
        assert_eq!(lines.take(b"a\nb\n"), ["b"], "what is too long is left out");
    }

    #[test]
    fn the_longest_line_that_proxies_write_is_none_too_long() {
        // Eight taps of a namespace with sixteen attributes each, of which all is escaped.
        let values =
            BTreeMap::from_iter((0..16).map(|number| (format!("{number:0>200}"), "\u{1b}".repeat(256))));
        let taps = BTreeMap::from_iter((0..8).map(|number| (format!("t{number}"), &values)));
        let line = serde_json::json!({"event": "tap", "taps": taps});
        let mut lines = Lines::default();
        let told = lines.take(format!("meltemi: {line}\n").as_bytes());
        assert_eq!(told.iter().filter_map(|line| read(line, "t7")).count(), 1);
    }
}
