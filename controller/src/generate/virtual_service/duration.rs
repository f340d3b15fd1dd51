use std::time::Duration;

use meltemi_proxy::plan::Span;
use serde_json::Value;

use crate::api::parse_duration;
use crate::generate::report::Remarks;

/// A duration as far as plans have it.
pub(super) fn duration(text: &str, field: &str, say: &mut Remarks<'_>) -> Option<Duration> {
    let duration = match parse_duration(text) {
        Ok(duration) => duration,
        Err(why) => {
            say.not_honoured(field, format!("{text:?} is not a duration: {why}"));
            return None;
        }
    };
    if duration > Span::LONGEST.duration() {
        say.warn(field, format!("{text:?} is too long: {} applies", Span::LONGEST));
        return Some(Span::LONGEST.duration());
    }
    let millis = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or_default();
    let whole = Duration::from_millis(millis);
    if whole != duration {
        say.warn(
            field,
            format!("{text:?} is finer than a millisecond: {} applies", Span::from_millis(millis)),
        );
    }
    Some(whole)
}

/// A duration as plans write it.
pub(super) fn written(duration: Duration) -> Value {
    Span::from_millis(u64::try_from(duration.as_millis()).unwrap_or_default()).to_string().into()
}
