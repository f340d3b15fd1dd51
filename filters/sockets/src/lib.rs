//! HTTP/2 as sockets.
#![forbid(unsafe_code)]
#![deny(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod buffer;
mod client;
mod drain;
mod error;
mod event;
mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod headers;
mod hpack;
mod link;
mod notice;
mod options;
mod peer;
mod reader;
mod receive;
mod server;
mod slab;
mod socket;
mod sockets;
mod streams;
mod transmit;

pub use error::{Code, Error};
pub use event::{Accept, Event, Request, Target};
pub use options::Options;
pub use sockets::Sockets;

/// Which of the two HTTP/2 connections.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Side {
    /// Towards tcp_proxy; this crate is the HTTP/2 server.
    Downstream,
    /// Towards the connection manager; this crate is the HTTP/2 client.
    Upstream,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Side::Downstream => Side::Upstream,
            Side::Upstream => Side::Downstream,
        }
    }
}

/// A socket: an index into a slab, and a generation that tells its tenants apart.
///
/// A stale id is never an error: calls with it do nothing.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct SocketId {
    index: u32,
    generation: u32,
}

impl SocketId {
    /// A small dense number, unique among live sockets, for tables of the caller's.
    pub fn index(self) -> usize {
        self.index as usize
    }
}
