//! The protocols that the command knows: those that the shipped module knows.

use clap::ValueEnum;
use meltemi_codecs::{Codec, Dubbo};

/// Every codec, for reading plans.
pub const CODECS: [&dyn Codec; 1] = [&Dubbo];

/// A protocol, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[non_exhaustive]
pub enum Protocol {
    /// Dubbo 2, over TCP.
    Dubbo,
}
