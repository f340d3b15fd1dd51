//! What the plan of some proxies says of the calls to one place, and what it was made of.

use std::fmt;
use std::sync::Arc;

use meltemi_proxy::plan::raw;

use super::origin::Origin;
use super::size;
use super::tree::Part;

/// An entry of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Which calls it is for.
    pub authority: Authority,
    /// What it says.
    pub plan: Part,
}

/// The calls that an entry is for, by the authority of the tunnels that carry them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Whose tunnels they are.
    pub scope: Scope,
    /// The host of the service, or the Gateway as `namespace/name`.
    pub of: String,
    /// The namespace of the service or the Gateway.
    pub namespace: String,
    /// The port of the service, of its pods or of the Gateway.
    pub port: u16,
}

/// Whose tunnels carry calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Those of a service's clients.
    Clients,
    /// Those of its servers.
    Servers,
    /// Those of servers whose sidecars are too old to report who calls.
    ServersWithoutIdentity,
    /// Those of a gateway.
    Gateway,
}

/// An entry as it was made, and as it is written.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) service: raw::Service,
    pub(super) part: Part,
}

impl Made {
    /// The entry of a service, whose routes were made of some resources.
    pub(super) fn new(service: raw::Service, origins: Vec<Origin>) -> Self {
        let part = size::entry(&service).of_origins(origins);
        Self { service, part }
    }
}

impl Authority {
    /// Its text.
    pub(super) fn text(&self) -> Arc<str> {
        self.to_string().into()
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, port, .. } = self;
        match self.scope {
            Scope::Clients => write!(f, "{of}:{port}"),
            Scope::Servers => write!(f, "inbound.{of}:{port}"),
            Scope::ServersWithoutIdentity => write!(f, "unidentified.inbound.{of}:{port}"),
            Scope::Gateway => {
                let (namespace, name) = of.split_once('/').unwrap_or_default();
                write!(f, "gateway.{name}.{namespace}:{port}")
            }
        }
    }
}
