//! Which trace a call belongs to: read from its request, or begun, and written into what is sent of it.
//!
//! A trace is read in the format of the W3C, or else in Zipkin's, as one value or as several, and written in the formats that
//! are there, as a server may prefer any of them; one that is begun, in that of those who get spans. What cannot be read strictly
//! is as if it were not there. `tracestate` and `baggage` are left to those who know what they mean. Each try is a span of its own.

mod format;
mod traces;
mod tries;
mod written;

use meltemi_codecs::{Codec, Head, Place, Placed};

pub(crate) use self::format::Format;
use self::format::{Said, said};
pub(crate) use self::traces::Traces;
pub(crate) use self::tries::TracedTry;
use self::written::{hex, text};
use crate::plan::{LONGEST_TAG, SpanFormat, TRACEPARENT_LEN, Tracing};
use crate::policy::write_text;
use crate::spans;

/// The trace of a call. Ids are kept as they are written.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    id: Digits<32>,
    /// The span that called; zeros if nobody says.
    parent: Digits<16>,
    /// What the spans of its tries are made of.
    seed: u64,
    is_sampled: bool,
    /// Whoever began it wants it to be sampled in any case.
    is_forced: bool,
    /// The id has 16 digits, and zeros before them.
    is_short: bool,
    /// Those that it is written in, that which it was read in first.
    formats: [Option<Format>; 4],
    /// Where in the request the one attachment goes that it is written into, if that is known.
    place: Option<Place>,
    /// What a collector is told of it, if any is.
    report: Option<Box<Report>>,
}

/// What the spans of a call say.
#[derive(Debug, Default)]
struct Report {
    /// Those that have begun.
    tries: Vec<TracedTry>,
    /// What the plan has them say of the call, in the format of collectors.
    tags: Vec<u8>,
}

/// A trace that begins has the spans of two tries as its id, of numbers that none reaches.
const ID_OF: [u32; 2] = [u32::MAX, u32::MAX - 1];

type Digits<const N: usize> = [u8; N];

/// The most attachments that a trace is written into.
pub(crate) const MOST_FIELDS: usize = 12;

impl Trace {
    /// Makes it that of the request that `head` is of, if that may say anything of one; else one that begins.
    fn begin(&mut self, head: &Head, may_say: bool, tracing: &Tracing, random: &mut fastrand::Rng) {
        let said = if may_say { said(head) } else { None };
        let begins = said.is_none();
        let (said, format) = said.unwrap_or_else(|| (Said::default(), Format::of(tracing.format)));
        self.formats = [Some(format), None, None, None];
        self.place = if let [field] = format.fields() { head.place(field) } else { None };
        // The plan has what is added for one that begins.
        self.place = self.place.filter(|place| begins || matches!(place, Place::Over { .. }));
        // Ids are made of it, and whether it is sampled.
        self.seed = random.u64(..);
        self.is_sampled = said.is_sampled.unwrap_or_else(|| tracing.sampling.has(self.seed as u32));
        self.is_forced = said.is_forced;
        self.report = None;
        if self.is_sampled && tracing.collector.is_some() {
            let tags = if tracing.tags.is_empty() { Vec::new() } else { tags(head, tracing) };
            self.report = Some(Box::new(Report { tries: Vec::new(), tags }));
        }
        self.parent = [b'0'; 16];
        self.is_short = false;
        if let Some((id, parent)) = said.ids {
            self.is_short = id.len() == 16;
            self.id = [b'0'; 32];
            write_end(&mut self.id, id);
            write_end(&mut self.parent, parent);
        } else {
            let halves = ID_OF.map(|number| hex(self.span(number)));
            self.id.copy_from_slice(halves.as_flattened());
        }
    }

    /// Notes which formats are there beside that which it was read in.
    #[cold]
    fn find_others(&mut self, head: &Head) {
        // None says which trace it is without the first.
        let is_there = |other: &Format| other.fields().first().is_some_and(|name| head.get(name).is_some());
        let own = self.formats[0];
        let others = Format::ALL.into_iter().filter(|other| Some(*other) != own).filter(is_there);
        for (place, other) in self.formats.iter_mut().skip(1).zip(others) {
            *place = Some(other);
            self.place = None;
        }
    }

