//! Traces of the calls of a service.

use std::rc::Rc;

use meltemi_codecs::{Codec, Head};

use super::{
    check::{header, name},
    error::{Path, Result, fail},
    matches::attribute_name,
    raw::{self, SpanFormat},
    route::AttachmentEdit,
    share::{Share, share},
    table::Table,
};

/// The trace of a call in the format of the W3C.
pub const TRACEPARENT: &str = "traceparent";

/// The length of what is written of it.
pub const TRACEPARENT_LEN: usize = 55;

/// The same in the format of Zipkin, as one value.
pub const B3: &str = "b3";

/// The length of what is written of one that begins.
pub const B3_LEN: usize = 51;

/// The same as several values, in both ways of writing their names: trace, span, parent, whether it is sampled, and whether it
/// is to be in any case.
pub const B3_FIELDS: [[&str; 5]; 2] = [
    ["X-B3-TraceId", "X-B3-SpanId", "X-B3-ParentSpanId", "X-B3-Sampled", "X-B3-Flags"],
    ["x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"],
];

/// The names of all attachments that say which trace a call belongs to.
pub const TRACE_FIELDS: [&str; 12] = {
    let [[a, b, c, d, e], [f, g, h, i, j]] = B3_FIELDS;
    [TRACEPARENT, B3, a, b, c, d, e, f, g, h, i, j]
};

/// Whether requests of a protocol may say which trace they belong to.
pub fn tells_trace(codec: &dyn Codec) -> bool {
    TRACE_FIELDS.iter().any(|name| codec.may_say(name))
}

/// How calls are traced.
#[derive(Debug)]
pub struct Tracing {
    /// The format of spans, and so of traces that begin.
    pub format: SpanFormat,
    /// The attachment of a trace that begins, as the protocol's [`Codec::entry`] has it.
    pub entry: Vec<u8>,
    /// The calls that are sampled, where no caller has decided that.
    pub sampling: Share,
    /// The collector that spans of sampled calls are sent to.
    pub collector: Option<Rc<Collector>>,
    /// Attributes that spans have beside their own.
    pub tags: Vec<Tag>,
}

/// An attribute that spans have.
#[derive(Debug)]
pub struct Tag {
    /// Its name.
    pub name: String,
    raw: raw::Tag,
}

/// The attributes that all spans have.
const OWN_TAGS: [&str; 15] = [
    "client.address",
    "error.type",
    "meltemi.mirror",
    "meltemi.route",
    "meltemi.try",
    "request_size",
    "response_flags",
    "response_size",
    "rpc.method",
    "rpc.response.status_code",
    "rpc.service",
    "rpc.system",
    "server.address",
    "server.port",
    "upstream_cluster",
];

/// What Zipkin calls the one with the kind of an error.
const ZIPKIN_ERROR: &str = "error";

/// Where Zipkin takes spans.
const ZIPKIN_PATH: &str = "/api/v2/spans";

/// The most attributes that spans have beside their own, and the most bytes of the name of one.
const MOST_TAGS: usize = 32;
const LONGEST_NAME: usize = 128;

/// The most bytes of the value of one.
pub const LONGEST_TAG: usize = 256;

/// The most headers that a collector gets, and the most bytes of them all.
const MOST_HEADERS: usize = 16;
const MOST_HEADER_BYTES: usize = 8 << 10;

impl Tag {
    /// The value of a call whose `head` is read so far; empty if it has none. It is text that a client may have chosen, or that
    /// of the plan.
    pub fn value<'a>(&'a self, head: &'a Head) -> &'a str {
        let value = self.attribute().and_then(|name| head.get(name));
        value.or(self.raw.value.as_deref()).unwrap_or_default()
    }

    /// The attribute of the call whose value it has.
    pub(super) fn attribute(&self) -> Option<&str> {
        self.raw.attribute.as_deref()
    }
}

/// A collector of spans.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collector {
    /// Its cluster.
    pub cluster: Rc<str>,
    /// What it takes them as.
    pub format: SpanFormat,
    /// Where it takes them by HTTP. Otherwise it does by gRPC.
    pub path: Option<Rc<str>>,
    /// What it is told with them, by names in lower case.
    pub headers: Vec<(String, String)>,
}

