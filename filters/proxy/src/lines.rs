//! Lines of the log: objects of JSON, and those of calls in the format of a plan.
//!
//! What a client says goes into them escaped, as in a string of JSON: it ends neither the line nor quotes. What is not known
//! is a dash, as in Envoy's lines, or null where it would be a value of JSON.

use std::borrow::Cow;
use std::rc::Rc;

use meltemi_codecs::Head;

use crate::calls::End;
use crate::clock::Instant;
use crate::plan::{LogForm, LogFormat, LogOperator, LogPart, MOST_WRITTEN, Service, escape};
use crate::policy::Origins;
use crate::reports::{Verdict, told, verdict};
use crate::spans::Told;
use crate::telemetry::LocalReply;

/// What is kept of a call for its line.
#[derive(Debug)]
pub(crate) struct Said {
    format: Rc<LogFormat>,
    /// By the numbers that the format has of them.
    values: Vec<Option<Box<str>>>,
    /// When its first try was sent, if any was that has an answer; of a large request, when its last byte was.
    pub(crate) sent: Option<Instant>,
}

/// The status of gRPC of a service's own exception, where a plan does not say it: `UNKNOWN`.
const UNKNOWN: u32 = 2;

/// Room for most lines, in bytes.
const USUAL: usize = 512;

const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";

impl Said {
    /// That of the request in the head, if it may have a line of the service's format.
    #[inline]
    pub(crate) fn of(service: &Service, may_log: bool, head: &Head) -> Option<Box<Self>> {
        service.log_format.as_ref().filter(|_| may_log).map(|format| Self::read(format, head))
    }

    #[inline(never)]
    fn read(format: &Rc<LogFormat>, head: &Head) -> Box<Self> {
        let names = format.attributes.iter();
        let values = names.map(|name| head.get(name).map(|value| cut(value, MOST_WRITTEN).into()));
        Box::new(Self { format: format.clone(), values: values.collect(), sent: None })
    }

    pub(crate) fn format(&self) -> &Rc<LogFormat> {
        &self.format
    }
}

impl LocalReply {
    /// All that is written of it: an object of JSON, unless the plan has another format.
    pub fn line(&self) -> Cow<'_, str> {
        if let Some(text) = &self.text {
            return text.into();
        }
        let mut line = String::with_capacity(USUAL);
        let fields: [(&str, Field<'_>); 18] = [
            ("event", Field::Text(Some(self.event))),
            ("reason", Field::Text(Some(self.reason))),
            ("detail", Field::Text(Some(&self.detail))),
            ("authority", Field::Text(Some(&self.authority))),
            ("service", Field::Text(Some(&self.operation.service))),
            ("method", Field::Text(Some(&self.operation.method))),
            ("route", Field::Text(self.route.as_deref())),
            ("cluster", Field::Text(self.cluster.as_deref())),
            ("endpoint", Field::Text(self.endpoint.as_deref())),
            ("requestId", Field::Number(self.request_id)),
            ("peer", Field::Text(self.peer.as_deref())),
            ("sourcePrincipal", Field::Text(self.principal.as_deref())),
            ("traceId", Field::Text(self.trace_id.as_deref())),
            ("tries", Field::Number(self.tries.into())),
            ("requestBytes", Field::Number(self.request_bytes as u64)),
            ("responseBytes", Field::Number(self.response_bytes as u64)),
            ("elapsedMicros", Field::Number(u64::try_from(self.elapsed.as_micros()).unwrap_or(u64::MAX))),
            ("suppressed", Field::Number(self.suppressed)),
        ];
        for (name, value) in fields {
            line.push_str(if line.is_empty() { "{\"" } else { ",\"" });
            line.push_str(name);
            line.push_str("\":");
            match value {
                Field::Number(value) => {
                    number(value, 1, &mut line);
                }
                Field::Text(None) => line.push_str("null"),
                Field::Text(Some(value)) => {
                    line.push('"');
                    escape(value, &mut line);
                    line.push('"');
                }
            }
        }
        if let Some(tapped) = &self.tapped {
            tapped.write(&mut line);
        }
        line.push('}');
        line.into()
    }
}

/// A field of a line of JSON.
enum Field<'a> {
    Text(Option<&'a str>),
    Number(u64),
}

