//! Clusters that get copies of a route's calls.
use core::cell::Cell;
use std::rc::Rc;

use super::{
    check::name,
    error::{Path, Result, fail},
    hedge::Latencies,
    raw,
    route::{Destination, Route, USUAL_TIMEOUT},
    share::{Share, share},
};

/// A cluster that gets copies of some calls.
#[derive(Debug)]
pub struct Mirror {
    /// The calls that are copied.
    pub share: Share,
    /// What happens to the copies: always a cluster and a time limit, and never a retry, a fault or a further copy.
    pub route: Rc<Route>,
}

/// The mirrors of `route`, all but complete: copies are changed as its calls are.
pub(super) fn mirrors(path: &Path<'_>, raw: &[raw::Mirror], route: &Route) -> Result<Box<[Mirror]>> {
    raw.iter().enumerate().map(|(number, raw)| mirror(&path.index(number), raw, route)).collect()
}

fn mirror(path: &Path<'_>, raw: &raw::Mirror, route: &Route) -> Result<Mirror> {
    name(&path.key("cluster"), "the name of a cluster", &raw.cluster)?;
    let timeout = match raw.timeout {
        Some(timeout) if timeout.limit().is_none() => {
            return fail(&path.key("timeout"), "every copy ends some time; write at least \"1ms\"");
        }
        timeout => timeout.map_or(route.timeout, |timeout| timeout.limit()),
    };
    let route = Route {
        name: route.name.clone(),
        destination: Destination::Cluster(raw.cluster.as_str().into()),
        timeout: timeout.or(Some(USUAL_TIMEOUT)),
        propagates_deadline: route.propagates_deadline,
        retry: None,
        fault: None,
        hash: None,
        mirrors: Box::default(),
        request_edit: route.request_edit.clone(),
        response_edit: route.response_edit.clone(),
        keeps_requests: false,
        names_operation: false,
        latencies: Latencies::default(),
        taken: Cell::default(),
    };
    Ok(Mirror { share: share(&path.key("percent"), raw.percent)?, route: Rc::new(route) })
}
