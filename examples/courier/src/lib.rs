//! Courier, a small binary protocol of our own, taught to Meltemi: [`Courier`] is its codec, and this crate built for
//! `wasm32-wasip1` is a module that Envoy loads. The tutorial `docs/private-protocol.md` makes it from an empty folder.
//!
//! # The protocol
//!
//! Depots are asked for parcels over TCP. Both sides send frames; numbers are big-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 3 | [`MAGIC`]: `CR` and the version, 1 |
//! | 3 | 1 | flags: [`ANSWER`], [`ONE_WAY`], [`PING`], [`CLOSING`] |
//! | 4 | 4 | id of the request, chosen by the client; answers repeat it, and come in any order |
//! | 8 | 2 | command of a request, one of [`COMMANDS`]; 0 in answers |
//! | 10 | 2 | status of an answer, one of [`STATUSES`]; 0 in requests |
//! | 12 | 4 | length of the body |
//! | 16 | | body |
//!
//! The body of a request is one byte that gives the length of the depot's name, the name, and the parcel. The body of
//! an answer is the parcel, or the error's text. A `PING` is answered by `PING | ANSWER` with the same id. A server
//! that is about to stop sends `CLOSING`: it answers what it has, and wants no new requests on the connection.

#![deny(unsafe_code)]
#![deny(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod codec;
mod frame;
#[cfg(not(target_arch = "wasm32"))]
mod peer;

pub use codec::Courier;
pub use frame::{number, write, write_request};
#[cfg(not(target_arch = "wasm32"))]
pub use peer::{Client, serve};

/// The first bytes of every frame: the protocol and its version.
pub const MAGIC: [u8; 3] = *b"CR\x01";
/// Length of the header in bytes.
pub const HEADER: usize = 16;
/// The flag of an answer.
pub const ANSWER: u8 = 1;
/// The flag of a request that wants no answer.
pub const ONE_WAY: u8 = 2;
/// The flag of a sign of life.
pub const PING: u8 = 4;
/// The flag of a server's word that it is about to stop.
pub const CLOSING: u8 = 8;
/// The commands by their number.
pub const COMMANDS: [&str; 3] = ["track", "deliver", "notify"];
/// The statuses by their number. `REFUSED` is the depot's own no, the ones after it are failures on the way.
pub const STATUSES: [&str; 8] =
    ["DONE", "REFUSED", "BAD_REQUEST", "NO_ROUTE", "UNAVAILABLE", "TIMEOUT", "OVERLOADED", "DENIED"];

#[cfg(target_arch = "wasm32")]
meltemi_wasm::module!(Courier);
