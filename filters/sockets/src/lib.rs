//! The two HTTP/2 connections of an Envoy network filter, as sockets: accept, connect, read, write, half-close, reset,
//! alarms and unary requests.
//!
//! Envoy's tcp_proxy opens a CONNECT stream to the filter for each client connection; the filter opens CONNECT streams
//! to the connection manager behind it for each upstream connection. [`Sockets`] speaks both roles of RFC 9113 and knows
//! no RPC protocol, no Envoy and no clock: bytes of a callback go in by [`Sockets::receive`], which reports events, and
//! bytes for the other side come out by [`Sockets::transmit`].
//!
//! - **Flow control** is real on both sides. A socket's peer may send one receive window
//!   ([`Options::receive_window_downstream`], [`Options::receive_window_upstream`]) until [`Sockets::consumed`] grants more,
//!   so a reader that does not read slows its writer, and only that one. What waits to be sent is
//!   [`Sockets::queued`]; [`Event::Writable`] says when there is room again.
//! - **Callbacks.** Envoy lets a filter write to one side only while it handles bytes of the other.
//!   [`Sockets::transmit`] adds a PING when the side that cannot be written now has something due; its
//!   acknowledgement is the callback.
//! - **Ids** become stale when a socket is gone. A stale [`SocketId`] is never an error, calls with it do nothing.
//!
//! ```
//! use meltemi_sockets::{Event, Options, Side, Sockets, Target};
//!
//! /// What a filter does in a callback in which `side` sent `input`: the bytes for the other side.
//! fn callback(sockets: &mut Sockets, side: Side, mut input: &[u8]) -> Vec<u8> {
//!     while let Ok(Some(event)) = sockets.receive(side, &mut input) {
//!         match event {
//!             Event::Accepted { id, accept } => {
//!                 sockets.accept(id);
//!                 let cluster = accept.cluster.as_deref().unwrap_or("default");
//!                 sockets.connect(&Target { cluster, ..Target::default() });
//!             }
//!             // An echo.
//!             Event::Data { id, bytes } => {
//!                 if let Some(buffer) = sockets.write(id) {
//!                     buffer.extend_from_slice(bytes);
//!                 }
//!                 sockets.consumed(id, bytes.len());
//!             }
//!             Event::Ended { id } => sockets.finish(id),
//!             _ => {}
//!         }
//!     }
//!     let mut out = Vec::new();
//!     sockets.transmit(side.other(), &mut out);
//!     out
//! }
//!
//! let mut sockets = Sockets::new(Options::default());
//! let tcp_proxy_says = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
//! let out = callback(&mut sockets, Side::Downstream, tcp_proxy_says);
//! assert!(out.starts_with(b"PRI * HTTP/2.0"));
//! ```
//!
//! # Names on the wire
//!
//! | | |
//! |---|---|
//! | `x-meltemi-cluster` | the cluster: of a tunnel, the one Envoy would have used; of a CONNECT, the one to use |
//! | `x-meltemi-peer` | of a tunnel: the client's address |
//! | `x-meltemi-session` | base64 of `ip:port`; of a CONNECT, the endpoint to use; of its answer, the one that was |
//! | `x-meltemi-host` | of an answer: the endpoint in clear |
//! | `x-envoy-fault-delay-request` | of an alarm, `GET http://meltemi/alarm`: milliseconds |
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
mod unread;
mod windows;

pub use error::{Code, Error};
pub use event::{Accept, Event, Request, Target};
pub use options::Options;
pub use sockets::Sockets;
pub use unread::Unread;

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

/// A socket: an index into a slab, and a generation that distinguishes its tenants.
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
