//! Who calls and who answers, in the words of Istio's metrics.

use meltemi_sockets::Accept;

use super::Way;
use super::names::Labels;
use super::series::Key;
use crate::lines::cut;
use crate::plan::Service;
use crate::source;

/// A workload, as far as it is known: its name, namespace, canonical service, canonical revision, labels `app` and
/// `version`, and its cluster of Kubernetes. What is not known is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload([String; 7]);

/// What Envoy's answer to a connection tells of the server.
pub(crate) struct Server<'a> {
    /// The cluster that it is in.
    pub(crate) cluster: &'a str,
    /// The service that it is called for.
    pub(crate) service: &'a Service,
    /// Further fields of the answer.
    pub(crate) headers: &'a [(String, String)],
}

/// Names one end of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartyId(u32);

/// Labels of one end of calls, as fields of reports.
type Fields = Vec<(&'static str, String)>;

/// The ends of calls that there have been.
#[derive(Debug, Default)]
pub(super) struct Parties {
    /// The workload of this proxy.
    own: Workload,
    all: Vec<Party>,
    /// By cluster, service and protocol: those that calls were for and did not reach.
    unserved: Vec<([Box<str>; 3], PartyId)>,
}

#[derive(Debug)]
struct Party {
    fields: Fields,
    /// The one that stands for all of its kind.
    other: PartyId,
}

/// Ends that are told apart; all further ones are `other`.
const MOST: usize = 1000;

/// Calls without a server are told apart by so many clusters; more are looked up each time.
const MOST_UNSERVED: usize = 100;

/// A label is cut to this many bytes.
const LONGEST: usize = 256;

/// What is not known.
const UNKNOWN: &str = "unknown";

/// The fields for the workloads of both ends, in the order of [`Workload`].
pub(super) const SOURCE: [&str; 7] = [
    "x-source-workload",
    "x-source-workload-namespace",
    "x-source-canonical-service",
    "x-source-canonical-revision",
    "x-source-app",
    "x-source-version",
    "x-source-cluster",
];
pub(super) const DESTINATION: [&str; 7] = [
    "x-destination-workload",
    "x-destination-workload-namespace",
    "x-destination-canonical-service",
    "x-destination-canonical-revision",
    "x-destination-app",
    "x-destination-version",
    "x-destination-cluster",
];
pub(super) const SOURCE_PRINCIPAL: &str = "x-source-principal";
pub(super) const DESTINATION_PRINCIPAL: &str = "x-destination-principal";

/// Those that are kept where all else is `other`: they have few values.
pub(super) const REPORTER: &str = "x-reporter";
pub(super) const POLICY: &str = "x-connection-security-policy";
pub(super) const PROTOCOL: &str = "x-rpc-system";

/// The clusters of servers' own sidecars.
const INBOUND: &str = "inbound|";

impl Workload {
    /// Reads the seven in their order, with semicolons between them. A dash stands for what is not known.
    pub fn parse(text: &str) -> Self {
        let mut parts = parts(text);
        Self(core::array::from_fn(|_| parts.next().unwrap_or_default().to_owned()))
    }

    /// Its labels in the order of the fields. The namespace of the identity counts more.
    fn labels<'a>(&'a self, identity: &'a str) -> [&'a str; 7] {
        let mut labels = self.0.each_ref().map(String::as_str);
        let [_, namespace, _, revision, ..] = &mut labels;
        *namespace = or(source::namespace(identity).unwrap_or_default(), namespace);
        // Where all else is unknown, Istio takes the revision for the latest.
        *revision = or(revision, "latest");
        labels
    }
}

impl Parties {
    /// None, of a proxy of this workload.
    pub(super) fn new(own: Workload) -> Self {
        Self { own, ..Self::default() }
    }

