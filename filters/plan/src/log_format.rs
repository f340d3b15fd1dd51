//! Lines of the log in formats of Envoy's: text, or an object of JSON, with command operators.

mod mend;

use std::rc::Rc;

use super::{
    check::{header, within},
    error::{Path, Result, fail},
    raw,
    table::Table,
    values::{self, MOST_WRITTEN, Operator},
};

pub use mend::mend_log_format;

/// What is told of a call, and how.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LogFormat {
    /// The parts of its line, which follow one another. Without any, it is an object of JSON with all that is known.
    pub parts: Box<[LogPart]>,
    /// The text of its line may have control characters.
    pub has_controls: bool,
    /// What loggers are told of it.
    pub fields: Box<[LogField]>,
    /// The line of a call is among that.
    pub tells_line: bool,
    /// The attributes of requests that parts name.
    pub attributes: Box<[Box<str>]>,
    /// Each call keeps something for it while it is under way.
    pub is_kept: bool,
}

/// A header in which loggers are told of a call.
#[derive(Debug, PartialEq, Eq)]
pub struct LogField {
    /// Its name.
    pub name: Box<str>,
    /// The parts of its value.
    pub parts: Box<[LogPart]>,
}

impl LogField {
    /// Whether it has what a client says, at its length.
    #[inline]
    pub fn is_said(&self) -> bool {
        self.parts.iter().any(|part| match part {
            LogPart::Text(_) => false,
            LogPart::Line => true,
            LogPart::Operator { what, or, .. } => [Some(what), or.as_ref()]
                .into_iter()
                .flatten()
                .any(|what| matches!(what, LogOperator::Attribute(_))),
        })
    }
}

/// A part of a line.
#[derive(Debug, PartialEq, Eq)]
pub enum LogPart {
    /// This text, as it is.
    Text(Box<str>),
    /// The line of the call, in what loggers are told of it: `%LINE%`.
    Line,
    /// What an operator stands for.
    Operator {
        /// What it stands for.
        what: LogOperator,
        /// What it stands for if there is nothing of that.
        or: Option<LogOperator>,
        /// The most bytes of it that are written, before any is escaped.
        most: usize,
        /// How it is written.
        form: LogForm,
    },
}

/// How what an operator stands for is written, and what in its place if there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    /// Between other text; else a dash.
    Text,
    /// As a string of JSON; else null.
    String,
    /// As a number of JSON; else null.
    Number,
}

/// What an operator of a line stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum LogOperator {
    /// The attribute of the request that has this number in the format: `%REQ(name)%`.
    Attribute(usize),
    /// What values of calls have as well.
    Value(Operator),
    /// When the call began, in this format of strftime: `%START_TIME%`.
    StartTime(Box<str>),
    /// The milliseconds that it took: `%DURATION%`.
    Duration,
    /// Those of them from its first try to the answer: `%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%`.
    ServiceTime,
    /// The code of the answer, as Istio's metrics have it: `%RESPONSE_CODE%`.
    ResponseCode,
    /// How it ended, in a word: `%RESPONSE_CODE_DETAILS%`.
    Outcome,
    /// Envoy's flags: `%RESPONSE_FLAGS%`.
    Flags,
    /// The status, as one of gRPC: `%GRPC_STATUS_NUMBER%`.
    Status,
    /// The length of the request: `%BYTES_RECEIVED%`.
    BytesReceived,
    /// The length of the answer: `%BYTES_SENT%`.
    BytesSent,
    /// The protocol: `%PROTOCOL%`.
    Protocol,
    /// The route: `%ROUTE_NAME%`.
    Route,
    /// The trace: `%TRACE_ID%`.
    Trace,
    /// The client's number of the request: `%STREAM_ID%`.
    RequestId,
    /// The authority of the tunnel: `%REQ(:AUTHORITY)%`.
    Authority,
    /// The service and the method, as a path of gRPC: `%REQ(:PATH)%`.
    Path,
    /// What calls of gRPC have: `%REQ(:METHOD)%`.
    Post,
}

