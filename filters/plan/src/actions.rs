//! The part of a route that says what happens to its calls, for named routes and the default route alike.

use core::cell::Cell;

use meltemi_codecs::{Action, Change, Codec, Deadlines};

use super::{
    check::{message, name, within},
    error::{Path, Result, fail},
    fault::fault,
    hash::hash_key,
    hedge::{Hedge, Latencies},
    mirror::mirrors,
    raw,
    route::{AttachmentEdit, Backoff, Destination, Retry, RetryOn, Route, Weighted},
    span::Span,
    tracing::traced,
    values::{Part, depth, value},
};

/// A route of that name whose calls are dealt with so, and carry their traces where that `is_traced`.
pub(super) fn actions(
    path: &Path<'_>,
    raw: &raw::Actions,
    name: &str,
    codec: &dyn Codec,
    is_traced: bool,
) -> Result<Route> {
    let retry = |retry| self::retry(&path.key("retry"), retry, raw.timeout, codec);
    let fault = |raw| fault(&path.key("fault"), raw, name).map(Box::new);
    let edit = |field, raw| attachments(&path.key(field), raw, name, codec);
    let request_edit = edit("requestAttachments", &raw.request_attachments)?;
    let route = Route {
        name: name.to_owned(),
        destination: destination(path, raw, name)?,
        timeout: raw.timeout.limit(),
        propagates_deadline: deadline(&path.key("propagateDeadline"), raw.propagate_deadline, codec)?,
        retry: raw.retry.as_ref().map(retry).transpose()?,
        fault: raw.fault.as_ref().map(fault).transpose()?,
        hash: raw.hash_by.as_ref().map(|names| hash_key(&path.key("hashBy"), names)).transpose()?,
        mirrors: Box::default(),
        request_edit: match is_traced {
            true => traced(&path.key("requestAttachments"), request_edit)?,
            false => request_edit,
        },
        response_edit: edit("responseAttachments", &raw.response_attachments)?,
        keeps_requests: false,
        names_operation: false,
        latencies: Latencies::default(),
        taken: Cell::default(),
    };
    let keeps_requests = route.retry.is_some() || route.response_edit.depth.is_some();
    Ok(Route { keeps_requests, mirrors: mirrors(&path.key("mirrors"), &raw.mirrors, &route)?, ..route })
}

fn destination(path: &Path<'_>, raw: &raw::Actions, route: &str) -> Result<Destination> {
    match (&raw.cluster, &raw.weighted_clusters, &raw.reject) {
        (None, None, None) => Ok(Destination::Tunnel),
        (Some(cluster), None, None) => {
            name(&path.key("cluster"), "the name of a cluster", cluster)?;
            Ok(Destination::Cluster(cluster.as_str().into()))
        }
        (None, Some(clusters), None) => weighted(&path.key("weightedClusters"), clusters),
        (None, None, Some(raw)) => reject(&path.key("reject"), raw, route),
        (Some(_), Some(_), None) => {
            fail(path, "both \"cluster\" and \"weightedClusters\" say where calls go; keep one of them")
        }
        (cluster, _, Some(_)) => {
            let other = if cluster.is_some() { "cluster" } else { "weightedClusters" };
            let mend = "keep one of them";
            fail(path, format!("{other:?} says where calls go, and \"reject\" that they go nowhere; {mend}"))
        }
    }
}

fn reject(path: &Path<'_>, raw: &raw::Reject, route: &str) -> Result<Destination> {
    let default = || format!("denied by route {route:?}");
    let message = message(&path.key("message"), raw.message.as_deref(), default);
    Ok(Destination::Reject(message?))
}

fn weighted(path: &Path<'_>, raw: &[raw::WeightedCluster]) -> Result<Destination> {
    for (number, raw) in raw.iter().enumerate() {
        name(&path.index(number).key("cluster"), "the name of a cluster", &raw.cluster)?;
    }
    if raw.is_empty() {
        return fail(path, "names no cluster; name one, or leave it out to use the tunnel's own");
    }
    match Weighted::new(raw.iter().map(|raw| (&*raw.cluster, raw.weight))) {
        Some(weighted) => Ok(Destination::Weighted(weighted)),
        None if raw.iter().all(|raw| raw.weight == 0) => {
            fail(path, "all weights are 0, so that no cluster gets a call; give one a weight")
        }
        None => fail(path, format!("the sum of the weights is over {}; make them smaller", u32::MAX)),
    }
}

fn attachments(
    path: &Path<'_>,
    raw: &raw::Attachments,
    route: &str,
    codec: &dyn Codec,
) -> Result<AttachmentEdit> {
    let mut edit = AttachmentEdit::default();
    if *raw == raw::Attachments::default() {
        return Ok(edit);
    }
    let raw::Attachments { set, add_if_absent, append, remove } = raw;
    let written = [
        ("set", Action::Set, set),
        ("addIfAbsent", Action::AddIfAbsent, add_if_absent),
        ("append", Action::Append, append),
    ];
    for (field, action, values) in written {
        let path = &path.key(field);
        for (name, text) in values.iter() {
            let path = &path.key(name);
            is_new(path, name, &edit)?;
            let mut change = Change { name: name.to_owned(), value: String::new(), action };
            let value = value(path, text, route)?;
            if let [Part::Text(text)] = &*value {
                change.value = String::from(&**text);
                edit.changes.push(change);
            } else {
                edit.depth = edit.depth.max(depth(&value, codec));
                edit.values.push((change, value));
            }
        }
    }
    let removed = &path.key("remove");
    for (number, name) in remove.iter().enumerate() {
        let path = &removed.index(number);
        let change = Change::remove(name);
        if !edit.changes.contains(&change) {
            is_new(path, name, &edit)?;
            edit.changes.push(change);
        }
    }
    let count = edit.changes.len().saturating_add(edit.values.len());
    if count > Change::MOST && !(add_if_absent.is_empty() && append.is_empty()) {
        return fail(path, format!("has {count} changes; at most {} are allowed", Change::MOST));
    }
    Ok(edit)
}

