use std::rc::Rc;

use meltemi_codecs::Codecs;
use meltemi_codecs::Head;
use meltemi_proxy::plan::{Destination, Plan, Service};
use serde_json::json;

use super::alternatives::{GENERIC, Parts, alternatives};
use super::*;
use crate::api::aeraki::{
    AuthorizationAction, AuthorizationRule, DubboAuthorizationPolicy, DubboAuthorizationPolicySpec, From,
    Operation, Source, To,
};
use crate::findings::Severity;

/// A call as policies see it. The peer has no names without mutual TLS, and what is called is not always known.
#[derive(Debug)]
struct Call {
    principal: Option<String>,
    namespace: Option<String>,
    interface: Option<String>,
    method: Option<String>,
    generic: Option<String>,
}

/// Istio's rules, on the policies themselves.
fn is_allowed(policies: &[DubboAuthorizationPolicy], call: &Call) -> bool {
    let of = |action| policies.iter().filter(move |policy| policy.spec.action == action);
    let means = |policy: &DubboAuthorizationPolicy| {
        policy.spec.rules.iter().any(|rule| rule_means(rule, policy.spec.action, call))
    };
    let mut allowing = of(AuthorizationAction::Allow).peekable();
    !of(AuthorizationAction::Deny).any(means) && (allowing.peek().is_none() || allowing.any(means))
}

fn rule_means(rule: &AuthorizationRule, action: AuthorizationAction, call: &Call) -> bool {
    let (principal, namespace) = (call.principal.as_deref(), call.namespace.as_deref());
    let from = |from: &From| {
        let Source { principals, not_principals, namespaces, not_namespaces } = &from.source;
        lists_mean(principals, not_principals, principal) && lists_mean(namespaces, not_namespaces, namespace)
    };
    let to = |to: &To| {
        let Operation { interfaces, not_interfaces, methods, not_methods } = &to.operation;
        let asks = |values: &[String], unwanted: &[String]| !values.is_empty() || !unwanted.is_empty();
        // What is unknown is allowed to nobody and denied to everybody.
        let untold = action == AuthorizationAction::Deny;
        let interface = !asks(interfaces, not_interfaces)
            || call
                .interface
                .as_deref()
                .map_or(untold, |found| lists_mean(interfaces, not_interfaces, Some(found)));
        let is_generic = call.method.as_deref().is_some_and(|method| GENERIC.contains(&method));
        let by_name = || lists_mean(methods, not_methods, call.method.as_deref());
        let has = |list: &[String]| list.iter().any(|value| means(value, call.method.as_deref().unwrap()));
        let generic = || {
            let values = if has(methods) { &[][..] } else { methods };
            let of = |found: &str| lists_mean(values, not_methods, Some(found));
            !has(not_methods) && (!asks(values, not_methods) || call.generic.as_deref().map_or(untold, of))
        };
        let method = !asks(methods, not_methods)
            || if call.method.is_none() {
                untold
            } else if is_generic {
                generic()
            } else {
                by_name()
            };
        interface && method
    };
    (rule.from.is_empty() || rule.from.iter().any(from)) && (rule.to.is_empty() || rule.to.iter().any(to))
}

fn lists_mean(values: &[String], unwanted: &[String], found: Option<&str>) -> bool {
    let is_among = |list: &[String]| list.iter().any(|value| found.is_some_and(|found| means(value, found)));
    (values.is_empty() || is_among(values)) && !is_among(unwanted)
}

fn means(value: &str, found: &str) -> bool {
    if value == "*" {
        true
    } else if let Some(suffix) = value.strip_prefix('*') {
        found.ends_with(suffix)
    } else if let Some(prefix) = value.strip_suffix('*') {
        found.starts_with(prefix)
    } else {
        value == found
    }
}

