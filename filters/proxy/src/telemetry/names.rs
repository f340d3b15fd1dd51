use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::FxHashSet;

use super::Labels;

/// The labels that metrics of one Envoy thread have. Envoy keeps a metric for ever: workers that come and go share them,
/// so that there are as many as the plan allows however many workers there were.
#[derive(Debug, Clone, Default)]
pub struct Names(Rc<RefCell<Known>>);

#[derive(Debug, Default)]
struct Known {
    operations: FxHashSet<Labels>,
    sources: FxHashSet<Labels>,
    destinations: FxHashSet<Labels>,
    routes: FxHashSet<Labels>,
}

impl Known {
    fn like(&mut self, labels: &Labels) -> &mut FxHashSet<Labels> {
        match labels {
            Labels::Operation(_) => &mut self.operations,
            Labels::Source { .. } => &mut self.sources,
            Labels::Destination { .. } => &mut self.destinations,
            Labels::Route { .. } => &mut self.routes,
        }
    }
}

impl Names {
    /// Whether metrics have these labels.
    pub(crate) fn has(&self, labels: &Labels) -> bool {
        self.0.borrow_mut().like(labels).contains(labels)
    }

    /// Whether there is room for one of their kind.
    pub(crate) fn has_room(&self, labels: &Labels, most: usize) -> bool {
        self.0.borrow_mut().like(labels).len() < most
    }

    /// Whether metrics may have these labels: those that they have, and new ones while there are fewer than `most`.
    pub(crate) fn admit(&self, labels: &Labels, most: usize) -> bool {
        let mut known = self.0.borrow_mut();
        let like = known.like(labels);
        like.contains(labels) || (like.len() < most && like.insert(labels.clone()))
    }
}
