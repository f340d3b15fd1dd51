//! Loggers of connection managers that are told of calls: files, access log services and collectors of logs.

mod provider;
mod receivers;
mod template;

use meltemi_proxy::plan::{check_log_format, mend_log_format, raw};
use serde_json::{Map, Value, json};

use super::log_format::{LogFormat, mended, report_unknown};
use super::report::Reports;

use self::provider::{FILE, HTTP, Kind, OF_FILES, OPEN_TELEMETRY, STDOUT};

pub(super) use self::provider::Provider;
pub(super) use self::receivers::{Receiver, Receivers};
pub(super) use self::template::logging;

/// What plans say of calls that are logged, and the loggers that are told of them.
#[derive(Debug, Clone)]
pub(super) struct Logging {
    pub(super) plan: Value,
    pub(super) loggers: Vec<Value>,
}

/// Where the calls of some proxies are logged, as it gathers.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// The files that have lines.
    files: Vec<String>,
    /// The formats of lines, by the logs that have lines.
    formats: Vec<(String, Option<LogFormat>)>,
    /// What services are told, by the names of headers.
    fields: Map<String, Value>,
    /// The loggers that tell services.
    loggers: Vec<Value>,
}

/// The line of a call, and the header that it is in.
const LINE: (&str, &str) = ("x-call-line", "%LINE%");

