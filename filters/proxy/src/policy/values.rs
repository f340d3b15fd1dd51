//! Values that are made for each try of a call: of its attributes, who calls, and where it goes.
//!
//! What a client says goes into them as text of bounded length without control characters. A change that would set
//! nothing removes instead, so that a client never speaks where the proxy has nothing to say.

use meltemi_codecs::{Action, Change, Head, are_same};

use crate::calls::{Call, Record};
use crate::endpoints::EndpointId;
use crate::plan::{AttachmentEdit, Operator, Part};
use crate::pool::Pool;
use crate::pools::Pools;
use crate::source::Source;
use crate::tracing::MOST_FIELDS;

/// The changes of one edit, with their values. Their memory is kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Values {
    changes: Vec<Change>,
}

/// One try of a call.
pub(crate) struct Sent<'a> {
    pub(crate) call: &'a Call,
    /// The request, if it has just been read as far as the service's routes ask for; else the call keeps it.
    pub(crate) fresh: Option<&'a [u8]>,
    pub(crate) endpoint: Option<EndpointId>,
}

/// What values are made of.
pub(crate) struct Origins<'a> {
    pub(crate) record: &'a Record,
    pub(crate) pool: Option<&'a Pool>,
    pub(crate) endpoint: Option<EndpointId>,
}

/// Changes whose memory is kept.
const MOST_KEPT: usize = 64;

impl Values {
    /// All changes of `edit`, for one try or its answer.
    // Cold, so that calls without any do not pay for it.
    #[cold]
    #[inline(never)]
    pub(crate) fn make(
        &mut self,
        edit: &AttachmentEdit,
        sent: &Sent<'_>,
        pools: &Pools,
        head: &mut Head,
    ) -> &[Change] {
        let Sent { call, fresh, endpoint } = *sent;
        let service = &call.record().service;
        if let Some(depth) = edit.depth.filter(|depth| fresh.is_none() || service.depth < *depth) {
            // What cannot be read has no value.
            let _ = service.codec.head(fresh.unwrap_or(call.frame()), depth, head);
        }
        let origins = Origins { record: call.record(), pool: pools.get(call.pool()), endpoint };
        let count = edit.values.len().saturating_add(edit.changes.len()).saturating_add(MOST_FIELDS);
        if self.changes.len() < count || self.changes.len() > MOST_KEPT {
            self.changes.resize_with(count, Change::default);
        }
        let mut used = 0_usize;
        for (change, value) in &edit.values {
            let Some(place) = self.changes.get_mut(used) else { break };
            place.value.clear();
            for part in value {
                origins.write(part, head, &mut place.value);
            }
            place.action = match change.action {
                Action::Set if place.value.is_empty() => Action::Remove,
                // Nothing is added to what there is.
                _ if place.value.is_empty() => continue,
                action => action,
            };
            place.name.clone_from(&change.name);
            used = used.saturating_add(1);
        }
        for change in &edit.changes {
            let Some(place) = self.changes.get_mut(used) else { break };
            place.name.clone_from(&change.name);
            place.value.clone_from(&change.value);
            place.action = change.action;
            used = used.saturating_add(1);
        }
        if let Some(trace) = call.record().trace.as_deref().filter(|_| edit.writes_trace) {
            for format in trace.formats() {
                for (field, name) in format.fields().iter().enumerate() {
                    let Some(place) = self.changes.get_mut(used) else { break };
                    place.value.clear();
                    place.value.push_str(trace.written((format, field), call.record().tries).text());
                    place.action = if place.value.is_empty() { Action::Remove } else { Action::Set };
                    if !are_same(place.name.as_bytes(), name.as_bytes()) {
                        (*name).clone_into(&mut place.name);
                    }
                    used = used.saturating_add(1);
                }
            }
        }
        self.changes.get(..used).unwrap_or_default()
    }
}

impl Origins<'_> {
    fn write(&self, part: &Part, head: &Head, out: &mut String) {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Operator { what, or, most } => {
                let start = out.len();
                self.write_operator(what, head, *most, out);
                if let Some(other) = or.as_ref().filter(|_| out.len() == start) {
                    self.write_operator(other, head, *most, out);
                }
            }
        }
    }

    /// Appends what an operator stands for, at most so many bytes of it.
    pub(crate) fn write_operator(&self, operator: &Operator, head: &Head, most: usize, out: &mut String) {
        let source = self.record.source.as_deref();
        let principal = source.and_then(|source| source.principal.as_deref());
        let end = out.len().saturating_add(most);
        let text = match operator {
            Operator::Attribute(name) => head.get(name),
            Operator::Peer => source.and_then(|source| source.peer.as_deref()),
            Operator::Ip => source.and_then(Source::ip),
            Operator::Uri => {
                if principal.is_some() {
                    write_text("spiffe://", end, out);
                }
                principal
            }
            Operator::Principal => principal,
            Operator::Namespace => source.and_then(Source::namespace),
            Operator::Cluster => self.pool.map(|pool| &**pool.cluster()),
            Operator::Host => {
                self.pool.and_then(|pool| pool.endpoints().address(self.endpoint)).map(|a| &**a)
            }
            Operator::Attempt => return write_text(&self.record.tries.to_string(), end, out),
        };
        write_text(text.unwrap_or_default(), end, out);
    }
}

/// Appends text without its control characters, until `out` is that long.
#[inline(never)]
pub(crate) fn write_text(text: &str, end: usize, out: &mut String) {
    for char in text.chars().filter(|char| !char.is_control()) {
        if out.len().saturating_add(char.len_utf8()) > end {
            return;
        }
        out.push(char);
    }
}
