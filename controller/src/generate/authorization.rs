//! Who may call what on the Dubbo services of a namespace: DubboAuthorizationPolicies as routes of the servers' sidecars.
//!
//! As with Istio's AuthorizationPolicy, what one policy denies is denied, and where policies allow, nothing else is allowed.

mod rules;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::entry::Origin;
use super::report::Reports;
use super::size;
use super::tree::Part;
use crate::api::aeraki::{
    AuthorizationAction, AuthorizationRule, DubboAuthorizationPolicy, Operation, Source,
};
use crate::findings::ResourceRef;
use crate::world::World;
use rules::Rules;

/// The policies of each namespace.
#[derive(Debug)]
pub(super) struct Authorization<'a>(BTreeMap<&'a str, Policies>);

/// The policies of a namespace, as the sidecars of its Dubbo servers have them.
#[derive(Debug)]
pub(super) struct Policies {
    origins: Vec<ResourceRef>,
    /// The plan's entry of each Dubbo service.
    pub(super) entry: Part,
    /// The one for sidecars that do not learn who calls although others do, if a rule asks for it.
    pub(super) entry_without_identity: Option<Part>,
}

/// The codec that the policies are for.
pub(super) const CODEC: &str = "dubbo";

impl<'a> Authorization<'a> {
    /// Reads the policies. One with an error, or that the filter would refuse, allows nothing, or denies everything; so does
    /// a rule that asks who calls, where servers do not learn that.
    pub(super) fn new(world: &'a World, tells_identity: bool, reports: &mut Reports) -> Self {
        let mut by_namespace: BTreeMap<&str, Vec<&DubboAuthorizationPolicy>> = BTreeMap::new();
        for policy in &world.dubbo_authorization_policies {
            let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
            by_namespace.entry(namespace).or_default().push(policy);
        }
        let policies = |(namespace, mut all): (&'a str, Vec<&DubboAuthorizationPolicy>)| {
            all.sort_by_key(|policy| {
                (policy.spec.action == AuthorizationAction::Allow, &policy.metadata.name)
            });
            (namespace, Policies::new(&all, tells_identity, reports))
        };
        Self(by_namespace.into_iter().map(policies).collect())
    }

    /// The policies of a namespace, if it has any.
    pub(super) fn of(&self, namespace: &str) -> Option<&Policies> {
        self.0.get(namespace)
    }

    /// The namespaces that have policies.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &'a str> {
        self.0.keys().copied()
    }

    /// Says which policies are of namespaces without sidecars.
    pub(super) fn report_bare(&self, with_sidecars: &BTreeSet<&str>, root: &str, reports: &mut Reports) {
        for (namespace, policies) in
            self.0.iter().filter(|(namespace, _)| !with_sidecars.contains(*namespace))
        {
            let message = match *namespace == root {
                true => {
                    "the sidecars of the root namespace, which would enforce it, are not managed: give the services a \
                         namespace of their own"
                }
                false => "the namespace has no sidecars, which would enforce it",
            };
            policies.report(message, reports);
        }
    }
}

impl Policies {
    /// `policies` are those that deny, then those that allow.
    fn new(policies: &[&DubboAuthorizationPolicy], tells_identity: bool, reports: &mut Reports) -> Self {
        let mut left = rules::MOST;
        let rules = policies.iter().map(|policy| Rules::new(policy, tells_identity, &mut left, reports));
        let mut all: Vec<Rules<'_>> = rules.collect();
        let allows = policies.iter().any(|policy| policy.spec.action == AuthorizationAction::Allow);
        let of_all = rules::entry(&mut all, allows, reports);
        let differs = all.iter().any(|rules| rules.routes != rules.without_identity);
        let without_identity = || entry(&all, |rules| &rules.without_identity, allows);
        Self {
            entry: of_all,
            entry_without_identity: differs.then(without_identity),
            origins: all.iter().map(|rules| rules.origin.clone()).collect(),
        }
    }

    /// Says of each of them that calls get past it.
    pub(super) fn report(&self, message: &str, reports: &mut Reports) {
        for origin in &self.origins {
            reports.not_honoured(origin, "spec", message);
        }
    }
}

