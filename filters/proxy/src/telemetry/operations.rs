use std::rc::Rc;

use meltemi_codecs::are_same;
use rustc_hash::FxHashMap;
use slab::Slab;

use super::changes::Changes;
use super::latencies::Latencies;
use super::{Label, Labels};
use crate::peers::PeerId;

/// Number of an operation. It says whether the operation was known when the number was given, so that nothing is asked
/// of those that were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OperationId(usize);

/// What a number has more when the operation was not known.
const UNKNOWN: usize = 1 << 31;

/// The operations that calls name. One is known once a route names it or a server answered it with success: only then
/// it has metrics of its own, lest anybody fill them with names that mean nothing.
#[derive(Debug)]
pub(super) struct Operations {
    all: Slab<Operation>,
    by_name: FxHashMap<Rc<str>, Box<Service>>,
    services: u64,
    unknown: usize,
}

#[derive(Debug)]
struct Service {
    number: u64,
    methods: FxHashMap<Rc<str>, OperationId>,
}

#[derive(Debug)]
pub(super) struct Operation {
    pub(super) label: Label,
    /// The same for all operations of a service.
    pub(super) service: u64,
    /// The calls of one that is not known, which are to be counted when they end.
    pub(super) unknown: Option<Box<Unknown>>,
    pub(super) is_dirty: bool,
    pub(super) changes: Changes,
    pub(super) latencies: Latencies,
}

/// Calls in flight, all and by source, and copies of calls.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    pub(super) calls: u64,
    /// In the order of their numbers.
    pub(super) sources: Vec<(PeerId, u64)>,
    pub(super) copies: u64,
}

impl Unknown {
    /// Notes a call of that source.
    pub(super) fn add(&mut self, source: PeerId) {
        match self.find(source) {
            Ok(Some((_, calls))) => *calls = calls.saturating_add(1),
            Ok(None) => {}
            Err(at) => self.sources.insert(at, (source, 1)),
        }
    }

    /// Notes that a call of that source has ended.
    pub(super) fn end(&mut self, source: PeerId) {
        if let Ok(Some((_, calls))) = self.find(source) {
            *calls = calls.saturating_sub(1);
        }
    }

    /// The calls of a source, or where they belong.
    fn find(&mut self, source: PeerId) -> Result<Option<&mut (PeerId, u64)>, usize> {
        let at = self.sources.binary_search_by_key(&source, |(known, _)| *known)?;
        Ok(self.sources.get_mut(at))
    }

    /// Whether nothing is on its way that names the operation.
    pub(super) fn is_over(&self) -> bool {
        self.calls == 0 && self.copies == 0
    }
}

impl OperationId {
    /// All that are not known, and never will be.
    pub(super) const OTHER: Self = Self(0);

    /// Whether the operation was known when the number was given.
    pub(super) fn was_known(self) -> bool {
        self.0 & UNKNOWN == 0
    }

    fn key(self) -> usize {
        self.0 & !UNKNOWN
    }
}

impl Default for Operations {
    fn default() -> Self {
        let mut all = Slab::new();
        let label = Label { service: "other".into(), method: "other".into() };
        all.insert(Operation::new(label, 0, None));
        Self { all, by_name: FxHashMap::default(), services: 0, unknown: 0 }
    }
}

impl Operation {
    fn new(label: Label, service: u64, unknown: Option<Box<Unknown>>) -> Self {
        Self {
            label,
            service,
            unknown,
            is_dirty: false,
            changes: Changes::default(),
            latencies: Latencies::default(),
        }
    }
}

impl Operations {
    pub(super) fn get(&self, id: OperationId) -> Option<&Operation> {
        self.all.get(id.key())
    }

    pub(super) fn get_mut(&mut self, id: OperationId) -> Option<&mut Operation> {
        self.all.get_mut(id.key())
    }

    /// How many are not known.
    pub(super) fn unknown(&self) -> usize {
        self.unknown
    }

    /// Whether that number is of a known operation of these names, which it stays.
    #[inline]
    pub(super) fn is_known_as(&self, id: OperationId, service: &str, method: &str) -> bool {
        let label = self.get(id).filter(|_| id.was_known()).map(|operation| &operation.label);
        let is = |label: &Label| {
            are_same(label.method.as_bytes(), method.as_bytes())
                && are_same(label.service.as_bytes(), service.as_bytes())
        };
        label.is_some_and(is)
    }

    /// The operation of these names, if calls of it are in flight or it is known.
    pub(super) fn find(&self, service: &str, method: &str) -> Option<OperationId> {
        self.by_name.get(service)?.methods.get(method).copied()
    }

    /// Adds an operation that is not here.
    pub(super) fn add(&mut self, label: Label, is_known: bool) -> OperationId {
        let services = &mut self.services;
        let service = self.by_name.entry(label.service.clone()).or_insert_with(|| {
            *services = services.saturating_add(1);
            Box::new(Service { number: *services, methods: FxHashMap::default() })
        });
        let unknown = (!is_known).then(Box::default);
        self.unknown = self.unknown.saturating_add(usize::from(!is_known));
        let method = label.method.clone();
        let key = self.all.insert(Operation::new(label, service.number, unknown));
        let id = OperationId(if is_known { key } else { key | UNKNOWN });
        service.methods.insert(method, id);
        id
    }

    /// What counts for an operation: itself, or `other` while it is not known.
    pub(super) fn resolve(&self, id: OperationId) -> OperationId {
        match self.get(id) {
            Some(Operation { unknown: None, .. }) => OperationId(id.key()),
            _ => OperationId::OTHER,
        }
    }

    /// Notes that an operation is known, and takes what was noted of its calls.
    pub(super) fn make_known(&mut self, id: OperationId) -> Option<Box<Unknown>> {
        let operation = self.all.get_mut(id.key())?;
        let unknown = operation.unknown.take()?;
        self.unknown = self.unknown.saturating_sub(1);
        let service = self.by_name.get_mut(&operation.label.service)?;
        service.methods.insert(operation.label.method.clone(), OperationId(id.key()));
        Some(unknown)
    }

    /// Forgets an operation that did not become known.
    pub(super) fn remove(&mut self, id: OperationId) {
        let Some(Operation { label, unknown, .. }) = self.all.try_remove(id.key()) else { return };
        self.unknown = self.unknown.saturating_sub(usize::from(unknown.is_some()));
        let Some(service) = self.by_name.get_mut(&label.service) else { return };
        service.methods.remove(&label.method);
        if service.methods.is_empty() {
            self.by_name.remove(&label.service);
        }
    }
}

impl From<&Label> for Labels {
    fn from(label: &Label) -> Self {
        Self::Operation(label.clone())
    }
}
