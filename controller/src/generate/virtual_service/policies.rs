//! What a VirtualService's route does with its calls besides sending them somewhere, as the plan has it.

use std::collections::BTreeMap;
use std::time::Duration;

use meltemi_codecs::Codecs;
use serde_json::{Map, Value, json};

use super::duration::{duration, written};
use super::faults;
use crate::check;
use crate::generate::protocol::Protocol;
use crate::generate::report::Remarks;
use crate::generate::router::attachments;
use crate::istio::{HeaderOperations, HttpRetry, HttpRoute};

/// The most retries that a plan has.
const MAX_ATTEMPTS: u32 = 10;

/// The name of the route `at` in its VirtualService.
pub(super) fn name(route: &HttpRoute, at: usize, say: &mut Remarks<'_>) -> String {
    match check::is_no_route_name(&route.name) {
        None if !route.name.is_empty() => return route.name.clone(),
        None => {}
        Some(why) => say.warn("name", format!("{why}. Metrics and logs call the route {at}")),
    }
    at.to_string()
}

/// The plan's fields for it. Says what of the route is not honoured, and what holds instead.
pub(super) fn policies(route: &HttpRoute, protocol: &Protocol, say: &mut Remarks<'_>) -> Map<String, Value> {
    let mut policies = Map::new();
    let timeout = route.timeout.as_deref().and_then(|text| duration(text, "timeout", say));
    policies.extend(timeout.map(|timeout| ("timeout".to_owned(), written(timeout))));
    if let Some(retries) = route.retries.as_ref().filter(|retries| retries.attempts > 0) {
        let timeout = timeout.filter(|timeout| !timeout.is_zero());
        policies.extend(retry(retries, timeout, protocol, say).map(|retry| ("retry".to_owned(), retry)));
    }
    if route.mirror.is_some() || !route.mirrors.is_empty() {
        say.not_honoured("mirror", "calls are not mirrored yet");
    }
    let fault = route.fault.as_ref().and_then(|fault| faults::fault(fault, say));
    policies.extend(fault.map(|fault| ("fault".to_owned(), fault)));
    for (at, _) in route.route.iter().enumerate().filter(|(_, to)| to.headers.is_some()) {
        let message = "per-destination headers are ignored; set them on the route";
        say.not_honoured(&format!("route[{at}].headers"), message);
    }
    for field in route.others.keys() {
        say.not_honoured(field, "does not apply to RPC calls");
    }
    if let Some(headers) = &route.headers {
        for (field, of_plan, operations) in [
            ("headers.request", "requestAttachments", &headers.request),
            ("headers.response", "responseAttachments", &headers.response),
        ] {
            let edit = operations.as_ref().and_then(|operations| edit(operations, field, say));
            policies.extend(edit.map(|edit| (of_plan.to_owned(), edit)));
        }
    }
    policies
}

fn retry(
    retries: &HttpRetry,
    timeout: Option<Duration>,
    protocol: &Protocol,
    say: &mut Remarks<'_>,
) -> Option<Value> {
    if retries.attempts > MAX_ATTEMPTS {
        let message = format!("{} is over the limit: {MAX_ATTEMPTS} applies", retries.attempts);
        say.warn("retries.attempts", message);
    }
    let per_try = per_try_timeout(retries, timeout, say);
    for field in retries.others.keys() {
        let message = "does not apply to retries of RPC calls";
        say.not_honoured(&format!("retries.{field}"), message);
    }
    let mut on: Vec<&str> = Vec::new();
    let mut statuses = Vec::new();
    let all = retries.retry_on.as_deref().filter(|all| !all.trim().is_empty()).unwrap_or("connect-failure");
    for condition in all.split(',').map(str::trim).filter(|condition| !condition.is_empty()) {
        match (condition, condition.parse::<u32>()) {
            ("connect-failure" | "refused-stream" | "unavailable", _) => on.push("connect-failure"),
            ("reset" | "reset-before-request", _) => on.push("reset"),
            ("gateway-error" | "5xx", _) => on.extend(["connect-failure", "reset"]),
            (_, Ok(status)) if is_status(protocol, status) => statuses.push(status),
            (_, number) => {
                let what = if number.is_ok() { "a status" } else { "a condition" };
                let message = format!("{condition:?} is {what} of HTTP and means nothing to RPC protocols");
                say.not_honoured("retries.retryOn", message);
            }
        }
    }
    if per_try.is_some() {
        on.push("per-try-timeout");
    }
    let mut retry = Map::from_iter([("attempts".to_owned(), json!(retries.attempts.min(MAX_ATTEMPTS)))]);
    if !statuses.is_empty() {
        on.push("status");
        retry.insert("statuses".into(), json!(statuses));
    }
    if on.is_empty() {
        return None;
    }
    on.sort_unstable();
    on.dedup();
    retry.insert("on".into(), json!(on));
    retry.extend(per_try.map(|per_try| ("perTryTimeout".to_owned(), written(per_try))));
    Some(retry.into())
}

/// How long a try may take. Nothing means as long as the call, as Envoy has it.
fn per_try_timeout(
    retries: &HttpRetry,
    timeout: Option<Duration>,
    say: &mut Remarks<'_>,
) -> Option<Duration> {
    let field = "retries.perTryTimeout";
    let text = retries.per_try_timeout.as_deref()?;
    let per_try = duration(text, field, say).filter(|per_try| !per_try.is_zero())?;
    if timeout.is_some_and(|timeout| per_try > timeout) {
        say.warn(
            field,
            format!("{text:?} is longer than timeout, which ends the call before: it says nothing"),
        );
        return None;
    }
    Some(per_try)
}

/// Whether a number is a status of the protocol. Those of codecs that this command does not have are not known.
fn is_status(protocol: &Protocol, status: u32) -> bool {
    let Protocol::Codec(name) = protocol else { return false };
    Codecs::all().get(name).is_some_and(|codec| codec.status_name(status).is_some())
}

/// Changes to attachments. As in Envoy, what is removed is removed before anything is set.
fn edit(operations: &HeaderOperations, field: &str, say: &mut Remarks<'_>) -> Option<Value> {
    let HeaderOperations { set, add, remove } = operations;
    let mut all: BTreeMap<&String, &String> = add.iter().collect();
    all.extend(set);
    if all.remove(&String::new()).is_some() || remove.iter().any(String::is_empty) {
        say.not_honoured(field, "an attachment without a name can be neither set nor removed");
    }
    let removed = remove.iter().filter(|name| !name.is_empty() && !all.contains_key(name));
    let removed: Vec<String> = removed.cloned().collect();
    attachments(all.into_iter().map(|(name, value)| (name.clone(), json!(value))).collect(), &removed)
}