pub(super) fn tracing(path: &Path<'_>, raw: &raw::Tracing, codec: &dyn Codec) -> Result<Tracing> {
    if let Some(cluster) = &raw.collector {
        name(&path.key("collector"), "the name of a cluster", cluster)?;
    }
    let path_of_format = match raw.format {
        SpanFormat::Otlp => None,
        SpanFormat::Zipkin => Some(ZIPKIN_PATH),
    };
    let at = raw.path.as_deref().or(path_of_format);
    if let Some(text) = at
        && !(text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        return fail(&path.key("path"), format!("{text:?} is no path; write one as in /v1/traces"));
    }
    if let (Some(cluster), Some(_)) = (&raw.collector, at)
        && !cluster.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return fail(&path.key("collector"), format!("{cluster:?} is no name of a host, as HTTP needs it"));
    }
    let headers = headers(&path.key("headers"), &raw.headers)?;
    let sampling = share(&path.key("sampling"), raw.sampling)?;
    let tags = tags(&path.key("tags"), &raw.tags, raw.format)?;
    let collector = raw.collector.as_deref().map(|cluster| {
        Rc::new(Collector { cluster: cluster.into(), format: raw.format, path: at.map(Rc::from), headers })
    });
    let format = if collector.is_some() { raw.format } else { SpanFormat::Otlp };
    let entry = match format {
        SpanFormat::Otlp => codec.entry(TRACEPARENT, TRACEPARENT_LEN),
        SpanFormat::Zipkin => codec.entry(B3, B3_LEN),
    };
    Ok(Tracing { format, entry, sampling, collector, tags })
}

/// Checks what a collector is told.
fn headers(path: &Path<'_>, raw: &Table<String>) -> Result<Vec<(String, String)>> {
    let mut headers: Vec<(String, String)> = Vec::new();
    let mut bytes = 0_usize;
    for (name, value) in raw.iter() {
        let path = path.key(name);
        let name = name.to_ascii_lowercase();
        header(&path, &name, value)?;
        bytes = bytes.saturating_add(name.len()).saturating_add(value.len());
        let is_new = headers.iter().all(|(known, _)| *known != name);
        headers.push((name, value.clone()));
        if !is_new || headers.len() > MOST_HEADERS || bytes > MOST_HEADER_BYTES {
            return fail(
                &path,
                "is there twice, or after 16 others, or over 8 KiB of them all; leave it out",
            );
        }
    }
    Ok(headers)
}

fn tags(path: &Path<'_>, raw: &Table<raw::Tag>, format: SpanFormat) -> Result<Vec<Tag>> {
    let mut tags = Vec::new();
    for (name, raw) in raw.iter() {
        let path = path.key(name);
        tags.push(tag(&path, name, raw, format)?);
        if tags.len() > MOST_TAGS {
            return fail(&path, "is one of more than 32; leave some out");
        }
    }
    Ok(tags)
}

/// Checks an attribute of spans in a format.
#[inline(never)]
pub(super) fn tag(path: &Path<'_>, name: &str, raw: &raw::Tag, format: SpanFormat) -> Result<Tag> {
    let raw::Tag { attribute, value } = raw;
    let is_own = OWN_TAGS.contains(&name) || format == SpanFormat::Zipkin && name == ZIPKIN_ERROR;
    if name.is_empty() || name.len() > LONGEST_NAME || is_own {
        return fail(
            path,
            "has a name of more than 128 bytes, of none, or that all spans have; choose another",
        );
    }
    if value.as_ref().is_some_and(|value| value.len() > LONGEST_TAG) {
        return fail(path, "has a value of more than 256 bytes; make it shorter");
    }
    if let Some(attribute) = attribute {
        attribute_name(&path.key("attribute"), attribute)?;
    } else if value.is_none() {
        return fail(path, "has no value; write \"value\", or \"attribute\" for that of the call");
    }
    Ok(Tag { name: name.to_owned(), raw: raw.clone() })
}

/// Has an edit write the trace of a call as well.
pub(super) fn traced(path: &Path<'_>, mut edit: AttachmentEdit) -> Result<AttachmentEdit> {
    let changes = edit.changes.iter().chain(edit.values.iter().map(|(change, _)| change));
    if let Some(name) = TRACE_FIELDS.iter().find(|name| changes.clone().any(|change| change.name == **name)) {
        return fail(path, format!("{name:?} is what \"tracing\" writes; keep one of the two"));
    }
    edit.writes_trace = true;
    Ok(edit)
}
