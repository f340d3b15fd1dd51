//! Hosts that would be managed if the module had the codec.

use std::collections::HashMap;

use super::protocol::Protocols;
use crate::world::World;

/// What the module lacks, by host.
#[derive(Debug)]
pub(super) struct Lacking(HashMap<String, String>);

impl Lacking {
    pub(super) fn new(world: &World, domain: &str, protocols: &Protocols) -> Self {
        let mut lacking = HashMap::new();
        let mut add = |host: String, number: i32, named: (Option<&str>, Option<&str>)| {
            if let Some(protocol) = protocols.lacks(named) {
                lacking.entry(host).or_insert_with(|| format!("{protocol}, which port {number} speaks"));
            }
        };
        for service in &world.services {
            let (Some(name), Some(namespace)) = (&service.metadata.name, &service.metadata.namespace) else {
                continue;
            };
            for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
                let host = format!("{name}.{namespace}.svc.{domain}");
                add(host, port.port, (port.name.as_deref(), port.app_protocol.as_deref()));
            }
        }
        for entry in &world.service_entries {
            for (host, port) in
                entry.spec.hosts.iter().flat_map(|host| entry.spec.ports.iter().map(move |port| (host, port)))
            {
                add(host.clone(), port.number.into(), (Some(&port.name), None));
            }
        }
        Self(lacking)
    }

    /// The protocol of a host that is not managed for want of its codec, and the port that speaks it.
    pub(super) fn of(&self, host: &str) -> Option<&str> {
        self.0.get(host).map(String::as_str)
    }
}
