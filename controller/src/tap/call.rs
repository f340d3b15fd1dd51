//! What is printed of a call.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use meltemi_proxy::flags;
use serde::Serialize;

use super::lines::{LEFT_OUT, Line};
use crate::plain::{self, Plain};
use crate::top::time;

/// A call, as a proxy tells of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Call {
    time: Option<String>,
    /// The same of the day, as people read it.
    #[serde(skip)]
    clock: String,
    pod: String,
    /// Whose proxy it is, of the two ends of the call.
    side: Side,
    client: Option<String>,
    /// The managed service, by host and port; of a server's proxy, the port of the pod.
    host: String,
    service: String,
    method: String,
    route: Option<String>,
    /// Where in the plan it says that the call takes the route, and why it is answered where the proxy does that.
    why: String,
    cluster: Option<String>,
    server: Option<String>,
    outcome: String,
    /// Envoy's response flags of that.
    flags: &'static str,
    tries: u32,
    micros: u64,
    request_bytes: u64,
    response_bytes: u64,
    request_id: u64,
    trace_id: Option<String>,
    attributes: BTreeMap<String, String>,
    /// Calls before it that are not told of, as there were too many.
    suppressed: u64,
}

/// An end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Side {
    Client,
    Server,
    Gateway,
}

impl Side {
    /// That of a tunnel, and the host that it is for: see the controller's `Authority`.
    fn of(authority: &str) -> (Self, &str) {
        let inbound = authority.strip_prefix("unidentified.").unwrap_or(authority).strip_prefix("inbound.");
        match (inbound, authority.strip_prefix("gateway.")) {
            (Some(host), _) => (Self::Server, host),
            (None, Some(gateway)) => (Self::Gateway, gateway),
            (None, None) => (Self::Client, authority),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Gateway => "gateway",
        }
    }
}

impl Call {
    /// What the proxy of a pod told at a time.
    pub(super) fn new(pod: &str, time: Option<Timestamp>, line: Line) -> Self {
        let (side, host) = Side::of(&line.authority);
        Self {
            time: time.map(|time| time.to_string()),
            clock: time.map_or("-".to_owned(), |time| time.strftime("%H:%M:%S%.3f").to_string()),
            pod: pod.to_owned(),
            side,
            host: host.to_owned(),
            client: line.source_principal.or(line.peer),
            service: line.service,
            method: line.method,
            route: line.route,
            why: line.detail,
            cluster: line.cluster,
            server: line.endpoint,
            flags: flags(&line.reason),
            outcome: line.reason,
            tries: line.tries,
            micros: line.elapsed_micros,
            request_bytes: line.request_bytes,
            response_bytes: line.response_bytes,
            request_id: line.request_id,
            trace_id: line.trace_id,
            attributes: line.attributes,
            suppressed: line.suppressed,
        }
    }

    /// As an object of JSON, on one line. What others wrote in it steers no terminal.
    pub(super) fn json(&self) -> String {
        plain::json(&serde_json::to_string(self).unwrap_or_default())
    }

    /// Whether it is of no call, but of those that a proxy left out.
    pub(super) fn is_none(&self) -> bool {
        self.outcome == LEFT_OUT
    }

    /// How many calls before it are not told of.
    pub(super) fn suppressed(&self) -> u64 {
        self.suppressed
    }

    /// The cells of a table, but for what comes last.
    fn cells(&self) -> [String; 11] {
        let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let outcome = match self.flags {
            "" => self.outcome.clone(),
            flags => format!("{} {flags}", self.outcome),
        };
        let why = if self.why.is_empty() { "-" } else { &*self.why };
        [
            self.clock.clone(),
            self.pod.clone(),
            self.side.name().to_owned(),
            dash(&self.client),
            format!("{}.{}", self.service, self.method),
            outcome,
            time(self.micros as f64),
            self.tries.to_string(),
            dash(&self.route),
            why.to_owned(),
            dash(&self.server),
        ]
    }
}

const TITLES: [&str; 11] =
    ["TIME", "POD", "SIDE", "CLIENT", "CALL", "OUTCOME", "TOOK", "TRIES", "ROUTE", "WHY", "SERVER"];