/// What entries of an access log service tell beside the line.
const OF_CALLS: [(&str, &str); 17] = [
    ("x-call-protocol", "%PROTOCOL%"),
    ("x-call-start", "%START_TIME%"),
    ("x-call-duration", "%DURATION%"),
    ("x-call-outcome", "%RESPONSE_CODE_DETAILS%"),
    ("x-call-code", "%RESPONSE_CODE%"),
    ("x-call-grpc-status", "%GRPC_STATUS_NUMBER%"),
    ("x-call-flags", "%RESPONSE_FLAGS%"),
    ("x-call-request-bytes", "%BYTES_RECEIVED%"),
    ("x-call-response-bytes", "%BYTES_SENT%"),
    ("x-call-route", "%ROUTE_NAME%"),
    ("x-call-cluster", "%UPSTREAM_CLUSTER%"),
    ("x-call-endpoint", "%UPSTREAM_HOST%"),
    ("x-call-tries", "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"),
    ("x-call-peer", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("x-call-principal", "%REQ(source.principal)%"),
    ("x-call-trace", "%TRACE_ID%"),
    ("x-call-id", "%STREAM_ID%"),
];

/// The headers that plans have at most.
const MOST_FIELDS: usize = 64;

impl Draft {
    /// Nowhere, or on the standard output of the proxies.
    pub(super) fn new(is_on_stdout: bool) -> Self {
        let files = if is_on_stdout { vec![STDOUT.to_owned()] } else { Vec::new() };
        Self { files, ..Self::default() }
    }

    /// Has lines in the format of a provider, if that has lines.
    pub(super) fn add_format(&mut self, provider: Provider) {
        if let Kind::File { format, .. } = provider.kind {
            self.formats.push((provider.name, format));
        }
    }

    /// Has calls logged to a provider, which is a service if there is a receiver.
    pub(super) fn add(&mut self, provider: Provider, receiver: Option<Receiver>, reports: &mut Reports) {
        match (&provider.kind, receiver) {
            (Kind::File { path, .. }, _) => {
                provider.report_others(FILE, &OF_FILES, reports);
                // A file of several providers has a line once.
                if !self.files.contains(path) {
                    self.files.push(path.clone());
                }
                self.add_format(provider);
            }
            (Kind::Http, Some(receiver)) => self.add_http(&provider, &receiver, reports),
            (Kind::OpenTelemetry, Some(receiver)) => self.add_open_telemetry(&provider, &receiver, reports),
            _ => {}
        }
    }

    fn add_http(&mut self, provider: &Provider, receiver: &Receiver, reports: &mut Reports) {
        let headers = "additionalRequestHeadersToLog";
        provider.report_others(HTTP, &["service", "port", "logName", headers], reports);
        for (name, text) in OF_CALLS {
            self.field(provider, name, text, reports);
        }
        let mut logger = template::service("http_grpc");
        let config = &mut logger["typed_config"];
        receiver.put(config, &provider.said, "http_envoy_accesslog");
        let more = provider.said[headers].as_array().into_iter().flatten().filter_map(Value::as_str);
        for name in more {
            let (text, _) = mend_log_format(&format!("%REQ({name})%"));
            let name = name.to_ascii_lowercase();
            if let (true, Some(list)) = (
                self.field(provider, &name, &text, reports),
                config["additional_request_headers_to_log"].as_array_mut(),
            ) {
                list.push(name.into());
            }
        }
        self.loggers.push(logger);
    }

    fn add_open_telemetry(&mut self, provider: &Provider, receiver: &Receiver, reports: &mut Reports) {
        provider.report_others(OPEN_TELEMETRY, &["service", "port", "logName", "logFormat"], reports);
        let mut logger = template::service("open_telemetry");
        let config = &mut logger["typed_config"];
        receiver.put(config, &provider.said, "otel_envoy_accesslog");
        let format = &provider.said["logFormat"];
        let (prefix, Some(map)) = (prefix(&provider.name), &provider.map) else { return };
        let text = format["text"].as_str().filter(|text| !text.trim().is_empty());
        let text = text.and_then(|text| LogFormat::text(text, map, &provider.name).field(reports));
        config["body"]["string_value"] = match text {
            Some((_, text)) => self.told(provider, &format!("{prefix}text"), &text, reports),
            None => self.told(provider, LINE.0, &LINE.1.into(), reports),
        };
        let labels = format["labels"].as_object().filter(|labels| !labels.is_empty());
        if let Some(labels) = labels {
            let (labels, unknown) = mended(labels);
            report_unknown(&unknown, map, &provider.name, reports);
            let attributes = labels.iter().enumerate().map(|(number, (name, text))| {
                let value = self.told(provider, &format!("{prefix}{number}"), text, reports);
                json!({"key": name, "value": {"string_value": value}})
            });
            config["attributes"] = json!({"values": attributes.collect::<Vec<_>>()});
        }
        self.loggers.push(logger);
    }

    /// The text that a logger has for one that calls are told in.
    fn told(&mut self, provider: &Provider, name: &str, text: &Value, reports: &mut Reports) -> Value {
        let text = text.as_str().unwrap_or_default();
        if !text.contains('%') {
            return text.into();
        }
        // Headers have one line.
        let text = text.replace(|char: char| char.is_ascii_control(), " ");
        match self.field(provider, name, &text, reports) {
            true => format!("%REQ({name})%").into(),
            false => "-".into(),
        }
    }

    /// Has loggers told something in a header; whether they are. Says so if not.
    fn field(&mut self, provider: &Provider, name: &str, text: &str, reports: &mut Reports) -> bool {
        if self.fields.get(name).is_some_and(|known| *known == *text) {
            return true;
        }
        let fields = [(name.to_owned(), text.to_owned())].into_iter().collect();
        let checked = check_log_format(&raw::AccessLog { fields, ..raw::AccessLog::default() });
        let is_new = !self.fields.contains_key(name) && self.fields.len() < MOST_FIELDS;
        if is_new && checked.is_ok() {
            self.fields.insert(name.to_owned(), text.into());
            return true;
        }
        let why = checked
            .err()
            .unwrap_or_else(|| format!("is one of more than {MOST_FIELDS} headers, or there already"));
        provider.report(&format!("{text:?}, which {why},"), reports);
        false
    }

    /// The whole, with a plan that says which calls are logged.
    pub(super) fn finish(mut self, mut plan: Value, reports: &mut Reports) -> Logging {
        let mut first: Option<&LogFormat> = None;
        for format in self.formats.iter().filter_map(|(_, format)| format.as_ref()) {
            // Those that are none are said to be so, and no others are theirs.
            let is_first = first.is_none() || !format.is_one();
            if let (true, Some((field, value))) = (is_first, format.field(reports)) {
                plan[field] = value;
                first = Some(format);
            }
        }
        if let Some(first) = first {
            let are_one = |format: &Option<LogFormat>| format.as_ref().is_none_or(LogFormat::is_one);
            for (log, other) in self.formats.iter().filter(|(_, format)| are_one(format)) {
                first.report_other(log, other.as_ref(), reports);
            }
        }
        if !self.loggers.is_empty() {
            if self.fields.is_empty() {
                // What loggers say is the same for all calls.
                self.fields.insert(LINE.0.to_owned(), LINE.1.into());
            }
            plan["fields"] = self.fields.into();
        }
        if !self.files.is_empty() {
            plan["files"] = true.into();
        }
        let of_files = self.files.iter().flat_map(|path| template::file(path));
        let loggers: Vec<Value> = of_files.chain(self.loggers).collect();
        if !loggers.is_empty() {
            plan["log"] = false.into();
        }
        Logging { plan, loggers }
    }
}

/// What the names of a provider's own headers start with: no other's do, whatever it is called.
fn prefix(provider: &str) -> String {
    let mut prefix = "x-log-".to_owned();
    for byte in provider.to_ascii_lowercase().bytes() {
        match byte.is_ascii_alphanumeric() {
            true => prefix.push(byte.into()),
            false => prefix.push_str(&format!("_{byte:02x}")),
        }
    }
    prefix + "-"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_for_others_has_the_same_headers() {
        let logged = &template::service("http_grpc")["typed_config"]["additional_request_headers_to_log"];
        assert_eq!(*logged, json!(OF_CALLS.map(|(name, _)| name)));
        let body = &template::service("open_telemetry")["typed_config"]["body"]["string_value"];
        assert_eq!(*body, format!("%REQ({})%", LINE.0));
    }

    #[test]
    fn a_file_has_a_logger_for_each_number_of_lines() {
        let loggers: Vec<Value> = template::file("/var/log/a").collect();
        let counts: Vec<usize> = loggers
            .iter()
            .map(|logger| {
                let header = &logger["filter"]["header_filter"]["header"];
                assert_eq!(header["name"], "x-meltemi-lines");
                let count = header["string_match"]["exact"].as_str().unwrap().parse().unwrap();
                let config = &logger["typed_config"];
                let lines: String = (1..=count).map(|line| format!("%REQ({}-{line})%\n", LINE.0)).collect();
                assert_eq!(config["log_format"]["text_format_source"]["inline_string"], *lines);
                assert_eq!(config["path"], "/var/log/a");
                count
            })
            .collect();
        assert_eq!(counts, [1, 4, 16]);
    }

    #[test]
    fn no_two_providers_have_the_same_headers() {
        assert_eq!(prefix("Otel-1"), "x-log-otel_2d1-");
        assert_ne!(prefix("a_b"), prefix("a-b"));
        assert!(prefix("é:\n").bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }
}
