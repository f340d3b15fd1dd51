//! Which calls a match of a VirtualService means, as matchers of the plan.

use std::collections::BTreeMap;

use meltemi_proxy::plan::raw;

use crate::generate::report::Remarks;
use crate::generate::trial::Matchers;
use crate::istio::{HttpMatch, StringMatch};
use crate::place::push_key;

/// The matchers of the match `at` in its route by attribute: none at all take every call. `None`, with a word on it, if the
/// match takes none.
pub(super) fn matchers(
    matches: &HttpMatch,
    at: usize,
    tried: &mut Matchers,
    say: &mut Remarks<'_>,
) -> Option<BTreeMap<String, raw::Matcher>> {
    let mut takes_none = false;
    let mut refuse = |field: &str, why: &str| {
        takes_none = true;
        say.not_honoured(&format!("match[{at}]{field}"), format!("{why}; this match never applies"));
    };
    let others = matches.others.keys().map(String::as_str);
    let others = others.filter(|field| !matches!(*field, "statPrefix" | "ignoreUriCase"));
    for field in others.chain((!matches.source_labels.is_empty()).then_some("sourceLabels")) {
        refuse(&format!(".{field}"), "not supported for RPC calls");
    }
    let mut attributes = BTreeMap::new();
    let mut add = |field: String, attribute: &str, told: &StringMatch, inverted: bool| {
        let matcher = matcher(told, inverted);
        match tried.refusal(attribute, &matcher) {
            _ if told.others.len() + said(told).count() > 1 => refuse(&field, "says more than one thing"),
            _ if let Some(unknown) = told.others.keys().next() => {
                refuse(&format!("{field}.{unknown}"), "unknown; write exact, prefix or regex");
            }
            Some(why) => refuse(&field, &why),
            None => _ = attributes.insert(attribute.to_owned(), matcher),
        }
    };
    let all = [("withoutHeaders", &matches.without_headers, true), ("headers", &matches.headers, false)];
    for (field, headers, inverted) in all {
        for (name, header) in headers as &BTreeMap<String, StringMatch> {
            let mut path = format!(".{field}");
            push_key(&mut path, name);
            add(path, name, header, inverted);
        }
    }
    if let Some(method) = &matches.method {
        add(".method".to_owned(), "method", method, false);
    }
    (!takes_none).then_some(attributes)
}

/// What a match says.
fn said(told: &StringMatch) -> impl Iterator<Item = &String> {
    [&told.exact, &told.prefix, &told.regex].into_iter().flatten()
}

/// An empty text to match means that the header is there, as Istio has it.
fn matcher(matcher: &StringMatch, invert: bool) -> raw::Matcher {
    let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let matcher = match (said(&matcher.exact), said(&matcher.prefix), said(&matcher.regex)) {
        (Some(exact), ..) => raw::Matcher { exact: Some(exact), ..raw::Matcher::default() },
        (_, Some(prefix), _) => raw::Matcher { prefix: Some(prefix), ..raw::Matcher::default() },
        (.., Some(regex)) => raw::Matcher { regex: Some(regex), ..raw::Matcher::default() },
        (None, None, None) => raw::Matcher { present: Some(true), ..raw::Matcher::default() },
    };
    raw::Matcher { invert, ..matcher }
}