/// Numbers that look random and are the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// Of few letters, so that values meet. A dot and a line's end mean something to regular expressions.
    fn word(&mut self) -> String {
        (0..=self.roll(2)).map(|_| ['a', '.', '\n'][self.roll(3) as usize]).collect()
    }

    fn values(&mut self) -> Vec<String> {
        let count = [0, 0, 1, 1, 2, 3][self.roll(6) as usize];
        (0..count).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> String {
        let word = self.word();
        match self.roll(9) {
            8 => ["$invoke", "$i*", "*Async"][self.roll(3) as usize].to_owned(),
            0 => "*".to_owned(),
            1 | 2 => format!("{word}*"),
            3 | 4 => format!("*{word}"),
            _ => word,
        }
    }

    fn policy(&mut self, name: &str) -> DubboAuthorizationPolicy {
        let from = |dice: &mut Self| From {
            source: Source {
                principals: dice.values(),
                not_principals: dice.values(),
                namespaces: dice.values(),
                not_namespaces: dice.values(),
            },
        };
        let to = |dice: &mut Self| To {
            operation: Operation {
                interfaces: dice.values(),
                not_interfaces: dice.values(),
                methods: dice.values(),
                not_methods: dice.values(),
            },
        };
        let rule = |dice: &mut Self| AuthorizationRule {
            from: (0..dice.roll(3)).map(|_| from(dice)).collect(),
            to: (0..dice.roll(3)).map(|_| to(dice)).collect(),
        };
        let rules = (0..self.roll(4)).map(|_| rule(self)).collect();
        let action = [AuthorizationAction::Allow, AuthorizationAction::Deny][self.roll(2) as usize];
        let mut policy = DubboAuthorizationPolicy::new(name, DubboAuthorizationPolicySpec { rules, action });
        policy.metadata.namespace = Some("shop".to_owned());
        policy
    }

    fn call(&mut self) -> Call {
        let has_names = self.roll(4) > 0;
        let name = |dice: &mut Self| has_names.then(|| dice.word());
        let told = |dice: &mut Self| (dice.roll(8) > 0).then(|| dice.word());
        let (interface, method, generic) = (told(self), told(self), told(self));
        let method = match self.roll(6) {
            0 => Some(GENERIC[self.roll(2) as usize].to_owned()),
            _ => method,
        };
        Call { principal: name(self), namespace: name(self), interface, method, generic }
    }
}

fn plan_allows(service: &Service, call: &Call) -> bool {
    let mut head = Head::new();
    head.replace("interface", call.interface.as_deref());
    head.replace("method", call.method.as_deref());
    head.replace("genericMethod", call.generic.as_deref());
    head.replace("source.principal", call.principal.as_deref());
    head.replace("source.namespace", call.namespace.as_deref());
    let route = service.route(&head).unwrap_or(&service.default_route);
    !matches!(route.destination, Destination::Reject(_))
}

/// The entry of the servers of Dubbo.
fn entry(world: &World, reports: &mut Reports) -> serde_json::Value {
    let reader = Reader::of("dubbo", &Codecs::all());
    let dubbo = world.dubbo_authorization_policies.iter().map(Policy::Dubbo);
    let mut all: Vec<_> = dubbo.chain(world.meltemi_authorization_policies.iter().map(Policy::Own)).collect();
    all.sort_by_key(|policy| (!policy.denies(), policy.title()));
    Namespace::new(&all, vec![reader.clone()], true, reports).of(&reader).unwrap().entry.part.value().clone()
}

/// What the filter makes of the policies' entry.
fn compiled(policies: &[DubboAuthorizationPolicy]) -> Rc<Service> {
    let world = World { dubbo_authorization_policies: policies.to_vec(), ..World::default() };
    let mut reports = Reports::default();
    let entry = entry(&world, &mut reports);
    // That a policy has no rules is worth a word.
    let findings = reports.into_vec().into_iter().flat_map(|report| report.findings);
    assert!(findings.into_iter().all(|finding| finding.severity == Severity::Warning));
    let plan = json!({"services": {"s": entry}}).to_string();
    Plan::parse(plan.as_bytes(), &Codecs::all()).unwrap().service("s").unwrap().clone()
}

