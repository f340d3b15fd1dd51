//! Durations as Istio's objects write them.

use meltemi_proxy::plan::Span;

use super::report::Remarks;
use crate::api::parse_duration;

/// A duration as far as plans have it.
pub(super) fn duration(text: &str, field: &str, say: &mut Remarks<'_>) -> Option<Span> {
    let duration = match parse_duration(text) {
        Ok(duration) => duration,
        Err(why) => {
            say.not_honoured(field, format!("{text:?} is not a duration: {why}"));
            return None;
        }
    };
    if duration > Span::LONGEST.duration() {
        say.warn(field, format!("{text:?} is too long: {} applies", Span::LONGEST));
        return Some(Span::LONGEST);
    }
    let millis = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or_default();
    let whole = Span::from_millis(millis);
    if whole.duration() != duration {
        say.warn(field, format!("{text:?} is finer than a millisecond: {whole} applies"));
    }
    Some(whole)
}
