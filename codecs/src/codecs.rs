use core::fmt;
use std::cell::RefCell;
use std::rc::{Rc, Weak};

use crate::{Brpc, Codec, Dubbo, Layout, Thrift, Trpc};

/// The protocols that a program knows, each by its name.
///
/// A protocol is told by its `Rc`, not by its name: connections, and the calls on them, go on for as long as plans come
/// with the very codec that they began with. So plans that follow one another are read with one `Codecs`.
#[derive(Clone, Default)]
pub struct Codecs {
    known: Vec<Rc<dyn Codec>>,
    /// What was ever declared and is still used by someone.
    declared: Rc<RefCell<Vec<Weak<Layout>>>>,
}

impl Codecs {
    /// Every protocol of this crate.
    pub fn all() -> Self {
        Self::new([Rc::new(Dubbo) as Rc<dyn Codec>, Rc::new(Thrift), Rc::new(Brpc), Rc::new(Trpc)])
    }

    /// These protocols. Of several with one name the first is known.
    pub fn new(codecs: impl IntoIterator<Item = Rc<dyn Codec>>) -> Self {
        Self { known: codecs.into_iter().collect(), declared: Rc::default() }
    }

    /// Adds a protocol that is declared. If one of these protocols, or of those that this was cloned from or to, is declared so and
    /// in use, it is that very one.
    pub fn declare(&mut self, layout: Layout) {
        let mut declared = self.declared.borrow_mut();
        declared.retain(|known| known.strong_count() > 0);
        let same = declared.iter().filter_map(Weak::upgrade).find(|known| **known == layout);
        let codec = same.unwrap_or_else(|| {
            let codec = Rc::new(layout);
            declared.push(Rc::downgrade(&codec));
            codec
        });
        drop(declared);
        self.known.push(codec);
    }

    /// The protocol of that name.
    pub fn get(&self, name: &str) -> Option<&Rc<dyn Codec>> {
        self.known.iter().find(|codec| codec.name() == name)
    }

    /// The names of all protocols.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(|codec| codec.name())
    }
}

impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
