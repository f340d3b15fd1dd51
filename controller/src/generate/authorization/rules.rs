//! The rules of one policy, as routes.

use std::sync::Arc;

use meltemi_proxy::plan::raw;

use super::alternatives::{Alternatives, TooMany, alternatives};
use crate::api::aeraki::{AuthorizationAction, AuthorizationRule, DubboAuthorizationPolicy, Source};
use crate::check;
use crate::findings::ResourceRef;
use crate::generate::entry::Made;
use crate::generate::origin::Origin;
use crate::generate::report::Reports;
use crate::generate::size::{self, kib};
use crate::generate::trial::{self, Refusal, below};
use crate::place::{Step, steps};

/// The codec that policies are for.
pub(in crate::generate) const CODEC: &str = "dubbo";

/// The most alternatives of the rules of a namespace. A few lines can mean millions.
pub(super) const MOST: usize = 10_000;

/// What a policy says, in routes.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    policy: &'a DubboAuthorizationPolicy,
    pub(super) origin: ResourceRef,
    pub(super) routes: Vec<RuleRoute>,
    /// Those for sidecars that do not learn who calls.
    pub(super) without_identity: Vec<RuleRoute>,
}

impl<'a> Rules<'a> {
    /// What `policy` says, in alternatives of which it leaves some of those that are `left`. One with an error, or that the
    /// filter would refuse, is closed.
    pub(super) fn new(
        policy: &'a DubboAuthorizationPolicy,
        tells_identity: bool,
        left: &mut usize,
        reports: &mut Reports,
    ) -> Self {
        let origin = ResourceRef::of(policy);
        let is_in_force = reports.accepts(&origin, check::dubbo_authorization_policy(policy));
        if !tells_identity && policy.spec.rules.iter().any(asks_who) {
            let message = "servers learn who calls from Istio 1.29 on: until then rules that ask for it allow nothing, or \
                           deny everything";
            reports.error(&origin, "spec.rules", message);
        }
        let mut rules = Self { policy, origin, routes: Vec::new(), without_identity: Vec::new() };
        match is_in_force.then(|| routes(policy, tells_identity, *left)) {
            None => rules.close(),
            Some(Err(why)) => rules.refuse(why, reports),
            Some(Ok((routes, without_identity))) => {
                *left = left.saturating_sub(routes.iter().map(RuleRoute::count).sum());
                rules.routes = routes;
                rules.without_identity = without_identity;
            }
        }
        rules
    }

    /// Says why the filter does not get the rules.
    fn refuse(&mut self, why: Refusal, reports: &mut Reports) {
        let does = match self.policy.spec.action {
            AuthorizationAction::Allow => "allows nothing",
            AuthorizationAction::Deny => "denies everything",
        };
        reports.error(&self.origin, why.field, format!("{does}: {}", why.message));
        self.close();
    }

    /// Without its rules a policy allows nothing, or denies everything.
    fn close(&mut self) {
        let denies = self.policy.spec.action == AuthorizationAction::Deny;
        self.routes = denies.then(|| RuleRoute::new(self.policy, None, None)).into_iter().collect();
        self.without_identity.clone_from(&self.routes);
    }
}

/// The routes of a policy with at most `most` alternatives, where servers learn who calls as far as `tells_identity` says, and
/// where they do not.
///
/// # Errors
///
/// There are more, or the filter would refuse them: why.
fn routes(
    policy: &DubboAuthorizationPolicy,
    tells_identity: bool,
    most: usize,
) -> Result<(Vec<RuleRoute>, Vec<RuleRoute>), Refusal> {
    let all = [tells_identity, false].map(|tells_identity| {
        let routes = routes_of(policy, tells_identity, most).map_err(|TooMany| Refusal {
            field: "spec.rules".to_owned(),
            message: format!(
                "the sources and operations of a namespace's rules make more than {MOST} combinations; name fewer \
                 in one rule"
            ),
        })?;
        let mut service = raw::Service::new(CODEC);
        service.routes = routes.iter().map(RuleRoute::plan).collect();
        match trial::compiled(service) {
            Ok(_) => Ok(routes),
            Err(error) => {
                let mut all = routes.iter().enumerate();
                let found = all.find_map(|(at, route)| {
                    Some(route.place(policy, below(&error, &format!("routes[{at}]"))?))
                });
                Err(Refusal { field: found.unwrap_or_else(|| "spec.rules".to_owned()), message: error.message })
            }
        }
    });
    let [with, without] = all;
    Ok((with?, without?))
}

/// A route for each rule, but for those that allow by what servers do not learn: with at most `most` alternatives.
fn routes_of(
    policy: &DubboAuthorizationPolicy,
    tells_identity: bool,
    most: usize,
) -> Result<Vec<RuleRoute>, TooMany> {
    let action = policy.spec.action;
    let mut routes = Vec::new();
    let mut left = most;
    for (at, rule) in policy.spec.rules.iter().enumerate() {
        let alternatives = match tells_identity || !asks_who(rule) {
            true => alternatives(rule, action, left)?,
            false if action == AuthorizationAction::Deny => None,
            false => continue,
        };
        let route = RuleRoute::new(policy, Some(at), alternatives);
        left = left.checked_sub(route.count()).ok_or(TooMany)?;
        routes.push(route);
    }
    Ok(routes)
}

/// Whether a rule depends on the identity of the client.
fn asks_who(rule: &AuthorizationRule) -> bool {
    rule.from.iter().any(|from| from.source != Source::default())
}

