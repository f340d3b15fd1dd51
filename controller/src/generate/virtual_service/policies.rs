//! What a VirtualService's route does with its calls besides sending them somewhere, as the plan has it.

use std::collections::BTreeMap;

use meltemi_proxy::plan::raw::{self, MOST_ATTEMPTS};
use meltemi_proxy::plan::{Span, check_value};

use super::faults;
use crate::check;
use crate::generate::draft::Places;
use crate::generate::duration::duration;
use crate::generate::protocol::Protocol;
use crate::generate::report::Remarks;
use crate::istio::{HeaderOperations, HttpRetry, HttpRoute};
use crate::place::push_key;

/// The name of the route `at` in its VirtualService.
pub(super) fn name(route: &HttpRoute, at: usize, say: &mut Remarks<'_>) -> String {
    match check::is_no_route_name(&route.name) {
        None if !route.name.is_empty() => return route.name.clone(),
        None => {}
        Some(why) => say.warn("name", format!("{why}. Metrics and logs call the route {at}")),
    }
    at.to_string()
}

/// What the plan has for it. Says what of the route is not honoured, and what holds instead.
pub(super) fn policies(
    route: &HttpRoute,
    protocol: &Protocol,
    say: &mut Remarks<'_>,
    places: &mut Places,
) -> raw::Actions {
    let timeout = route.timeout.as_deref().and_then(|text| duration(text, "timeout", say));
    let mut policies = raw::Actions { timeout: timeout.unwrap_or_default(), ..raw::Actions::default() };
    if let Some(retries) = route.retries.as_ref().filter(|retries| retries.attempts > 0) {
        policies.retry = retry(retries, policies.timeout, protocol, say);
        places.note_alike("retry", "retries");
        places.note("retry.on", "retries.retryOn");
        places.note("retry.statuses", "retries.retryOn");
    }
    policies.fault = route.fault.as_ref().and_then(|fault| faults::fault(fault, say));
    for (at, _) in route.route.iter().enumerate().filter(|(_, to)| to.headers.is_some()) {
        let message = "per-destination headers are ignored; set them on the route";
        say.not_honoured(&format!("route[{at}].headers"), message);
    }
    for field in route.others.keys() {
        say.not_honoured(field, "does not apply to RPC calls");
    }
    if let Some(headers) = &route.headers {
        let mut edited = |field: &str, operations: &Option<HeaderOperations>| {
            operations.as_ref().map(|operations| edit(operations, field, say)).unwrap_or_default()
        };
        policies.request_attachments = edited("headers.request", &headers.request);
        policies.response_attachments = edited("headers.response", &headers.response);
        places.note("requestAttachments", "headers.request");
        places.note("responseAttachments", "headers.response");
    }
    places.note("cluster", "route");
    places.note("weightedClusters", "route");
    policies
}

fn retry(
    retries: &HttpRetry,
    timeout: Span,
    protocol: &Protocol,
    say: &mut Remarks<'_>,
) -> Option<raw::Retry> {
    if retries.attempts > MOST_ATTEMPTS {
        let message = format!("{} is over the limit: {MOST_ATTEMPTS} applies", retries.attempts);
        say.warn("retries.attempts", message);
    }
    let per_try = per_try_timeout(retries, timeout, say);
    for field in retries.others.keys() {
        let message = "does not apply to retries of RPC calls";
        say.not_honoured(&format!("retries.{field}"), message);
    }
    let mut on: Vec<raw::Trigger> = Vec::new();
    let mut statuses = Vec::new();
    let all = retries.retry_on.as_deref().filter(|all| !all.trim().is_empty()).unwrap_or("connect-failure");
    for condition in all.split(',').map(str::trim).filter(|condition| !condition.is_empty()) {
        match (condition, condition.parse::<u32>()) {
            ("connect-failure" | "refused-stream" | "unavailable", _) => {
                on.push(raw::Trigger::ConnectFailure)
            }
            ("reset" | "reset-before-request", _) => on.push(raw::Trigger::Reset),
            ("gateway-error" | "5xx", _) => on.extend([raw::Trigger::ConnectFailure, raw::Trigger::Reset]),
            (_, number) => match status(protocol, condition) {
                Some(status) => statuses.push(status),
                None => {
                    let what = if number.is_ok() { "a status" } else { "a condition" };
                    let message =
                        format!("{condition:?} is {what} of HTTP and means nothing to RPC protocols");
                    say.not_honoured("retries.retryOn", message);
                }
            },
        }
    }
    on.extend(per_try.map(|_| raw::Trigger::PerTryTimeout));
    on.extend((!statuses.is_empty()).then_some(raw::Trigger::Status));
    let all = [
        raw::Trigger::ConnectFailure,
        raw::Trigger::PerTryTimeout,
        raw::Trigger::Reset,
        raw::Trigger::Status,
    ];
    let on: Vec<_> = all.into_iter().filter(|trigger| on.contains(trigger)).collect();
    (!on.is_empty()).then(|| raw::Retry {
        attempts: retries.attempts.min(MOST_ATTEMPTS),
        on,
        statuses,
        per_try_timeout: per_try.unwrap_or_default(),
        ..raw::Retry::default()
    })
}