/// The error message for clients, as by Istio.
const DENIED: &str = "RBAC: access denied";

/// The plan's entry with these routes, of policies of which one allows, or all deny.
fn entry<'r>(all: &'r [Rules<'_>], routes: impl Fn(&'r Rules<'_>) -> &'r [RuleRoute], allows: bool) -> Part {
    let mut origins = Vec::new();
    for rules in all {
        let resource = Arc::new(rules.origin.clone());
        let origin = |route: &RuleRoute| Origin {
            route: route.plan["name"].as_str().unwrap_or_default().to_owned(),
            resource: resource.clone(),
            path: route.field.clone(),
        };
        origins.extend(routes(rules).iter().map(origin));
    }
    let routes: Vec<&Value> = all.iter().flat_map(routes).map(|route| &route.plan).collect();
    let mut entry = json!({"protocol": CODEC});
    if !routes.is_empty() {
        entry["routes"] = json!(routes);
    }
    if allows {
        entry["defaultRoute"] = json!({"reject": {"message": DENIED}});
    }
    size::entry(entry).of_origins(origins)
}

fn plan(routes: &[RuleRoute]) -> Value {
    let routes: Vec<&Value> = routes.iter().map(|route| &route.plan).collect();
    json!({"services": {"s": {"protocol": CODEC, "routes": routes}}})
}

/// There are more alternatives than may be.
struct TooMany;

/// The route of a rule.
#[derive(Debug, Clone, PartialEq)]
struct RuleRoute {
    /// The field of the policy.
    field: String,
    plan: Value,
}

/// How many alternatives a route has.
fn alternatives_of(route: &RuleRoute) -> usize {
    route.plan["match"].as_array().map_or(1, Vec::len)
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
        let route = RuleRoute {
            field: format!("spec.rules[{at}]"),
            plan: route(policy, &at.to_string(), alternatives),
        };
        left = left.checked_sub(alternatives_of(&route)).ok_or(TooMany)?;
        routes.push(route);
    }
    Ok(routes)
}

/// Whether a rule depends on the identity of the client.
fn asks_who(rule: &AuthorizationRule) -> bool {
    rule.from.iter().any(|from| from.source != Source::default())
}

fn route(policy: &DubboAuthorizationPolicy, name: &str, alternatives: Option<Vec<Value>>) -> Value {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (namespace, policy_name) = (text(&policy.metadata.namespace), text(&policy.metadata.name));
    let mut route = json!({"name": format!("{namespace}/{policy_name}/{name}")});
    if let Some(alternatives) = alternatives {
        route["match"] = alternatives.into();
    }
    if policy.spec.action == AuthorizationAction::Deny {
        route["reject"] = json!({"message": DENIED});
    }
    route
}

/// What a part of a rule asks of one attribute.
#[derive(Debug, Clone)]
enum Condition<'a> {
    /// It is one of the values, if there are any, and none of the unwanted ones.
    Is { attribute: &'static str, values: Vec<&'a str>, unwanted: Vec<&'a str> },
    /// The call does not have it.
    Untold(&'static str),
}

/// Conditions that must hold together.
type Conditions<'a> = Vec<Condition<'a>>;

/// The plan's alternatives of a rule, at most `most`: each source with each operation. `None` takes every call.
fn alternatives(
    rule: &AuthorizationRule,
    action: AuthorizationAction,
    most: usize,
) -> Result<Option<Vec<Value>>, TooMany> {
    let sources: Vec<Conditions<'_>> = rule.from.iter().map(|from| of_source(&from.source)).collect();
    let operations = rule.to.iter().flat_map(|to| of_operation(&to.operation, action));
    let operations: Vec<Conditions<'_>> = operations.collect();
    // No sources or operations mean any of them, as an empty source or operation does.
    let any = || vec![Vec::new()];
    let sources = if rule.from.is_empty() { any() } else { sources };
    let operations = if rule.to.is_empty() { any() } else { operations };
    let mut alternatives = Vec::new();
    for source in &sources {
        for operation in &operations {
            if source.is_empty() && operation.is_empty() {
                return Ok(None);
            }
            of_conditions(source.iter().chain(operation), &mut alternatives);
            if alternatives.len() > most {
                return Err(TooMany);
            }
        }
    }
    Ok(Some(alternatives))
}

fn of_source(source: &Source) -> Conditions<'_> {
    let principals = is("source.principal", &source.principals, &source.not_principals);
    let namespaces = is("source.namespace", &source.namespaces, &source.not_namespaces);
    principals.into_iter().chain(namespaces).collect()
}

