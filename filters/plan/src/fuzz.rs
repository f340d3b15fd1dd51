//! Entries for fuzzers of plans.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic is how a fuzzer learns of a mistake; none of this runs on the data path"
)]

mod calls;
mod generate;
mod layouts;

use meltemi_codecs::{Codecs, Head};

use super::{
    Plan,
    matcher::{Predicate, Rule, Test},
};

pub use calls::{bound, fuzz_calls, sample_plan, sample_request, search};
pub use layouts::fuzz_layout;

/// Reads `data` as a plan and, if it is one, asks it for routes: of calls made to meet each of its rules, as far as can
/// be, and to meet two that are side by side. The index must find what trying every rule finds.
///
/// # Panics
///
/// When it does not.
pub fn fuzz_plan(data: &[u8], codecs: &Codecs) {
    let plan = match Plan::parse(data, codecs) {
        Ok(plan) => plan,
        Err(error) => {
            assert!(!error.message.is_empty());
            return;
        }
    };
    plan.warnings();
    for service in plan.services() {
        let rules = service.index.rules();
        for (number, rule) in rules.iter().enumerate().take(100) {
            let other = number.checked_add(1).and_then(|next| rules.get(next));
            for rules in [&[Some(rule)][..], &[Some(rule), other], &[other, Some(rule)]] {
                let head = call(rules.iter().copied().flatten());
                let found = service.route(&head).map(|route| &route.name);
                let expected = service.explain(&head).matched.map(|route| &route.name);
                assert_eq!(found, expected, "{head:?}");
            }
        }
    }
}

/// A call that meets the first of the rules, and the others where that leaves room.
fn call<'a>(rules: impl Iterator<Item = &'a Rule>) -> Head {
    let mut head = Head::new();
    for Predicate { attribute, test, invert } in rules.flat_map(|rule| &rule.predicates) {
        if *invert {
            continue;
        }
        match test {
            Test::Exact(text) => head.push(attribute, text),
            Test::Prefix(text) => head.push_attachment(attribute, &format!("{text}x")),
            Test::Suffix(text) => head.push(attribute, &format!("x{text}")),
            Test::Contains(text) => head.push(attribute, &format!("x{text}x")),
            Test::Regex(pattern) => head.push(attribute, pattern.source()),
            Test::Range { start, .. } => head.push(attribute, &start.to_string()),
            Test::Address(blocks) => {
                let address = blocks.first().map(|block| block.to_string()).unwrap_or_default();
                head.push(attribute, address.split('/').next().unwrap_or_default());
            }
            Test::Present(true) => head.push(attribute, ""),
            Test::Present(false) => {}
        }
    }
    head
}
