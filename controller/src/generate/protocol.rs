//! Which ports are managed, and by which codec.

use std::collections::{BTreeMap, BTreeSet};

use meltemi_codecs::Codecs;
use meltemi_proxy::plan;

use super::age::Age;
use super::reader::Reader;
use super::report::Reports;
use super::tree::Part;
use crate::api::ApplicationProtocol;
use crate::check::{self, AUTO};
use crate::findings::{ResourceRef, Severity};
use crate::place::push_key;
use crate::world::World;

/// The protocol of a managed port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Protocol {
    /// One that the module has a codec for, or several.
    Codec(Reader),
    /// Redis, which Envoy itself speaks.
    Redis,
    /// Redis if a resource of the host asks for it; else plain TCP.
    PerhapsRedis,
}

/// A port that Meltemi manages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ManagedPort {
    pub(super) number: u16,
    pub(super) protocol: Protocol,
    /// The ports of the pods.
    pub(super) targets: BTreeSet<u16>,
}

/// The protocols by name.
#[derive(Debug)]
pub(super) struct Protocols {
    codecs: BTreeMap<String, String>,
    /// The codecs of the module.
    of_module: Vec<String>,
    /// Protocols that someone asked for and the module has no codec for.
    missing: BTreeMap<String, String>,
    /// Those that are declared by a layout, as plans write them.
    layouts: Layouts,
    /// The codecs that this command has, those of layouts among them.
    known: Codecs,
}

/// Layouts by the names of their protocols.
pub(super) type Layouts = BTreeMap<String, Part>;

/// The annotation of a Service, ServiceEntry or Gateway that says which protocols its ports of several may have.
const PROTOCOLS: &str = "meltemi.io/protocols";

/// What Aeraki puts before the names of codecs.
const AERAKI: &str = "aeraki.meta_protocol.codec.";

impl Protocols {
    /// The protocols that the module has codecs for, and those that people declared.
    pub(super) fn new(world: &World, codecs: &[String], reports: &mut Reports) -> Self {
        let own = codecs.iter().map(|codec| (codec.clone(), codec.clone()));
        let mut protocols = Self {
            codecs: own.collect(),
            of_module: codecs.to_vec(),
            missing: BTreeMap::new(),
            layouts: Layouts::new(),
            known: Codecs::all(),
        };
        let mut declared: Vec<_> = world.application_protocols.iter().collect();
        declared.sort_by_cached_key(|declared| Age::of(*declared));
        let mut known: BTreeMap<String, ResourceRef> = BTreeMap::new();
        for declared in declared {
            let origin = ResourceRef::of(declared);
            if !reports.accepts(&origin, check::application_protocol(declared)) {
                continue;
            }
            let protocol = declared.spec.protocol.to_lowercase();
            if let Some(first) = known.get(&protocol) {
                let message = format!("has no effect: the older {first} declares the protocol {protocol}");
                reports.warn(&origin, "spec.protocol", message);
                continue;
            }
            known.insert(protocol.clone(), origin.clone());
            let codec = declared.spec.codec.strip_prefix(AERAKI).unwrap_or(&declared.spec.codec).to_owned();
            let is_declared = |by_layout: &ApplicationProtocol| {
                by_layout.spec.protocol.to_lowercase() == protocol
                    && check::declared_protocol(by_layout)
                        .iter()
                        .all(|found| found.severity != Severity::Error)
            };
            if codecs.contains(&codec) {
                protocols.codecs.insert(protocol, codec);
            } else if world.declared_protocols.iter().any(is_declared) {
                // A layout reads it, whatever codec Aeraki has.
            } else {
                let message = format!(
                    "the module has no codec {codec:?}, but {}: the protocol's services stay plain TCP. A module that has \
                     it is named by --module and --codecs",
                    codecs.join(", ")
                );
                reports.not_honoured(&origin, "spec.codec", message);
                protocols.codecs.remove(&protocol);
                protocols.missing.insert(protocol, codec);
            }
        }
        protocols.declare(world, codecs, &mut known, reports);
        protocols
    }

