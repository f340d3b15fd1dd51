//! The protocols that the command knows: those that the shipped module knows.

use clap::ValueEnum;
use meltemi_codecs::{Codec, Dubbo};

/// The name of a protocol that stands in for one that the command does not know: what matches does not depend on it.
pub fn stand_in() -> &'static str {
    Dubbo.name()
}

/// A protocol, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Protocol {
    /// Dubbo 2, over TCP.
    Dubbo,
}
