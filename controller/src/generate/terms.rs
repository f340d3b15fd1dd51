//! What resources write, in the terms of plans.

use std::collections::BTreeMap;

use meltemi_proxy::plan::{Span, raw};

use crate::api;

/// The duration that a resource writes, such as `2s`, `1m30s` or `0.5s`, as the plan has it.
pub(super) fn duration(text: &str) -> Option<Span> {
    let millis = u64::try_from(api::parse_duration(text).ok()?.as_millis()).ok()?;
    Some(Span::from_millis(millis))
}

/// The matchers of a route or condition, as the plan has them; `None` takes every call.
pub(super) fn alternatives(attributes: &BTreeMap<String, api::StringMatch>) -> Option<Vec<raw::Match>> {
    let attribute = |(name, of): (&String, &api::StringMatch)| (name.clone(), matcher(of));
    let alternative =
        || raw::Match { attributes: attributes.iter().map(attribute).collect(), ..raw::Match::default() };
    (!attributes.is_empty()).then(|| vec![alternative()])
}

fn matcher(written: &api::StringMatch) -> raw::Matcher {
    let api::StringMatch { exact, prefix, suffix, contains, regex, range, present, invert } = written;
    let invert = invert.unwrap_or_default();
    if exact.as_deref() == Some("") {
        // As Envoy has it: an empty text to match means that the attribute is there.
        return raw::Matcher { present: Some(true), invert, ..raw::Matcher::default() };
    }
    raw::Matcher {
        exact: exact.clone(),
        prefix: prefix.clone(),
        suffix: suffix.clone(),
        contains: contains.clone(),
        regex: regex.clone(),
        range: range.as_ref().map(|range| raw::Range { start: range.start, end: range.end }),
        cidr: Vec::new(),
        present: *present,
        invert,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_what_go_and_istio_write() {
        for (written, plan) in [
            ("2s", "2s"),
            ("1m30s", "90s"),
            ("0.5s", "500ms"),
            ("100ms", "100ms"),
            ("1h", "1h"),
            ("1.5h30m", "2h"),
        ] {
            assert_eq!(duration(written).map(|span| span.to_string()).as_deref(), Some(plan), "{written}");
        }
        for wrong in ["", "2", "-1s", "soon"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