    /// The same for another call, whose tries are spans of their own.
    #[inline(never)]
    pub(crate) fn copy(&self, random: &mut fastrand::Rng) -> Box<Self> {
        let report = self.report.as_ref();
        let report = report.map(|report| Box::new(Report { tags: report.tags.clone(), ..Report::default() }));
        Box::new(Self { seed: random.u64(..), report, ..*self })
    }

    /// What its spans say of the call beside what all do.
    pub(crate) fn tags(&self) -> &[u8] {
        self.report.as_ref().map(|report| &*report.tags).unwrap_or_default()
    }

    /// Its id, in 32 digits.
    pub(crate) fn id(&self) -> &str {
        text(&self.id)
    }

    /// The id of the span that called, in 16 digits; empty if nobody says.
    pub(crate) fn parent(&self) -> &str {
        if self.parent == [b'0'; 16] { "" } else { text(&self.parent) }
    }

    /// Appends the id of the span of the try of that number.
    pub(crate) fn write_span(&self, number: u32, out: &mut String) {
        out.push_str(text(&hex(self.span(number))));
    }

    /// The span of the try of that number. No two tries have the same, and none has 0.
    fn span(&self, number: u32) -> u64 {
        // The finalizer of SplitMix64, which has another value for each.
        let mut span = self.seed.wrapping_add(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        span = (span ^ span >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        span = (span ^ span >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (span ^ span >> 31).max(1)
    }

    /// Appends a request with that id and what the try of that number says, at most so many bytes, if it is known where in the
    /// request the one attachment goes: whether it is, and else nothing was appended. `entry` is that of a trace that begins.
    #[inline(never)]
    pub(crate) fn place(
        &self,
        number: u32,
        (codec, entry): (&dyn Codec, &[u8]),
        request: &[u8],
        id: u64,
        most: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let (Some(place), Some(format)) = (self.place, self.formats[0]) else { return false };
        if request.len().saturating_add(entry.len()) > most {
            return false;
        }
        if format == Format::W3c {
            let placed = Placed { place, entry, len: TRACEPARENT_LEN };
            let value = codec.place(request, id, &placed, out).and_then(|value| value.as_mut_array());
            return value.map(|value| self.write_w3c(number, value)).is_some();
        }
        let written = self.written((format, 0), number);
        let value = written.bytes();
        let placed = Placed { place, entry, len: value.len() };
        codec.place(request, id, &placed, out).map(|room| room.copy_from_slice(value)).is_some()
    }

    /// The formats that it is written in, into at most [`MOST_FIELDS`] attachments.
    pub(crate) fn formats(&self) -> impl Iterator<Item = Format> {
        self.formats.into_iter().map_while(|format| format)
    }
}

/// What spans are to say of a call.
#[inline(never)]
fn tags(head: &Head, tracing: &Tracing) -> Vec<u8> {
    let write_tag = match tracing.format {
        SpanFormat::Otlp => meltemi_otlp::write_tag,
        SpanFormat::Zipkin => spans::write_tag,
    };
    let (mut tags, mut value) = (Vec::new(), String::new());
    for tag in &tracing.tags {
        value.clear();
        write_text(tag.value(head), LONGEST_TAG, &mut value);
        write_tag(&tag.name, &value, &mut tags);
    }
    tags
}

/// Writes text to where `place` ends, if it has room.
fn write_end(place: &mut [u8], text: &str) {
    if let Some(end) = place.len().checked_sub(text.len()).and_then(|start| place.get_mut(start..)) {
        end.copy_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use meltemi_codecs::dubbo::message::Request;
    use meltemi_codecs::{Codecs, Depth, Dubbo};

    use super::format::is_id;
    use super::*;
    use crate::plan::{B3_FIELDS, Plan};

    fn head(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::new();
        fields.iter().for_each(|(name, value)| head.push_attachment(name, value));
        head
    }

    fn written(trace: &Trace, number: u32) -> Vec<(String, String)> {
        let of_format = |format: Format| {
            format.fields().iter().enumerate().map(move |(field, name)| {
                ((*name).to_owned(), trace.written((format, field), number).text().to_owned())
            })
        };
        trace.formats().flat_map(of_format).collect()
    }

    fn tracing(rules: &str) -> Rc<Tracing> {
        let plan = format!(r#"{{"services": {{"a": {{"protocol": "dubbo", "tracing": {rules}}}}}}}"#);
        let plan = Plan::parse(plan.as_bytes(), &Codecs::all()).unwrap();
        plan.service("a").unwrap().tracing.clone().unwrap()
    }

    fn read(fields: &[(&str, &str)]) -> Box<Trace> {
        let tracing = tracing(r#"{"sampling": 0}"#);
        Traces::default().read(&head(fields), &tracing, &mut fastrand::Rng::with_seed(7))
    }

    #[test]
    fn what_is_placed_is_what_is_written() {
        let (id, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let (w3c, b3) = (format!("00-{id}-{span}-01"), format!("{id}-{span}-1"));
        let with_parent = format!("{b3}-{span}");
        let mut placed = Vec::new();
        for rules in
            ["{}", r#"{"format": "zipkin"}"#, r#"{"format": "zipkin", "collector": "c", "sampling": 50}"#]
        {
            let (tracing, mut traces) = (tracing(rules), Traces::default());
            for said in [
                &[][..],
                &[("user", "boss")],
                &[("traceparent", &w3c)],
                &[("b3", "0")],
                &[("b3", &b3)],
                &[("b3", &with_parent)],
                &[("b3", &b3), ("traceparent", &w3c)],
            ] {
                let request =
                    Request { interface: "a.B", method: "m", attachments: said, ..Request::default() };
                let (mut bytes, mut head) = (Vec::new(), Head::new());
                request.write(&mut bytes);
                Dubbo.find(&bytes, traces.search(), &mut head).unwrap();
                let trace = traces.read(&head, &tracing, &mut fastrand::Rng::with_seed(7));
                let place =
                    |most, out: &mut Vec<u8>| trace.place(3, (&Dubbo, &tracing.entry), &bytes, 9, most, out);
                let mut out = Vec::new();
                assert!(!place(bytes.len() - 1, &mut out) && out.is_empty());
                let is_placed = place(1000, &mut out);
                placed.push(is_placed);
                if is_placed {
                    Dubbo.head(&out, Depth::Attachments, &mut head).unwrap();
                    let has = |(name, value): &(String, String)| head.get(name) == Some(value.as_str());
                    assert!(written(&trace, 3).iter().all(has), "{rules} {said:?}");
                }
                assert_eq!(is_placed, !out.is_empty());
            }
        }
        let of_each = [true, true, true, false, false, true, false];
        assert_eq!(placed, [of_each; 3].as_flattened());
    }

    #[test]
    fn a_trace_goes_on_in_the_format_that_it_came_in() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let span = "00f067aa0ba902b7";
        let short = "a3ce929d0e0e4736";
        let upper = B3_FIELDS[0];
        for (fields, wanted) in [
            (vec![("traceparent", format!("00-{id}-{span}-01"))], vec![format!("00-{id}-N-01")]),
            (vec![("traceparent", format!("00-{id}-{span}-0e"))], vec![format!("00-{id}-N-00")]),
            (vec![("traceparent", format!("cc-{id}-{span}-ff-what"))], vec![format!("00-{id}-N-01")]),
            (vec![("traceparent", format!("00-{id}-{span}-ab"))], vec![format!("00-{id}-N-01")]),
            (vec![("b3", format!("{id}-{span}-1"))], vec![format!("{id}-N-1-{span}")]),
            (vec![("b3", format!("{short}-{span}-d-{span}"))], vec![format!("{short}-N-d-{span}")]),
            (vec![("b3", format!("{short}-{span}"))], vec![format!("{short}-N-0-{span}")]),
            (
                vec![(upper[0], id.to_owned()), (upper[1], span.to_owned()), (upper[3], "1".to_owned())],
                vec![id.to_owned(), "N".to_owned(), span.to_owned(), "1".to_owned(), String::new()],
            ),
            (
                vec![
                    ("x-b3-traceid", short.to_owned()),
                    ("x-b3-spanid", span.to_owned()),
                    ("x-b3-flags", "1".to_owned()),
                ],
                vec![short.to_owned(), "N".to_owned(), span.to_owned(), String::new(), "1".to_owned()],
            ),
        ] {
            let given: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let trace = read(&given);
            assert!(trace.id().ends_with(short) && trace.parent == span.as_bytes(), "{trace:?}");
            let own = hex(trace.span(3));
            let written: Vec<_> =
                written(&trace, 3).into_iter().map(|(_, value)| value.replace(text(&own), "N")).collect();
            assert_eq!(written, wanted, "{fields:?}");
        }
    }

    #[test]
    fn nothing_goes_on_that_says_something_else() {
        let (id, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        // Some servers read what is not valid to the letter.
        let trace = read(&[("b3", &format!("{}-{span}-1", id.to_uppercase()))]);
        assert_eq!(trace.formats, [Some(Format::W3c), Some(Format::B3), None, None]);
        let said = [
            ("traceparent", &*format!("00-{id}-{span}-00")),
            ("X-B3-TraceId", id),
            ("X-B3-SpanId", span),
            ("X-B3-Flags", "1"),
        ];
        let written = written(&read(&said), 1);
        let of = |name| written.iter().find(|(known, _)| known == name).map(|(_, value)| &**value);
        assert_eq!([of("X-B3-Sampled"), of("X-B3-Flags")], [Some("0"), Some("")]);
    }

    #[test]
    fn numbers_have_16_digits() {
        let mut random = fastrand::Rng::with_seed(1);
        for number in [0, 9, 10, 0xf, 0x9a, u64::MAX].into_iter().chain((0..1000).map(|_| random.u64(..))) {
            let digits: String = format!("{number:016x}").chars().rev().collect();
            assert_eq!(text(&hex(number)), digits);
        }
    }

    #[test]
    fn what_is_not_said_strictly_is_not_said() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let zeros = "00000000000000000000000000000000";
        for text in [
            "",
            "00",
            &format!("00-{id}-00f067aa0ba902b7"),
            &format!("00-{id}-00f067aa0ba902b7-1"),
            &format!("00-{id}-00f067aa0ba902b7-01-x"),
            &format!("00-{id}-00f067aa0ba902b7-01-"),
            &format!("ff-{id}-00f067aa0ba902b7-01"),
            &format!("0x-{id}-00f067aa0ba902b7-01"),
            &format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
            &format!("00-{zeros}-00f067aa0ba902b7-01"),
            &format!("00-{id}-0000000000000000-01"),
            &format!(" 00-{id}-00f067aa0ba902b7-01"),
            &format!("00-{id}é-00f067aa0ba902b7-01"),
        ] {
            let trace = read(&[("traceparent", text)]);
            assert!(is_id(trace.id(), 32) && trace.id() != id && !trace.is_sampled, "{text}");
            assert_eq!(trace.parent, [b'0'; 16], "{text}");
        }
        for text in
            ["", "x", "1-2", &format!("{id}-00f067aa0ba902b7-2"), &format!("{id}-00f067aa0ba902b7-1-2")]
        {
            assert_eq!(read(&[("b3", text)]).formats[0], Some(Format::W3c), "{text}");
        }
        // Only whether it is to be sampled.
        let denied = read(&[("b3", "0")]);
        assert_eq!(denied.formats, [Some(Format::B3), None, None, None]);
        assert!(!denied.is_sampled && denied.parent == [b'0'; 16]);
        assert!(read(&[("X-B3-Sampled", "true")]).is_sampled);
        assert!(read(&[("b3", "d")]).is_sampled);
    }

    #[test]
    fn every_try_is_a_span_of_its_own() {
        let trace = read(&[]);
        let mut spans: Vec<_> = (0..1000).map(|number| trace.span(number)).collect();
        spans.sort_unstable();
        spans.dedup();
        assert_eq!((spans.len(), spans.contains(&0)), (1000, false));
        assert_ne!(trace.copy(&mut fastrand::Rng::with_seed(8)).span(1), trace.span(1));
    }
}