impl Told<'_> {
    /// How the call ended; a service's own exception has that status of gRPC.
    pub(crate) fn verdict(&self, exception_status: Option<u32>) -> Verdict {
        told(verdict(self.record, exception_status.unwrap_or(UNKNOWN)))
    }

    /// What is told of the call that ended so, in a format; its line, where that has it, is `own`.
    #[inline(never)]
    pub(crate) fn text(&self, parts: &[LogPart], verdict: &Verdict, own: &str) -> String {
        let (mut line, mut value) = (String::with_capacity(USUAL), String::new());
        for part in parts {
            let (what, or, most, form) = match part {
                LogPart::Text(text) => {
                    line.push_str(text);
                    continue;
                }
                LogPart::Line => {
                    line.push_str(own);
                    continue;
                }
                LogPart::Operator { what, or, most, form } => (what, or, *most, *form),
            };
            value.clear();
            let is_known = self.write(what, verdict, &mut value)
                || or.as_ref().is_some_and(|other| self.write(other, verdict, &mut value));
            let quote = if form == LogForm::String && is_known { "\"" } else { "" };
            line.push_str(quote);
            match (is_known, form) {
                (true, _) => escape(cut(&value, most), &mut line),
                (false, LogForm::Text) => line.push('-'),
                (false, _) => line.push_str("null"),
            }
            line.push_str(quote);
        }
        line
    }

    /// Appends what an operator stands for; whether there is anything of that.
    #[inline(never)]
    fn write(&self, what: &LogOperator, verdict: &Verdict, out: &mut String) -> bool {
        let record = self.record;
        let pool = record.pool.and_then(|pool| self.pools.get(pool));
        let took = self.now.since(record.started);
        let text = match what {
            LogOperator::Attribute(number) => {
                let said = record.said.as_ref().and_then(|said| said.values.get(*number));
                said.and_then(Option::as_deref)
            }
            LogOperator::Value(operator) => {
                let origins = Origins { record, pool, endpoint: record.endpoint };
                origins.write_operator(operator, &Head::new(), MOST_WRITTEN, out);
                return !out.is_empty();
            }
            LogOperator::StartTime(format) => {
                let took = u64::try_from(took.as_nanos()).unwrap_or(0);
                write_time(format, self.reports.wall_time(self.now).saturating_sub(took), out);
                return true;
            }
            LogOperator::Duration => return number(took.as_millis() as u64, 1, out),
            // It is the time of the end: large answers are told as they begin, but streams as they end.
            LogOperator::ServiceTime => {
                let is_answered = matches!(self.end, End::Answered(_)) && !record.is_stream;
                let sent = record.said.as_ref().filter(|_| is_answered).and_then(|said| said.sent);
                return sent.is_some_and(|sent| number(self.now.since(sent).as_millis() as u64, 1, out));
            }
            LogOperator::Status => return number(verdict.status.into(), 1, out),
            LogOperator::BytesReceived => return number(record.request_bytes.into(), 1, out),
            LogOperator::BytesSent => return number(record.response_bytes.into(), 1, out),
            LogOperator::RequestId => return number(record.request_id, 1, out),
            LogOperator::Flags => Some(&*verdict.flags),
            LogOperator::ResponseCode => Some(verdict.code),
            LogOperator::Outcome => Some(verdict.outcome),
            LogOperator::Protocol => Some(record.service.codec.name()),
            LogOperator::Route => record.route.as_ref().map(|route| &*route.name),
            LogOperator::Trace => record.trace.as_ref().map(|trace| trace.id()),
            LogOperator::Authority => Some(&*record.service.name),
            LogOperator::Path => {
                for part in ["/", &self.label.service, "/", &self.label.method] {
                    out.push_str(part);
                }
                return true;
            }
            LogOperator::Post => Some("POST"),
        };
        out.push_str(text.unwrap_or_default());
        text.is_some()
    }
}

/// Appends a number of at least so many digits.
#[inline(never)]
fn number(number: u64, digits: usize, out: &mut String) -> bool {
    let mut buffer = itoa::Buffer::new();
    let number = buffer.format(number);
    for _ in number.len()..digits {
        out.push('0');
    }
    out.push_str(number);
    true
}

/// The first so many bytes of a text, but no part of a character.
#[inline(never)]
pub(crate) fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

