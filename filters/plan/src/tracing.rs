//! Traces of the calls of a service.

use std::rc::Rc;

use meltemi_codecs::{Action, Change};

use super::{
    check::name,
    error::{Path, Result, fail},
    raw,
    route::AttachmentEdit,
    share::{Share, share},
};

/// The trace of a call in the format of the W3C.
pub const TRACEPARENT: &str = "traceparent";

/// The same in the format of Zipkin, as one value.
pub const B3: &str = "b3";

/// The same as several values, in both ways of writing their names: trace, span, parent, whether it is sampled, and whether it
/// is to be in any case.
pub const B3_FIELDS: [[&str; 5]; 2] = [
    ["X-B3-TraceId", "X-B3-SpanId", "X-B3-ParentSpanId", "X-B3-Sampled", "X-B3-Flags"],
    ["x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"],
];

/// The names of all attachments that say which trace a call belongs to.
pub fn trace_fields() -> impl Iterator<Item = &'static str> {
    [TRACEPARENT, B3].into_iter().chain(B3_FIELDS.into_iter().flatten())
}

/// How calls are traced.
#[derive(Debug)]
pub struct Tracing {
    /// The calls that are sampled, where no caller has decided that.
    pub sampling: Share,
    /// The collector that spans of sampled calls are sent to.
    pub collector: Option<Rc<Collector>>,
}

/// A collector of spans.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collector {
    /// Its cluster.
    pub cluster: Rc<str>,
    /// Where it takes them by HTTP. Otherwise it does by gRPC.
    pub path: Option<Rc<str>>,
}

pub(super) fn tracing(path: &Path<'_>, raw: &raw::Tracing) -> Result<Tracing> {
    if let Some(cluster) = &raw.collector {
        name(&path.key("collector"), "the name of a cluster", cluster)?;
    }
    if let Some(text) = &raw.path
        && !(text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        return fail(&path.key("path"), format!("{text:?} is no path; write one as in /v1/traces"));
    }
    if let (Some(cluster), Some(_)) = (&raw.collector, &raw.path)
        && !cluster.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return fail(&path.key("collector"), format!("{cluster:?} is no name of a host, as HTTP needs it"));
    }
    let sampling = share(&path.key("sampling"), raw.sampling)?;
    let collector = raw.collector.as_deref().map(|cluster| {
        Rc::new(Collector { cluster: cluster.into(), path: raw.path.as_deref().map(Rc::from) })
    });
    Ok(Tracing { sampling, collector })
}

/// Has an edit write the trace of a call as well.
pub(super) fn traced(path: &Path<'_>, mut edit: AttachmentEdit) -> Result<AttachmentEdit> {
    let changes = edit.changes.iter().chain(edit.values.iter().map(|(change, _)| change));
    if let Some(name) = trace_fields().find(|name| changes.clone().any(|change| change.name == *name)) {
        return fail(path, format!("{name:?} is what \"tracing\" writes; keep one of the two"));
    }
    // Of no parts, which adds nothing: the edit is one with values.
    let change = Change { action: Action::AddIfAbsent, ..Change::set(TRACEPARENT, "") };
    edit.values.push((change, Box::default()));
    edit.writes_trace = true;
    Ok(edit)
}
