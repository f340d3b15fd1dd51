//! What the owner of a service says by annotations: how large its messages may be, and how calls share connections.

use kube::{Resource, ResourceExt};
use meltemi_proxy::plan::raw::{self, Limits, UpstreamSharing};
use serde_json::Value;

use super::protocol::{ManagedPort, Protocol};
use super::report::Reports;
use crate::findings::ResourceRef;
use crate::place::push_key;

/// The annotation of a Service or ServiceEntry that says how many bytes a request or response of it may have.
const FRAME: &str = "meltemi.io/max-frame-bytes";

/// The one that says it of requests, which are no larger than other messages.
const REQUEST: &str = "meltemi.io/max-request-bytes";

/// The one that says how its calls share connections to its servers.
const SHARING: &str = "meltemi.io/sharing";

/// Why policies that have to do with the connections of all clients are not in force.
pub(super) const PINNED: &str = "clients have connections for themselves. Take the annotation meltemi.io/sharing off the service, or this out";

/// How many bytes messages may have and how calls share connections, where that is not the default of plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wishes {
    frame: u32,
    request: u32,
    sharing: Option<UpstreamSharing>,
}

impl Default for Wishes {
    fn default() -> Self {
        let Limits { max_frame_bytes: frame, max_request_bytes: request, .. } = Limits::default();
        Self { frame, request, sharing: None }
    }
}

impl Wishes {
    /// What the annotations of a service say.
    pub(super) fn new<T: Resource>(
        object: &T,
        origin: &ResourceRef,
        ports: &[ManagedPort],
        reports: &mut Reports,
    ) -> Self {
        let sharing = sharing(object, origin, ports, reports);
        let mut bytes = |annotation: &str| {
            let text = object.annotations().get(annotation)?;
            let bytes = text.trim().parse().ok().filter(|bytes| Limits::BYTES.contains(bytes));
            if bytes.is_none() {
                let (least, most) = Limits::BYTES.into_inner();
                let message = format!(
                    "{text:?} is not a number of bytes of {least} to {most}: write one, such as 16777216"
                );
                reports.not_honoured(origin, path(annotation), message);
            }
            bytes
        };
        let default = Self::default();
        let frame = bytes(FRAME).unwrap_or(default.frame);
        let request = bytes(REQUEST).unwrap_or(default.request.min(frame));
        if request > frame {
            let message = format!(
                "{request} is more than {FRAME} allows of any message, which is {frame}: write that annotation too, if all clients \
                 take responses of that size"
            );
            reports.not_honoured(origin, path(REQUEST), message);
            return Self { frame, request: default.request.min(frame), sharing };
        }
        Self { frame, request, sharing }
    }

    /// Whether each client has connections for itself.
    pub(super) fn pins(self) -> bool {
        self.sharing == Some(UpstreamSharing::Pinned)
    }

    /// What all of several services take.
    pub(super) fn least(all: impl Iterator<Item = Self>) -> Self {
        let least = |one: Self, other: Self| Self {
            frame: one.frame.min(other.frame),
            request: one.request.min(other.request),
            sharing: one.sharing.max(other.sharing),
        };
        all.reduce(least).unwrap_or_default()
    }

    /// Puts it into an entry of a plan.
    pub(super) fn put(self, entry: &mut raw::Service) {
        let default = Self::default();
        entry.upstream.sharing = self.sharing;
        entry.limits.max_frame_bytes = self.frame;
        // The filter takes the smaller of both for requests.
        if self.request != default.request.min(self.frame) {
            entry.limits.max_request_bytes = self.request;
        }
    }

    /// Says of a service that another's annotations hold for its pods, where they say something else.
    pub(super) fn report_other(
        self,
        of_other: Self,
        other: &ResourceRef,
        on: &ResourceRef,
        reports: &mut Reports,
    ) {
        let differing = [
            (FRAME, self.frame != of_other.frame),
            (REQUEST, self.request != of_other.request),
            (SHARING, self.sharing != of_other.sharing),
        ];
        for (annotation, _) in differing.into_iter().filter(|(_, differs)| *differs) {
            let message = format!(
                "the pods are also those of {other}, whose annotation counts for their sidecars: write the same in both"
            );
            reports.not_honoured(on, path(annotation), message);
        }
    }
}

/// How calls share connections, where the annotation is one that the protocols of all ports allow.
fn sharing<T: Resource>(
    object: &T,
    origin: &ResourceRef,
    ports: &[ManagedPort],
    reports: &mut Reports,
) -> Option<UpstreamSharing> {
    let text = object.annotations().get(SHARING)?;
    let Ok(sharing) = serde_json::from_value(Value::from(text.trim())) else {
        let message = format!(
            "{text:?} is no way of sharing connections: write shared, in-order, exclusive, or pinned"
        );
        reports.not_honoured(origin, path(SHARING), message);
        return None;
    };
    let has_ids = |port: &ManagedPort| match &port.protocol {
        Protocol::Codec(reader) => reader.codecs().into_iter().flatten().all(|codec| codec.max_id() > 0),
        _ => true,
    };
    if let Some(port) = ports.iter().find(|port| sharing == UpstreamSharing::Shared && !has_ids(port)) {
        let message = format!(
            "the protocol of port {} has no request ids: write in-order, exclusive, or pinned",
            port.number
        );
        reports.not_honoured(origin, path(SHARING), message);
        return None;
    }
    Some(sharing)
}

fn path(annotation: &str) -> String {
    let mut path = "metadata.annotations".to_owned();
    push_key(&mut path, annotation);
    path
}