    /// The fields of one end.
    fn fields(&self, id: PartyId) -> &[(&'static str, String)] {
        self.all.get(id.0 as usize).map_or(&[], |party| &party.fields)
    }

    /// The labels of a series whose calls ended with this `outcome`.
    pub(super) fn labels<'a>(&'a self, key: &Key, outcome: &'a [(&'static str, String)]) -> Labels<'a> {
        [self.fields(key.source), self.fields(key.destination), outcome]
    }

    /// Whether that client's calls come to the server's own proxy.
    pub(super) fn is_server(&self, source: PartyId) -> bool {
        self.fields(source).first().is_some_and(|(_, reporter)| reporter == "destination")
    }

    /// The end that stands for all like that one.
    pub(super) fn other(&self, id: PartyId) -> PartyId {
        self.all.get(id.0 as usize).map_or(id, |party| party.other)
    }

    /// The client of a connection. Where counts go another `way` than by streams, Envoys may be too old to tell who it is.
    #[inline(never)]
    pub(super) fn source(&mut self, accept: &Accept, way: Way) -> PartyId {
        let header = |name| header(&accept.headers, name);
        let is_server = accept.cluster.as_deref().is_some_and(|cluster| cluster.starts_with(INBOUND));
        if !is_server {
            let mut fields = vec![(REPORTER, "source".to_owned()), (POLICY, UNKNOWN.to_owned())];
            push(&mut fields, &SOURCE, &self.own.labels(""));
            return self.intern(fields);
        }
        let (peer, own) =
            (identity(header("x-meltemi-peer-identity")), identity(header("x-meltemi-own-identity")));
        let policy = match way {
            _ if !peer.is_empty() && !own.is_empty() => "mutual_tls",
            Way::Streams => "none",
            Way::Names | Way::Nowhere => UNKNOWN,
        };
        let mut fields = vec![(REPORTER, "destination".to_owned()), (POLICY, policy.to_owned())];
        // What the exchange of metadata between the sidecars has left, where they have that.
        let workload = Workload::parse(header("x-meltemi-peer-workload"));
        push(&mut fields, &SOURCE, &workload.labels(peer));
        push(&mut fields, &[SOURCE_PRINCIPAL, DESTINATION_PRINCIPAL], &[peer, own]);
        self.intern(fields)
    }

    /// A server that has been connected to.
    #[inline(never)]
    pub(super) fn destination(&mut self, server: &Server<'_>) -> PartyId {
        let header = |name| header(server.headers, name);
        let mut fields = vec![(PROTOCOL, server.service.codec.name().to_owned())];
        let services = header("x-meltemi-services");
        let is_server = server.cluster.starts_with(INBOUND);
        let known = if is_server { "" } else { server.cluster.rsplit('|').next().unwrap_or_default() };
        let host = or(value(services, "host"), or(known, host_of(server.service)));
        let (known_name, known_namespace) = names(host);
        let name = or(value(services, "name"), known_name);
        if is_server {
            let labels = self.own.labels("");
            let own = labels[1];
            push(&mut fields, &DESTINATION, &labels);
            push(&mut fields, &SERVICE, &[host, name, own]);
            return self.intern(fields);
        }
        let (peer, own) =
            (identity(header("x-meltemi-identity")), identity(header("x-meltemi-own-identity")));
        let mut parts = parts(header("x-meltemi-workload"));
        let [name_of, of, service, revision, kubernetes] =
            core::array::from_fn(|_| parts.next().unwrap_or_default().to_owned());
        // Endpoints do not tell the labels: Istio takes what is canonical for them.
        let (app, version) = (service.clone(), revision.clone());
        let workload = Workload([name_of, of, service, revision, app, version, kubernetes]);
        let labels = workload.labels(peer);
        push(&mut fields, &DESTINATION, &labels);
        push(&mut fields, &[SOURCE_PRINCIPAL, DESTINATION_PRINCIPAL], &[own, peer]);
        let namespace = or(value(services, "namespace"), or(known_namespace, labels[1]));
        push(&mut fields, &SERVICE, &[host, name, namespace]);
        self.intern(fields)
    }

    /// The server that a call of `source` was for and did not reach: one of `cluster`, if one was chosen.
    pub(super) fn unserved(&mut self, source: PartyId, cluster: &str, service: &Service) -> PartyId {
        let cluster = if cluster.is_empty() && self.is_server(source) { INBOUND } else { cluster };
        let names = [cluster, &service.name, service.codec.name()];
        let is_like = |known: &[Box<str>; 3]| known.iter().map(|name| &**name).eq(names);
        if let Some((_, id)) = self.unserved.iter().find(|(known, _)| is_like(known)) {
            return *id;
        }
        let id = self.destination(&Server { cluster, service, headers: &[] });
        if self.unserved.len() < MOST_UNSERVED {
            self.unserved.push((names.map(Box::from), id));
        }
        id
    }

    #[inline(never)]
    fn intern(&mut self, fields: Fields) -> PartyId {
        if let Some(known) = self.find(&fields) {
            return known;
        }
        let other = fields.iter().map(|(name, value)| match *name {
            REPORTER | POLICY | PROTOCOL => (*name, value.clone()),
            _ => (*name, "other".to_owned()),
        });
        let other: Fields = other.collect();
        let next = PartyId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        let other = match self.find(&other) {
            Some(known) => known,
            None => {
                self.all.push(Party { fields: other, other: next });
                next
            }
        };
        if self.all.len() >= MOST {
            return other;
        }
        let next = PartyId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.all.push(Party { fields, other });
        next
    }

    fn find(&self, fields: &Fields) -> Option<PartyId> {
        let at = self.all.iter().position(|party| party.fields == *fields)?;
        u32::try_from(at).ok().map(PartyId)
    }
}

