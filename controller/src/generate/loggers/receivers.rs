//! Services that calls are logged to, as proxies reach them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::collector;
use super::super::mesh_logs::Configured;
use super::super::service::Service;
use super::super::sockets::Proxies;
use super::super::subsets::Subsets;
use super::super::telemetries::Whose;
use super::super::visibility::Visibility;
use super::provider::{Kind, Provider};

/// The services of all providers that are services, or why there is none, by the names of the providers.
#[derive(Debug)]
pub(in super::super) struct Receivers<'a> {
    found: BTreeMap<&'a str, Result<Found, String>>,
    rules: Subsets<'a>,
}

/// A port of a service that calls are logged to.
#[derive(Debug)]
struct Found {
    service: Service,
    port: u16,
}

/// A service that calls are logged to, as proxies reach it.
#[derive(Debug)]
pub(in super::super) struct Receiver {
    host: String,
    cluster: String,
    /// Which calls it is not told of all the same, as the rest of a sentence about the provider.
    pub(in super::super) lost: Vec<String>,
}

impl<'a> Receivers<'a> {
    /// Those of a mesh with these services and DestinationRules.
    pub(in super::super) fn new(
        configured: &'a Configured,
        services: &[Service],
        rules: Subsets<'a>,
    ) -> Self {
        let of_service = |(name, provider): (&'a str, &Provider)| {
            if !matches!(provider.kind, Kind::Http | Kind::OpenTelemetry) {
                return None;
            }
            let service = provider.said["service"].as_str().unwrap_or_default();
            // Istio takes numbers in quotes as well.
            let port = &provider.said["port"];
            let number = port.as_u64().and_then(|port| u16::try_from(port).ok());
            let port = number.or_else(|| port.as_str()?.parse().ok()).unwrap_or(0);
            let found = collector::find(service, port, services).map(|service| Found { service, port });
            Some((name, found))
        };
        Self { found: configured.providers().filter_map(of_service).collect(), rules }
    }

    /// That of a provider for some proxies, if it is a service.
    ///
    /// # Errors
    ///
    /// They do not reach it: why, as the rest of a sentence about the provider.
    pub(in super::super) fn of(
        &self,
        provider: &str,
        of @ (whose, proxies): (Whose<'_>, Proxies),
        (visibility, services): (&Visibility<'_>, &[Service]),
    ) -> Result<Option<Receiver>, String> {
        let Some(found) = self.found.get(provider) else { return Ok(None) };
        let Found { service, port } = found.as_ref().map_err(Clone::clone)?;
        let cluster = visibility.cluster(service, *port, of)?;
        let host = &service.host;
        let mut lost = Vec::new();
        // Without HTTP/2 there is no gRPC.
        if !service.http2.has(*port, self.rules.upgrades(whose.namespace, service, *port)) {
            let (by, mend) = match &*service.origin.kind {
                "ServiceEntry" => ("protocol", "Write protocol: GRPC"),
                _ => ("name or appProtocol", "Name the port grpc or grpc-…, or write appProtocol: grpc"),
            };
            lost.push(format!(
                "names port {port} of {host}, which is not of gRPC or HTTP/2 by its {by}: Envoy sends to it by HTTP/1.1, and \
                 all is lost. {mend}"
            ));
        }
        if proxies == Proxies::Sidecars {
            let unseen = visibility.unseen(service, *port, whose, services).into_iter();
            lost.extend(
                unseen.map(|who| format!("names {host}, which {who} do not see: their calls are lost")),
            );
        }
        Ok(Some(Receiver { host: host.clone(), cluster, lost }))
    }
}

impl Receiver {
    /// Has a logger tell it, as a log of the name that a provider says.
    pub(super) fn put(&self, config: &mut Value, said: &Value, default: &str) {
        let name = said["logName"].as_str().filter(|name| !name.is_empty()).unwrap_or(default);
        config["common_config"]["log_name"] = name.into();
        config["common_config"]["grpc_service"]["envoy_grpc"] =
            json!({"cluster_name": self.cluster, "authority": self.host});
    }
}
