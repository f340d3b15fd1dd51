//! A route in the terms of plans, as far as it does not depend on the port that calls come by; and where it was written.

use std::sync::Arc;

use meltemi_proxy::plan::raw;

use super::service::cluster;

/// A route whose destinations wait for the port that calls come by.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub(super) name: String,
    /// The alternatives, one of which must match; `None` takes every call.
    pub(super) alternatives: Option<Vec<raw::Match>>,
    pub(super) destinations: Vec<Target>,
    pub(super) mirrors: Vec<Mirror>,
    /// What else happens to its calls.
    pub(super) policies: raw::Actions,
    pub(super) places: Arc<Places>,
}

/// A destination with its host in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) subset: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) weight: u32,
}

/// A destination that gets copies.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mirror {
    pub(super) target: Target,
    /// The share of the calls.
    pub(super) percent: f64,
    /// The field of the route that names it.
    pub(super) field: String,
}

/// Where in a resource the values of a route of the plan were written.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// The field of the resource that has the route.
    pub(super) route: String,
    /// The paths below the route: in the plan, and in the resource.
    noted: Vec<(String, String, Below)>,
}

/// What is below a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Below {
    /// The same fields in the resource as in the plan.
    Alike,
    /// Nothing that the resource has in parts.
    Whole,
}

impl Target {
    pub(super) fn cluster(&self, port: u16) -> String {
        cluster(&self.host, self.port.unwrap_or(port), self.subset.as_deref())
    }
}

impl Draft {
    /// The route of the plan, for calls that come by `port`.
    pub(super) fn route(&self, name: String, port: u16) -> raw::Route {
        raw::Route { name, matches: self.alternatives.clone(), actions: self.default_route(port) }
    }

    /// The same as the default route.
    pub(super) fn default_route(&self, port: u16) -> raw::Actions {
        let mut route = self.policies.clone();
        match &*self.destinations {
            [] => {}
            [only] => route.cluster = Some(only.cluster(port)),
            several => {
                let weighted = several.iter().filter(|target| target.weight > 0);
                let cluster = |target: &Target| raw::WeightedCluster {
                    cluster: target.cluster(port),
                    weight: target.weight,
                };
                route.weighted_clusters = Some(weighted.map(cluster).collect());
            }
        }
        let mirror = |Mirror { target, percent, .. }: &Mirror| raw::Mirror {
            cluster: target.cluster(port),
            percent: *percent,
            timeout: None,
        };
        route.mirrors = self.mirrors.iter().map(mirror).collect();
        route
    }
}

impl Places {
    /// Those of the route of a field.
    pub(super) fn new(route: String) -> Self {
        Self { route, noted: Vec::new() }
    }

    /// A value of the plan's route and all that is below it was made of a field as a whole.
    pub(super) fn note(&mut self, plan: impl Into<String>, field: impl Into<String>) {
        self.noted.push((plan.into(), field.into(), Below::Whole));
    }

    /// A value of the plan's route has the parts of a field by the same names.
    pub(super) fn note_alike(&mut self, plan: impl Into<String>, field: impl Into<String>) {
        self.noted.push((plan.into(), field.into(), Below::Alike));
    }

    /// The field of the resource that a value of the plan's route was made of: by the longest path that is noted.
    pub(super) fn of(&self, plan: &str) -> String {
        let rest = |known: &str| {
            plan.strip_prefix(known).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let found = self.noted.iter().filter_map(|(known, field, below)| Some((rest(known)?, field, below)));
        match found.min_by_key(|(rest, ..)| rest.len()) {
            Some((rest, field, Below::Alike)) => format!("{}.{field}{rest}", self.route),
            Some((_, field, Below::Whole)) => format!("{}.{field}", self.route),
            None if plan.is_empty() => self.route.clone(),
            None => format!("{}.{plan}", self.route),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_where_they_were_written() {
        let mut places = Places::new("spec.routes[3]".to_owned());
        places.note_alike("retry", "retries");
        places.note("retry.on", "retries.retryOn");
        places.note_alike("match[0].attributes", "match.attributes");
        for (plan, field) in [
            ("", "spec.routes[3]"),
            ("timeout", "spec.routes[3].timeout"),
            ("retry", "spec.routes[3].retries"),
            ("retry.statuses[1]", "spec.routes[3].retries.statuses[1]"),
            ("retry.on[2]", "spec.routes[3].retries.retryOn"),
            ("retry.once", "spec.routes[3].retries.once"),
            (r#"match[0].attributes["a.b"].regex"#, r#"spec.routes[3].match.attributes["a.b"].regex"#),
        ] {
            assert_eq!(places.of(plan), field);
        }
    }
}
