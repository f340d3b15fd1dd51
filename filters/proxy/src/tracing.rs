//! Which trace a call belongs to: read from its request, or begun, and written into what is sent of it.
//!
//! A trace is read in the format of the W3C, or else in Zipkin's, as one value or as several, and written in the formats that
//! are there, as a server may prefer any of them; one that is begun, in that of those who get spans. What cannot be read strictly
//! is as if it were not there. `tracestate` and `baggage` are left to those who know what they mean. Each try is a span of its own.

mod traces;
mod tries;

use meltemi_codecs::{Head, Place};

pub(crate) use self::traces::Traces;
pub(crate) use self::tries::TracedTry;
use crate::plan::{B3, B3_FIELDS, LONGEST_TAG, SpanFormat, TRACEPARENT, Tracing};
use crate::policy::write_text;
use crate::spans;

/// The trace of a call. Ids are kept as they are written.
#[derive(Debug, Clone)]
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
    /// Spans of it are sent to a collector.
    is_reported: bool,
    /// Those that are, as far as they have begun.
    tries: Vec<TracedTry>,
    /// What the plan has them say of the call, in the format of collectors.
    tags: Vec<u8>,
}

type Digits<const N: usize> = [u8; N];

/// A way to write traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    W3c,
    B3,
    /// In one of the two ways of writing the names.
    Fields(u8),
}

impl Format {
    const ALL: [Self; 4] = [Self::W3c, Self::B3, Self::Fields(0), Self::Fields(1)];

    /// The attachments that a trace is written into.
    pub(crate) fn fields(self) -> &'static [&'static str] {
        match self {
            Self::W3c => &[TRACEPARENT],
            Self::B3 => &[B3],
            Self::Fields(names) => {
                B3_FIELDS.get(usize::from(names)).map(|names| &names[..]).unwrap_or_default()
            }
        }
    }

    /// That of a trace that begins, as its spans have this one.
    fn of(spans: SpanFormat) -> Self {
        match spans {
            SpanFormat::Otlp => Self::W3c,
            SpanFormat::Zipkin => Self::B3,
        }
    }
}

/// What a request says of its trace.
#[derive(Debug, Default)]
struct Said<'a> {
    /// Of the trace and of the span that called, if it says any.
    ids: Option<(&'a str, &'a str)>,
    is_sampled: Option<bool>,
    is_forced: bool,
}

/// The most attachments that a trace is written into.
pub(crate) const MOST_FIELDS: usize = 12;

impl Trace {
    /// The trace of the request that `head` is of, if that may say anything of one; else one that begins.
    fn of(head: &Head, may_say: bool, tracing: &Tracing, random: &mut fastrand::Rng) -> Self {
        let spans = tracing.collector.as_ref().map_or(SpanFormat::Otlp, |collector| collector.format);
        let said = if may_say { said(head) } else { None };
        let (said, format) = said.unwrap_or_else(|| (Said::default(), Format::of(spans)));
        let mut trace = Self {
            id: [b'0'; 32],
            parent: [b'0'; 16],
            seed: random.u64(..),
            is_sampled: said.is_sampled.unwrap_or_else(|| tracing.sampling.has(random.u32(..))),
            is_forced: said.is_forced,
            is_short: false,
            formats: [Some(format), None, None, None],
            place: None,
            is_reported: false,
            tries: Vec::new(),
            tags: Vec::new(),
        };
        if let [field] = format.fields() {
            trace.place = head.place(field);
        }
        trace.is_reported = trace.is_sampled && tracing.collector.is_some();
        if trace.is_reported && !tracing.tags.is_empty() {
            trace.tags = tags(head, tracing, spans);
        }
        if let Some((id, parent)) = said.ids {
            trace.is_short = id.len() == 16;
            write_end(&mut trace.id, id);
            write_end(&mut trace.parent, parent);
        } else {
            // None is 0.
            let halves = [random.u64(..).max(1), random.u64(..)];
            for (place, half) in trace.id.chunks_exact_mut(16).zip(halves) {
                place.copy_from_slice(&hex(half));
            }
        }
        trace
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
        let tags = self.tags.clone();
        Box::new(Self { seed: random.u64(..), tries: Vec::new(), tags, ..*self })
    }

