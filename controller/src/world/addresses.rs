use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::World;

impl World {
    /// Gives an address to each service that has none, as those in files have not, out of the range for documentation. For
    /// where only plans matter, which name no addresses.
    pub fn assume_addresses(&mut self) {
        let mut addresses = (1..=u32::MAX).map(|number| {
            let [high, low] =
                [number >> 16, number & 0xffff].map(|part| u16::try_from(part).unwrap_or_default());
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, high, low).to_string()
        });
        for service in &mut self.services {
            let Some(spec) = service.spec.as_mut() else { continue };
            match spec.cluster_ip.as_deref() {
                None | Some("") => spec.cluster_ip = addresses.next(),
                Some("None") => {
                    self.endpoint_slices.push(EndpointSlice {
                        metadata: ObjectMeta {
                            namespace: service.metadata.namespace.clone(),
                            labels: service.metadata.name.clone().map(|name| {
                                BTreeMap::from([("kubernetes.io/service-name".to_owned(), name)])
                            }),
                            ..ObjectMeta::default()
                        },
                        endpoints: vec![Endpoint {
                            addresses: addresses.next().into_iter().collect(),
                            ..Endpoint::default()
                        }],
                        ..EndpointSlice::default()
                    })
                }
                Some(_) => {}
            }
        }
    }
}
