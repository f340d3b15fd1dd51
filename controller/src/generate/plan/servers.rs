//! What is said of a service for its own pods, as servers.

use super::Planner;
use crate::generate::entry::Made;
use crate::generate::rate_limit;
use crate::generate::reader::Reader;
use crate::generate::report::Reports;
use crate::generate::router::Router;
use crate::generate::service::Service;
use crate::generate::tracing::Traced;
use crate::generate::tree::Part;

impl Planner<'_> {
    /// The entry of a service's pods on a port, with the size of its messages, the rate limits of its namespace's routers and how
    /// calls are traced.
    pub(in crate::generate) fn inbound(
        &mut self,
        service: &Service,
        (reader, target): (&Reader, u16),
        entry: &Made,
        traced: Option<&Traced>,
        reports: &mut Reports,
    ) -> Part {
        let ports = service.ports.iter().filter(|port| port.targets.contains(&target));
        let mut limiting = self.limiting(service);
        for port in ports {
            limiting.retain(|&at| !self.is_refused(at, port, reports));
        }
        let mut own = entry.service.clone();
        reader.put(&mut own);
        service.wishes.put(&mut own);
        if let Some(traced) = traced {
            traced.put(&mut own);
        }
        let own = (own != entry.service).then(|| Made::new(own, entry.part.origins().to_vec()));
        let entry = own.as_ref().unwrap_or(entry);
        if limiting.is_empty() {
            return entry.part.clone();
        }
        let limit = |&at: &usize| {
            let router = &self.routers[at];
            Some((&router.origin, router.limit.as_ref()?))
        };
        let limits = limiting.iter().filter_map(limit).collect();
        rate_limit::limited(entry, limits, &format!("{}, port {target}", service.host), reports)
    }

    /// The routers that limit the calls to the servers of a service, by name.
    fn limiting(&self, service: &Service) -> Vec<usize> {
        let all = self.by_host.get(&service.host).into_iter().flatten().copied();
        let limits = |router: &Router| router.limit.is_some() && router.namespace == service.namespace;
        all.filter(|&at| limits(&self.routers[at])).collect()
    }

    /// Says of each router that limits the calls to the servers of a service that nothing does.
    pub(in crate::generate) fn report_unlimited(&self, service: &Service, why: &str, reports: &mut Reports) {
        for at in self.limiting(service) {
            let router = &self.routers[at];
            let Some(limit) = &router.limit else { continue };
            reports.not_honoured(&router.origin, limit.field(), format!("not enforced: {why}"));
        }
    }
}