    /// Adds the protocols that are declared by layouts.
    fn declare(
        &mut self,
        world: &World,
        codecs: &[String],
        known: &mut BTreeMap<String, ResourceRef>,
        reports: &mut Reports,
    ) {
        let mut declared: Vec<_> = world.declared_protocols.iter().collect();
        declared.sort_by_cached_key(|declared| Age::of(*declared));
        for declared in declared {
            let origin = ResourceRef::of(declared);
            if !reports.accepts(&origin, check::declared_protocol(declared)) {
                continue;
            }
            let protocol = declared.spec.protocol.to_lowercase();
            // One that names a codec which the module lacks is what this mends.
            let first = known.get(&protocol).filter(|_| self.codecs.contains_key(&protocol));
            if codecs.contains(&protocol) {
                let message =
                    format!("has no effect: the module has a codec for {protocol}; choose another name");
                reports.warn(&origin, "spec.protocol", message);
            } else if let Some(first) = first {
                let message = format!("has no effect: {first} declares the protocol {protocol}");
                reports.warn(&origin, "spec.protocol", message);
            } else if let (Ok(codec), Ok(layout)) =
                (plan::layout(&protocol, &declared.spec.layout), serde_json::to_value(&declared.spec.layout))
            {
                self.known.declare(codec);
                self.missing.remove(&protocol);
                self.codecs.insert(protocol.clone(), protocol.clone());
                self.layouts.insert(protocol.clone(), layout.into());
                known.insert(protocol, origin);
            }
        }
    }

    /// The protocols that are declared by layouts.
    pub(super) fn layouts(&self) -> &Layouts {
        &self.layouts
    }

    /// The protocol of a port with this name and `appProtocol`, if it is to be managed and can be. Names are Aeraki's:
    /// `tcp-metaprotocol-<protocol>`, `tcp-dubbo`, `tcp-thrift`, `tcp-redis`, and `tcp-brpc`, `tcp-trpc`, each perhaps with a suffix after a dash. The last
    /// is no name of ours alone. `tcp-metaprotocol-auto` is a port of several protocols, which an annotation may list.
    pub(super) fn of_port(
        &self,
        (name, app_protocol): (Option<&str>, Option<&str>),
        annotations: &BTreeMap<String, String>,
        origin: &ResourceRef,
        path: impl Fn() -> String,
        reports: &mut Reports,
    ) -> Option<Protocol> {
        let asked = match self.asked(name, app_protocol)? {
            Named::Ours(protocol) => protocol,
            Named::Redis => return Some(Protocol::PerhapsRedis),
        };
        if asked == "redis" {
            return Some(Protocol::Redis);
        }
        if asked == AUTO {
            return self.any_of(annotations, origin, reports).map(Protocol::Codec);
        }
        let codec = self.codecs.get(&asked);
        if codec.is_none() {
            let message = match self.missing.get(&asked) {
                Some(codec) => format!("the module has no codec for {codec}: the port stays plain TCP"),
                None => format!(
                    "no codec is known for the protocol {asked}: the port stays plain TCP; an ApplicationProtocol says \
                     which codec of the module reads it"
                ),
            };
            reports.not_honoured(origin, path(), message);
        }
        Some(Protocol::Codec(Reader::of(codec?, &self.known)))
    }

