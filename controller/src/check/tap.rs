//! The rules of taps.

use super::matchers::attributes;
use super::names::is_subdomain;
use super::notes::Notes;
use super::text;
use crate::api::{LONGEST_TAP, TapSpec, parse_duration};

/// How many of each there may be.
const PODS: usize = 64;
const LABELS: usize = 16;
const ATTRIBUTES: usize = 16;

pub(super) fn tap(notes: &mut Notes, spec: &TapSpec) {
    notes.field("duration", |notes| duration(notes, &spec.duration));
    most(notes, "pods", spec.pods.len(), PODS);
    notes.each("pods", &spec.pods, |notes, pod| {
        if !is_subdomain(pod) {
            notes.error(format_args!("{pod:?} is not the name of a pod"));
        }
    });
    notes.some("selector", spec.selector.as_ref(), |notes, selector| {
        most(notes, "matchLabels", selector.match_labels.len(), LABELS);
    });
    notes
        .some("match", spec.matches.as_ref(), |notes, matches| attributes(notes, &matches.attributes, false));
    notes.some("percent", spec.percent.as_ref(), |notes, percent| {
        if !(*percent > 0.0 && *percent <= 100.0) {
            notes.error(format_args!("{percent} is not a share; write more than 0, and 100 at most"));
        }
    });
    most(notes, "attributes", spec.attributes.len(), ATTRIBUTES);
    notes.each("attributes", &spec.attributes, |notes, name| text::attribute(notes, name));
}

fn duration(notes: &mut Notes, text: &str) {
    let longest = LONGEST_TAP.as_secs();
    match parse_duration(text) {
        Err(why) => notes.error(format_args!("{text:?} is not a duration: {why}; write one such as 2m")),
        Ok(duration) if (1..=longest).contains(&duration.as_secs()) && duration <= LONGEST_TAP => {}
        Ok(_) => notes.error(format_args!("{text:?} is out of bounds; write 1s to 1h")),
    }
}

fn most(notes: &mut Notes, field: &str, count: usize, most: usize) {
    if count > most {
        notes.error_at(field, format_args!("{count} entries, of which {most} are allowed; write fewer"));
    }
}