/// The most operators of a format.
const MOST_OPERATORS: usize = 64;

/// The most bytes of a format, names included.
const MOST_BYTES: usize = 8192;

/// The most headers that loggers are told of a call.
const MOST_FIELDS: u32 = 64;

/// What stands for the line of the call.
const LINE: &str = "LINE";

const KNOWN: &str = "%START_TIME%, %DURATION%, %REQ(name)%, %RESPONSE_CODE%, %RESPONSE_CODE_DETAILS%, \
    %RESPONSE_FLAGS%, %GRPC_STATUS_NUMBER%, %BYTES_RECEIVED%, %BYTES_SENT%, %PROTOCOL%, %ROUTE_NAME%, \
    %TRACE_ID%, %STREAM_ID%, %UPSTREAM_CLUSTER%, %UPSTREAM_HOST%, %UPSTREAM_REQUEST_ATTEMPT_COUNT%, \
    %DOWNSTREAM_REMOTE_ADDRESS%, %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%, %DOWNSTREAM_PEER_URI_SAN%";

/// The format that a plan has for lines, and for what loggers are told, if it has any.
pub(super) fn log_format(path: &Path<'_>, raw: &raw::AccessLog) -> Result<Option<Rc<LogFormat>>> {
    let mut writer = Writer::default();
    let table = &raw.json_format;
    let mut parts = Box::default();
    let mut has_controls = false;
    match (&raw.text_format, table.is_empty()) {
        (None, true) if raw.fields.is_empty() => return Ok(None),
        (None, true) => {}
        (Some(text), true) => {
            let path = path.key("textFormat");
            // Lines of the log end by themselves.
            let text = text.strip_suffix('\n').unwrap_or(text);
            has_controls = has_control(text);
            writer.check(&path, text.len())?;
            writer.text(&path, text, |text, out| out.push_str(text))?;
            parts = writer.parts(&path)?;
        }
        (None, false) => {
            let path = path.key("jsonFormat");
            writer.check(
                &path,
                table.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum(),
            )?;
            has_controls = table.iter().any(|(_, value)| has_control(value));
            writer.plain.push('{');
            for (number, (name, value)) in table.iter().enumerate() {
                writer.plain.push_str(if number == 0 { "\"" } else { ",\"" });
                escape(name, &mut writer.plain);
                writer.plain.push_str("\":");
                writer.value(&path.key(name), value)?;
            }
            writer.plain.push('}');
            parts = writer.parts(&path)?;
        }
        (Some(_), false) => {
            return fail(&path.key("jsonFormat"), "lines have one format; leave out this or \"textFormat\"");
        }
    }
    let fields = fields(&path.key("fields"), &raw.fields, &mut writer)?;
    let has_line = |field: &LogField| field.parts.contains(&LogPart::Line);
    let tells_line = fields.iter().any(has_line);
    Ok(Some(Rc::new(LogFormat {
        parts,
        has_controls,
        fields,
        tells_line,
        is_kept: writer.times_service || !writer.attributes.is_empty(),
        attributes: writer.attributes.into(),
    })))
}

fn has_control(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_control())
}

/// What loggers are told, by the names of headers.
fn fields(path: &Path<'_>, raw: &Table<String>, writer: &mut Writer) -> Result<Box<[LogField]>> {
    within(path, u32::try_from(raw.len()).unwrap_or(u32::MAX), 0, MOST_FIELDS)?;
    writer.is_of_line = true;
    let mut fields = Vec::new();
    for (name, text) in raw.iter() {
        let path = path.key(name);
        let name = name.to_ascii_lowercase();
        header(&path, &name, "")?;
        if name.starts_with("x-forwarded-") {
            return fail(&path, "is a header that Envoy writes itself; choose another");
        }
        writer.check(&path, text.len())?;
        writer.text(&path, text, |text, out| out.push_str(text))?;
        fields.push(LogField { name: name.into(), parts: writer.parts(&path)? });
    }
    Ok(fields.into())
}