    /// What reads a port that an object says is of several protocols: those of its annotation, else all of the module.
    fn any_of(
        &self,
        annotations: &BTreeMap<String, String>,
        origin: &ResourceRef,
        reports: &mut Reports,
    ) -> Option<Reader> {
        let Some(list) = annotations.get(PROTOCOLS) else {
            return Some(Reader::any_of(self.of_module.clone(), &self.known));
        };
        let mut path = "metadata.annotations".to_owned();
        push_key(&mut path, PROTOCOLS);
        let mut codecs: Vec<String> = Vec::new();
        for protocol in list.split(',').map(|protocol| protocol.trim().to_lowercase()) {
            match self.codecs.get(&protocol) {
                Some(codec) if codecs.contains(codec) => {}
                Some(codec) => codecs.push(codec.clone()),
                None => {
                    let known: Vec<&str> = self.codecs.keys().map(String::as_str).collect();
                    let message = format!(
                        "no codec is known for the protocol {protocol:?}, whose connections pass through as plain TCP: write \
                         some of {}, with commas between them",
                        known.join(", ")
                    );
                    reports.not_honoured(origin, path.clone(), message);
                }
            }
        }
        (!codecs.is_empty()).then(|| Reader::any_of(codecs, &self.known))
    }

    /// What a port's name and `appProtocol` say; the latter alone, where it is there. What is declared by a layout is ours
    /// under its own name too.
    fn asked(&self, name: Option<&str>, app_protocol: Option<&str>) -> Option<Named> {
        asked(name, app_protocol).or_else(|| {
            let name = name.filter(|_| app_protocol.is_none())?.to_lowercase();
            let protocol = name.strip_prefix("tcp-")?.split('-').next()?;
            self.layouts.contains_key(protocol).then(|| Named::Ours(protocol.to_owned()))
        })
    }

    /// The protocol that a port asks for and the module has no codec for.
    pub(super) fn lacks(&self, (name, app_protocol): (Option<&str>, Option<&str>)) -> Option<String> {
        let Named::Ours(protocol) = self.asked(name, app_protocol)? else { return None };
        (protocol != "redis" && protocol != AUTO && !self.codecs.contains_key(&protocol)).then_some(protocol)
    }
}

/// Whether a port's name says that Redis is spoken, but not that Meltemi is to read it.
pub(super) fn is_called_redis(name: &str) -> bool {
    of_name(name) == Some(Named::Redis)
}

/// What a port's name and `appProtocol` say; the latter alone, where it is there.
fn asked(name: Option<&str>, app_protocol: Option<&str>) -> Option<Named> {
    match app_protocol {
        Some(app_protocol) => Some(Named::Ours(app_protocol.strip_prefix("meltemi.io/")?.to_lowercase())),
        None => of_name(name?),
    }
}

/// What a port's name says.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    /// That the port is to be managed, as this protocol.
    Ours(String),
    /// That Redis is spoken, as Istio's naming rules have it.
    Redis,
}

fn of_name(name: &str) -> Option<Named> {
    let name = name.to_lowercase();
    let mut parts = name.strip_prefix("tcp-")?.split('-');
    match parts.next()? {
        "metaprotocol" => parts
            .next()
            .filter(|protocol| !protocol.is_empty())
            .map(|protocol| Named::Ours(protocol.to_owned())),
        known @ ("brpc" | "dubbo" | "thrift" | "trpc") => Some(Named::Ours(known.to_owned())),
        "redis" => Some(Named::Redis),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_protocols() {
        let ours = |protocol: &str| Some(Named::Ours(protocol.to_owned()));
        assert_eq!(of_name("tcp-metaprotocol-dubbo"), ours("dubbo"));
        assert_eq!(of_name("TCP-MetaProtocol-Courier-2"), ours("courier"));
        assert_eq!(of_name("tcp-metaprotocol-redis"), ours("redis"));
        for protocol in ["brpc", "dubbo", "thrift", "trpc"] {
            assert_eq!(of_name(&format!("tcp-{protocol}")), ours(protocol));
        }
        assert_eq!(of_name("tcp-redis-cache"), Some(Named::Redis));
        for plain in
            ["tcp", "tcp-", "tcp-mysql", "tcp-metaprotocol", "tcp-metaprotocol-", "dubbo", "http-dubbo"]
        {
            assert_eq!(of_name(plain), None, "{plain}");
        }
    }
}
