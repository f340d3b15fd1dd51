//! Routes tried by the filter's own code: a plan with one that it does not take would be refused whole, by every proxy that
//! sees it.

use std::collections::HashSet;

use meltemi_codecs::Codecs;
use meltemi_proxy::plan::{Plan, PlanError};
use serde_json::{Value, json};

use super::protocol::Protocol;
use super::router::Draft;
use super::service::ManagedPort;
use crate::place::push_key;
use crate::place::{Step, steps};
use crate::protocol;

/// Why the filter would refuse a route.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The number of the route.
    route: usize,
    /// The field in the plan's route.
    field: Vec<Step>,
    /// The filter's words.
    pub(super) message: String,
}

/// Why the filter would refuse the first of some routes for calls that come by `port`, if it would.
pub(super) fn refusal(drafts: &[&Draft], port: &ManagedPort) -> Option<Refusal> {
    tables(drafts, port).err()
}

/// What the tables of the regular expressions in some routes for calls that come by `port` take, in bytes.
///
/// # Errors
///
/// The filter would refuse the routes: why it would refuse the first of them that it would.
pub(super) fn tables(drafts: &[&Draft], port: &ManagedPort) -> Result<usize, Refusal> {
    let Protocol::Codec(codec) = &port.protocol else { return Ok(0) };
    let is_known = Codecs::all().get(codec).is_some();
    let route = |(at, draft): (usize, &&Draft)| {
        let mut route = draft.route(&at.to_string(), port.number);
        if !is_known && let Some(retry) = route.get_mut("retry").and_then(Value::as_object_mut) {
            // Statuses are called by the names of the protocol, which only its codec knows.
            retry.remove("statuses");
            retry.remove("on");
        }
        route
    };
    let routes: Vec<Value> = drafts.iter().enumerate().map(route).collect();
    let codec = if is_known { codec } else { protocol::stand_in() };
    let error = match parse(&json!({"protocol": codec, "routes": routes})) {
        Ok(plan) => return Ok(pattern_bytes(&plan)),
        Err(error) => error,
    };
    let mut field = steps(&error.path).into_iter().skip(3);
    let route = match field.next() {
        Some(Step::Index(route)) => route,
        _ => 0,
    };
    Err(Refusal { route, field: field.collect(), message: error.message })
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
    pub(super) fn refusal(&mut self, attribute: &str, matcher: &Value) -> Option<String> {
        let regex = matcher["regex"].as_str().unwrap_or_default();
        if self.known.contains(regex) && !attribute.is_empty() {
            return None;
        }
        let route = json!({"name": "r", "match": [{"attributes": {attribute: matcher}}]});
        match parse(&json!({"protocol": protocol::stand_in(), "routes": [route]})) {
            Ok(plan) => {
                self.tables += pattern_bytes(&plan);
                self.known.extend(matcher["regex"].as_str().map(str::to_owned));
                None
            }
            Err(error) => Some(error.message),
        }
    }
}

fn pattern_bytes(plan: &Plan) -> usize {
    plan.services().map(|service| service.pattern_bytes).sum()
}

fn parse(service: &Value) -> Result<Plan, PlanError> {
    let plan = json!({"services": {"s": service}});
    Plan::parse(plan.to_string().as_bytes(), &Codecs::all())
}

impl Refusal {
    /// The field of a MetaRouter that the plan's field was made of.
    pub(super) fn in_meta_router(&self) -> String {
        let route = format!("spec.routes[{}]", self.route);
        let fields: Vec<&str> = self.field.iter().filter_map(key).collect();
        match *fields {
            ["match", "attributes", attribute, ref matcher @ ..] => {
                let mut path = format!("{route}.match.attributes");
                [&[attribute], matcher].concat().iter().for_each(|name| push_key(&mut path, name));
                path
            }
            ["match", ..] => format!("{route}.match"),
            ["requestAttachments", "remove"] => format!("{route}.requestRemove"),
            ["requestAttachments", ..] => format!("{route}.requestMutation"),
            ["responseAttachments", "remove"] => format!("{route}.responseRemove"),
            ["responseAttachments", ..] => format!("{route}.responseMutation"),
            ["retry", "on", ..] => format!("{route}.retries.retryOn"),
            _ => route + &in_both(&fields),
        }
    }

    /// The field of a VirtualService's route, below that, where its alternatives are of these matches.
    pub(super) fn in_virtual_service(&self, of_matches: &[usize]) -> String {
        let fields: Vec<&str> = self.field.iter().filter_map(key).collect();
        match (&*fields, self.field.get(1)) {
            (["match", ..], Some(Step::Index(at))) => {
                of_matches.get(*at).map_or_else(String::new, |at| format!(".match[{at}]"))
            }
            (["requestAttachments", ..], _) => ".headers.request".to_owned(),
            (["responseAttachments", ..], _) => ".headers.response".to_owned(),
            (["retry", "on" | "statuses", ..], _) => ".retries.retryOn".to_owned(),
            _ => in_both(&fields),
        }
    }
}

/// The field of a route that a field of the plan's route was made of, where both kinds of resource call it the same.
fn in_both(fields: &[&str]) -> String {
    match fields {
        [] => String::new(),
        ["cluster" | "weightedClusters", ..] => ".route".to_owned(),
        ["retry"] => ".retries".to_owned(),
        ["retry", field, ..] => format!(".retries.{field}"),
        ["fault", ..] => format!(".{}", fields.join(".")),
        [field, ..] => format!(".{field}"),
    }
}

fn key(step: &Step) -> Option<&str> {
    match step {
        Step::Key(key) => Some(key),
        Step::Index(_) => None,
    }
}