/// Writes a text so that it ends nothing that it stands in, neither a line nor quotes, and turns nothing around: as in a string
/// of JSON.
#[inline]
pub fn escape(text: &str, out: &mut String) {
    let is_plain = |byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    match text.bytes().all(is_plain) {
        true => out.push_str(text),
        false => escape_each(text, out),
    }
}

#[inline(never)]
fn escape_each(text: &str, out: &mut String) {
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            char if char.is_control() || turns(char) => {
                let digit = |shift: u32| char::from_digit(u32::from(char).wrapping_shr(shift) & 15, 16);
                out.push_str("\\u");
                out.extend([12, 8, 4, 0].into_iter().filter_map(digit));
            }
            char => out.push(char),
        }
    }
}

/// Whether a character that is no control ends a line for some, or turns the direction of what follows.
fn turns(char: char) -> bool {
    matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What has been read of a format.
#[derive(Default)]
struct Writer {
    parts: Vec<LogPart>,
    attributes: Vec<Box<str>>,
    /// A part is the time from the first try to the answer.
    times_service: bool,
    /// The text since the last operator.
    plain: String,
    /// What is read may name the line of the call.
    is_of_line: bool,
}

impl Writer {
    fn check(&self, path: &Path<'_>, bytes: usize) -> Result<()> {
        match bytes {
            0 => fail(path, "is empty; leave it out, or say what lines are to tell"),
            1..=MOST_BYTES => Ok(()),
            _ => fail(path, format!("has {bytes} bytes; at most {MOST_BYTES} are allowed")),
        }
    }

    /// Adds text with operators; `put` writes what is between them.
    fn text(&mut self, path: &Path<'_>, text: &str, put: fn(&str, &mut String)) -> Result<()> {
        let mut rest = text;
        while let Some((before, operator, after)) = values::next(path, rest)? {
            put(before, &mut self.plain);
            rest = after;
            match operator {
                "" => self.plain.push('%'),
                operator => self.operator(path, operator, false)?,
            }
        }
        put(rest, &mut self.plain);
        Ok(())
    }

    /// Adds a value of JSON.
    fn value(&mut self, path: &Path<'_>, text: &str) -> Result<()> {
        if let Some(("", operator, "")) = values::next(path, text)?
            && !operator.is_empty()
        {
            return self.operator(path, operator, true);
        }
        self.plain.push('"');
        self.text(path, text, escape)?;
        self.plain.push('"');
        Ok(())
    }

    fn operator(&mut self, path: &Path<'_>, text: &str, is_value: bool) -> Result<()> {
        if self.is_of_line && text == LINE {
            self.end_text();
            self.parts.push(LogPart::Line);
            return Ok(());
        }
        let (command, most) = values::length(path, text)?;
        let (what, or) = match values::request(command) {
            Some((name, other)) => {
                let other = other.map(|name| self.attribute(path, name)).transpose()?;
                (self.attribute(path, name)?, other)
            }
            None => (named(path, command, text)?, None),
        };
        self.times_service |= what == LogOperator::ServiceTime;
        self.end_text();
        let form = match (is_value, what.is_number()) {
            (false, _) => LogForm::Text,
            (true, false) => LogForm::String,
            (true, true) => LogForm::Number,
        };
        let most = most.unwrap_or(MOST_WRITTEN).min(MOST_WRITTEN);
        self.parts.push(LogPart::Operator { what, or, most, form });
        Ok(())
    }

    fn attribute(&mut self, path: &Path<'_>, name: &str) -> Result<LogOperator> {
        if name.starts_with(':') {
            return match &*name.to_ascii_lowercase() {
                ":authority" => Ok(LogOperator::Authority),
                ":path" => Ok(LogOperator::Path),
                ":method" => Ok(LogOperator::Post),
                _ => fail(
                    path,
                    format!("{name:?} is of HTTP; of its pseudo headers write :AUTHORITY, :PATH or :METHOD"),
                ),
            };
        }
        Ok(match values::attribute(path, name)? {
            Operator::Attribute(name) => {
                let known = self.attributes.iter().position(|known| *known == name);
                LogOperator::Attribute(known.unwrap_or_else(|| {
                    self.attributes.push(name);
                    self.attributes.len().saturating_sub(1)
                }))
            }
            other => LogOperator::Value(other),
        })
    }

    fn end_text(&mut self) {
        if !self.plain.is_empty() {
            self.parts.push(LogPart::Text(core::mem::take(&mut self.plain).into()));
        }
    }

    /// The parts that were read since the last time, as one format.
    fn parts(&mut self, path: &Path<'_>) -> Result<Box<[LogPart]>> {
        self.end_text();
        let parts: Box<[LogPart]> = core::mem::take(&mut self.parts).into();
        let operators = parts.iter().filter(|part| !matches!(part, LogPart::Text(_))).count();
        if operators > MOST_OPERATORS {
            return fail(
                path,
                format!("the format has {operators} operators; at most {MOST_OPERATORS} are allowed"),
            );
        }
        Ok(parts)
    }
}

/// What an operator without names of attributes stands for.
fn named(path: &Path<'_>, command: &str, text: &str) -> Result<LogOperator> {
    if let Some(rest) = command.strip_prefix("START_TIME") {
        let format = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        if rest.is_empty() || format.is_some() {
            let format = format.filter(|format| !format.is_empty()).unwrap_or(USUAL_TIME);
            check_time(path, format)?;
            return Ok(LogOperator::StartTime(format.into()));
        }
    }
    Ok(match command {
        "DURATION" => LogOperator::Duration,
        "RESPONSE_CODE" => LogOperator::ResponseCode,
        "RESPONSE_CODE_DETAILS" => LogOperator::Outcome,
        "RESPONSE_FLAGS" => LogOperator::Flags,
        "GRPC_STATUS_NUMBER" => LogOperator::Status,
        "BYTES_RECEIVED" => LogOperator::BytesReceived,
        "BYTES_SENT" => LogOperator::BytesSent,
        "PROTOCOL" => LogOperator::Protocol,
        "ROUTE_NAME" => LogOperator::Route,
        "TRACE_ID" => LogOperator::Trace,
        "STREAM_ID" => LogOperator::RequestId,
        // Envoy may have another name for the same cluster.
        "UPSTREAM_CLUSTER_RAW" => LogOperator::Value(Operator::Cluster),
        command if command.eq_ignore_ascii_case(SERVICE_TIME) => LogOperator::ServiceTime,
        command => match values::operator(command) {
            Some(operator) => LogOperator::Value(operator),
            None => return values::unknown(path, text, KNOWN),
        },
    })
}

/// What Envoy alone puts into answers, which Istio's own format has.
const SERVICE_TIME: &str = "RESP(x-envoy-upstream-service-time)";

/// How times are written that have no format.
const USUAL_TIME: &str = "%FT%T.%3fZ";

/// What may follow a percent sign in the format of a time, as in strftime; but for `%1f` to `%9f`, the first so many digits of
/// the fraction of a second.
const OF_TIMES: &str = "YmbdHMSFTszZf%";

/// Checks the format of a time.
fn check_time(path: &Path<'_>, format: &str) -> Result<()> {
    let mut rest = format.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            continue;
        }
        let is_known = match rest.next() {
            Some(b'1'..=b'9') => rest.next() == Some(b'f'),
            Some(byte) => OF_TIMES.bytes().any(|known| known == byte),
            None => false,
        };
        if !is_known {
            return fail(
                path,
                format!(
                    "{format:?} is no format of a time; after a percent sign write one of {OF_TIMES} or 3f"
                ),
            );
        }
    }
    Ok(())
}

impl LogOperator {
    /// Whether it stands for a number.
    fn is_number(&self) -> bool {
        matches!(
            self,
            Self::Duration
                | Self::ResponseCode
                | Self::Status
                | Self::BytesReceived
                | Self::BytesSent
                | Self::Value(Operator::Attempt)
        )
    }
}
