//! The formats of traces, and what requests say in them.

use meltemi_codecs::Head;

use crate::plan::{B3, B3_FIELDS, SpanFormat, TRACEPARENT};

/// A way to write traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    W3c,
    B3,
    /// In one of the two ways of writing the names.
    Fields(u8),
}

impl Format {
    pub(super) const ALL: [Self; 4] = [Self::W3c, Self::B3, Self::Fields(0), Self::Fields(1)];

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
    pub(super) fn of(spans: SpanFormat) -> Self {
        match spans {
            SpanFormat::Otlp => Self::W3c,
            SpanFormat::Zipkin => Self::B3,
        }
    }
}

/// What a request says of its trace.
#[derive(Debug, Default)]
pub(super) struct Said<'a> {
    /// Of the trace and of the span that called, if it says any.
    pub(super) ids: Option<(&'a str, &'a str)>,
    pub(super) is_sampled: Option<bool>,
    pub(super) is_forced: bool,
}

/// What a request says of its trace, and where, if anything.
pub(super) fn said(head: &Head) -> Option<(Said<'_>, Format)> {
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
pub(super) fn is_id(text: &str, digits: usize) -> bool {
    is_number(text, digits) && text.bytes().any(|digit| digit != b'0')
}

/// Whether that is a number of so many digits, in lower case.
fn is_number(text: &str, digits: usize) -> bool {
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    text.len() == digits
        && words.iter().all(|word| are_digits(u64::from_le_bytes(*word)))
        && rest.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// The same of each of eight bytes.
fn are_digits(bytes: u64) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // Its highest bit tells of a byte below 0x80 whether it is at least that; none carries into the next.
    let is_from = |least: u8| bytes.wrapping_add(EACH.wrapping_mul(0x80_u64.wrapping_sub(least.into())));
    let (digits, letters) = (is_from(b'0') & !is_from(b':'), is_from(b'a') & !is_from(b'g'));
    let highest = EACH.wrapping_mul(0x80);
    bytes & highest == 0 && (digits | letters) & highest == highest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_of_lower_case_digits_in_each_place() {
        for byte in 0..=0x7f {
            for at in 0..10 {
                let mut text = *b"0123456789";
                text[at] = byte;
                let text = str::from_utf8(&text).unwrap();
                let is_digit = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                assert_eq!(is_number(text, 10), is_digit, "{text:?}");
            }
        }
        assert!(!is_number("0123456é", 9) && !is_number("é1234567", 9) && !is_number("01", 1));
        assert!(is_id("00000001", 8) && !is_id("00000000", 8));
    }
}
