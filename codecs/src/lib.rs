//! RPC protocols as pure functions over bytes: no I/O, no Envoy, no clock.
//!
//! A protocol is one implementation of [`Codec`]. It says where the next frame ends, what the head of a request says,
//! how to rewrite a frame (another request id, attributes set or removed) and how to make one (an error reply, a
//! heartbeat reply). Everything else, from routing to retries, is the proxy's and is the same for every protocol.
#![forbid(unsafe_code)]
#![deny(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

pub mod brpc;
mod codec;
mod codecs;
pub mod dubbo;
mod edit;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod head;
mod hessian;
#[cfg(feature = "inspect")]
pub mod inspect;
pub mod layout;
mod marks;
pub mod protobuf;
mod search;
pub mod thrift;
pub mod trpc;
mod words;

pub use brpc::Brpc;
pub use codec::{
    Codec, Deadlines, Depth, Edit, Failure, Frame, Kind, Operation, Outcome, Peer, Sharing, Step,
};
pub use codecs::Codecs;
pub use dubbo::Dubbo;
pub use edit::{Action, Change, Placed};
pub use error::Error;
pub use head::{Head, Place};
pub use layout::Layout;
pub use search::Search;
pub use thrift::Thrift;
pub use trpc::Trpc;
pub use words::are_same;
