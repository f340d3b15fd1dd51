//! Routes tried by the filter's own code: a plan with one that it does not take would be refused whole, by every proxy that
//! sees it.

use std::collections::HashSet;

use meltemi_codecs::{Codec, Codecs, Dubbo};
use meltemi_proxy::plan::{Plan, PlanError, raw};

use super::draft::Draft;
use super::protocol::{ManagedPort, Protocol};

/// Why the filter would refuse a route.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The field of the resource.
    pub(super) field: String,
    /// The filter's words.
    pub(super) message: String,
}

/// The service of the plans that are tried.
const SERVICE: &str = "s";

/// The name of a protocol that stands in for one that the command does not know: what matches does not depend on it.
pub(super) fn stand_in() -> &'static str {
    Dubbo.name()
}

/// What the tables of the regular expressions in some routes for calls that come by `port` take, in bytes.
///
/// # Errors
///
/// The filter would refuse the routes: why it would refuse the first of them that it would.
pub(super) fn tables(drafts: &[&Draft], port: &ManagedPort) -> Result<usize, Refusal> {
    let Protocol::Codec(reader) = &port.protocol else { return Ok(0) };
    let is_known = reader.codecs().is_some();
    let route = |(at, draft): (usize, &&Draft)| {
        let mut route = draft.route(at.to_string(), port.number);
        if let (false, Some(retry)) = (is_known, &mut route.actions.retry) {
            // Statuses are called by the names of the protocol, which only its codec knows.
            retry.statuses.clear();
            retry.on = raw::Retry::default().on;
        }
        route
    };
    let (mut service, codecs) = match reader.codecs() {
        Some(codecs) => (reader.entry(), Codecs::new(codecs.iter().cloned())),
        None => (raw::Service::new(stand_in()), Codecs::all()),
    };
    service.routes = drafts.iter().enumerate().map(route).collect();
    compiled_with(&codecs, service).map_err(|error| {
        let place = drafts
            .iter()
            .enumerate()
            .find_map(|(at, draft)| Some(draft.places.of(below(&error, &format!("routes[{at}]"))?)));
        Refusal { field: place.unwrap_or_default(), message: error.message }
    })
}

/// The matchers of one resource as they are tried, each regular expression once.
#[derive(Debug, Default)]
pub(super) struct Matchers {
    known: HashSet<String>,
    /// What the tables of the regular expressions so far take, in bytes.
    pub(super) tables: usize,
}

impl Matchers {
    /// Why the filter would refuse a matcher of an attribute.
    pub(super) fn refusal(&mut self, attribute: &str, matcher: &raw::Matcher) -> Option<String> {
        let regex = matcher.regex.as_deref().unwrap_or_default();
        if self.known.contains(regex) && !attribute.is_empty() {
            return None;
        }
        let mut service = raw::Service::new(stand_in());
        let attributes = [(attribute.to_owned(), matcher.clone())].into_iter().collect();
        let matches = Some(vec![raw::Match { attributes, ..raw::Match::default() }]);
        service.routes.push(raw::Route { name: "r".to_owned(), matches, ..raw::Route::default() });
        match compiled(service) {
            Ok(bytes) => {
                self.tables += bytes;
                self.known.extend(matcher.regex.clone());
                None
            }
            Err(error) => Some(error.message),
        }
    }
}

/// Why the filter would refuse to hash calls by an attribute.
pub(super) fn refused_key(attribute: &str) -> Option<String> {
    let mut service = raw::Service::new(stand_in());
    service.upstream.hash_by = Some(vec![attribute.to_owned()]);
    compiled(service).err().map(|error| error.message)
}

/// Where an error is, below a field of the service that was tried.
pub(super) fn below<'e>(error: &'e PlanError, field: &str) -> Option<&'e str> {
    let below = error.path.strip_prefix(&*format!("services[{SERVICE:?}].{field}"))?;
    Some(below.strip_prefix('.').unwrap_or(below))
}

/// What the tables of the regular expressions of a service take, in bytes.
///
/// # Errors
///
/// The filter would refuse it.
pub(super) fn compiled(service: raw::Service) -> Result<usize, PlanError> {
    compiled_with(&Codecs::all(), service)
}

fn compiled_with(codecs: &Codecs, service: raw::Service) -> Result<usize, PlanError> {
    let services = [(SERVICE.to_owned(), service)].into_iter().collect();
    let plan = Plan::compile(&raw::Plan { services, ..raw::Plan::default() }, codecs)?;
    Ok(plan.services().map(|service| service.pattern_bytes).sum())
}