/// How long a try may take. Nothing means as long as the call, as Envoy has it.
fn per_try_timeout(retries: &HttpRetry, timeout: Span, say: &mut Remarks<'_>) -> Option<Span> {
    let field = "retries.perTryTimeout";
    let text = retries.per_try_timeout.as_deref()?;
    let per_try = duration(text, field, say).filter(|per_try| per_try.limit().is_some())?;
    if timeout.limit().is_some_and(|timeout| per_try.duration() > timeout) {
        say.warn(
            field,
            format!("{text:?} is longer than timeout, which ends the call before: it says nothing"),
        );
        return None;
    }
    Some(per_try)
}

/// The status of the protocol that has this number or name. Those of codecs that this command does not have are not known.
fn status(protocol: &Protocol, text: &str) -> Option<raw::Status> {
    let Protocol::Codec(reader) = protocol else { return None };
    let mut codecs = reader.codecs()?.iter();
    let (is_known, status) = match text.parse() {
        Ok(number) => (codecs.all(|codec| codec.status_name(number).is_some()), raw::Status::Number(number)),
        Err(_) => (codecs.all(|codec| codec.status_code(text).is_some()), raw::Status::Name(text.to_owned())),
    };
    is_known.then_some(status)
}

/// Changes to attachments. As in Envoy, what is removed is removed before anything is set, and what is added comes after
/// that.
fn edit(operations: &HeaderOperations, field: &str, say: &mut Remarks<'_>) -> raw::Attachments {
    let HeaderOperations { set, add, remove } = operations;
    let is_unnamed = |name: &str| name.is_empty();
    if [set, add].iter().any(|all| all.contains_key("")) || remove.iter().any(|name| is_unnamed(name)) {
        say.not_honoured(field, "an attachment without a name can be neither set nor removed");
    }
    let mut known = |part: &str, all: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        let named = all.iter().filter(|(name, _)| !is_unnamed(name));
        let known = named.filter(|(name, value)| match check_value(value) {
            Ok(()) => true,
            Err(why) => {
                let mut place = format!("{field}.{part}");
                push_key(&mut place, name);
                say.not_honoured(&place, why);
                false
            }
        });
        known.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let (mut set, mut append) = (known("set", set), known("add", add));
    append.retain(|name, value| match set.get_mut(name) {
        Some(before) => {
            *before = format!("{before},{value}");
            false
        }
        None if remove.contains(name) => {
            set.insert(name.clone(), value.clone());
            false
        }
        None => true,
    });
    let is_left = |name: &&String| !is_unnamed(name) && !set.contains_key(*name);
    let remove = remove.iter().filter(is_left).cloned().collect();
    raw::Attachments {
        remove,
        set: set.into_iter().collect(),
        append: append.into_iter().collect(),
        ..raw::Attachments::default()
    }
}