fn is<'a>(attribute: &'static str, values: &'a [String], unwanted: &'a [String]) -> Option<Condition<'a>> {
    let texts = |list: &'a [String]| list.iter().map(String::as_str).collect();
    let asks = !values.is_empty() || !unwanted.is_empty();
    asks.then(|| Condition::Is { attribute, values: texts(values), unwanted: texts(unwanted) })
}

/// The methods of generic calls: the one that is meant is their first argument.
const GENERIC: [&str; 2] = ["$invoke", "$invokeAsync"];

/// The ways to be an operation. A call that does not say what it calls, since its serialization cannot be read, is none
/// that is allowed and any that is denied.
fn of_operation(operation: &Operation, action: AuthorizationAction) -> Vec<Conditions<'_>> {
    let interfaces = is("interface", &operation.interfaces, &operation.not_interfaces);
    let methods = is("method", &operation.methods, &operation.not_methods);
    let denies = action == AuthorizationAction::Deny;
    let of_interface = match interfaces {
        None => vec![None],
        Some(told) => [Some(told), denies.then_some(Condition::Untold("interface"))]
            .into_iter()
            .filter(Option::is_some)
            .collect(),
    };
    let of_method = match methods {
        Some(Condition::Is { values, unwanted, .. }) => of_method(&values, &unwanted, denies),
        _ => vec![Vec::new()],
    };
    let mut ways = Vec::new();
    for interface in &of_interface {
        ways.extend(of_method.iter().map(|method| interface.iter().chain(method).cloned().collect()));
    }
    ways
}

/// The ways to be a method: by its own name, or by the one that a generic call names. Policies may also name `$invoke`.
fn of_method<'a>(values: &[&'a str], unwanted: &[&'a str], denies: bool) -> Vec<Conditions<'a>> {
    let has = |list: &[&str], method: &str| list.iter().any(|value| Pattern::new(value).matches(method));
    let is = |attribute: &'static str, values: &[&'a str], unwanted: &[&'a str]| Condition::Is {
        attribute,
        values: values.to_vec(),
        unwanted: unwanted.to_vec(),
    };
    let takes_generic = GENERIC.iter().any(|generic| values.is_empty() || has(values, generic));
    let by_name = if takes_generic { [unwanted, &GENERIC].concat() } else { unwanted.to_vec() };
    let mut ways = vec![vec![is("method", values, &by_name)]];
    for generic in GENERIC.iter().filter(|generic| !has(unwanted, generic)) {
        let call = is("method", &[generic], &[]);
        let values = if has(values, generic) { &[][..] } else { values };
        if values.is_empty() && unwanted.is_empty() {
            ways.push(vec![call]);
            continue;
        }
        ways.push(vec![call.clone(), is("genericMethod", values, unwanted)]);
        if denies {
            ways.push(vec![call, Condition::Untold("genericMethod")]);
        }
    }
    if denies {
        ways.push(vec![Condition::Untold("method")]);
    }
    ways
}

/// So many alternatives are written out, so that the filter can look up their values; beyond, values share a regex.
const MOST: usize = 1024;