    /// What its spans say of the call beside what all do.
    pub(crate) fn tags(&self) -> &[u8] {
        &self.tags
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

    /// Where in the request the one attachment goes that it is written into, if that is known.
    pub(crate) fn place(&self) -> Option<Place> {
        self.place
    }

    /// The formats that it is written in, into at most [`MOST_FIELDS`] attachments.
    pub(crate) fn formats(&self) -> impl Iterator<Item = Format> {
        self.formats.into_iter().map_while(|format| format)
    }

    /// What is written of the try of that number, in the format of the W3C.
    fn w3c(&self, number: u32) -> [u8; OF_W3C.len()] {
        let mut text = OF_W3C;
        let (span, sampled) = (hex(self.span(number)), [if self.is_sampled { b'1' } else { b'0' }]);
        let parts: [&[u8]; 3] = [&self.id, &span, &sampled];
        for (place, digits) in [3..35, 36..52, 54..55].into_iter().zip(parts) {
            if let Some(place) = text.get_mut(place) {
                place.copy_from_slice(digits);
            }
        }
        text
    }

    /// Appends what is written into a field of a format of a try, if anything.
    pub(crate) fn write(&self, (format, field): (Format, usize), number: u32, out: &mut String) {
        if format == Format::W3c {
            out.push_str(text(&self.w3c(number)));
            return;
        }
        let is_whole = format == Format::B3;
        let parent = self.parent();
        let sampled = match self.is_sampled {
            _ if self.is_forced => "d",
            true => "1",
            false => "0",
        };
        if is_whole || field == 0 {
            let skipped = if self.is_short { 16 } else { 0 };
            out.push_str(self.id().get(skipped..).unwrap_or_default());
        }
        if is_whole {
            out.push('-');
        }
        if is_whole || field == 1 {
            self.write_span(number, out);
        }
        match field {
            _ if is_whole => {
                out.push('-');
                out.push_str(sampled);
                if !parent.is_empty() {
                    out.push('-');
                    out.push_str(parent);
                }
            }
            2 => out.push_str(parent),
            // What is forced says so already.
            3 if !self.is_forced => out.push_str(sampled),
            4 if self.is_forced => out.push('1'),
            _ => {}
        }
    }
}

/// What is written of a trace in the format of the W3C.
const OF_W3C: [u8; 55] = *b"00-################################-################-0#";

/// What spans are to say of a call.
#[inline(never)]
fn tags(head: &Head, tracing: &Tracing, format: SpanFormat) -> Vec<u8> {
    let write_tag = match format {
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

/// What a request says of its trace, and where, if anything.
fn said(head: &Head) -> Option<(Said<'_>, Format)> {
    if let Some(said) = head.get(TRACEPARENT).and_then(w3c) {
        return Some((said, Format::W3c));
    }
    if let Some(said) = head.get(B3).and_then(b3) {
        return Some((said, Format::B3));
    }
    let fields = |(number, names): (u8, &[&str; 5])| {
        Some((b3_fields(names.map(|name| head.get(name)))?, Format::Fields(number)))
    };
    (0..).zip(&B3_FIELDS).find_map(fields)
}

fn w3c(text: &str) -> Option<Said<'_>> {
    let (version, id, parent, flags) =
        (text.get(..2)?, text.get(3..35)?, text.get(36..52)?, text.get(53..55)?);
    let is_cut = [2, 35, 52].iter().all(|at| text.as_bytes().get(*at) == Some(&b'-'));
    // Later versions may have more.
    let is_right = match (version, text.get(55..)?) {
        ("00", rest) => rest.is_empty(),
        ("ff", _) => false,
        (version, rest) => is_number(version, 2) && (rest.is_empty() || rest.starts_with('-')),
    };
    let is_sampled =
        flags.bytes().last().is_some_and(|digit| (digit & 1 == 1) != digit.is_ascii_alphabetic());
    let said = Said { is_sampled: Some(is_sampled), ids: Some((id, parent)), is_forced: false };
    (is_cut && is_right && is_number(flags, 2) && is_id(id, 32) && is_id(parent, 16)).then_some(said)
}

fn b3(text: &str) -> Option<Said<'_>> {
    let mut parts = text.split('-');
    let (id, span, sampled) = (parts.next()?, parts.next(), parts.next());
    let is_right = parts.next().is_none_or(|parent| is_number(parent, 16)) && parts.next().is_none();
    let ids = span.map(|span| (id, span));
    let sampled = if span.is_none() { Some(id) } else { sampled };
    let is_known = matches!(sampled, None | Some("0" | "1" | "d"));
    let (is_sampled, is_forced) = (sampled.map(|sampled| sampled != "0"), sampled == Some("d"));
    (is_right && is_known && ids.is_none_or(are_ids)).then_some(Said { ids, is_sampled, is_forced })
}

fn b3_fields<'a>([id, span, _, sampled, flags]: [Option<&'a str>; 5]) -> Option<Said<'a>> {
    let is_forced = flags == Some("1");
    let is_sampled = match sampled {
        _ if is_forced => Some(true),
        Some("1" | "true") => Some(true),
        Some("0" | "false") => Some(false),
        _ => None,
    };
    let ids = id.zip(span);
    let is_any = ids.is_some() || is_sampled.is_some();
    (is_any && ids.is_none_or(are_ids)).then_some(Said { ids, is_sampled, is_forced })
}

