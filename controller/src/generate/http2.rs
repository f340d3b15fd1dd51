//! Ports that Istio's clusters speak HTTP/2 to.

use std::collections::BTreeSet;

/// Those of a service.
#[derive(Debug, Clone, Default)]
pub(super) struct Http2 {
    /// By their protocols, whatever else is said.
    own: BTreeSet<u16>,
    /// Of HTTP, where the mesh upgrades it.
    upgraded: BTreeSet<u16>,
}

impl Http2 {
    /// Adds a port, by the name of its protocol, behind which there may be more. The mesh may upgrade HTTP.
    pub(super) fn add(&mut self, port: u16, protocol: &str, upgrades: bool) {
        let protocol = protocol.to_ascii_lowercase();
        match protocol.split('-').next() {
            Some("grpc" | "http2" | "kubernetes.io/h2c") => self.own.insert(port),
            Some("http") if upgrades => self.upgraded.insert(port),
            _ => false,
        };
    }

    /// Whether it is spoken to a port, where a rule of the clients says that it is `upgraded`, or is not.
    pub(super) fn has(&self, port: u16, upgraded: Option<bool>) -> bool {
        self.own.contains(&port) || upgraded.unwrap_or_else(|| self.upgraded.contains(&port))
    }
}
