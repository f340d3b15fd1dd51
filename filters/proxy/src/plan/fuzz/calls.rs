use std::rc::Rc;

use meltemi_codecs::{Codec, Dubbo, Head};

use super::generate;
use crate::choices::Choices;
use crate::plan::matcher::{Rule, Test};
use crate::plan::{Plan, Route, Service, steps};

/// Makes a plan and requests of `data`, and routes these: the index must find what trying every rule in order finds,
/// within the bound that the reference of plans states.
///
/// # Panics
///
/// When it does not.
pub fn fuzz_calls(data: &[u8]) {
    let mut choices = Choices(data);
    let plan = generate::plan(&mut choices).to_string();
    let plan = Plan::parse(plan.as_bytes(), &[&Dubbo]).expect("a plan that the filter takes");
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

/// What a search finds, and about how many instructions it takes: no more than it may.
fn search(service: &Service, head: &Head) -> (Option<Rc<Route>>, usize) {
    let (found, steps) = steps::count(|| service.route(head).cloned());
    let cost = steps.taken * STEP + (steps.compared + steps.read) * BYTE;
    let length: usize = head.iter().map(|(name, value)| name.len() + value.len()).sum();
    let bound = MICROSECOND + head.len() * 3 * STEP + length * 2 * BYTE;
    // Most calls need none of what the rules add.
    if cost > bound {
        let tried = service.index.rules().iter().filter(|rule| !is_spared(rule, head));
        let readers = |rule: &Rule| rule.predicates.iter().filter(|predicate| predicate.test.reads()).count();
        let bound = bound + tried.map(|rule| readers(rule).max(1) * MICROSECOND).sum::<usize>();
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

    fn bytes(random: &mut fastrand::Rng, most: usize) -> Vec<u8> {
        (0..random.usize(1..most)).map(|_| random.u8(..)).collect()
    }

    #[test]
    fn the_fuzz_target_holds_for_random_bytes() {
        let mut random = fastrand::Rng::with_seed(9);
        (0..500).for_each(|_| fuzz_calls(&bytes(&mut random, 200)));
    }

    /// The worst of 1000 plans for 1000 requests. Both are such that most of what a search can do is done.
    #[test]
    fn a_search_costs_no_more_than_the_reference_says() {
        let mut random = fastrand::Rng::with_seed(1);
        let requests: Vec<_> =
            (0..1000).map(|_| generate::request(&mut Choices(&bytes(&mut random, 40)))).collect();
        let read = |request: &Vec<u8>, depth| {
            let mut head = Head::new();
            let _ = Dubbo.head(request, depth, &mut head);
            head
        };
        let heads: Vec<_> = requests.iter().map(|request| read(request, Depth::Attachments)).collect();
        let (mut found, mut dearest) = (0, 0);
        for _ in 0..1000 {
            let plan = generate::plan(&mut Choices(&bytes(&mut random, 60))).to_string();
            let plan = Plan::parse(plan.as_bytes(), &[&Dubbo]).unwrap();
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
