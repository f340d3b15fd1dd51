//! Who is behind a client connection, as the tunnel reports it.
//!
//! Bytes of clients never become headers of the tunnel, so this can be trusted where what a call says of itself cannot.

use core::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use meltemi_codecs::Head;
use meltemi_sockets::Accept;

use crate::peers::PeerId;
use crate::plan::source::{IP, NAMESPACE, PRINCIPAL};
use crate::reports::PartyId;

/// Header of the tunnel that names the client by its certificate: the URIs among its subject alternative names.
const IDENTITY_HEADER: &str = "x-meltemi-peer-identity";

/// A client, by address and by identity.
#[derive(Debug, Default)]
pub(crate) struct Source {
    ip: Option<String>,
    /// The SPIFFE id without its scheme, as Istio's policies write it: `cluster.local/ns/demo/sa/client`.
    pub(crate) principal: Option<Rc<str>>,
    namespace: Option<String>,
    /// The address as the tunnel has it.
    pub(crate) peer: Option<Rc<str>>,
    /// Number of the identity in the metrics, where there is one.
    pub(crate) id: Option<PeerId>,
    /// Who it is in reports.
    pub(crate) party: PartyId,
}

impl Source {
    /// What a tunnel reports, without a number.
    pub(crate) fn new(accept: &Accept) -> Self {
        let identity = accept.headers.iter().find(|(name, _)| name == IDENTITY_HEADER);
        let principal = identity.and_then(|(_, uris)| principal(uris));
        Self {
            ip: accept.peer.as_deref().and_then(ip),
            principal: principal.map(Rc::from),
            namespace: principal.and_then(namespace).map(str::to_owned),
            peer: accept.peer.as_deref().map(Rc::from),
            id: None,
            party: PartyId::default(),
        }
    }

    /// The address that it calls from.
    pub(crate) fn ip(&self) -> Option<&str> {
        self.ip.as_deref()
    }

    /// The namespace of its identity.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Puts the connection's attributes in the place of whatever a call says under their names.
    pub(crate) fn tell(&self, head: &mut Head) {
        head.replace(IP, self.ip.as_deref());
        head.replace(NAMESPACE, self.namespace.as_deref());
        head.replace(PRINCIPAL, self.principal.as_deref());
    }
}

/// An identity without its scheme: the first of a list of URIs, if that is a SPIFFE id.
pub(crate) fn principal(uris: &str) -> Option<&str> {
    let uri = uris.split(',').next().unwrap_or_default().trim();
    uri.strip_prefix("spiffe://").filter(|principal| !principal.is_empty())
}

/// The namespace in `<trust domain>/ns/<namespace>/sa/<service account>`.
#[inline(never)]
pub(crate) fn namespace(principal: &str) -> Option<&str> {
    let (_, path) = principal.split_once("/ns/")?;
    let (namespace, _) = path.split_once('/')?;
    Some(namespace).filter(|namespace| !namespace.is_empty())
}

/// The address of `ip:port`, in its usual form.
fn ip(peer: &str) -> Option<String> {
    let ip = peer.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| peer.parse::<IpAddr>());
    Some(ip.ok()?.to_canonical().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(peer: &str, identity: &str) -> Source {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Source::new(&Accept {
            peer: Some(peer.to_owned()),
            headers: vec![header("x-other", "spiffe://a/ns/b/sa/c"), header(IDENTITY_HEADER, identity)],
            ..Accept::default()
        })
    }

    #[test]
    fn an_identity_is_a_spiffe_id_without_its_scheme() {
        for (identity, principal, namespace) in [
            (
                "spiffe://cluster.local/ns/dubbo/sa/client",
                Some("cluster.local/ns/dubbo/sa/client"),
                Some("dubbo"),
            ),
            ("spiffe://td/ns/a/sa/b,spiffe://td/ns/c/sa/d", Some("td/ns/a/sa/b"), Some("a")),
            (" spiffe://td/ns/a/sa/b , https://x", Some("td/ns/a/sa/b"), Some("a")),
            ("spiffe://td/workload/a", Some("td/workload/a"), None),
            ("spiffe://td/ns/a", Some("td/ns/a"), None),
            ("spiffe://td/ns//sa/b", Some("td/ns//sa/b"), None),
            ("https://td/ns/a/sa/b", None, None),
            ("td/ns/a/sa/b", None, None),
            ("https://x,spiffe://td/ns/a/sa/b", None, None),
            ("spiffe://", None, None),
            ("-", None, None),
            ("", None, None),
        ] {
            let source = source("", identity);
            assert_eq!(source.principal.as_deref(), principal, "{identity}");
            assert_eq!(source.namespace.as_deref(), namespace, "{identity}");
        }
        assert!(Source::new(&Accept::default()).principal.is_none());
    }

    #[test]
    fn an_address_has_no_port() {
        for (peer, ip) in [
            ("10.0.0.1:20880", Some("10.0.0.1")),
            ("[2001:db8::1]:20880", Some("2001:db8::1")),
            ("[2001:0db8:0:0::1]:1", Some("2001:db8::1")),
            ("[::ffff:10.0.0.1]:1", Some("10.0.0.1")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("envoy://internal/1", None),
            ("-", None),
        ] {
            assert_eq!(source(peer, "").ip.as_deref(), ip, "{peer}");
        }
    }

    #[test]
    fn a_call_cannot_say_who_it_comes_from() {
        let mut head = Head::new();
        for name in crate::plan::source::ATTRIBUTES {
            head.push(name, "forged");
            head.push_attachment(name, "forged");
        }
        head.push("method", "a");
        source("10.0.0.1:1", "spiffe://td/ns/a/sa/b").tell(&mut head);
        let told = [("method", "a"), (IP, "10.0.0.1"), (NAMESPACE, "a"), (PRINCIPAL, "td/ns/a/sa/b")];
        assert_eq!(head.iter().collect::<Vec<_>>(), told);
        source("", "-").tell(&mut head);
        assert_eq!(head.iter().collect::<Vec<_>>(), [("method", "a")]);
    }
}
