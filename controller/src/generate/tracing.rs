//! Which calls are traced, and who gets their spans: what Telemetries and the mesh configuration say.

use std::collections::BTreeMap;

use meltemi_proxy::plan::{SpanFormat, TRACE_FIELDS, raw, tells_trace};
use serde_json::Value;

use super::collector::{Collector, Collectors, DEFAULT_SAMPLING, Place};
use super::headers::Headers;
use super::reader::Reader;
use super::report::Reports;
use super::routes::Share;
use super::sockets::Proxies;
use super::tags::{Tag, tags};
use super::telemetries::{Side, Telemetries, Whose};
use super::visibility::Visibility;
use crate::findings::ResourceRef;
use crate::istio::{ModeSelector, Telemetry};

/// How calls are traced.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Traced {
    /// The share of them that is sampled, in percent: the bits of a number.
    sampling: u64,
    /// Who gets spans.
    receiver: Receiver,
    /// What spans say beside what all do.
    tags: Vec<Tag>,
}

/// A collector, as proxies reach it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Receiver {
    /// Its cluster.
    cluster: String,
    /// What it takes spans as.
    format: SpanFormat,
    /// Where it takes spans by HTTP.
    path: Option<String>,
    /// What it is told with them.
    headers: Headers,
}

/// That calls of some proxies are traced, as far as their protocols allow it.
#[derive(Debug)]
pub(super) struct Tracing {
    how: Traced,
    by: Place,
}

/// Which calls of which proxies are traced.
#[derive(Debug)]
pub(super) struct Traces<'a> {
    pub(super) telemetries: &'a Telemetries<'a>,
    pub(super) collectors: Collectors<'a>,
    pub(super) visibility: &'a Visibility<'a>,
}

/// What Telemetries say together, each with the place of what counts.
#[derive(Debug, Default)]
struct Said {
    provider: Option<(Place, String)>,
    sampling: Option<f64>,
    is_off: bool,
    tags: Option<(Place, BTreeMap<String, Value>)>,
    is_silent: Option<Place>,
    asks_ids: Option<Place>,
}

impl Traced {
    /// Puts it into an entry of a plan.
    pub(super) fn put(&self, entry: &mut raw::Service) {
        let sampling = f64::from_bits(self.sampling);
        let Receiver { cluster, format, path, headers } = self.receiver.clone();
        entry.tracing = Some(raw::Tracing {
            sampling,
            collector: Some(cluster),
            format,
            path,
            headers: headers.into_iter().collect(),
            tags: self.tags.iter().map(Tag::entry).collect(),
        });
    }

