use std::rc::Rc;

use meltemi_codecs::{Codec, Codecs, Dubbo, Head};

use super::generate;
use crate::matcher::{Rule, Test};
use crate::{Plan, Route, Service, steps};
use meltemi_codecs::fuzz::Choices;

/// Makes a plan and requests of `data`, and routes these: the index must find what trying every rule in order finds,
/// within the bound that the reference of plans states.
///
/// # Panics
///
/// When it does not.
pub fn fuzz_calls(data: &[u8]) {
    let mut choices = Choices(data);
    let plan = generate::plan(&mut choices).to_string();
    let plan = Plan::parse(plan.as_bytes(), &Codecs::all()).expect("a plan that the filter takes");
    let service = plan.service("demo").expect("the service");
    let mut head = Head::new();
    while !choices.is_empty() {
        let request = generate::request(&mut choices);
        let _ = Dubbo.head(&request, service.depth, &mut head);
        let (found, _) = search(service, &head);
        let expected = service.explain(&head).matched;
        let names = [found.as_ref(), expected].map(|route| route.map(|route| &*route.name));
        assert_eq!(names[0], names[1], "{head:?}");
    }
}

/// Instructions of a look-up or a test.
const STEP: usize = 150;

/// Instructions for each byte of a text that is compared or read.
const BYTE: usize = 10;

/// Instructions in a microsecond: two a cycle at 3 GHz.
const MICROSECOND: usize = 6000;

/// A plan of one service, `demo`, one of many.
pub fn sample_plan(number: u64) -> String {
    generate::plan(&mut Choices(&bytes(number, 60))).to_string()
}

/// A Dubbo request, one of many.
pub fn sample_request(number: u64) -> Vec<u8> {
    generate::request(&mut Choices(&bytes(number, 40)))
}

fn bytes(seed: u64, most: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..random.usize(1..most)).map(|_| random.u8(..)).collect()
}

/// The most instructions for reading a request of so many bytes, whose head this is, and for finding its route: what the
/// reference of plans states.
pub fn bound(service: &Service, length: usize, head: &Head) -> usize {
    40 * MICROSECOND + 5 * MICROSECOND * length / 1000 + tried(service, head) * MICROSECOND
}

/// The alternatives that no index spares, one that reads several values once for each.
fn tried(service: &Service, head: &Head) -> usize {
    let rules = service.index.rules().iter().filter(|rule| !is_spared(rule, head));
    let readers = |rule: &Rule| rule.predicates.iter().filter(|predicate| predicate.test.reads()).count();
    rules.map(|rule| readers(rule).max(1)).sum()
}

/// What a search finds, and about how many instructions it takes: no more than it may.
pub fn search(service: &Service, head: &Head) -> (Option<Rc<Route>>, usize) {
    let (found, steps) = steps::count(|| service.route(head).cloned());
    let cost = steps.taken * STEP + (steps.compared + steps.read) * BYTE;
    let length: usize = head.iter().map(|(name, value)| name.len() + value.len()).sum();
    let bound = MICROSECOND + head.len() * 3 * STEP + length * 2 * BYTE;
    // Most calls need none of what the rules add.
    if cost > bound {
        let bound = bound + tried(service, head) * MICROSECOND;
        assert!(cost <= bound, "{cost} of {bound}: {head:?}");
    }
    (found, cost)
}

/// Whether the index spares a rule from being tried: it asks for exact values or prefixes, none of which the call has.
fn is_spared(rule: &Rule, head: &Head) -> bool {
    let keys = || {
        let is_key = |test: &Test| matches!(test, Test::Exact(_) | Test::Prefix(_));
        rule.predicates.iter().filter(move |predicate| is_key(&predicate.test) && !predicate.invert)
    };
    keys().next().is_some() && !keys().any(|predicate| predicate.matches(head.get(&predicate.attribute)))
}

#[cfg(test)]
mod tests {
    use meltemi_codecs::Depth;

    use super::*;

    #[test]
    fn the_fuzz_target_holds_for_random_bytes() {
        (0..500).for_each(|seed| fuzz_calls(&bytes(seed, 200)));
    }

    /// The worst of 1000 plans for 1000 requests. Both are such that most of what a search can do is done.
    #[test]
    fn a_search_costs_no_more_than_the_reference_says() {
        let read = |number| {
            let mut head = Head::new();
            let _ = Dubbo.head(&sample_request(number), Depth::Attachments, &mut head);
            head
        };
        let heads: Vec<_> = (0..1000).map(read).collect();
        let (mut found, mut dearest) = (0, 0);
        for number in 0..1000 {
            let plan = Plan::parse(sample_plan(number).as_bytes(), &Codecs::all()).unwrap();
            let service = plan.service("demo").unwrap();
            for head in &heads {
                let (route, cost) = search(service, head);
                found += usize::from(route.is_some());
                dearest = dearest.max(cost);
            }
        }
        assert!(found > 100_000 && dearest > 100 * MICROSECOND, "{found} {dearest}");
    }
}
