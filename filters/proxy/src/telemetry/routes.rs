//! Calls counted by the route that took them. The route itself has the count, so that a call costs no look-up.

use std::rc::Rc;

use super::{Labels, Metric, Names, Sink};
use crate::calls::Record;
use crate::plan::Route;

/// The routes whose counts are to be flushed.
#[derive(Debug, Default)]
pub(super) struct Routes(Vec<(Labels, Rc<Route>)>);

impl Routes {
    /// Counts a call for its route, if it has one. As many routes as `most` have metrics of their own; the calls of all
    /// others are counted as `other`.
    #[inline]
    pub(super) fn add(&mut self, record: &Record, names: (&Names, usize)) {
        if let Some(route) = &record.route
            && route.note_call()
        {
            self.note(record, route, names);
        }
    }

    #[inline(never)]
    fn note(&mut self, record: &Record, route: &Rc<Route>, (names, most): (&Names, usize)) {
        let labels =
            |authority: &str, route: &str| Labels::Route { authority: authority.into(), route: route.into() };
        let own = labels(&record.service.name, &route.name);
        let labels = if names.admit(&own, most) { own } else { labels("other", "other") };
        self.0.push((labels, route.clone()));
    }

    /// Whether there is nothing to flush.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives every count to `sink`.
    pub(super) fn flush(&mut self, sink: &mut dyn Sink) {
        for (labels, route) in self.0.drain(..) {
            sink.count(Metric::RouteRequests, Some(&labels), route.take_calls());
        }
    }
}
