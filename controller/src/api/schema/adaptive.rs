//! Schemas of adaptive concurrency.

use schemars::Schema;
use serde_json::json;

use super::{rules, set};

/// How many calls are made at a time, by how long answers take.
pub(in crate::api) fn whole(schema: &mut Schema) {
    let least = "has(self.minConcurrency) ? self.minConcurrency : 3";
    let most = "has(self.maxConcurrencyLimit) ? self.maxConcurrencyLimit : 1000";
    let rule = format!("({least}) <= ({most})");
    rules(schema, &[(&rule, "maxConcurrencyLimit must not be less than minConcurrency")]);
}

/// A percentile of times.
pub(in crate::api) fn percentile(schema: &mut Schema) {
    set(schema, json!({"minimum": 1.0, "maximum": 100.0}));
}

/// Calls over which something is measured.
pub(in crate::api) fn measured_calls(schema: &mut Schema) {
    set(schema, json!({"minimum": 1.0, "maximum": 100_000.0}));
}

/// A share of a time, in percent.
pub(in crate::api) fn jitter(schema: &mut Schema) {
    set(schema, json!({"maximum": 100.0}));
}

/// What is added to a time, in percent.
pub(in crate::api) fn buffer(schema: &mut Schema) {
    set(schema, json!({"maximum": 1000.0}));
}

/// Calls at a time.
pub(in crate::api) fn calls(schema: &mut Schema) {
    set(schema, json!({"minimum": 1.0, "maximum": 1_000_000.0}));
}
