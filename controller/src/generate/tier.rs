//! Whose routes come first.

use super::service::Service;

/// Whose routes come first for the calls of a client to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tier {
    /// Those of the client's own namespace: its calls are its own.
    Client,
    /// Those of the service's namespace.
    Owner,
    /// Those of namespaces that may route the calls of others.
    Other,
}

impl Tier {
    /// That of a namespace, for the clients of one.
    pub(super) fn of(namespace: &str, client: &str, service: &Service) -> Self {
        match namespace {
            owner if owner == service.namespace => Self::Owner,
            own if own == client => Self::Client,
            _ => Self::Other,
        }
    }

    /// Whose routes stay if there is no room for all: a service is its owner's first.
    pub(super) fn rank(self) -> usize {
        match self {
            Self::Owner => 0,
            Self::Client => 1,
            Self::Other => 2,
        }
    }
}
