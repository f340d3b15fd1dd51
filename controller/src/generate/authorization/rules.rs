use meltemi_codecs::Codecs;
use meltemi_proxy::plan::Plan;

use super::super::report::Reports;
use super::super::size::{self, kib};
use super::super::tree::Part;
use super::{RuleRoute, TooMany, alternatives_of, asks_who, plan, route, routes_of};
use crate::api::aeraki::{AuthorizationAction, DubboAuthorizationPolicy};
use crate::check;
use crate::findings::ResourceRef;

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
        match is_in_force.then(|| made(policy, tells_identity, *left)) {
            None => rules.close(),
            Some(Err(why)) => rules.refuse(&why, reports),
            Some(Ok((routes, without_identity))) => {
                *left = left.saturating_sub(routes.iter().map(alternatives_of).sum());
                rules.routes = routes;
                rules.without_identity = without_identity;
            }
        }
        rules
    }

    /// Says why the filter does not get the rules.
    fn refuse(&mut self, why: &str, reports: &mut Reports) {
        let does = match self.policy.spec.action {
            AuthorizationAction::Allow => "allows nothing",
            AuthorizationAction::Deny => "denies everything",
        };
        reports.error(&self.origin, "spec.rules", format!("{does}: {why}"));
        self.close();
    }

    /// Without its rules a policy allows nothing, or denies everything.
    fn close(&mut self) {
        let denies = self.policy.spec.action == AuthorizationAction::Deny;
        self.routes = denies
            .then(|| RuleRoute { field: "spec.rules".to_owned(), plan: route(self.policy, "rules", None) })
            .into_iter()
            .collect();
        self.without_identity.clone_from(&self.routes);
    }
}

/// The routes of a policy with at most `most` alternatives, where servers learn who calls as far as `tells_identity` says, and
/// where they do not.
///
/// # Errors
///
/// There are more, or the filter would refuse them: why.
fn made(
    policy: &DubboAuthorizationPolicy,
    tells_identity: bool,
    most: usize,
) -> Result<(Vec<RuleRoute>, Vec<RuleRoute>), String> {
    let all = [tells_identity, false].map(|tells_identity| {
        let routes = routes_of(policy, tells_identity, most).map_err(|TooMany| {
            format!(
                "the sources and operations of a namespace's rules make more than {MOST} combinations; name fewer \
                 in one rule"
            )
        })?;
        match Plan::parse(plan(&routes).to_string().as_bytes(), &Codecs::all()) {
            Ok(_) => Ok(routes),
            Err(error) => {
                let path = error.path.strip_prefix("services[\"s\"].").unwrap_or(&error.path);
                Err(format!("{}, as {path} of a plan", error.message))
            }
        }
    });
    let [with, without] = all;
    Ok((with?, without?))
}

/// The plan's entry of the policies of a namespace, of which one allows, or all deny. Those that it has no room for are closed.
pub(super) fn entry(all: &mut [Rules<'_>], allows: bool, reports: &mut Reports) -> Part {
    let put = |all: &[Rules<'_>]| super::entry(all, |rules| &rules.routes, allows);
    let most = format!("{} that a plan has for all policies of a namespace", kib(size::MOST));
    let mut entry = put(all);
    if entry.weight > size::MOST {
        let weight = |rules: &Rules<'_>| put(std::slice::from_ref(rules)).weight;
        let weights: Vec<(usize, usize)> = all.iter().map(|rules| (0, weight(rules))).collect();
        let fitting = size::fitting(&weights);
        for (at, (rules, (_, weight))) in all.iter_mut().zip(weights).enumerate() {
            if !fitting.contains(&at) {
                rules.refuse(&format!("its rules take {} of the {most}", kib(weight)), reports);
            }
        }
        entry = put(all);
    }
    let longest = all.iter().max_by_key(|rules| rules.routes.len());
    if let Some(rules) = longest.filter(|_| entry.weight >= size::MUCH) {
        reports.warn(&rules.origin, "spec.rules", format!("{} are taken of the {most}", kib(entry.weight)));
    }
    entry
}