/// Whether these are ids of a trace and a span in Zipkin's format.
fn are_ids((id, span): (&str, &str)) -> bool {
    (is_id(id, 16) || is_id(id, 32)) && is_id(span, 16)
}

/// Whether that is an id of so many digits.
fn is_id(text: &str, digits: usize) -> bool {
    is_number(text, digits) && text.bytes().fold(0, |bits, digit| bits | (digit ^ b'0')) != 0
}

/// Whether that is a number of so many digits, in lower case.
fn is_number(text: &str, digits: usize) -> bool {
    let are_digits = |all, digit| all & matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    text.len() == digits && text.bytes().fold(true, are_digits)
}

/// Writes text to where `place` ends, if it has room.
fn write_end(place: &mut [u8], text: &str) {
    if let Some(end) = place.len().checked_sub(text.len()).and_then(|start| place.get_mut(start..)) {
        end.copy_from_slice(text.as_bytes());
    }
}

fn text(digits: &[u8]) -> &str {
    core::str::from_utf8(digits).unwrap_or_default()
}

/// A number in 16 digits.
fn hex(number: u64) -> Digits<16> {
    let mut digits = [0; 16];
    for (digits, half) in digits.chunks_exact_mut(8).zip([number >> 32, number & 0xffff_ffff]) {
        // Each of its four bits alone in a byte.
        let bits = (half | half << 16) & 0x0000_ffff_0000_ffff;
        let bits = (bits | bits << 8) & 0x00ff_00ff_00ff_00ff;
        let bits = (bits | bits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        // Those from ten on are letters. No byte carries into the next.
        let letters = bits.wrapping_add(0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        let half = bits.wrapping_add(0x3030_3030_3030_3030).wrapping_add(letters.wrapping_mul(0x27));
        digits.copy_from_slice(&half.to_be_bytes());
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> Head {
        let mut head = Head::new();
        fields.iter().for_each(|(name, value)| head.push_attachment(name, value));
        head
    }

    fn written(trace: &Trace, number: u32) -> Vec<(String, String)> {
        let of_format = |format: Format| {
            format.fields().iter().enumerate().map(move |(field, name)| {
                let mut out = String::new();
                trace.write((format, field), number, &mut out);
                ((*name).to_owned(), out)
            })
        };
        trace.formats().flat_map(of_format).collect()
    }

    fn read(fields: &[(&str, &str)]) -> Box<Trace> {
        let plan = br#"{"services": {"a": {"protocol": "dubbo", "tracing": {"sampling": 0}}}}"#;
        let plan = crate::plan::Plan::parse(plan, &meltemi_codecs::Codecs::all()).unwrap();
        let tracing = plan.service("a").unwrap().tracing.clone().unwrap();
        Traces::default().read(&head(fields), &tracing, &mut fastrand::Rng::with_seed(7))
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
            assert_eq!(text(&hex(number)), format!("{number:016x}"));
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