#[test]
fn plans_decide_as_the_policies_do() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut allowed, mut denied) = (0, 0);
    for _ in 0..400 {
        let count = 1 + dice.roll(3);
        let policies: Vec<_> = (0..count).map(|at| dice.policy(&at.to_string())).collect();
        let service = compiled(&policies);
        for _ in 0..40 {
            let call = dice.call();
            let wanted = is_allowed(&policies, &call);
            assert_eq!(plan_allows(&service, &call), wanted, "{call:?} by {policies:#?}");
            *if wanted { &mut allowed } else { &mut denied } += 1;
        }
    }
    assert!(allowed > 1000 && denied > 1000, "{allowed} allowed, {denied} denied");
}

#[test]
fn long_lists_stay_within_bounds() {
    let list = |kind: &str| (0..200).map(|at| format!("{kind}{at}")).collect::<Vec<_>>();
    let source = Source { principals: list("p"), namespaces: list("n"), ..Source::default() };
    let operation = Operation { interfaces: list("i"), methods: list("m"), ..Operation::default() };
    let rule = AuthorizationRule { from: vec![From { source }], to: vec![To { operation }] };
    let spec = DubboAuthorizationPolicySpec { rules: vec![rule], action: AuthorizationAction::Allow };
    let mut policy = DubboAuthorizationPolicy::new("long", spec);
    policy.metadata.namespace = Some("shop".to_owned());
    // By name, and by each of the ways to call generically.
    let made = alternatives(Parts::of_operations(&policy.spec.rules[0], policy.spec.action), rules::MOST);
    assert_eq!(made.ok().flatten().map(|all| all.matches.len()), Some(600));
    let service = compiled(&[policy]);
    let call = |principal: &str, method: &str| Call {
        principal: Some(principal.to_owned()),
        namespace: Some("n7".to_owned()),
        interface: Some("i199".to_owned()),
        method: Some(method.to_owned()),
        generic: None,
    };
    assert!(plan_allows(&service, &call("p0", "m42")));
    assert!(!plan_allows(&service, &call("p0", "m200")) && !plan_allows(&service, &call("p", "m1")));
}

#[test]
fn a_policy_that_cannot_be_compiled_lets_nothing_pass() {
    let unwanted = (0..16_000).map(|at| format!("{at}{}", "x".repeat(20))).collect();
    let source = Source { not_principals: unwanted, ..Source::default() };
    let rule = AuthorizationRule { from: vec![From { source }], to: Vec::new() };
    for action in [AuthorizationAction::Allow, AuthorizationAction::Deny] {
        let spec = DubboAuthorizationPolicySpec { rules: vec![rule.clone()], action };
        let mut policy = DubboAuthorizationPolicy::new("vast", spec);
        policy.metadata.namespace = Some("shop".to_owned());
        let world = World { dubbo_authorization_policies: vec![policy], ..World::default() };
        let mut reports = Reports::default();
        let entry = entry(&world, &mut reports);
        let entry = json!({"services": {"s": entry}}).to_string();
        let plan = Plan::parse(entry.as_bytes(), &Codecs::all()).unwrap();
        let call = Call {
            principal: None,
            namespace: None,
            interface: Some("i".to_owned()),
            method: Some("m".to_owned()),
            generic: None,
        };
        assert!(!plan_allows(plan.service("s").unwrap(), &call));
        let finding = &reports.into_vec()[0].findings[0];
        let wanted =
            if action == AuthorizationAction::Allow { "allows nothing: " } else { "denies everything: " };
        assert!(finding.message.starts_with(wanted), "{finding:?}");
        assert_eq!(finding.path, "spec.rules[0].from[0].source.notPrincipals");
    }
}
