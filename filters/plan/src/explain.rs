use std::rc::Rc;

use meltemi_codecs::Head;

use super::{route::Route, service::Service};

/// Which route a call takes, and why it takes none of those before.
#[derive(Debug, Clone)]
pub struct Explanation<'a> {
    /// The routes that were tried and do not match, in order.
    pub passed_over: Vec<PassedOver<'a>>,
    /// The route that matches.
    pub matched: Option<&'a Rc<Route>>,
}

/// A route that does not match a call.
#[derive(Debug, Clone)]
pub struct PassedOver<'a> {
    /// The route.
    pub route: &'a Rc<Route>,
    /// Why each of its alternatives does not match, such as `method: "sayHi" does not match exact "sayHello"`.
    pub reasons: Vec<String>,
}

impl<'a> Explanation<'a> {
    /// Tries every rule in order, as the plan reads and without the index.
    pub(super) fn new(service: &'a Service, head: &Head) -> Self {
        let mut explanation = Self { passed_over: Vec::new(), matched: None };
        for rule in service.index.rules() {
            let Some(route) = service.routes.get(rule.route) else { continue };
            let Some(obstacle) = rule.obstacle(head) else {
                // An alternative before the one that matches is no reason to pass the route over.
                if explanation.passed_over.last().is_some_and(|last| Rc::ptr_eq(last.route, route)) {
                    explanation.passed_over.pop();
                }
                explanation.matched = Some(route);
                return explanation;
            };
            let reason = match head.get(&obstacle.attribute) {
                Some(value) => format!("{}: {value:?} does not match {obstacle}", obstacle.attribute),
                None => format!("{}: the call has none, which does not match {obstacle}", obstacle.attribute),
            };
            match explanation.passed_over.last_mut() {
                Some(last) if Rc::ptr_eq(last.route, route) => last.reasons.push(reason),
                _ => explanation.passed_over.push(PassedOver { route, reasons: vec![reason] }),
            }
        }
        explanation
    }
}
