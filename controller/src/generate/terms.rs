//! What resources write, in the terms of plans.

use std::collections::BTreeMap;

use meltemi_proxy::plan::Span;
use serde_json::{Map, Value, json};

use crate::api;

/// The duration that a resource writes, such as `2s`, `1m30s` or `0.5s`, as the plan writes it.
pub(super) fn duration(text: &str) -> Option<String> {
    let millis = u64::try_from(api::parse_duration(text).ok()?.as_millis()).ok()?;
    Some(Span::from_millis(millis).to_string())
}

/// The matchers of a route or condition, as the plan has them.
pub(super) fn matchers(attributes: &BTreeMap<String, api::StringMatch>) -> Map<String, Value> {
    let matcher = |matcher: &api::StringMatch| match matcher.exact.as_deref() {
        // As Envoy has it: an empty text to match means that the attribute is there.
        Some("") => json!({"present": true, "invert": matcher.invert.unwrap_or_default()}),
        _ => json!(matcher),
    };
    attributes.iter().map(|(name, of_attribute)| (name.clone(), matcher(of_attribute))).collect()
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
            assert_eq!(duration(written).as_deref(), Some(plan), "{written}");
        }
        for wrong in ["", "2", "-1s", "soon"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