    /// Whether routes leave alone what it writes into calls. Says which do not.
    pub(super) fn fits(&self, shares: &[Share<'_>], about: &str, reports: &mut Reports) -> bool {
        let mut fits = true;
        for share in shares {
            for draft in share.routes {
                let raw::Attachments { set, add_if_absent, append, remove } =
                    &draft.policies.request_attachments;
                let tables = [set, add_if_absent, append].into_iter();
                let mut names = tables
                    .flat_map(|table| table.iter().map(|(name, _)| name))
                    .chain(remove.iter().map(String::as_str));
                if let Some(name) = names.find(|name| TRACE_FIELDS.contains(name)) {
                    let message =
                        format!("calls to {about} are not traced, since the route changes {name:?} itself");
                    reports.warn(share.origin, draft.places.of("requestAttachments"), message);
                    fits = false;
                }
            }
        }
        fits
    }
}

impl Tracing {
    /// How calls are traced that are read so. Says where they are not.
    pub(super) fn of(&self, reader: &Reader, reports: &mut Reports) -> Option<&Traced> {
        let mut codecs = reader.codecs().into_iter().flatten();
        if codecs.any(|codec| tells_trace(&**codec)) {
            return Some(&self.how);
        }
        let (origin, path) = &self.by;
        let message = format!(
            "calls of {} are not traced: they do not say which trace they belong to",
            reader.protocol()
        );
        reports.not_honoured(origin, path, message);
        None
    }
}

impl Traces<'_> {
    /// How the calls of some proxies are traced, if they are.
    pub(super) fn of(&self, whose: Whose<'_>, proxies: Proxies, reports: &mut Reports) -> Option<Tracing> {
        let configured = self.collectors.configured;
        let levels = self.telemetries.levels(whose, ("traces", parts), reports);
        let said = merged(&levels, whose.side);
        if said.is_off {
            return None;
        }
        let named = said.provider.or_else(|| configured.default.clone());
        // As for Istio's own proxies, a Telemetry takes the place of what they start with.
        let named = named.or_else(|| configured.zipkin.clone().filter(|_| levels.is_empty()));
        let Some((by, provider)) = named else {
            if let (true, Some(((origin, path), kind))) = (levels.is_empty(), &configured.of_proxies) {
                let message = format!(
                    "calls of managed protocols are not traced: defaultConfig.tracing.{kind} is not for them; name an \
                     extensionProvider of opentelemetry or zipkin in defaultProviders.tracing"
                );
                reports.not_honoured(origin, path, message);
            }
            return None;
        };
        let mut not_honoured = |(origin, path): &Place, message: &str| {
            reports.not_honoured(origin, path.as_str(), message);
        };
        let receiver = self.receiver(&provider, whose, proxies);
        if let Err(why) = &receiver {
            let message =
                format!("calls of managed protocols are not traced: the provider {provider:?} {why}");
            not_honoured(&by, &message);
        }
        if let Some(place) = &said.is_silent {
            not_honoured(place, "calls of managed protocols are not traced: they would not go on untouched");
            return None;
        }
        let receiver = receiver.ok()?;
        if let Some(place) = &said.asks_ids {
            not_honoured(place, "calls of managed protocols have no x-request-id: each is drawn for itself");
        }
        self.collectors.report(&provider, reports);
        let sampling = said.sampling.or(configured.sampling).unwrap_or(DEFAULT_SAMPLING).clamp(0.0, 100.0);
        let custom = said.tags.filter(|(_, custom)| !custom.is_empty()).or_else(|| configured.tags.clone());
        let tags =
            custom.map_or_else(Vec::new, |(place, custom)| tags(&place, &custom, receiver.format, reports));
        Some(Tracing { how: Traced { sampling: sampling.to_bits(), receiver, tags }, by })
    }

    /// A provider's collector, as some proxies reach it.
    fn receiver(&self, provider: &str, whose: Whose<'_>, proxies: Proxies) -> Result<Receiver, String> {
        let collector = self.collectors.of(provider)?;
        let cluster = self.visibility.cluster(&collector.service, collector.port, (whose, proxies))?;
        let Collector { format, path, headers, .. } = collector;
        Ok(Receiver { cluster, format: *format, path: path.clone(), headers: headers.clone() })
    }
}

/// What some Telemetries say of a side of calls: what comes later over what comes earlier, field by field.
fn merged(levels: &[&Telemetry], side: Side) -> Said {
    let mut said = Said::default();
    for telemetry in levels {
        let rules = telemetry.spec.tracing.iter().enumerate();
        for (at, rule) in rules.filter(|(_, rule)| side.is_meant(rule.of.as_ref())) {
            let place = |field: &str| (ResourceRef::of(*telemetry), format!("spec.tracing[{at}].{field}"));
            if let Some(provider) = rule.providers.first() {
                said.provider = Some((place("providers[0].name"), provider.name.clone()));
            }
            said.is_off = rule.disable_span_reporting.unwrap_or(said.is_off);
            if let Some(tags) = &rule.custom_tags {
                said.tags = Some((place("customTags"), tags.clone()));
            }
            said.sampling = rule.random_sampling_percentage.or(said.sampling);
            let put = |own: &mut Option<Place>, is_on: Option<bool>, field| {
                if let Some(is_on) = is_on {
                    *own = is_on.then(|| place(field));
                }
            };
            put(&mut said.is_silent, rule.disable_context_propagation, "disableContextPropagation");
            put(&mut said.asks_ids, rule.use_request_id_for_trace_sampling, "useRequestIdForTraceSampling");
        }
    }
    said
}

/// The sides that a Telemetry has traces for.
fn parts(telemetry: &Telemetry) -> Vec<Option<&ModeSelector>> {
    telemetry.spec.tracing.iter().map(|rule| rule.of.as_ref()).collect()
}
