//! Bounds of the numbers, names and messages of a plan.
use core::time::Duration;
use std::rc::Rc;

use super::error::{Path, Result, fail};
use super::span::Span;

/// Names become HTTP headers and metrics; no sensible one is longer.
const MAX_NAME: usize = 1024;

/// Clients log the message with every call.
const MAX_MESSAGE: usize = 1024;

/// Checks a number against its bounds, both included.
pub(super) fn within(path: &Path<'_>, value: u32, low: u32, high: u32) -> Result<usize> {
    match usize::try_from(value) {
        Ok(size) if (low..=high).contains(&value) => Ok(size),
        _ => fail(path, format!("{value} is out of bounds; write {low} to {high}")),
    }
}

/// Checks a time that is not none.
pub(super) fn time(path: &Path<'_>, span: Span) -> Result<Duration> {
    match span.limit() {
        Some(time) => Ok(time),
        None => fail(path, "is no time; write at least \"1ms\""),
    }
}

/// Checks a name that becomes part of HTTP headers and metrics.
pub(super) fn name(path: &Path<'_>, what: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return fail(path, format!("{what} is empty; give one"));
    }
    if text.len() > MAX_NAME {
        return fail(path, format!("{what} has {} bytes; at most {MAX_NAME} are allowed", text.len()));
    }
    // Most names are plain, which bytes tell sooner than characters.
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain && text.chars().any(char::is_control) {
        return fail(
            path,
            format!("{what} has control characters, which HTTP headers cannot carry; remove them"),
        );
    }
    if !is_plain && text.trim() != text {
        return fail(
            path,
            format!("{what} starts or ends with a space, which HTTP headers cannot carry; remove it"),
        );
    }
    Ok(())
}

/// Checks a header that requests of the proxy's own have beside those that it sends them with; its name in lower case.
#[inline(never)]
pub(super) fn header(path: &Path<'_>, name: &str, value: &str) -> Result<()> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_name = !name.is_empty() && name.bytes().all(is_token);
    // What HTTP strips or refuses would not come as it is written.
    let is_value = value.bytes().all(|byte| matches!(byte, b' '..=b'~')) && value.trim() == value;
    if !is_name || !is_value {
        return fail(path, "is no header: a name is a token, a value plain ASCII without spaces at its ends");
    }
    if OWN_HEADERS.contains(&name) || OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return fail(path, "is a header of the proxy's own; leave it out");
    }
    Ok(())
}

/// Headers that say how a request is carried, or what it is.
const OWN_HEADERS: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Those that Envoy or services act upon.
const OWN_PREFIXES: [&str; 3] = ["grpc-", "x-envoy-", "x-meltemi-"];

/// What clients are told in place of an answer: what the plan says, or `default`.
pub(super) fn message(
    path: &Path<'_>,
    raw: Option<&str>,
    default: impl FnOnce() -> String,
) -> Result<Rc<str>> {
    match raw {
        None => Ok(default().into()),
        Some("") => fail(path, "is empty; leave it out, or tell clients why"),
        Some(message) if message.len() > MAX_MESSAGE => {
            fail(path, format!("has {} bytes; at most {MAX_MESSAGE} are allowed", message.len()))
        }
        Some(message) => Ok(message.into()),
    }
}
