use core::fmt;

use super::{
    CircuitBreaker, ClusterPolicy, Destination, OnNoMatch, Plan, Retry, Route, error::Path, service::Service,
};

/// Something in a plan that works, but is hardly meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where it is, in the form of [`PlanError::path`](super::PlanError::path).
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// The warnings of a plan, service by service.
pub(super) fn of(plan: &Plan) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let root = Path::Root;
    let services = root.key("services");
    for service in plan.services() {
        let path = services.key(&service.name);
        unreachable_routes(&path, service, &mut warnings);
        let routes = path.key("routes");
        for (number, route) in service.routes().enumerate() {
            let path = &routes.index(number);
            last_try(path, route, &mut warnings);
            unused_hedge(path, service, route, &mut warnings);
            unused_policies(path, route, &mut warnings);
        }
        last_try(&path.key("defaultRoute"), &service.default_route, &mut warnings);
        unused_hedge(&path.key("defaultRoute"), service, &service.default_route, &mut warnings);
        unused_policies(&path.key("defaultRoute"), &service.default_route, &mut warnings);
        unused_default_route(&path, service, &mut warnings);
        if service.is_pinned {
            unused_by_pinned(&path.key("upstream"), service, &mut warnings);
        }
    }
    warnings
}

/// Whatever follows a route that matches every call gets none.
fn unreachable_routes(path: &Path<'_>, service: &Service, warnings: &mut Vec<Warning>) {
    let takes_all = service.index.rules().iter().find(|rule| rule.predicates.is_empty());
    let Some(number) = takes_all.map(|rule| rule.route) else { return };
    let routes = path.key("routes");
    for hidden in number.saturating_add(1)..service.routes.len() {
        let path = routes.index(hidden).to_string();
        warnings
            .push(Warning { path, message: format!("gets no call: routes[{number}] matches every call") });
    }
}

/// A limit of one try that ends the call, where the route has other failures tried again.
fn last_try(path: &Path<'_>, route: &Route, warnings: &mut Vec<Warning>) {
    let ends_call = |retry: &&Retry| retry.per_try_timeout.is_some() && !retry.on.per_try_timeout;
    if route.retry.as_ref().filter(ends_call).is_some() {
        let path = path.key("retry").key("perTryTimeout").to_string();
        let message = "ends the whole call: \"on\" does not list \"per-try-timeout\"".to_owned();
        warnings.push(Warning { path, message });
    }
}

/// Second tries of calls that have one connection.
fn unused_hedge(path: &Path<'_>, service: &Service, route: &Route, warnings: &mut Vec<Warning>) {
    if service.is_pinned && route.retry.as_ref().is_some_and(|retry| retry.hedge.is_some()) {
        let path = path.key("retry").key("hedge").to_string();
        let message = "makes no second try: a client's calls are pinned to one connection".to_owned();
        warnings.push(Warning { path, message });
    }
}

/// What is of a cluster's connections, where each client has one for itself.
fn unused_by_pinned(path: &Path<'_>, service: &Service, warnings: &mut Vec<Warning>) {
    let Some(clusters) = &service.clusters else { return };
    let none =
        CircuitBreaker { max_calls: usize::MAX, max_waiting_calls: usize::MAX, max_retries: usize::MAX };
    let default = clusters.default();
    let mut warn = |path: &Path<'_>, policy: &ClusterPolicy, before: (CircuitBreaker, bool, bool)| {
        let says = [
            policy.circuit_breaker != before.0,
            policy.outlier_detection.is_some() && !before.1,
            policy.adaptive_concurrency.is_some() && !before.2,
        ];
        let all = [
            ("circuitBreaker", "counts each client by itself: its calls are pinned to one connection"),
            ("outlierDetection", "leaves out no endpoint: a client's calls are pinned to one connection"),
            ("adaptiveConcurrency", "limits no calls: a client's calls are pinned to one connection"),
        ];
        for ((field, message), _) in all.into_iter().zip(says).filter(|(_, says)| *says) {
            warnings.push(Warning { path: path.key(field).to_string(), message: message.to_owned() });
        }
    };
    warn(path, default, (none, false, false));
    let before = (
        default.circuit_breaker,
        default.outlier_detection.is_some(),
        default.adaptive_concurrency.is_some(),
    );
    let all = path.key("clusters");
    for (name, policy) in clusters.own() {
        warn(&all.key(name), policy, before);
    }
}

/// Policies of a route whose calls go nowhere.
fn unused_policies(path: &Path<'_>, route: &Route, warnings: &mut Vec<Warning>) {
    if matches!(route.destination, Destination::Reject(_)) && has_policies(route) {
        let message = "rejects its calls: its other policies are never used".to_owned();
        warnings.push(Warning { path: path.to_string(), message });
    }
}

fn has_policies(route: &Route) -> bool {
    route.timeout.is_some()
        || route.retry.is_some()
        || route.fault.is_some()
        || !route.mirrors.is_empty()
        || route.request_edit.is_asked_for()
        || route.response_edit.is_asked_for()
}

/// Policies of a default route that no call takes.
fn unused_default_route(path: &Path<'_>, service: &Service, warnings: &mut Vec<Warning>) {
    let route = &service.default_route;
    let plain = matches!(route.destination, Destination::Tunnel) && !has_policies(route);
    if service.on_no_match == OnNoMatch::Reject && !plain {
        let message = "gets no call: \"onNoMatch\" rejects those that no route matches".to_owned();
        warnings.push(Warning { path: path.key("defaultRoute").to_string(), message });
    }
}