/// The route of a rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RuleRoute {
    name: String,
    /// The number of the rule; none stands for all of them.
    rule: Option<usize>,
    alternatives: Option<Alternatives>,
    denies: bool,
}

impl RuleRoute {
    fn new(
        policy: &DubboAuthorizationPolicy,
        rule: Option<usize>,
        alternatives: Option<Alternatives>,
    ) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (namespace, name) = (text(&policy.metadata.namespace), text(&policy.metadata.name));
        let of_rule = rule.map_or_else(|| "rules".to_owned(), |rule| rule.to_string());
        Self {
            name: format!("{namespace}/{name}/{of_rule}"),
            rule,
            alternatives,
            denies: policy.spec.action == AuthorizationAction::Deny,
        }
    }

    /// The plan's route.
    fn plan(&self) -> raw::Route {
        raw::Route {
            name: self.name.clone(),
            matches: self.alternatives.as_ref().map(|all| all.matches.clone()),
            reject: self.denies.then(denied),
            ..raw::Route::default()
        }
    }

    /// How many alternatives it has.
    fn count(&self) -> usize {
        self.alternatives.as_ref().map_or(1, |all| all.matches.len())
    }

    /// The field of the policy that it is of.
    fn field(&self) -> String {
        self.rule.map_or_else(|| "spec.rules".to_owned(), |rule| format!("spec.rules[{rule}]"))
    }

    /// The field of the policy that a value of the plan's route was made of.
    fn place(&self, policy: &DubboAuthorizationPolicy, plan: &str) -> String {
        let mut field = self.field();
        let (Some(rule), Some(alternatives)) = (self.rule, &self.alternatives) else { return field };
        let Some(rule) = policy.spec.rules.get(rule) else { return field };
        let steps = steps(plan);
        let [Step::Key(_), Step::Index(alternative), Step::Key(list), Step::Key(attribute), ..] = &*steps
        else {
            return field;
        };
        let (from, to) = alternatives.parts(*alternative);
        let (source, operation) = (rule.from.get(from), rule.to.get(to));
        let source = source.map(|from| (&from.source.principals, &from.source.namespaces));
        let operation = operation.map(|to| (&to.operation.interfaces, &to.operation.methods));
        let (part, name, not, values) = match (&**attribute, source, operation) {
            ("source.principal", Some((principals, _)), _) => {
                (format!("from[{from}].source"), "principals", "notPrincipals", principals)
            }
            ("source.namespace", Some((_, namespaces)), _) => {
                (format!("from[{from}].source"), "namespaces", "notNamespaces", namespaces)
            }
            ("interface", _, Some((interfaces, _))) => {
                (format!("to[{to}].operation"), "interfaces", "notInterfaces", interfaces)
            }
            (_, _, Some((_, methods))) => (format!("to[{to}].operation"), "methods", "notMethods", methods),
            _ => return field,
        };
        let is_unwanted = list == "notAttributes" || values.is_empty();
        field.push_str(&format!(".{part}.{}", if is_unwanted { not } else { name }));
        field
    }
}

/// The error message for clients, as by Istio.
const DENIED: &str = "RBAC: access denied";

fn denied() -> raw::Reject {
    raw::Reject { message: Some(DENIED.to_owned()) }
}

/// The plan's entry with some of the routes of each policy, of which one allows, or all deny.
pub(super) fn made<'r>(
    all: &'r [Rules<'_>],
    routes: impl Fn(&'r Rules<'_>) -> &'r [RuleRoute],
    allows: bool,
) -> Made {
    let mut origins = Vec::new();
    let mut service = raw::Service::new(CODEC);
    for rules in all {
        let resource = Arc::new(rules.origin.clone());
        for route in routes(rules) {
            service.routes.push(route.plan());
            let (route, path) = (route.name.clone(), route.field());
            origins.push(Origin { route, resource: resource.clone(), path });
        }
    }
    if allows {
        service.default_route.reject = Some(denied());
    }
    Made::new(service, origins)
}

/// The plan's entry of the policies of a namespace, of which one allows, or all deny. Those that it has no room for are closed.
pub(super) fn entry(all: &mut [Rules<'_>], allows: bool, reports: &mut Reports) -> Made {
    let put = |all: &[Rules<'_>]| made(all, |rules| &rules.routes, allows);
    let most = format!("{} that a plan has for all policies of a namespace", kib(size::MOST));
    let mut entry = put(all);
    if entry.part.weight > size::MOST {
        let weight = |rules: &Rules<'_>| put(std::slice::from_ref(rules)).part.weight;
        let weights: Vec<(usize, usize)> = all.iter().map(|rules| (0, weight(rules))).collect();
        let fitting = size::fitting(&weights);
        for (at, (rules, (_, weight))) in all.iter_mut().zip(weights).enumerate() {
            if !fitting.contains(&at) {
                let message = format!("its rules take {} of the {most}", kib(weight));
                rules.refuse(Refusal { field: "spec.rules".to_owned(), message }, reports);
            }
        }
        entry = put(all);
    }
    let longest = all.iter().max_by_key(|rules| rules.routes.len());
    if let Some(rules) = longest.filter(|_| entry.part.weight >= size::MUCH) {
        reports.warn(
            &rules.origin,
            "spec.rules",
            format!("{} are taken of the {most}", kib(entry.part.weight)),
        );
    }
    entry
}
