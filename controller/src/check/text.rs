use std::collections::BTreeSet;
use std::time::Duration;

use meltemi_proxy::plan::{self, Span};

use super::notes::Notes;
use crate::api::aeraki::Percent;
use crate::api::parse_duration;
use crate::words::shortened;

/// Envoy's and Istio's limit of a host name.
const HOST_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;

/// A host name: full, or short for a service of the resource's own namespace.
pub(super) fn host(notes: &mut Notes, host: &str) {
    if let Err(why) = is_host(host) {
        notes.error(format_args!("{host:?} is not a host name: {why}"));
    }
}

fn is_host(host: &str) -> Result<(), String> {
    if host.is_empty() {
        return Err("it is empty; name the service, such as greeter.shop.svc.cluster.local".into());
    }
    if host.len() > HOST_BYTES {
        return Err(format!("it has {} characters, of which {HOST_BYTES} are allowed", host.len()));
    }
    if host.contains('*') {
        return Err("a wildcard cannot be routed; name one service".into());
    }
    if host.contains("://") || host.contains(['/', ':']) {
        return Err("leave out scheme, port and path; the port has a field of its own".into());
    }
    host.split('.').try_for_each(label)?;
    match host.rsplit('.').next() {
        Some(last) if last.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err("its last label has digits alone, as addresses have; name the service".into())
        }
        _ => Ok(()),
    }
}

/// A DNS label.
fn label(label: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if label.is_empty() {
        return Err("a label between dots is empty".into());
    }
    if label.len() > LABEL_BYTES {
        return Err(format!("the label {label:?} has more than {LABEL_BYTES} characters"));
    }
    if !label.bytes().all(fits) || label.starts_with('-') || label.ends_with('-') {
        return Err(format!("{label:?} may contain only lower-case letters, digits and inner hyphens"));
    }
    Ok(())
}

/// The name of a subset or a namespace.
pub(super) fn name(notes: &mut Notes, what: &str, name: &str) {
    if let Err(why) = label(name) {
        notes.error(format_args!("{name:?} is not the name of a {what}: {why}"));
    }
}

/// The longest name of a route: with those of its resource it goes into headers and metrics.
const ROUTE_NAME_BYTES: usize = 512;

/// Why a text cannot be the name of a route in metrics, logs and headers.
pub(crate) fn is_no_route_name(name: &str) -> Option<String> {
    if name.len() > ROUTE_NAME_BYTES {
        return Some(format!("has {} bytes, of which {ROUTE_NAME_BYTES} are allowed", name.len()));
    }
    let is_wrong = name.trim() != name || name.chars().any(char::is_control);
    is_wrong.then(|| format!("{name:?} has control characters, or spaces at its ends; leave them out"))
}

/// A gateway, as `namespace/name` or `name`.
pub(super) fn gateway(notes: &mut Notes, gateway: &str) {
    let (namespace, name) = match gateway.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, gateway),
    };
    let whole = namespace.map_or(Ok(()), label).and_then(|()| name.split('.').try_for_each(label));
    if let Err(why) = whole {
        notes.error(format_args!("{gateway:?} is not a gateway: {why}; write namespace/name or name"));
    }
}

/// A text that must not be empty.
pub(super) fn not_empty(notes: &mut Notes, field: &str, text: &str, mend: &str) {
    if text.is_empty() {
        notes.error_at(field, format_args!("is empty or missing; {mend}"));
    }
}

/// How many attributes make a key, and how long the name of one may be.
const KEY_ATTRIBUTES: usize = 16;
pub(crate) const KEY_BYTES: usize = 256;

/// The attributes by which calls are hashed.
pub(super) fn hash_key(notes: &mut Notes, names: &[String]) {
    if names.len() > KEY_ATTRIBUTES {
        notes.error(format_args!("{} attributes, of which {KEY_ATTRIBUTES} are allowed", names.len()));
    }
    for (index, name) in names.iter().enumerate() {
        notes.item(index, |notes| match name.len() {
            0 => notes.error("is empty; name an attribute of the calls"),
            1..=KEY_BYTES if names.iter().take(index).any(|other| other == name) => {
                notes.error(format_args!("{name:?} is in the list already; remove one of the two"));
            }
            1..=KEY_BYTES => attribute(notes, name),
            length => notes.error(format_args!("has {length} bytes, of which {KEY_BYTES} are allowed")),
        });
    }
}

/// The name of an attribute of calls, as the filter takes it.
pub(super) fn attribute(notes: &mut Notes, name: &str) {
    if let Err(why) = plan::check_attribute(name) {
        notes.error(why);
    }
}

