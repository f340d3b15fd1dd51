use core::fmt;
use std::rc::Rc;

use crate::{Brpc, Codec, Dubbo, Thrift, Trpc};

/// The protocols that a program knows, each by its name.
///
/// A protocol is told by its `Rc`, not by its name: connections, and the calls on them, go on for as long as plans come
/// with the very codec that they began with. So plans that follow one another are read with one `Codecs`.
#[derive(Clone, Default)]
pub struct Codecs(Vec<Rc<dyn Codec>>);

impl Codecs {
    /// Every protocol of this crate.
    pub fn all() -> Self {
        Self::new([Rc::new(Dubbo) as Rc<dyn Codec>, Rc::new(Thrift), Rc::new(Brpc), Rc::new(Trpc)])
    }

    /// These protocols. Of several with one name the first is known.
    pub fn new(codecs: impl IntoIterator<Item = Rc<dyn Codec>>) -> Self {
        Self(codecs.into_iter().collect())
    }

    /// The protocol of that name.
    pub fn get(&self, name: &str) -> Option<&Rc<dyn Codec>> {
        self.0.iter().find(|codec| codec.name() == name)
    }

    /// The names of all protocols.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|codec| codec.name())
    }
}

impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
