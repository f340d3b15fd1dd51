//! The calls that a rule means, as alternatives of a route.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use meltemi_proxy::plan::{Table, raw};

use super::policy::DUBBO;
use crate::api::aeraki::{AuthorizationAction, AuthorizationRule, Operation, Source};
use crate::api::{Rule, RuleSource, When};
use crate::generate::reader::Reader;

/// What a part of a rule asks of one attribute.
#[derive(Debug, Clone)]
enum Condition<'a> {
    /// It is one of the values, if there are any, and none of the unwanted ones.
    Is { attribute: &'a str, values: Vec<&'a str>, unwanted: Vec<&'a str> },
    /// The client's address is in one of the blocks, if there are any, and in none of the unwanted ones.
    In { blocks: &'a [String], unwanted: &'a [String], denies: bool },
    /// The call does not have it.
    Untold(&'a str),
}

/// The attribute that is the client's address.
const IP: &str = "source.ip";

/// Matchers by attribute.
type Attributes = BTreeMap<String, raw::Matcher>;

/// Conditions that must hold together.
type Conditions<'a> = Vec<Condition<'a>>;

/// What a rule asks: one of the sources and one of the operations, each with its number in the rule.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    sources: Vec<(usize, Conditions<'a>)>,
    operations: Vec<(usize, Conditions<'a>)>,
}

impl<'a> Parts<'a> {
    /// Those of a rule on Dubbo's interfaces and methods.
    pub(super) fn of_operations(rule: &'a AuthorizationRule, action: AuthorizationAction) -> Self {
        let sources = rule.from.iter().map(|from| of_source(&from.source)).enumerate().collect();
        let mut operations: Vec<(usize, Conditions<'_>)> = Vec::new();
        for (at, to) in rule.to.iter().enumerate() {
            operations.extend(of_operation(&to.operation, action).into_iter().map(|way| (at, way)));
        }
        Self { sources, operations }
    }

    /// Those of a rule on attributes, of calls that are read so.
    pub(super) fn of_attributes(rule: &'a Rule, action: AuthorizationAction, reader: &Reader) -> Self {
        let denies = action == AuthorizationAction::Deny;
        let mut sources: Vec<(usize, Conditions<'_>)> = Vec::new();
        for (at, from) in rule.from.iter().enumerate() {
            sources.extend(of_caller(&from.source, denies).into_iter().map(|way| (at, way)));
        }
        let mut operations: Vec<(usize, Conditions<'_>)> = Vec::new();
        if !rule.when.is_empty() {
            let mut ways: Vec<Conditions<'_>> = vec![Vec::new()];
            for when in &rule.when {
                let own = of_when(when, denies, reader);
                let with = |way: &Conditions<'a>| {
                    own.iter().map(|more| way.iter().chain(more).cloned().collect()).collect::<Vec<_>>()
                };
                ways = ways.iter().flat_map(with).collect();
                if ways.len() > MOST {
                    // Too many in any case: what is left of them is more than a namespace may have.
                    break;
                }
            }
            operations.extend(ways.into_iter().map(|way| (0, way)));
        }
        Self { sources, operations }
    }
}

/// There are more alternatives than may be.
pub(super) struct TooMany;

/// The alternatives of a rule, and which source and operation each is of.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Alternatives {
    pub(super) matches: Vec<raw::Match>,
    /// The number of the first alternative of each pair of a source and an operation, by their numbers in the rule.
    of: Vec<(usize, usize, usize)>,
}

impl Alternatives {
    /// The numbers of the source and the operation that an alternative is of.
    pub(super) fn parts(&self, alternative: usize) -> (usize, usize) {
        let next = self.of.partition_point(|(first, ..)| *first <= alternative);
        let of = next.checked_sub(1).and_then(|at| self.of.get(at));
        of.map_or((0, 0), |(_, source, operation)| (*source, *operation))
    }
}

/// The plan's alternatives of a rule, at most `most`: each source with each operation. `None` takes every call.
pub(super) fn alternatives(parts: Parts<'_>, most: usize) -> Result<Option<Alternatives>, TooMany> {
    let Parts { sources, operations } = parts;
    // No sources or operations mean any of them, as an empty source or operation does.
    let sources = if sources.is_empty() { vec![(0, Vec::new())] } else { sources };
    let operations = if operations.is_empty() { vec![(0, Vec::new())] } else { operations };
    let mut alternatives = Alternatives::default();
    for (from, source) in &sources {
        for (to, operation) in &operations {
            if source.is_empty() && operation.is_empty() {
                return Ok(None);
            }
            alternatives.of.push((alternatives.matches.len(), *from, *to));
            of_conditions(source.iter().chain(operation), &mut alternatives.matches);
            if alternatives.matches.len() > most {
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

/// The ways to be a caller. One whose address is not known is none that is allowed, and any that is denied.
fn of_caller(source: &RuleSource, denies: bool) -> Vec<Conditions<'_>> {
    let RuleSource { principals, not_principals, namespaces, not_namespaces, ip_blocks, not_ip_blocks } =
        source;
    let principals = is("source.principal", principals, not_principals);
    let names: Conditions<'_> =
        principals.into_iter().chain(is("source.namespace", namespaces, not_namespaces)).collect();
    if ip_blocks.is_empty() && not_ip_blocks.is_empty() {
        return vec![names];
    }
    let with = |condition| names.iter().cloned().chain([condition]).collect();
    let mut ways = vec![with(Condition::In { blocks: ip_blocks, unwanted: not_ip_blocks, denies })];
    if denies && !ip_blocks.is_empty() {
        ways.push(with(Condition::Untold(IP)));
    }
    ways
}

/// The ways to say what a rule asks for. A call that does not say its service or method, or what it must not say, says nothing
/// that is allowed and anything that is denied.
fn of_when<'a>(when: &'a When, denies: bool, reader: &Reader) -> Vec<Conditions<'a>> {
    if reader.may_be(DUBBO) && when.key == "method" {
        return of_method(
            &Vec::from_iter(when.values.iter().map(String::as_str)),
            &Vec::from_iter(when.not_values.iter().map(String::as_str)),
            denies,
        );
    }
    let mut ways: Vec<Conditions<'_>> =
        is(&when.key, &when.values, &when.not_values).map(|told| vec![told]).into_iter().collect();
    if denies && (reader.names_calls_by(&when.key) || when.values.is_empty()) {
        ways.push(vec![Condition::Untold(&when.key)]);
    }
    ways
}

fn is<'a>(attribute: &'a str, values: &'a [String], unwanted: &'a [String]) -> Option<Condition<'a>> {
    let texts = |list: &'a [String]| list.iter().map(String::as_str).collect();
    let asks = !values.is_empty() || !unwanted.is_empty();
    asks.then(|| Condition::Is { attribute, values: texts(values), unwanted: texts(unwanted) })
}

/// The methods of generic calls: the one that is meant is their first argument.
pub(super) const GENERIC: [&str; 2] = ["$invoke", "$invokeAsync"];

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
    let is = |attribute: &'a str, values: &[&'a str], unwanted: &[&'a str]| Condition::Is {
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
    alternatives: &mut Vec<raw::Match>,
) {
    let (mut attributes, mut not_attributes) = (Attributes::new(), Attributes::new());
    let mut lists = Vec::new();
    for condition in conditions {
        let (attribute, values, unwanted) = match condition {
            Condition::Is { attribute, values, unwanted } => (*attribute, values, unwanted),
            Condition::Untold(attribute) => {
                let untold = raw::Matcher { present: Some(false), ..raw::Matcher::default() };
                attributes.insert((*attribute).to_owned(), untold);
                continue;
            }
            Condition::In { blocks, unwanted, denies } => {
                let cidr = |blocks: &[String], invert| raw::Matcher {
                    cidr: blocks.to_vec(),
                    invert,
                    ..raw::Matcher::default()
                };
                let matcher = match (blocks.is_empty(), denies) {
                    (false, _) => cidr(blocks, false),
                    // An address that is not known is none that is unwanted, and denied for it.
                    (true, true) => cidr(unwanted, true),
                    (true, false) => Pattern::Present.matcher(),
                };
                if !unwanted.is_empty() && (!blocks.is_empty() || !*denies) {
                    not_attributes.insert(IP.to_owned(), cidr(unwanted, false));
                }
                attributes.insert(IP.to_owned(), matcher);
                continue;
            }
        };
        if values.is_empty() && attribute.starts_with("source.") {
            // Who has no name has none that is unwanted.
            let matcher = raw::Matcher { invert: true, ..any_of(unwanted) };
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
        let with = |attributes: &Attributes, matcher: &raw::Matcher| {
            let mut attributes = attributes.clone();
            attributes.insert(attribute.to_owned(), matcher.clone());
            attributes
        };
        let with_each = |attributes| matchers.iter().map(move |matcher| with(attributes, matcher));
        product = product.iter().flat_map(with_each).collect();
    }
    let not_attributes: Table<raw::Matcher> = not_attributes.into_iter().collect();
    alternatives.extend(product.into_iter().map(|attributes| raw::Match {
        attributes: attributes.into_iter().collect(),
        not_attributes: not_attributes.clone(),
    }));
}

/// The one matcher of all values of a list.
fn any_of(values: &[&str]) -> raw::Matcher {
    let patterns = || values.iter().map(|value| Pattern::new(value));
    match values {
        [only] => Pattern::new(only).matcher(),
        _ if patterns().any(|pattern| pattern == Pattern::Present) => Pattern::Present.matcher(),
        _ => raw::Matcher { regex: Some(regex(patterns())), ..raw::Matcher::default() },
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

    fn matcher(self) -> raw::Matcher {
        let mut matcher = raw::Matcher::default();
        match self {
            Pattern::Exact(value) => matcher.exact = Some(value.to_owned()),
            Pattern::Prefix(value) => matcher.prefix = Some(value.to_owned()),
            Pattern::Suffix(value) => matcher.suffix = Some(value.to_owned()),
            Pattern::Present => matcher.present = Some(true),
        }
        matcher
    }
}
