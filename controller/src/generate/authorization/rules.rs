//! The rules of one policy, as routes.

use std::sync::Arc;

use meltemi_proxy::plan::raw;

use super::alternatives::{Alternatives, TooMany, alternatives};
use super::policy::{DUBBO, Policy};
use crate::findings::ResourceRef;
use crate::generate::entry::Made;
use crate::generate::origin::Origin;
use crate::generate::reader::Reader;
use crate::generate::report::Reports;
use crate::generate::size::{self, kib};
use crate::generate::trial::{self, Refusal, below};
use crate::place::{Step, steps};

/// The most alternatives of the rules of a namespace. A few lines can mean millions.
pub(super) const MOST: usize = 10_000;

/// What a policy says, in routes.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    policy: Policy<'a>,
    pub(super) origin: ResourceRef,
    pub(super) routes: Vec<RuleRoute>,
    /// Those for sidecars that do not learn who calls.
    pub(super) without_identity: Vec<RuleRoute>,
}

impl<'a> Rules<'a> {
    /// What `policy` says, in alternatives of which it leaves some of those that are `left`. One with an error, or that the
    /// filter would refuse, is closed.
    pub(super) fn new(
        policy: Policy<'a>,
        reader: &Reader,
        tells_identity: bool,
        left: &mut usize,
        reports: &mut Reports,
    ) -> Self {
        let origin = policy.origin();
        let is_in_force = reports.accepts(&origin, policy.check());
        if !tells_identity && (0..policy.count()).any(|rule| policy.asks_who(rule)) {
            let message = "servers learn who calls from Istio 1.29 on: until then rules that ask for it allow nothing, or \
                           deny everything";
            reports.error(&origin, "spec.rules", message);
        }
        let mut rules = Self { policy, origin, routes: Vec::new(), without_identity: Vec::new() };
        match is_in_force.then(|| routes(policy, reader, tells_identity, *left)) {
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
        let does = if self.policy.denies() { "denies everything" } else { "allows nothing" };
        reports.error(&self.origin, why.field, format!("{does}: {}", why.message));
        self.close();
    }

    /// Without its rules a policy allows nothing, or denies everything.
    fn close(&mut self) {
        self.routes =
            self.policy.denies().then(|| RuleRoute::new(self.policy, None, None)).into_iter().collect();
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
    policy: Policy<'_>,
    reader: &Reader,
    tells_identity: bool,
    most: usize,
) -> Result<(Vec<RuleRoute>, Vec<RuleRoute>), Refusal> {
    let all = [tells_identity, false].map(|tells_identity| {
        let routes = routes_of(policy, reader, tells_identity, most).map_err(|TooMany| Refusal {
            field: "spec.rules".to_owned(),
            message: format!(
                "the sources and operations of a namespace's rules make more than {MOST} combinations; name fewer \
                 in one rule"
            ),
        })?;
        let mut service = raw::Service::new(DUBBO);
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
    policy: Policy<'_>,
    reader: &Reader,
    tells_identity: bool,
    most: usize,
) -> Result<Vec<RuleRoute>, TooMany> {
    let mut routes = Vec::new();
    let mut left = most;
    for at in 0..policy.count() {
        let alternatives = match tells_identity || !policy.asks_who(at) {
            true => alternatives(policy.parts(at, reader), left)?,
            false if policy.denies() => None,
            false => continue,
        };
        let route = RuleRoute::new(policy, Some(at), alternatives);
        left = left.checked_sub(route.count()).ok_or(TooMany)?;
        routes.push(route);
    }
    Ok(routes)
}

/// The route of a rule.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RuleRoute {
    name: String,
    /// The number of the rule; none stands for all of them.
    rule: Option<usize>,
    alternatives: Option<Alternatives>,
    denies: bool,
    message: String,
}

impl RuleRoute {
    fn new(policy: Policy<'_>, rule: Option<usize>, alternatives: Option<Alternatives>) -> Self {
        let of_rule = rule.map_or_else(|| "rules".to_owned(), |rule| rule.to_string());
        Self {
            name: format!("{}/{of_rule}", policy.title()),
            rule,
            alternatives,
            denies: policy.denies(),
            message: policy.message().to_owned(),
        }
    }

    /// The plan's route.
    fn plan(&self) -> raw::Route {
        raw::Route {
            name: self.name.clone(),
            matches: self.alternatives.as_ref().map(|all| all.matches.clone()),
            actions: raw::Actions {
                reject: self.denies.then(|| raw::Reject { message: Some(self.message.clone()) }),
                ..raw::Actions::default()
            },
        }
    }

    /// The plan's rule of a dry run.
    fn trial(&self) -> raw::DryRunRule {
        let matches = self.alternatives.as_ref().map(|all| all.matches.clone());
        raw::DryRunRule { name: self.name.clone(), matches, deny: self.denies }
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
    fn place(&self, policy: Policy<'_>, plan: &str) -> String {
        let mut field = self.field();
        let (Some(rule), Some(alternatives)) = (self.rule, &self.alternatives) else { return field };
        let steps = steps(plan);
        let [Step::Key(_), Step::Index(alternative), Step::Key(list), Step::Key(attribute), ..] = &*steps
        else {
            return field;
        };
        let parts = alternatives.parts(*alternative);
        if let Some(part) = policy.field(rule, parts, attribute, list == "notAttributes") {
            field.push('.');
            field.push_str(&part);
        }
        field
    }
}

/// The plan's entry with some of the routes of each policy. Those that are tried out deny nothing.
pub(super) fn made<'r>(all: &'r [Rules<'_>], routes: impl Fn(&'r Rules<'_>) -> &'r [RuleRoute]) -> Made {
    let mut origins = Vec::new();
    let mut service = raw::Service::new(DUBBO);
    let mut trial = raw::DryRun::default();
    for rules in all {
        let policy = rules.policy;
        if policy.is_dry_run() {
            trial.deny_others |= !policy.denies();
            trial.rules.extend(routes(rules).iter().map(RuleRoute::trial));
            continue;
        }
        if !policy.denies() {
            let message = Some(policy.message().to_owned());
            service.default_route.reject.get_or_insert(raw::Reject { message });
        }
        let resource = Arc::new(rules.origin.clone());
        for route in routes(rules) {
            service.routes.push(route.plan());
            let (route, path) = (route.name.clone(), route.field());
            origins.push(Origin { route, resource: resource.clone(), path });
        }
    }
    let denies = trial.deny_others || trial.rules.iter().any(|rule| rule.deny);
    service.dry_run = denies.then_some(trial);
    Made::new(service, origins)
}

/// The plan's entry of the policies of a namespace, of which those that it has no room for are closed.
pub(super) fn entry(all: &mut [Rules<'_>], reports: &mut Reports) -> Made {
    let put = |all: &[Rules<'_>]| made(all, |rules| &rules.routes);
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
