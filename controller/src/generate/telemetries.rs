//! Istio's Telemetries, and which of them hold for some proxies.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::age::Age;
use super::report::Reports;
use super::service::{Labels, selects};
use crate::findings::ResourceRef;
use crate::istio::{ModeSelector, Telemetry};
use crate::world::World;

/// All Telemetries for proxies that may have the module.
#[derive(Debug)]
pub(super) struct Telemetries<'a> {
    /// By namespace, the oldest first.
    by_namespace: BTreeMap<&'a str, Vec<&'a Telemetry>>,
    pods: &'a [Pod],
    root_namespace: &'a str,
}

/// The proxies of a namespace with some labels, as those of clients or of servers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose<'p> {
    pub(super) namespace: &'p str,
    /// Default: all of them.
    pub(super) labels: Option<&'p Labels>,
    pub(super) side: Side,
}

/// A side of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The calls by proxies.
    Client,
    /// The calls to them.
    Server,
}

impl Side {
    /// What Telemetries call it.
    const fn mode(self) -> &'static str {
        match self {
            Self::Client => "CLIENT",
            Self::Server => "SERVER",
        }
    }

    /// Whether a part of a Telemetry is about it.
    pub(super) fn is_meant(self, of: Option<&ModeSelector>) -> bool {
        let other = match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        };
        of.is_none_or(|of| of.mode != other.mode())
    }

    /// Why not all selectors are honoured.
    const fn why(self) -> &'static str {
        match self {
            Self::Client => {
                "the proxies of the namespace's clients share one plan: leave out the selector, or write mode: SERVER"
            }
            Self::Server => {
                "the proxies of a service's pods share one plan: select them by labels that its own selector has"
            }
        }
    }
}

impl<'a> Telemetries<'a> {
    /// Those of a mesh with this root namespace.
    pub(super) fn new(world: &'a World, root_namespace: &'a str) -> Self {
        let mut by_namespace: BTreeMap<&str, Vec<&Telemetry>> = BTreeMap::new();
        for telemetry in &world.telemetries {
            // Those with targets are for gateways of the Gateway API and waypoints, which have no module.
            if telemetry.spec.target_ref.is_none() && telemetry.spec.target_refs.is_empty() {
                let namespace = telemetry.metadata.namespace.as_deref().unwrap_or_default();
                by_namespace.entry(namespace).or_default().push(telemetry);
            }
        }
        for all in by_namespace.values_mut() {
            all.sort_by_cached_key(|telemetry| Age::of(*telemetry));
        }
        Self { by_namespace, pods: &world.pods, root_namespace }
    }

    /// Those that hold for proxies, what comes later over what comes earlier: that of the root namespace, that of the
    /// namespace, and those that select all of the proxies, as far as they have `parts` about the `matter`. Says which others
    /// select some of them.
    pub(super) fn levels(
        &self,
        whose: Whose<'_>,
        (matter, parts): (&str, impl Fn(&Telemetry) -> Vec<Option<&ModeSelector>>),
        reports: &mut Reports,
    ) -> Vec<&'a Telemetry> {
        let Whose { namespace, labels, side } = whose;
        let of_root = self.of_namespace(self.root_namespace).filter(|_| namespace != self.root_namespace);
        let wide = of_root.into_iter().chain(self.of_namespace(namespace));
        let mut levels: Vec<&Telemetry> = wide.filter(|telemetry| !parts(telemetry).is_empty()).collect();
        for telemetry in self.in_namespace(namespace) {
            let (parts, Some(wanted)) = (parts(telemetry), selector(telemetry)) else { continue };
            let has = |(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value));
            if wanted.iter().all(has) {
                levels.extend((!parts.is_empty()).then_some(telemetry));
            } else if parts.iter().any(|of| side.is_meant(*of)) && self.may_select(namespace, wanted, labels)
            {
                let message =
                    format!("not for {matter} of managed protocols as mode {}: {}", side.mode(), side.why());
                reports.not_honoured(&ResourceRef::of(telemetry), "spec.selector", message);
            }
        }
        levels
    }

    /// The Telemetry for all of a namespace: of several the oldest.
    fn of_namespace(&self, namespace: &str) -> Option<&'a Telemetry> {
        self.in_namespace(namespace).find(|telemetry| selector(telemetry).is_none())
    }

    /// Whether some of the pods with labels have others too, as far as the pods are known.
    fn may_select(&self, namespace: &str, wanted: &Labels, labels: Option<&Labels>) -> bool {
        let is_known = |pod: &&Pod| {
            let of = pod.metadata.labels.as_ref();
            pod.metadata.namespace.as_deref() == Some(namespace)
                && labels.is_none_or(|labels| selects(labels, of))
        };
        let differs =
            |(key, value)| labels.and_then(|labels| labels.get(key)).is_some_and(|own| own != value);
        if wanted.iter().any(differs) {
            return false;
        }
        let mut known = self.pods.iter().filter(is_known).peekable();
        known.peek().is_none() || known.any(|pod| selects(wanted, pod.metadata.labels.as_ref()))
    }

    fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &'a Telemetry> {
        self.by_namespace.get(namespace).into_iter().flatten().copied()
    }
}

/// The labels that a Telemetry selects workloads by.
fn selector(telemetry: &Telemetry) -> Option<&Labels> {
    telemetry
        .spec
        .selector
        .as_ref()
        .map(|selector| &selector.match_labels)
        .filter(|labels| !labels.is_empty())
}
