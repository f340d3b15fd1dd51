//! The rules of matchers, of routes and rate limits alike.

use std::collections::BTreeMap;

use super::notes::Notes;
use super::text;
use crate::api::StringMatch;

/// Matchers by the names of those they have, so that both kinds of router are checked alike.
pub(super) fn attributes(notes: &mut Notes, attributes: &BTreeMap<String, StringMatch>, is_aeraki: bool) {
    notes.field("attributes", |notes| {
        for (name, matcher) in attributes {
            notes.field(name, |notes| {
                match name.is_empty() {
                    true => notes.error("the name of an attribute is empty; write one, such as method"),
                    false => text::attribute(notes, name),
                }
                string_match(notes, matcher, is_aeraki);
            });
        }
    });
}

fn string_match(notes: &mut Notes, matcher: &StringMatch, is_aeraki: bool) {
    let all = [
        ("exact", matcher.exact.is_some()),
        ("prefix", matcher.prefix.is_some()),
        ("suffix", matcher.suffix.is_some()),
        ("contains", matcher.contains.is_some()),
        ("regex", matcher.regex.is_some()),
        ("range", matcher.range.is_some()),
        ("present", matcher.present.is_some()),
    ];
    let known = match is_aeraki {
        true => "exact, prefix or regex",
        false => "exact, prefix, suffix, contains, regex, range or present",
    };
    let found: Vec<&str> = all.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    match &*found {
        [] => notes.error(format_args!("has no matcher; write one of {known}")),
        [_] => {}
        several => {
            notes.error(format_args!("has {} matchers ({}); write one", several.len(), several.join(", ")))
        }
    }
    if !is_aeraki {
        for (field, text) in
            [("prefix", &matcher.prefix), ("suffix", &matcher.suffix), ("contains", &matcher.contains)]
        {
            if text.as_deref() == Some("") {
                notes.field(field, |notes| {
                    notes.warn("is empty and matches every value; present: true says so")
                });
            }
        }
    }
    notes.some("regex", matcher.regex.as_ref(), |notes, pattern| text::regex(notes, pattern));
    notes.some("range", matcher.range.as_ref(), |notes, range| {
        if range.start >= range.end {
            notes
                .error("empty range: start must be less than end, which is the first number after the range");
        }
    });
}