pub(super) const SERVICE: [&str; 3] =
    ["x-destination-service", "x-destination-service-name", "x-destination-service-namespace"];

/// Adds fields. Their values may come from afar: what is too long is cut, what no field may have becomes `_`, since Envoy would
/// close its connection for it, and what is not known is said to be so.
#[inline(never)]
fn push(fields: &mut Fields, names: &[&'static str], values: &[&str]) {
    for (name, value) in names.iter().copied().zip(values.iter().copied()) {
        let value = cut(or(value.trim(), UNKNOWN), LONGEST);
        let sent = |letter: char| if letter.is_control() { '_' } else { letter };
        fields.push((name, value.trim_end().chars().map(sent).collect()));
    }
}

fn or<'a>(told: &'a str, known: &'a str) -> &'a str {
    if told.is_empty() { known } else { told }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
}

/// The first of a list of URIs, which Envoy writes as a dash when there is none.
fn identity(uris: &str) -> &str {
    uris.split(',').next().map(str::trim).filter(|uri| *uri != "-").unwrap_or_default()
}

/// What is between semicolons, where a dash stands for what is not known.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(';').map(|part| if part == "-" { "" } else { part })
}

/// The host in the authority of a service, which has the port behind it, and says before it whose the connection is.
fn host_of(service: &Service) -> &str {
    let name = &*service.name;
    let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
    let host = host.strip_prefix("unidentified.").unwrap_or(host);
    host.strip_prefix("inbound.").unwrap_or(host)
}

/// Name and namespace of the service with that host, as far as it tells them.
fn names(host: &str) -> (&str, &str) {
    host.split_once(".svc.").and_then(|(service, _)| service.split_once('.')).unwrap_or((host, ""))
}

/// The text under `key` in the first object of a list, as Envoy writes the metadata of clusters.
fn value<'a>(json: &'a str, key: &str) -> &'a str {
    let mut rest = json;
    while let Some((_, after)) = rest.split_once('"') {
        let Some((word, after)) = after.split_once('"') else { break };
        rest = after;
        if word == key
            && let Some(text) = after.trim_start().strip_prefix(':')
            && let Some(text) = text.trim_start().strip_prefix('"')
        {
            return text.split('"').next().unwrap_or_default();
        }
    }
    ""
}

#[cfg(test)]
mod tests;