/// Appends the time so many nanoseconds after the Unix epoch, in the format of a plan.
#[inline(never)]
fn write_time(format: &str, nanos: u64, out: &mut String) {
    let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let of_day = seconds % 86_400;
    let [year, month, day] = date(seconds / 86_400);
    let mut pieces = format.split('%');
    let mut text = pieces.next().unwrap_or_default();
    loop {
        out.push_str(text);
        let Some(piece) = pieces.next() else { return };
        text = piece.get(1..).unwrap_or_default();
        let directive = piece.bytes().next().unwrap_or(b'%');
        let (value, digits) = match directive {
            b'Y' => (year, 4),
            b'm' => (month, 2),
            b'd' => (day, 2),
            b'H' => (of_day / 3600, 2),
            b'M' => (of_day / 60 % 60, 2),
            b'S' => (of_day % 60, 2),
            b's' => (seconds, 1),
            b'f' => (fraction, 9),
            b'1'..=b'9' => {
                text = piece.get(2..).unwrap_or_default();
                let digits = usize::from(directive & 15);
                let unit = (digits..9).fold(1, |unit: u64, _| unit.saturating_mul(10));
                (fraction.checked_div(unit).unwrap_or(0), digits)
            }
            b'F' | b'T' => {
                let (first, others, between) = match directive {
                    b'F' => ((year, 4), [month, day], "-"),
                    _ => ((of_day / 3600, 2), [of_day / 60 % 60, of_day % 60], ":"),
                };
                number(first.0, first.1, out);
                for other in others {
                    out.push_str(between);
                    number(other, 2, out);
                }
                continue;
            }
            other => {
                out.push_str(match other {
                    b'b' => {
                        let start = (month as usize).saturating_sub(1).saturating_mul(3);
                        MONTHS.get(start..start.saturating_add(3)).unwrap_or_default()
                    }
                    b'z' => "+0000",
                    b'Z' => "UTC",
                    _ => {
                        // A percent sign, and what follows is text.
                        text = pieces.next().unwrap_or_default();
                        "%"
                    }
                });
                continue;
            }
        };
        number(value, digits, out);
    }
}

/// Year, month and day, so many days after the Unix epoch, by the
/// [calendar](https://howardhinnant.github.io/date_algorithms.html#civil_from_days) of today.
fn date(days: u64) -> [u64; 3] {
    // From the first of March of the year 0 on, so that a day of a leap year is the last of its year.
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let leap = of_era / 1460;
    let year =
        of_era.saturating_sub(leap).saturating_add(of_era / 36_524).saturating_sub(of_era / 146_096) / 365;
    let before = year.saturating_mul(365).saturating_add(year / 4).saturating_sub(year / 100);
    let of_year = of_era.saturating_sub(before);
    let from_march = of_year.saturating_mul(5).saturating_add(2) / 153;
    let day = of_year.saturating_sub(from_march.saturating_mul(153).saturating_add(2) / 5).saturating_add(1);
    let month = if from_march < 10 { from_march.saturating_add(3) } else { from_march.saturating_sub(9) };
    let year = era.saturating_mul(400).saturating_add(year).saturating_add(u64::from(month <= 2));
    [year, month, day]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(format: &str, nanos: u64) -> String {
        let mut text = String::new();
        write_time(format, nanos, &mut text);
        text
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, fraction, wanted) in [
            (0, 0, "1970-01-01T00:00:00.000 Jan"),
            (951_782_399, 999_999_999, "2000-02-28T23:59:59.999 Feb"),
            (951_782_400, 1_000_000, "2000-02-29T00:00:00.001 Feb"),
            (951_868_800, 12_345_678, "2000-03-01T00:00:00.012 Mar"),
            (1_709_164_800, 0, "2024-02-29T00:00:00.000 Feb"),
            (1_767_225_599, 0, "2025-12-31T23:59:59.000 Dec"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000 Mar"),
        ] {
            let nanos = seconds * 1_000_000_000 + fraction;
            assert_eq!(time("%FT%T.%3f %b", nanos), wanted, "{seconds}");
        }
        assert_eq!(
            time("%s.%f %1f %9f %d/%m/%Y %H%M%S %z%Z 5%%é", 5_000_000_120),
            "5.000000120 0 000000120 01/01/1970 000005 +0000UTC 5%é"
        );
    }
}