/// Refuses a name that is none, or that is changed already.
fn is_new(path: &Path<'_>, name: &str, edit: &AttachmentEdit) -> Result<()> {
    let mut changed = edit.changes.iter().chain(edit.values.iter().map(|(change, _)| change));
    match changed.find(|change| change.name == name) {
        _ if name.is_empty() => fail(path, "the name of an attachment is empty; give one"),
        Some(other) => {
            let what = match other.action {
                Action::Set => "set",
                Action::AddIfAbsent => "added",
                Action::Append => "appended to",
                Action::Remove => "removed",
            };
            fail(path, format!("{name:?} is {what} too; keep one of the two"))
        }
        None => Ok(()),
    }
}

fn deadline(path: &Path<'_>, wanted: Option<bool>, codec: &dyn Codec) -> Result<bool> {
    match (wanted, codec.deadlines()) {
        (Some(true), Deadlines::None) => fail(
            path,
            format!("requests of {} do not say how long their clients wait; leave it out", codec.name()),
        ),
        (Some(wanted), _) => Ok(wanted),
        (None, deadlines) => Ok(deadlines == Deadlines::Always),
    }
}

fn retry(path: &Path<'_>, raw: &raw::Retry, timeout: Span, codec: &dyn Codec) -> Result<Retry> {
    within(&path.key("attempts"), raw.attempts, 1, raw::MOST_ATTEMPTS)?;
    if raw.on.is_empty() {
        return fail(&path.key("on"), "names no failure; name one, or leave \"retry\" out");
    }
    let on = RetryOn {
        connect_failure: raw.on.contains(&raw::Trigger::ConnectFailure),
        reset: raw.on.contains(&raw::Trigger::Reset),
        per_try_timeout: raw.on.contains(&raw::Trigger::PerTryTimeout),
        status: raw.on.contains(&raw::Trigger::Status),
    };
    let hedge = raw.hedge.as_ref();
    let bounds = [("the route's timeout", timeout), ("\"perTryTimeout\"", raw.per_try_timeout)];
    Ok(Retry {
        attempts: raw.attempts,
        on,
        hedge: hedge.map(|raw| self::hedge(&path.key("hedge"), raw, bounds)).transpose()?,
        statuses: statuses(&path.key("statuses"), &raw.statuses, on, codec)?,
        per_try_timeout: {
            let path = &path.key("perTryTimeout");
            if on.per_try_timeout && raw.per_try_timeout.limit().is_none() {
                return fail(path, "\"on\" lists \"per-try-timeout\", but a try has no timeout; set one");
            }
            if timeout.limit().is_some() && raw.per_try_timeout > timeout {
                let mend = "make it shorter, or the timeout longer";
                return fail(
                    path,
                    format!("{} exceeds the route's timeout of {timeout}; {mend}", raw.per_try_timeout),
                );
            }
            raw.per_try_timeout.limit()
        },
        backoff: backoff(&path.key("backoff"), &raw.backoff)?,
    })
}

/// `bounds` are the times after which there is no first try any more.
fn hedge(path: &Path<'_>, raw: &raw::Hedge, bounds: [(&str, Span); 2]) -> Result<Hedge> {
    if raw.after.is_none() && raw.percentile.is_none() {
        return fail(path, "says no time; write \"after\" or \"percentile\", or leave it out");
    }
    if let Some(after) = raw.after {
        let over = |(_, bound): &(&str, Span)| bound.limit().is_some() && *bound <= after;
        if let Some((what, bound)) = bounds.into_iter().find(over) {
            let message =
                format!("{after} is not before {bound}, when {what} ends the first try; make it shorter");
            return fail(&path.key("after"), message);
        }
    }
    let percentile = raw.percentile.map(|percent| within(&path.key("percentile"), percent, 1, 99));
    Ok(Hedge { after: raw.after.map(Span::duration), percentile: percentile.transpose()? })
}

fn statuses(path: &Path<'_>, raw: &[raw::Status], on: RetryOn, codec: &dyn Codec) -> Result<Vec<u32>> {
    match (on.status, raw.is_empty()) {
        (true, true) => return fail(path, "\"on\" lists \"status\", but no status is listed; list one"),
        (false, false) => return fail(path, "only used with \"status\" in \"on\"; add it there"),
        _ => {}
    }
    let protocol = codec.name();
    let code = |(number, raw): (usize, &raw::Status)| match raw {
        raw::Status::Name(name) => match codec.status_code(name) {
            Some(code) => Ok(code),
            None => fail(
                &path.index(number),
                format!("{protocol} has no status {name:?}; write the name or number of one that it has"),
            ),
        },
        raw::Status::Number(code) => match codec.status_name(*code) {
            Some(_) => Ok(*code),
            None => fail(
                &path.index(number),
                format!("{protocol} has no status {code}; write the name or number of one that it has"),
            ),
        },
    };
    raw.iter().enumerate().map(code).collect()
}

fn backoff(path: &Path<'_>, raw: &raw::Backoff) -> Result<Backoff> {
    let base = raw.base.duration();
    let max = raw.max.map_or(base.saturating_mul(10), Span::duration);
    if max < base {
        return fail(&path.key("max"), format!("shorter than \"base\", {}; make it longer", raw.base));
    }
    Ok(Backoff { base, max })
}