/// A table whose rows come one by one: columns are as wide as what came so far.
#[derive(Debug)]
pub(super) struct Columns([usize; 11]);

impl Columns {
    /// Without rows; and the line of titles.
    pub(super) fn new() -> (Self, String) {
        let mut columns = Self([12, 12, 7, 20, 24, 10, 7, 5, 12, 18, 18]);
        let titles = columns.line(TITLES.map(str::to_owned), "");
        (columns, titles)
    }

    /// The line of a call. What others wrote in it steers no terminal.
    pub(super) fn row(&mut self, call: &Call) -> String {
        let attributes: Vec<String> =
            call.attributes.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        self.line(call.cells(), &attributes.join(" "))
    }

    fn line(&mut self, cells: [String; 11], rest: &str) -> String {
        let mut line = String::new();
        for (cell, width) in cells.into_iter().zip(&mut self.0) {
            let cell = one(&cell);
            let length = cell.chars().count();
            *width = (*width).max(length.min(WIDEST));
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', width.saturating_sub(length) + 2));
        }
        line.push_str(&Plain(rest).to_string());
        line.trim_end().to_owned()
    }
}

/// A cell that looks like no more than one: no wide space is in it, nor one at an end.
fn one(text: &str) -> String {
    let mut cell = String::new();
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let is_gap = c.is_whitespace() && (c != ' ' || before == ' ' || chars.peek().is_none());
        match is_gap && !c.is_control() {
            true => cell.extend(c.escape_unicode()),
            false => cell.push(c),
        }
        before = c;
    }
    Plain(cell).to_string()
}

/// What is longer makes no column wider.
const WIDEST: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn call(authority: &str) -> Call {
        let line = serde_json::json!({
            "authority": authority, "service": "a.B\u{1b}[2J", "method": "get", "reason": "timeout",
            "detail": "routes[0]", "elapsedMicros": 1500, "tries": 2,
        });
        let mut line: Line = serde_json::from_value(line).unwrap();
        line.attributes = [("x".to_owned(), "a\u{202e}\n\"b".to_owned())].into();
        Call::new("cart-1", "2026-11-30T04:05:06.7Z".parse().ok(), line)
    }

    #[test]
    fn authorities_tell_the_side() {
        for (authority, side, host) in [
            ("demo.shop.svc.cluster.local:20880", Side::Client, "demo.shop.svc.cluster.local:20880"),
            ("inbound.demo.shop:20881", Side::Server, "demo.shop:20881"),
            ("unidentified.inbound.demo.shop:20881", Side::Server, "demo.shop:20881"),
            ("gateway.web.shop:20880", Side::Gateway, "web.shop:20880"),
        ] {
            let call = call(authority);
            assert_eq!((call.side, &*call.host), (side, host));
        }
    }

    #[test]
    fn what_calls_say_steers_no_terminal() {
        let (mut columns, titles) = Columns::new();
        assert!(titles.starts_with("TIME          POD           SIDE     CLIENT "), "{titles}");
        let call = call("demo:1");
        let row = columns.row(&call);
        assert!(row.starts_with("04:05:06.700  cart-1        client   -  "), "{row}");
        assert!(row.contains("timeout UT  1.5 ms   2 "), "{row}");
        assert!(row.contains(r"a.B\u{1b}[2J.get") && row.contains(r#"x="a\u{202e}\n\"b""#), "{row}");
        assert!(!row.contains(['\n', '\u{1b}', '\u{202e}']) && !call.json().contains(['\n', '\u{1b}']));
    }

    #[test]
    fn json_steers_no_terminal_either() {
        let mut call = call("demo:1");
        call.method = "a\u{9b}2J\u{202e}\u{7f}".to_owned();
        let json = call.json();
        assert!(!json.contains(['\u{9b}', '\u{202e}', '\u{7f}']), "{json:?}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["method"], call.method);
    }

    #[test]
    fn no_call_writes_cells_of_others() {
        let (mut columns, _) = Columns::new();
        let mut call = call("demo:1");
        call.method = "get  success\u{3000}\u{3000}1 us ".to_owned();
        let row = columns.row(&call);
        assert!(row.contains(r"get \u{20}success\u{3000}\u{3000}1 us\u{20}  timeout UT"), "{row}");
    }
}