/// Adds the alternatives that together mean all of the conditions.
fn of_conditions<'c, 'a: 'c>(
    conditions: impl Iterator<Item = &'c Condition<'a>>,
    alternatives: &mut Vec<Value>,
) {
    let (mut attributes, mut not_attributes) = (Map::new(), Map::new());
    let mut lists = Vec::new();
    for condition in conditions {
        let (attribute, values, unwanted) = match condition {
            Condition::Is { attribute, values, unwanted } => (*attribute, values, unwanted),
            Condition::Untold(attribute) => {
                attributes.insert((*attribute).to_owned(), json!({"present": false}));
                continue;
            }
        };
        if values.is_empty() && attribute.starts_with("source.") {
            // Who has no name has none that is unwanted.
            let mut matcher = any_of(unwanted);
            matcher["invert"] = true.into();
            attributes.insert(attribute.to_owned(), matcher);
            continue;
        }
        if !unwanted.is_empty() {
            not_attributes.insert(attribute.to_owned(), any_of(unwanted));
        }
        match values.is_empty() {
            true => _ = attributes.insert(attribute.to_owned(), Pattern::Present.matcher()),
            false => lists.push((attribute, values)),
        }
    }
    lists.sort_by_key(|(_, values)| Reverse(values.len()));
    let mut product = vec![attributes];
    for (at, (attribute, values)) in lists.into_iter().enumerate() {
        let written_out = at == 0 || product.len() * values.len() <= MOST;
        let matchers = match written_out && !values.contains(&"*") {
            true => values.iter().map(|value| Pattern::new(value).matcher()).collect(),
            false => vec![any_of(values)],
        };
        let with = |attributes: &Map<String, Value>, matcher: &Value| {
            let mut attributes = attributes.clone();
            attributes.insert(attribute.to_owned(), matcher.clone());
            attributes
        };
        let with_each = |attributes| matchers.iter().map(move |matcher| with(attributes, matcher));
        product = product.iter().flat_map(with_each).collect();
    }
    alternatives.extend(product.into_iter().map(|attributes| match not_attributes.is_empty() {
        true => json!({"attributes": attributes}),
        false => json!({"attributes": attributes, "notAttributes": not_attributes}),
    }));
}

/// The one matcher of all values of a list.
fn any_of(values: &[&str]) -> Value {
    let patterns = || values.iter().map(|value| Pattern::new(value));
    match values {
        [only] => Pattern::new(only).matcher(),
        _ if patterns().any(|pattern| pattern == Pattern::Present) => Pattern::Present.matcher(),
        _ => json!({"regex": regex(patterns())}),
    }
}

/// The regular expression of several values. What they have in common is written once: the filter makes a table of it.
fn regex<'a>(patterns: impl Iterator<Item = Pattern<'a>>) -> String {
    let (mut whole, mut beginnings, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for pattern in patterns {
        match pattern {
            Pattern::Exact(value) => whole.push(regex_lite::escape(value)),
            Pattern::Prefix(value) => beginnings.push(regex_lite::escape(value)),
            Pattern::Suffix(value) => ends.push(regex_lite::escape(value)),
            Pattern::Present => ends.push(String::new()),
        }
    }
    if !beginnings.is_empty() {
        whole.push(format!("(?:{})(?s:.*)", beginnings.join("|")));
    }
    if !ends.is_empty() {
        whole.push(format!("(?s:.*)(?:{})", ends.join("|")));
    }
    whole.join("|")
}

/// A value as policies write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern<'a> {
    Exact(&'a str),
    Prefix(&'a str),
    Suffix(&'a str),
    Present,
}

impl<'a> Pattern<'a> {
    fn new(value: &'a str) -> Self {
        if value == "*" {
            return Pattern::Present;
        }
        match (value.strip_prefix('*'), value.strip_suffix('*')) {
            (Some(suffix), _) => Pattern::Suffix(suffix),
            (None, Some(prefix)) => Pattern::Prefix(prefix),
            (None, None) => Pattern::Exact(value),
        }
    }

    fn matches(self, text: &str) -> bool {
        match self {
            Pattern::Exact(value) => text == value,
            Pattern::Prefix(value) => text.starts_with(value),
            Pattern::Suffix(value) => text.ends_with(value),
            Pattern::Present => true,
        }
    }

    fn matcher(self) -> Value {
        match self {
            Pattern::Exact(value) => json!({"exact": value}),
            Pattern::Prefix(value) => json!({"prefix": value}),
            Pattern::Suffix(value) => json!({"suffix": value}),
            Pattern::Present => json!({"present": true}),
        }
    }
}

#[cfg(test)]
mod tests;