/// The namespaces that something is exported to.
pub(super) fn exports(notes: &mut Notes, exports: &[String], own: &str) {
    let mut seen = BTreeSet::new();
    for (index, export) in exports.iter().enumerate() {
        notes.item(index, |notes| {
            let resolved = if export == "." { own } else { export };
            match &**export {
                "*" | "~" if exports.len() > 1 => {
                    notes.error(format_args!(
                        "{export:?} must be the only entry; leave out the others, or it"
                    ));
                }
                "*" | "~" | "." => {}
                namespace => name(notes, "namespace", namespace),
            }
            if !seen.insert(resolved) {
                notes.error(format_args!("duplicate namespace {resolved:?}; leave one out"));
            }
        });
    }
}

/// A duration as Go and Istio write it, such as `100ms`, `60s` or `1m30s`. `None`, with a finding, if it is none.
pub(super) fn duration(notes: &mut Notes, text: &str) -> Option<Duration> {
    match parse_duration(text) {
        Ok(duration) if duration > Span::LONGEST.duration() => {
            notes.error(format_args!("{text:?} is too long; write at most {}", Span::LONGEST));
            None
        }
        Ok(duration) if !duration.is_zero() && duration < Duration::from_millis(1) => {
            notes.error(format_args!("{text:?} is less than 1ms, the shortest duration there is"));
            None
        }
        Ok(duration) => {
            if duration.subsec_nanos() % 1_000_000 != 0 {
                notes.warn(format_args!("{text:?} is finer than a millisecond; whole ones are counted"));
            }
            Some(duration)
        }
        Err(why) => {
            notes
                .error(format_args!("{text:?} is not a duration: {why}; write it as in 100ms, 60s or 1m30s"));
            None
        }
    }
}

/// A duration that is not nothing.
pub(super) fn positive_duration(notes: &mut Notes, text: &str) -> Option<Duration> {
    let duration = duration(notes, text)?;
    if duration.is_zero() {
        notes.error("must be more than 0; leave it out for the default");
        return None;
    }
    Some(duration)
}

/// A port.
pub(super) fn port(notes: &mut Notes, port: u16) {
    if port == 0 {
        notes.error("0 is not a port; write one of 1 to 65535");
    }
}

/// A share of 0 to 100; without one all are meant.
pub(super) fn percent(notes: &mut Notes, percent: &Percent) {
    let value = percent.value;
    if !(0.0..=100.0).contains(&value) {
        notes.error_at("value", format_args!("{value} is not a percentage; write one of 0 to 100"));
    }
}

/// The most bytes that the tables of the expressions of one namespace's resources take in the plan of some proxies.
pub(crate) const MOST_OF_NAMESPACE: usize = 4 << 20;

/// A regular expression of the plan. Those of a resource together are bounded, and after that no more of them are looked at.
pub(super) fn regex(notes: &mut Notes, pattern: &str) {
    if notes.tables > MOST_OF_NAMESPACE {
        return;
    }
    if pattern.is_empty() {
        notes.error(
            "is empty, which matches nothing but an empty value; write a regular expression, or exact",
        );
        return;
    }
    match plan::check_regex(pattern) {
        Ok(bytes) => {
            notes.tables = notes.tables.saturating_add(bytes);
            if notes.tables > MOST_OF_NAMESPACE {
                notes.error(format_args!(
                    "takes, with the regular expressions before it, more than {} MiB as a table: write fewer, or shorter ones",
                    MOST_OF_NAMESPACE >> 20
                ));
            }
        }
        Err(why) => {
            let mend = match pattern.starts_with(['*', '+', '?']) {
                true => "; for any text write .*",
                false => "",
            };
            let pattern = shortened(&format!("{pattern:?}"), QUOTED_BYTES);
            notes.error(format_args!("{pattern} is not a regular expression: {why}{mend}"));
        }
    }
}

/// So much of a text is told again.
const QUOTED_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names() {
        for good in ["demo", "demo.shop.svc.cluster.local", "org.acme.greeter", "a-b.c1", "x1", "1a", "10.a"]
        {
            assert_eq!(is_host(good), Ok(()), "{good}");
        }
        let long = ["a"; 130].join(".");
        let wide = "a".repeat(64);
        for bad in [
            "", ".", "a.", ".a", "a..b", "A.b", "a_b", "-a", "a-", "*.a", "*", "a:80", "http://a",
            "10.0.0.1", "1", "ä", "a b", &long, &wide,
        ] {
            assert!(is_host(bad).is_err(), "{bad}");
        }
    }
}
