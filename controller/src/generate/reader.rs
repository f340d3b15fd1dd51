//! What reads the calls of a managed port.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use meltemi_codecs::{Codec, Codecs};
use meltemi_proxy::plan::raw;

use crate::check::AUTO;

/// A codec, or several of which the first bytes of each connection tell one.
#[derive(Clone)]
pub(super) struct Reader {
    /// What plans call it.
    protocol: String,
    /// What the first bytes may tell, the first of those that read the same bytes first.
    protocols: Vec<String>,
    /// The codecs themselves, unless this command lacks one.
    codecs: Option<Vec<Rc<dyn Codec>>>,
}

impl Reader {
    /// The codec of that name.
    pub(super) fn of(codec: &str, known: &Codecs) -> Self {
        let codecs = known.get(codec).map(|codec| vec![codec.clone()]);
        Self { protocol: codec.to_owned(), protocols: Vec::new(), codecs }
    }

    /// Any of these codecs.
    pub(super) fn any_of(protocols: Vec<String>, known: &Codecs) -> Self {
        let codecs = protocols.iter().map(|codec| known.get(codec).cloned()).collect();
        Self { protocol: AUTO.to_owned(), protocols, codecs }
    }

    /// The codecs themselves, unless this command lacks one.
    pub(super) fn codecs(&self) -> Option<&[Rc<dyn Codec>]> {
        self.codecs.as_deref()
    }

    /// What plans call it.
    pub(super) fn protocol(&self) -> &str {
        &self.protocol
    }

    /// Whether calls may be of a codec.
    pub(super) fn may_be(&self, codec: &str) -> bool {
        self.protocol == codec || self.protocols.iter().any(|protocol| protocol == codec)
    }

    /// Whether an attribute names the service or the method of calls.
    pub(super) fn names_calls_by(&self, attribute: &str) -> bool {
        let mut names = self.codecs.iter().flatten().map(|codec| codec.operation());
        attribute == "method" || names.any(|names| [names.service, names.method].contains(&attribute))
    }

    /// The entry of a plan that says no more than this.
    pub(super) fn entry(&self) -> raw::Service {
        let mut entry = raw::Service::new("");
        self.put(&mut entry);
        entry
    }

    /// Puts it into an entry of a plan.
    pub(super) fn put(&self, entry: &mut raw::Service) {
        entry.protocol.clone_from(&self.protocol);
        entry.protocols.clone_from(&self.protocols);
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (&self.protocol, &self.protocols).fmt(f)
    }
}

impl PartialEq for Reader {
    fn eq(&self, other: &Self) -> bool {
        (&self.protocol, &self.protocols) == (&other.protocol, &other.protocols)
    }
}

impl Eq for Reader {}

impl Hash for Reader {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.protocol, &self.protocols).hash(state);
    }
}
